# Shared by the steps around the flip: the router's folder on a host, and the services that are written with it.
# shellcheck shell=bash
# shellcheck source=release.sh
source "${BASH_SOURCE[0]%/*}/release.sh"

# Beside heat.conf, and readable like it: nothing of the release's own configuration is changed for the router.
make_router_folder() {
    local user=${SERVICE_USER:-$(id -un)}
    # The state file takes this group, by which the services read it; what lies above may be anybody's.
    as_root install -d -m 750 -g "$(id -gn "$user")" "$ROUTER"
    # The APIs' own: what they count there, and the locks of requests under way.
    as_root test -d "$ROUTER/run" || as_root install -d -m 700 -o "$user" "$ROUTER/run"
    install_file "$ROUTER/heat_upgrade_router.py" "" cat "$here/router/heat_upgrade_router.py"
}

# paste_of CONFIG VENV: where Heat finds the api-paste.ini of a configuration.
paste_of() {
    local name place
    name=$(as_root cat "$1" | python3 "$here/heat_conf.py" get paste_deploy api_paste_config api-paste.ini)
    for place in "" "${1%/*}/" /etc/heat/ "$2/etc/heat/"; do
        if [[ $place$name == /* ]] && as_root test -r "$place$name"; then
            echo "$place$name"
            return
        fi
    done
    fail "api_paste_config of $1 is '$name', which is no file that can be read in ${1%/*}, /etc/heat or $2/etc/heat: correct it, then clear this task"
}

# conf_of NAME: print what an API reads after its heat.conf.
conf_of() {
    local word
    printf '[paste_deploy]\napi_paste_config = %s\n' "$ROUTER/$1-paste.ini"
    [[ $1 == beside-* ]] || return 0 # in front it goes on to listen as its heat.conf says
    for word in $UNITS; do listen_options "${word%%=*}"; done
}

# listen_options ROLE: print where an API listens beside another one, for Heat's own server, which has no command line for
# it; uWSGI has. Without TLS, as the router speaks to it.
listen_options() {
    local prefix=API
    [[ $(api_server "$VENV" "$1") == console ]] || return 0
    [[ $1 != api-cfn ]] || prefix=API_CFN
    local address=${prefix}_ADDRESS port=${prefix}_PORT processes=${prefix}_PROCESSES
    address=${!address#[}
    printf '\n[heat_%s]\nbind_host = %s\nbind_port = %s\nworkers = %s\ncert_file =\nkey_file =\n' \
        "${1//-/_}" "${address%]}" "${!port}" "${!processes}"
}

# edited_paste FILE WORD...: print an api-paste.ini with what the words say.
edited_paste() { as_root cat "$1" | python3 -B "$here/router/paste.py" "${@:2}"; }

# install_paste NAME WORD...: install the release's api-paste.ini with the router or its guard in front, and what names it.
install_paste() {
    local name=$1 paste
    shift
    paste=$(paste_of "$CONFIG" "$VENV")
    install_file "$ROUTER/$name-paste.ini" "$CONFIG" edited_paste "$paste" "$@"
    install_file "$ROUTER/$name.conf" "$CONFIG" conf_of "$name"
}

# write_api_units NAME: the services of the release's APIs, which read NAME.conf too; those that run keep their files.
write_api_units() {
    local word unit options="--config-file $CONFIG --config-file $ROUTER/$1.conf"
    mkdir -p "$STATE/log"
    ask_service_manager
    for word in $UNITS; do
        unit=${word#*=}
        if runs "$unit"; then
            echo "$unit runs already: its service file is left as it is"
        else
            install_file "$(service_file "$unit")" "" render "${word%%=*}" "$unit" "$options" "$ROUTER"
        fi
    done
}
