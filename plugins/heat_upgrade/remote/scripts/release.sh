# Shared by prepare, which puts a release beside the one that runs, and preview_prepare, which tells what it would do:
# what is there, and what there should be. Nothing here changes anything.
# shellcheck shell=bash
# shellcheck source=lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

# Written last, so that an installation that was cut off is taken up again.
requirements_installed() { as_root cmp -s "$here/$REQUIREMENTS" "$VENV/installed-requirements.txt"; }

is_installed() {
    requirements_installed || { is_to_stay && [[ $(installed_release "$VENV") == "$RELEASE" ]]; }
}

# Asked once. What runs keeps its files: an operator may have changed them since they were written.
declare -A states
ask_service_manager() {
    local answer unit state word units=()
    for word in $UNITS; do units+=("${word#*=}"); done
    answer=$(service_states "${units[@]}") # on a line of its own, so that its failure ends the step
    while read -r unit state; do states[$unit]=$state; done <<<"$answer"
}

runs() { [[ ${states[$1]} =~ ^(active|starting|stopping)$ ]]; }

is_in_use() {
    local unit
    for unit in "${!states[@]}"; do if runs "$unit"; then return 0; fi; done
    return 1
}

# What has served before was not installed by this upgrade, perhaps: it is not installed anew over itself.
is_to_stay() { [[ -n ${KEEP_CONFIG-} ]] || is_in_use; }

config_stays() { is_to_stay && as_root test -e "$CONFIG"; }

service_file_is_due() { [[ -z ${KEEP_CONFIG-} || ! -e $(service_file "$1") ]]; }

check_source_config() {
    as_root test -r "$SOURCE_CONFIG" || fail "$SOURCE_CONFIG, the running release's configuration, can't be read: check layout.config in the cloud file and the SSH user's rights"
}

# What lies beside heat.conf comes along (api-paste.ini, policy.yaml, environment.d, ...); other releases' folders don't.
carried_names() {
    local folders='.*/\(environment\.d\|templates\|policy\.d\)'
    as_root find -L "${SOURCE_CONFIG%/*}" -mindepth 1 -maxdepth 1 ! -path "$SOURCE_CONFIG" \
        \( -type f -o -type d -regex "$folders" \) -printf '%f\n'
}

# The release's heat.conf: the running one's, with what has to differ.
new_config() {
    local source_dir=${SOURCE_CONFIG%/*} config_dir=${CONFIG%/*} names name
    local moves=()
    # Values may point into the old venv; what the distribution installed (under /usr) stays where it is.
    if as_root test -e "$SOURCE_VENV/pyvenv.cfg"; then moves+=(--move "$SOURCE_VENV=$VENV"); fi
    names=$(carried_names)
    while [[ -n $names ]] && read -r name; do
        moves+=(--move "$source_dir/$name=$config_dir/$name")
    done <<<"$names"
    as_root cat "$SOURCE_CONFIG" |
        python3 "$here/heat_conf.py" rewrite --vhost "$VHOST" "${moves[@]}" \
            --set revision heat_revision "$RELEASE" \
            --add healthcheck backends disable_by_file \
            --set healthcheck disable_by_file_path "$HEALTHCHECK_FILE"
}

# render ROLE UNIT [OPTIONS] [PYTHONPATH]: print a service's file. OPTIONS are what Heat reads besides its usual heat.conf.
render() {
    local role=$1 options=${3:---config-file $CONFIG} path=${4-} kind=engine prefix user=${SERVICE_USER-}
    # Without an account systemd takes root; supervisord takes its own.
    [[ $SERVICE_MANAGER == supervisor ]] || user=${user:-$(id -un)}
    [[ $role == engine ]] || kind=api
    [[ $role == engine || $(api_server "$VENV" "$role") != console ]] || kind=api-console
    [[ $role == api-cfn ]] && prefix=API_CFN || prefix=API
    local address=${prefix}_ADDRESS port=${prefix}_PORT processes=${prefix}_PROCESSES threads=${prefix}_THREADS
    local module=heat.wsgi.${role#api-}:application
    sed -e "s|@RELEASE@|$RELEASE|g; s|@ROLE@|$role|g; s|@UNIT@|$2|g; s|@VENV@|$VENV|g; s|@OPTIONS@|$options|g; s|@MODULE@|$module|g" \
        -e "s|@PYTHONPATH@|${path:+ --pythonpath $path}|g; s|@PATH@|$path|g; ${path:+#}/PYTHONPATH=/d" \
        -e "s|@USER@|$user|g; s|@STOP_TIMEOUT@|$STOP_TIMEOUT|g; s|@LOG_DIR@|$STATE/log|g" \
        -e "s|@ADDRESS@|${!address-}|g; s|@PORT@|${!port-}|g; s|@PROCESSES@|${!processes-}|g; s|@THREADS@|${!threads-}|g" \
        -e "${user:+#}/^[Uu]ser *=/d" \
        "$here/units/$SERVICE_MANAGER-$kind"
}
