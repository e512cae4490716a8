# Services under supervisord. States: active, starting, stopping, inactive, failed, absent.
# shellcheck shell=bash

# The command's words stand in one variable; the cloud file allows no spaces inside a word.
supervisorctl() {
    local words
    read -ra words <<<"$SUPERVISORCTL"
    "${words[@]}" "$@" 9>&-
}

# Print "unit state" of each; one call for all, since supervisorctl takes a while to start.
service_states() {
    local status unit word
    status=$(supervisorctl status "$@" || true)
    while read -r unit word _; do
        unit=${unit%:}
        case $word in
        RUNNING) echo "$unit active" ;;
        STARTING) echo "$unit starting" ;;
        STOPPING) echo "$unit stopping" ;;
        STOPPED) echo "$unit inactive" ;;
        FATAL | BACKOFF | EXITED) echo "$unit failed" ;;
        ERROR) if [[ -e $(service_file "$unit") ]]; then echo "$unit inactive"; else echo "$unit absent"; fi ;; # no such process
        *) fail "supervisorctl says '$status', expected the state of $*: is supervisord running on this host?" ;;
        esac
    done <<<"$status"
}

service_pid() { supervisorctl pid "$1"; }

service_file() { echo "$UNIT_DIR/$1.conf"; }

# autostart is what `systemctl enable` is elsewhere: it decides what comes back after a reboot.
service_enable() { as_root sed -i "s/^autostart=.*/autostart=$2/" "$(service_file "$1")"; }

service_start() {
    service_enable "$1" true
    supervisorctl update "$1" >/dev/null # takes the file as it is now; starts the program if it is new
    [[ $(service_state "$1") == active ]] || supervisorctl start "$1" || true
}

# Blocks until the service has ended, at the longest the program's stopwaitsecs.
service_stop() {
    service_enable "$1" false
    supervisorctl stop "$1"
}

service_log() { supervisorctl tail "-$((200 * $2))" "$1" stderr | tail -n "$2"; }
