# Services under supervisord. States: active, starting, stopping, inactive, failed, absent.
# shellcheck shell=bash

# The command's words stand in one variable; the cloud file allows no spaces inside a word.
supervisorctl() {
    local words
    read -ra words <<<"$SUPERVISORCTL"
    "${words[@]}" "$@" 9>&-
}

service_state() {
    local status
    status=$(supervisorctl status "$1" || true)
    case $status in
    *RUNNING*) echo active ;;
    *FATAL* | *BACKOFF* | *EXITED*) echo failed ;;
    *"no such process"*) if [[ -e $(service_file "$1") ]]; then echo inactive; else echo absent; fi ;;
    *STARTING*) echo starting ;;
    *STOPPING*) echo stopping ;;
    *STOPPED*) echo inactive ;;
    *) fail "supervisorctl says '$status' of $1: is supervisord running on this host?" ;;
    esac
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
