# Shared by every step: errors, results, privileges, the lock on the host, waiting.
# shellcheck shell=bash
set -euo pipefail
shopt -s inherit_errexit # an error inside of $(...) ends the step too
umask 077

here=${BASH_SOURCE[0]%/*}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# A line that the upgrade reads back; every other line of output is for people.
result() { printf '::%s=%s\n' "$1" "$2"; }

need() {
    local name
    for name in "$@"; do
        [[ -n ${!name-} ]] || fail "$name is not set: run this step through the upgrade, or set it (the head of the script lists what it needs)"
    done
}

as_root() {
    if [[ ${BECOME:-none} == sudo ]]; then sudo -n -- "$@"; else "$@"; fi
}

as_service_user() {
    if [[ ${BECOME:-none} == sudo && -n ${SERVICE_USER-} ]]; then sudo -n -u "$SERVICE_USER" -- "$@"; else "$@"; fi
}

# lock NAME: wait until nobody else has it. What a step starts and waits for holds it too, and goes on to hold it if
# only the step is killed.
lock() {
    need STATE
    exec 9>"$STATE/$1"
    flock -n 9 && return
    echo "another step runs on this host: waiting until it ends"
    flock -w "${LOCK_TIMEOUT:-600}" 9 ||
        fail "another step has held $STATE/$1 for ${LOCK_TIMEOUT:-600} s: wait until it ends (see 'fuser -v $STATE/$1'), then clear this task"
}

# One step at a time on a host: a retry waits here for the attempt that it replaces.
lock_host() {
    lock lock
    # What a step that was cut off has left here may hold passwords.
    rm -f "$STATE"/install.?????? "$STATE"/mysql.??????
}

# wait_until SECONDS COMMAND...: poll until the command succeeds; 1 when the time is up.
wait_until() {
    local begun=$SECONDS timeout=$1 pause=0.2
    shift
    until "$@"; do
        ((SECONDS < begun + timeout)) || return 1
        ((SECONDS < begun + 5)) || pause=1
        sleep "$pause" 9>&-
    done
}

# at_once COMMAND WORDS...: run a command for all the words side by side; fails if it fails for one of them.
at_once() {
    local command=$1 word pid pids=()
    shift
    for word in "$@"; do
        "$command" "$word" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
}

# What dumps a database here: of MariaDB's client, packages have one name, the other or both.
dump_program() {
    local name
    for name in mysqldump mariadb-dump; do
        if command -v "$name" >/dev/null; then
            echo "$name"
            return
        fi
    done
    return 1
}

http_status() { python3 "$here/http_status.py" "$1" 9>&-; }

# install_file TARGET LIKE COMMAND...: put what the command prints into a file that root owns, only if it differs; mode
# and owner are those of another file, where LIKE names one.
install_file() {
    local target=$1 like=$2 fresh
    shift 2
    fresh=$(mktemp "$STATE/install.XXXXXX")
    "$@" >"$fresh" # where it fails half-way, nothing is written
    if as_root cmp -s "$fresh" "$target"; then
        rm -f "$fresh"
        return
    fi
    as_root cp "$fresh" "$target.new"
    if [[ -n $like ]]; then
        as_root chown --reference="$like" "$target.new"
        as_root chmod --reference="$like" "$target.new"
    else
        as_root chmod 644 "$target.new"
    fi
    as_root mv -T "$target.new" "$target"
    rm -f "$fresh"
    echo "wrote $target"
}

# Hide passwords in text that goes to a log: from the first user's to the last @ of a line, since a URL may name several
# brokers and a password may hold anything.
mask_urls() { sed -E 's#(://[^:/@ ]*:).*@#\1***@#'; }

case ${SERVICE_MANAGER:-} in
systemd | supervisor)
    # shellcheck source=/dev/null
    source "$here/service-$SERVICE_MANAGER.sh"
    ;;
*) fail "SERVICE_MANAGER is '${SERVICE_MANAGER:-}', expected systemd or supervisor: set service_manager.kind in the cloud file" ;;
esac

# The release of Heat that a venv holds; empty where there is none.
installed_release() {
    local python=$1/bin/python3 found # by which name a distribution has it too
    [[ -x $python ]] || return 0
    # As a rule one folder names it, and no Python has to start.
    mapfile -t found < <(compgen -G "$1/lib/python3*/*-packages/openstack_heat-*.dist-info")
    if [[ ${#found[@]} == 1 && ${found[0]##*/} =~ ^openstack_heat-([0-9][0-9a-z.]*)\.dist-info$ ]]; then
        echo "${BASH_REMATCH[1]}"
        return
    fi
    "$python" -B -c 'from importlib import metadata; print(metadata.version("openstack-heat"))' 2>/dev/null || true
}

# api_server VENV ROLE: what can run an API of a release: uwsgi, or console, which is Heat's own server of releases up to 24;
# empty where neither is there. A distribution's uWSGI has Python as a plugin only, and heat.wsgi came with 24.
api_server() {
    local runs_python='' console=''
    [[ ! -x $1/bin/uwsgi || $(PYTHONDONTWRITEBYTECODE=1 "$1/bin/uwsgi" --help 2>&1 || true) != *--module* ]] || runs_python=yes
    [[ ! -x $1/bin/heat-$2 ]] || console=yes
    if [[ -n $runs_python ]] && { [[ -z $console ]] || compgen -G "$1/lib*/python3*/*-packages/heat/wsgi" >/dev/null; }; then
        echo uwsgi
    elif [[ -n $console ]]; then
        echo console
    fi
}

service_state() {
    local line
    line=$(service_states "$1")
    echo "${line#* }"
}

service_settled() { [[ $(service_state "$1") =~ ^(active|failed)$ ]]; }

service_ended() { [[ $(service_state "$1") =~ ^(inactive|failed|absent)$ ]]; }

# Start a service and see it run; its last lines of log explain a failure.
start_and_check() {
    local unit=$1 state
    state=$(service_state "$unit")
    if [[ $state == active ]]; then
        echo "$unit runs already"
        return
    fi
    service_start "$unit"
    wait_until "${START_TIMEOUT:-60}" service_settled "$unit" || true
    state=$(service_state "$unit")
    [[ $state != active ]] || return 0
    service_log "$unit" 15 2>&1 | mask_urls >&2
    fail "$unit is '$state' after its start, expected active: the lines above are the end of its log; mend the cause, then clear this task"
}

# Stop a service and see it gone; the service manager's own time-out bounds the wait.
stop_and_check() {
    local unit=$1 state
    state=$(service_state "$unit")
    [[ $state != absent ]] || return 0
    service_stop "$unit"
    # Not every service manager waits, least of all for what somebody else had begun to stop.
    wait_until "${STOP_TIMEOUT:-100}" service_ended "$unit" ||
        fail "$unit is '$(service_state "$unit")' after it was stopped, expected inactive: look at its log, then clear this task"
}

# leave_word UNIT: between a cold upgrade's stop and its start nothing runs here, so a file says which release did.
leave_word() { [[ -z ${STOPPED-} ]] || service_ended "$1" || printf '%s\n' "$STOPPED" >"$STATE/stopped"; }

forget_word() { rm -f "$STATE/stopped"; }

# The name under which Heat knows the engine that this configuration is for.
heat_host() { as_root cat "$1" | python3 "$here/heat_conf.py" get DEFAULT host "$(hostname)"; }
