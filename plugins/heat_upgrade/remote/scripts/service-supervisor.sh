# Services under supervisord. States: active, starting, stopping, inactive, failed, absent.
# shellcheck shell=bash

# The command's words stand in one variable; the cloud file allows no spaces inside a word.
supervisorctl() {
    local words
    read -ra words <<<"$SUPERVISORCTL"
    ${WITHIN:+timeout "$WITHIN"} "${words[@]}" "$@" 9>&-
}

# A host that boots lets SSH in before supervisord listens, by so many seconds at most.
LISTENS_WITHIN=15
status_when_it_listens() {
    local status deadline=$((SECONDS + LISTENS_WITHIN))
    while status=$(supervisorctl status "$@" || true) && [[ $status == *" refused connection"* || $status == *" no such file"* ]]; do
        ((SECONDS < deadline)) || break
        sleep 0.5
    done
    echo "$status"
}

# Print "unit state" of each; one call for all, since supervisorctl takes a while to start.
service_states() {
    local status unit word
    status=$(status_when_it_listens "$@")
    while read -r unit word _; do
        unit=${unit%:}
        case $word in
        RUNNING) echo "$unit active" ;;
        STARTING | BACKOFF) echo "$unit starting" ;;
        STOPPING) echo "$unit stopping" ;;
        STOPPED) echo "$unit inactive" ;;
        FATAL | EXITED) echo "$unit failed" ;;
        ERROR) if [[ -e $(service_file "$unit") ]]; then echo "$unit inactive"; else echo "$unit absent"; fi ;; # no such process
        *) fail "supervisorctl says '$status', expected the state of $*: see that supervisord runs on this host, then clear this task" ;;
        esac
    done <<<"$status"
}

service_pid() { supervisorctl pid "$1"; }

# Seconds; a word of systemd's form elsewhere. Supervisord's own default is 10.
service_stop_timeout() {
    local seconds
    seconds=$(as_root sed -n 's/^stopwaitsecs *= *//p' "$(service_file "$1")") && echo "${seconds:-10}"
}

service_file() { echo "$UNIT_DIR/$1.conf"; }

# autostart is what `systemctl enable` is elsewhere: it decides what comes back after a reboot. Without it all do.
service_enable() {
    local file
    file=$(service_file "$1")
    as_root test -w "$file" || fail "$1 has no file $file, expected its [program:$1] there and nothing else: move it there, or correct service_manager.conf_dir or layout.unit in the cloud file"
    [[ $(as_root grep '^autostart *=' "$file") != "autostart=$2" ]] || return 0
    as_root sed -i -e '/^autostart *=/d' -e "/^\[program:/a autostart=$2" "$file"
}

# A file that was written anew says nothing of what a boot starts; elsewhere that is no matter of the file.
service_comes_back() { service_enable "$1" true; }

service_start() {
    service_enable "$1" true
    supervisorctl update "$1" >/dev/null # takes the file as it is now; starts the program if it is new
    supervisorctl start "$1" >/dev/null || true # it may run already; the caller looks
}

# Returns while the service still ends its work: as long as a client waits for that, supervisord polls without a pause and
# takes a core from the host. So the client is ended once it has asked, and asks again if it had no time to.
service_stop() {
    local tries
    service_enable "$1" false
    for tries in 1 2 3 4 5; do
        ! WITHIN=3 supervisorctl stop "$1" || return 0
        [[ $(service_state "$1") =~ ^(active|starting)$ ]] || return 0 # the caller waits
    done
    echo "$1 goes on after it was asked to stop $tries times"
}

# Take services that have ended off supervisord's books. A file that has changed is read when its own program is next
# updated, or at a boot: not here, since that restarts the program.
service_forget() {
    local unit state states
    for unit in "$@"; do
        as_root rm -f "$(service_file "$unit")"
        supervisorctl update "$unit" >/dev/null || true # it may never have been there; the states tell
    done
    states=$(service_states "$@") # on a line of its own, so that its failure ends the step
    while read -r unit state; do
        [[ $state == absent ]] || fail "$unit is $state after its file was removed, expected no such service: see 'supervisorctl status', then clear this task"
    done <<<"$states"
}

# Heat logs to one stream or the other; a service that somebody else has set up may have a file for one of them only.
service_log() {
    local stream
    for stream in stdout stderr; do supervisorctl tail "-$((200 * $2))" "$1" "$stream" || true; done |
        sed '/ERROR (no log file)/d' | tail -n "$2"
}
