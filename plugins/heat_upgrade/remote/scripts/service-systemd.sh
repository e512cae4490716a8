# Services under systemd. States: active, starting, stopping, inactive, failed, absent.
# shellcheck shell=bash

# systemd calls a service active as soon as it is forked; one with a broken configuration ends a moment later.
SETTLED_AFTER=2
has_settled() {
    local since
    since=$(systemctl show -p ActiveEnterTimestampMonotonic --value "$1.service")
    python3 -c 'import sys, time; sys.exit(time.monotonic() < int(sys.argv[1]) / 1e6 + int(sys.argv[2]))' "$since" "$SETTLED_AFTER"
}

# Print "unit state" of each.
service_states() {
    local unit load active
    for unit in "$@"; do
        load=$(systemctl show -p LoadState --value "$unit.service")
        active=$(systemctl show -p ActiveState --value "$unit.service")
        case $load/$active in
        not-found/*) echo "$unit absent" ;;
        */active) if has_settled "$unit"; then echo "$unit active"; else echo "$unit starting"; fi ;;
        */inactive | */failed) echo "$unit $active" ;;
        */activating | */reloading) echo "$unit starting" ;;
        */deactivating) echo "$unit stopping" ;;
        *) fail "systemd says that $unit is '$active', which is no state that this step knows: look at 'systemctl status $unit'" ;;
        esac
    done
}

service_pid() { systemctl show -p MainPID --value "$1.service"; }

# As systemd writes it: 1min 30s, infinity.
service_stop_timeout() { systemctl show -p TimeoutStopUSec --value "$1.service"; }

service_file() { echo "$UNIT_DIR/$1.service"; }

# What a boot starts is no matter of the unit's file.
service_comes_back() { :; }

service_start() {
    as_root systemctl daemon-reload
    as_root systemctl reset-failed "$1.service" 2>/dev/null || true
    as_root systemctl enable --quiet "$1.service"
    as_root systemctl start "$1.service" || true # the caller looks, and shows the log
}

# Blocks until the service has ended, at the longest the unit's TimeoutStopSec.
service_stop() {
    as_root systemctl disable --quiet "$1.service"
    as_root systemctl stop "$1.service"
}

# Take services that have ended off the service manager's books; others go on as they were started.
service_forget() {
    local unit
    for unit in "$@"; do as_root rm -f "$(service_file "$unit")"; done
    as_root systemctl daemon-reload
}

service_log() { as_root journalctl --no-pager -o cat -n "$2" -u "$1.service"; }
