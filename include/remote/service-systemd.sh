# Services under systemd. States: active, starting, stopping, inactive, failed, absent.
# shellcheck shell=bash

service_state() {
    local load active
    load=$(systemctl show -p LoadState --value "$1.service")
    active=$(systemctl show -p ActiveState --value "$1.service")
    if [[ $load == not-found ]]; then
        echo absent
        return
    fi
    case $active in
    active | inactive | failed) echo "$active" ;;
    activating | reloading) echo starting ;;
    deactivating) echo stopping ;;
    *) fail "systemd says that $1 is '$active', which is no state that this step knows: look at 'systemctl status $1'" ;;
    esac
}

service_pid() { systemctl show -p MainPID --value "$1.service"; }

service_file() { echo "$UNIT_DIR/$1.service"; }

service_start() {
    as_root systemctl daemon-reload
    as_root systemctl reset-failed "$1.service" 2>/dev/null || true
    as_root systemctl enable --quiet "$1.service"
    as_root systemctl start "$1.service"
}

# Blocks until the service has ended, at the longest the unit's TimeoutStopSec.
service_stop() {
    as_root systemctl disable --quiet "$1.service"
    as_root systemctl stop "$1.service"
}

service_log() { as_root journalctl --no-pager -o cat -n "$2" -u "$1.service"; }
