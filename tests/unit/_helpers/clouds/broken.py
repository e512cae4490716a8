"""A good cloud file, and every mistake that can be made in it."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

DELETE = object()


def public_key(kind: str = "ssh-ed25519", claimed: str | None = None) -> str:
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (kind.encode(), bytes(range(32))))
    return f"{claimed or kind} {base64.b64encode(blob).decode()}"


GOOD: dict[str, Any] = {
    "releases": [
        {"version": "25.0.2", "vhost": "heat"},
        {
            "version": "26.0.2",
            "vhost": "heat_26",
            "requirements": "include/releases/openstack-heat-26.0.2.txt",
        },
        {
            "version": "27.0.1",
            "vhost": "heat_27",
            "requirements": "include/releases/openstack-heat-27.0.1.txt",
        },
    ],
    "hosts": [
        {"name": "controller-1", "address": "10.0.0.11", "roles": ["engine", "api"]},
        {
            "name": "controller-2",
            "address": "10.0.0.12",
            "port": 2222,
            "host_key": public_key(),
            "roles": ["engine", "api"],
        },
        {"name": "edge.example", "address": "fd00::13", "roles": ["api-cfn", "api"]},
    ],
    "connections": {"ssh": "heat_ssh", "rabbitmq": "heat_mq", "database": "heat_db", "api": "heat_api"},
    "service_manager": {"kind": "systemd", "unit_dir": "/etc/systemd/system"},
    "become": "sudo",
    "installer": {"kind": "uv", "command": "/usr/bin/uv", "python": "python3.11"},
    "layout": {
        "venv": "/opt/heat/{release}",
        "config": "/etc/heat/{release}/heat.conf",
        "unit": "heat-{role}-{release}",
        "state": "/var/lib/heat-upgrade/{host}",
    },
    "services": {
        "user": "heat",
        "stop_timeout": 600,
        "api": {"address": "{address}", "port": 8004, "processes": 2, "threads": 4},
        "api-cfn": {"address": "0.0.0.0", "port": 8000, "processes": 1, "threads": 2},
    },
    "rotation": {"kind": "healthcheck", "file": "/var/lib/heat/{host}/out", "settle": 6},
    "waves": [1, 2, "50%"],
    "drain": {"interval": 10, "readings": 3, "timeout": 7200},
    "backup": {"host": "controller-2", "directory": "/var/backups/heat"},
    "windows": {
        "openings": [
            {"cron": "0 22 * * sat", "minutes": 240, "timezone": "Europe/Berlin"},
            {"cron": "30 1 1 * *", "minutes": 90, "timezone": "America/New_York"},
        ],
        "blackouts": [date(2026, 12, 24), "2026-12-31 to 2027-01-03"],
        "prepare_outside": True,
        "seconds_per_outage": 60,
    },
    "pending_release": "26.0.2",
}
HAPROXY = {
    "kind": "haproxy",
    "address": "10.0.0.5",
    "socket": "/run/haproxy/admin.sock",
    "backends": {"api": "heat_api", "api-cfn": "heat_api_cfn"},
    "server": "{host}",
}
COMMANDS = {"kind": "commands", "leave": "balancer leave {role} {host}", "rejoin": "balancer join {host}"}
SUPERVISOR = {"kind": "supervisor", "supervisorctl": ["/bin/supervisorctl"], "conf_dir": "/srv/{host}/conf"}
Edits = Mapping[str, Any]


def edited(edits: Edits) -> dict[str, Any]:
    """Return the good cloud with some places (hosts.0.name) set to other values or deleted."""
    data = copy.deepcopy(GOOD)
    for place, value in edits.items():
        *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        target: Any = data
        for part in parents:
            target = target[part]
        if value is DELETE:
            del target[last]
        else:
            target[last] = copy.deepcopy(value)
    return data


class Broken(NamedTuple):
    """A mistake, and what its one problem says: where it is, the value, the expectation, the next step."""

    id: str
    edits: Edits
    where: str
    value: str
    expected: str
    todo: str


HIDDEN = "not shown"
SAMPLE_NAME = "include/clouds/example.yaml.sample"
BROKEN = [
    # keys
    Broken("no releases", {"releases": DELETE}, "releases", "nothing", "the key 'releases'", SAMPLE_NAME),
    Broken("no hosts", {"hosts": DELETE}, "hosts", "nothing", "the key 'hosts'", SAMPLE_NAME),
    Broken("no rotation", {"rotation": DELETE}, "rotation", "nothing", "the key 'rotation'", SAMPLE_NAME),
    Broken(
        "no connection",
        {"connections.database": DELETE},
        "connections.database",
        "nothing",
        "the key 'database'",
        "add it",
    ),
    Broken("no vhost", {"releases.1.vhost": DELETE}, "releases[1].vhost", "nothing", "the key 'vhost'", "add it"),
    Broken("no address", {"hosts.1.address": DELETE}, "hosts[1].address", "nothing", "the key 'address'", "add it"),
    Broken("no kind", {"installer": {"command": "uv"}}, "installer", "a mapping", "the key 'kind'", "add `kind"),
    Broken(
        "unknown kind",
        {"rotation.kind": "healthchek"},
        "rotation.kind",
        "'healthchek'",
        "one of healthcheck, haproxy, commands",
        "did you mean 'healthcheck'?",
    ),
    Broken(
        "unknown key", {"quotas": []}, "file", "the unknown key 'quotas'", "only approvals, backup, become", "delete it"
    ),
    Broken("misspelt key", {"wave": [1]}, "file", "'wave'", "only approvals, backup, become", "did you mean 'waves'?"),
    Broken(
        "misspelt key of a host",
        {"hosts.0.adress": "10.0.0.11"},
        "hosts[0]",
        "'adress'",
        "only address, host_key, name, port, roles, rotation",
        "did you mean 'address'?",
    ),
    Broken(
        "key of another kind",
        {"service_manager.conf_dir": "/etc/x"},
        "service_manager",
        "'conf_dir'",
        "only kind, unit_dir",
        "did you mean",
    ),
    Broken("name of the cloud", {"name": "lab"}, "name", "'lab'", "no such key", "the file's own name"),
    Broken("not a text as key", {"layout.7": "x"}, "layout", "'7'", "only config, state, unit", "delete it"),
    # types, as YAML reads what was not quoted
    Broken(
        "version read as a float",
        {"releases.0.version": 25.0},
        "releases[0].version",
        "25.0",
        "a text",
        "put it in quotes",
    ),
    Broken("name read as a boolean", {"hosts.0.name": True}, "hosts[0].name", "true", "a text", "reads on, off, yes"),
    Broken("name read as a number", {"hosts.0.name": 17}, "hosts[0].name", "17", "a text", "put it in quotes"),
    Broken("vhost left empty", {"releases.0.vhost": None}, "releases[0].vhost", "nothing", "a text", "write one text"),
    Broken(
        "unquoted template",
        {"services.api.address": {"address": None}},
        "services.api.address",
        "a mapping",
        "a text",
        "YAML reads a { at the start as a mapping",
    ),
    Broken("become: none as a boolean", {"become": False}, "become", "false", "one of sudo, none", "write one of them"),
    Broken("port in quotes", {"hosts.0.port": "22"}, "hosts[0].port", "'22'", "a whole number", "without quotes"),
    Broken("port as a boolean", {"services.api.port": True}, "services.api.port", "true", "a whole number", "digits"),
    Broken("seconds as a text", {"drain.timeout": "2h"}, "drain.timeout", "'2h'", "a number", "without quotes"),
    Broken("hosts as a mapping", {"hosts": {"a": 1}}, "hosts", "a mapping", "a list", "a line with - for each"),
    Broken("host as a text", {"hosts.0": "controller-1"}, "hosts[0]", "'controller-1'", "a mapping", "key: value"),
    Broken("roles as a text", {"hosts.0.roles": "engine"}, "hosts[0].roles", "'engine'", "a list", "write [...]"),
    # releases
    Broken("one release", {"releases": GOOD["releases"][:1]}, "releases", "1 of them", "at least two", "go to"),
    Broken(
        "not x.y.z",
        {"releases.0.version": "25.0"},
        "releases[0].version",
        "'25.0'",
        "x.y.z",
        "write all three numbers",
    ),
    Broken(
        "release candidate", {"releases.0.version": "25.0.0rc1"}, "releases[0].version", "rc1'", "x.y.z", "all three"
    ),
    Broken(
        "out of order",
        {"releases.0.version": "26.0.3"},
        "releases[1].version",
        "26.0.2 after 26.0.3",
        "oldest first",
        "reorder",
    ),
    Broken(
        "release twice",
        {"releases.0.version": "26.0.2"},
        "releases[1].version",
        "26.0.2 after 26.0.2",
        "each release once",
        "reorder",
    ),
    Broken(
        "a major release left out",
        {"releases.1": DELETE},
        "releases[1].version",
        "27.0.1 after 25.0.2",
        "the next major release",
        "list a release 26.y.z between them",
    ),
    Broken(
        "vhost used twice",
        {"releases.1.vhost": "heat"},
        "releases[1].vhost",
        "'heat'",
        "a vhost of its own, releases[0] has this one",
        "change one of the two",
    ),
    Broken(
        "no pins",
        {"releases.2.requirements": DELETE},
        "releases[2].requirements",
        "nothing",
        "a file with pins",
        "openstack-heat-27.0.1.txt",
    ),
    Broken(
        "pins that do not exist",
        {"releases.1.requirements": "include/releases/heat.txt"},
        "releases[1].requirements",
        "include/releases/heat.txt' (FileNotFoundError)",
        "a readable file of pins",
        "--generate-hashes",
    ),
    Broken(
        "pins of another release",
        {"releases.1.requirements": "include/releases/openstack-heat-27.0.1.txt"},
        "releases[1].requirements",
        "openstack-heat 27.0.1",
        "openstack-heat==26.0.2",
        "for openstack-heat 26.0.2",
    ),
    Broken(
        "pins from outside",
        {"releases.1.requirements": "../heat.txt"},
        "releases[1].requirements",
        "'../heat.txt'",
        "a pip requirements file",
        "from HEAT_UPGRADE_HOME",
    ),
    # hosts
    Broken("no hosts at all", {"hosts": []}, "hosts", "an empty list", "at least one host", "list the hosts"),
    Broken(
        "host twice",
        {"hosts.1.name": "Controller-1"},
        "hosts[1].name",
        "'Controller-1'",
        "a name of its own, hosts[0] has this one",
        "change one",
    ),
    Broken(
        "task id twice",
        {"hosts.1.name": "controller.1"},
        "hosts[1].name",
        "'controller.1'",
        "a name (- and . are the same) of its own, hosts[0] has this one",
        "change one",
    ),
    Broken(
        "address twice",
        {"hosts.1.address": "10.0.0.11", "hosts.1.port": 22},
        "hosts[1].address",
        "'10.0.0.11 port 22'",
        "an address and port of its own, hosts[0] has this one",
        "change one",
    ),
    Broken(
        "the same IPv6 address, written otherwise",
        {"hosts.0.address": "FD00:0::13"},
        "hosts[2].address",
        "'fd00::13 port 22'",
        "address and port of its own",
        "change one",
    ),
    Broken("unknown role", {"hosts.0.roles.0": "engin"}, "hosts[0].roles[0]", "'engin'", "engine, api,", "'engine'?"),
    Broken(
        "role twice",
        {"hosts.0.roles": ["engine", "api", "api"]},
        "hosts[0].roles",
        "a list",
        "each role once",
        "delete the repeated one",
    ),
    Broken("no role", {"hosts.0.roles": []}, "hosts[0].roles", "an empty list", "at least one of engine", "give"),
    Broken(
        "no engine",
        {"hosts.0.roles": ["api"], "hosts.1.roles": ["api"]},
        "hosts",
        "no host with the role engine",
        "an empty engine list",
        "add engine to a host's roles",
    ),
    Broken(
        "no API",
        {"hosts.0.roles": ["engine"], "hosts.1.roles": ["engine"], "hosts.2.roles": ["api-cfn"]},
        "hosts",
        "no host with the role api",
        "at least one",
        "add api to a host's roles",
    ),
    Broken("host with _", {"hosts.0.name": "ctl_1"}, "hosts[0].name", "'ctl_1'", "a host name", "the host's own name"),
    Broken(
        "not an IP", {"hosts.0.address": "10.0.0.300"}, "hosts[0].address", "'10.0.0.300'", "an IP address", "10.0.0.11"
    ),
    Broken(
        "address with a user",
        {"hosts.0.address": "root@10.0.0.11"},
        "hosts[0].address",
        "'root@10.0.0.11'",
        "without user or port",
        "10.0.0.11",
    ),
    Broken(
        "port out of range", {"hosts.0.port": 65536}, "hosts[0].port", "65536", "1 to 65535", "the port of the service"
    ),
    Broken(
        "host key cut off",
        {"hosts.0.host_key": public_key()[:-8]},
        "hosts[0].host_key",
        HIDDEN,
        "its type and its base64 text",
        "ssh-keyscan",
    ),
    Broken(
        "host key of another type",
        {"hosts.0.host_key": public_key("ssh-rsa", claimed="ssh-ed25519")},
        "hosts[0].host_key",
        HIDDEN,
        "a public host key",
        "ssh-keyscan",
    ),
    Broken(
        "line of known_hosts",
        {"hosts.0.host_key": f"10.0.0.11 {public_key()}"},
        "hosts[0].host_key",
        HIDDEN,
        "a public host key",
        "the two last words",
    ),
    Broken(
        "host named like a task",
        {"hosts.0.name": "retire"},
        "hosts[0].name",
        "'retire'",
        "a name other than the DAG's own tasks",
        "rename the host",
    ),
    # names and paths
    Broken(
        "relative path",
        {"layout.state": "var/lib/{host}"},
        "layout.state",
        "'var/lib/{host}'",
        "an absolute path",
        "the full path",
    ),
    Broken(
        "path with ..",
        {"backup.directory": "/var/../etc"},
        "backup.directory",
        "'/var/../etc'",
        "without '..'",
        "the full path",
    ),
    Broken(
        "path with a substitution",
        {"layout.venv": "/opt/$(id)/{release}"},
        "layout.venv",
        "'/opt/$(id)/{release}'",
        "letters, digits",
        "the full path",
    ),
    Broken(
        "unknown template field",
        {"layout.venv": "/opt/{relase}"},
        "layout.venv",
        "'/opt/{relase}'",
        "only the template fields {host} {release}",
        "use one of them",
    ),
    Broken(
        "attribute in a template",
        {"layout.venv": "/opt/{release.__class__}"},
        "layout.venv",
        "{release.__class__}'",
        "only the template fields",
        "use one of them",
    ),
    Broken(
        "open template", {"layout.venv": "/opt/{release"}, "layout.venv", "'/opt/{release'", "to have its }", "{host}"
    ),
    Broken(
        "unit with its suffix",
        {"layout.unit": "heat-{role}-{release}.service"},
        "layout.unit",
        ".service'",
        "without .service",
        "heat-{role}-{release}",
    ),
    Broken(
        "one venv for all releases",
        {"layout.venv": "/opt/heat/{host}"},
        "layout.venv",
        "'/opt/heat/controller-1' twice",
        "a venv of its own for each release on controller-1",
        "use {release} in the template",
    ),
    Broken(
        "one config for two releases",
        {"releases.0.config": "/etc/heat/27.0.1/heat.conf"},
        "layout.config",
        "'/etc/heat/27.0.1/heat.conf' twice",
        "a config of its own for each release",
        "use {release}",
    ),
    Broken(
        "one unit for all roles",
        {"layout.unit": "heat-{release}"},
        "layout.unit",
        "'heat-25.0.2' twice",
        "a unit of its own for each release and role",
        "use {release} and {role} in the template",
    ),
    Broken("user", {"services.user": "heat;id"}, "services.user", "'heat;id'", "a Unix account", "for example heat"),
    Broken(
        "vhost with a space",
        {"releases.0.vhost": "my heat"},
        "releases[0].vhost",
        "'my heat'",
        "a RabbitMQ vhost",
        "heat_26",
    ),
    Broken(
        "interpreter",
        {"installer.python": "python3 -m"},
        "installer.python",
        "'python3 -m'",
        "a program",
        "/usr/bin/python3",
    ),
    # connections
    Broken(
        "connection with an odd id",
        {"connections.ssh": "heat ssh"},
        "connections.ssh",
        HIDDEN,
        "the id of an Airflow connection",
        "airflow connections add",
    ),
    Broken(
        "connection as a mapping", {"connections.ssh": {"host": "x"}}, "connections.ssh", HIDDEN, "a text", "quotes"
    ),
    # services, rotation, waves, drain, backup
    Broken("no threads", {"services.api.threads": 0}, "services.api.threads", "0", "1 to 1024", "how many"),
    Broken(
        "stop timeout of 0", {"services.stop_timeout": 0}, "services.stop_timeout", "0", "above 0", "graceful_shutdown"
    ),
    Broken(
        "both APIs on a port",
        {"services.api-cfn.port": 8004},
        "services.api-cfn.port",
        "8004",
        "a port other than api's: edge.example runs both",
        "8000",
    ),
    Broken(
        "health check file of a role",
        {"rotation.file": "/var/lib/heat/{role}"},
        "rotation.file",
        "'/var/lib/heat/{role}'",
        "only the template fields {host}",
        "use one of them",
    ),
    Broken("settle of -1", {"rotation.settle": -1}, "rotation.settle", "-1", "seconds above 0", "write the seconds"),
    Broken(
        "no backend for a role",
        {"rotation": {**HAPROXY, "backends": {"api": "heat_api"}}},
        "rotation.backends.api-cfn",
        "nothing",
        "HAProxy's backend of api-cfn, a role of edge.example",
        "haproxy.cfg",
    ),
    Broken(
        "no backend for a host's own rotation",
        {"hosts.2.rotation": {**HAPROXY, "backends": {"api": "heat_api"}}},
        "hosts[2].rotation.backends.api-cfn",
        "nothing",
        "HAProxy's backend of api-cfn",
        "haproxy.cfg",
    ),
    Broken(
        "one HAProxy server for all hosts",
        {"rotation": {**HAPROXY, "server": "heat"}},
        "rotation.server",
        "'heat' twice",
        "a server of its own for each host",
        "use {host}",
    ),
    Broken(
        "command on two lines",
        {"rotation": {**COMMANDS, "leave": "true\nrm x"}},
        "rotation.leave",
        HIDDEN,
        "on one line",
        "into a script on the host",
    ),
    Broken(
        "braces of a shell command",
        {"rotation": {**COMMANDS, "leave": "awk '{print}' x"}},
        "rotation.leave",
        HIDDEN,
        "only the template fields {host} {address} {role}",
        "{{ and }} are plain braces",
    ),
    Broken(
        "no supervisorctl",
        {"service_manager": {**SUPERVISOR, "supervisorctl": []}},
        "service_manager.supervisorctl",
        "an empty list",
        "a command as a list",
        "[supervisorctl]",
    ),
    Broken(
        "password for supervisorctl",
        {"service_manager": {**SUPERVISOR, "supervisorctl": ["/bin/supervisorctl", "--password=x"]}},
        "service_manager.supervisorctl[1]",
        HIDDEN,
        "no password option",
        "supervisorctl's own configuration",
    ),
    Broken("wave of 0", {"waves": [1, 0]}, "waves[1]", "0", "a number of hosts above 0", "[1, 2, 50%]"),
    Broken("wave below 0", {"waves": [-1]}, "waves[0]", "-1", "a number of hosts above 0", "[1, 2, 50%]"),
    Broken("wave of 0 %", {"waves": ["0%"]}, "waves[0]", "'0%'", "from 1% to 100%", "[1, 2, 50%]"),
    Broken("wave above 100 %", {"waves": ["101%"]}, "waves[0]", "'101%'", "from 1% to 100%", "[1, 2, 50%]"),
    Broken("wave as a boolean", {"waves": [True]}, "waves[0]", "true", "a number of hosts", "[1, 2, 50%]"),
    Broken("wave as a text", {"waves": ["2"]}, "waves[0]", "'2'", "a number of hosts", "[1, 2, 50%]"),
    Broken("no waves", {"waves": []}, "waves", "an empty list", "at least one wave", "[1]"),
    Broken(
        "one reading", {"drain.readings": 1}, "drain.readings", "1", "at least 2", "one clean reading proves nothing"
    ),
    Broken("drain timeout of 0", {"drain.timeout": 0}, "drain.timeout", "0", "seconds above 0", "write the seconds"),
    Broken("no end of the interval", {"drain.interval": float("inf")}, "drain.interval", "inf", "above 0", "as in 60"),
    Broken(
        "drain that can't open",
        {"drain.timeout": 30},
        "drain.timeout",
        "30",
        "more than interval x readings = 30 s",
        "write more",
    ),
    Broken(
        "unknown backup host",
        {"backup.host": "controller-9"},
        "backup.host",
        "'controller-9'",
        "one of the hosts (controller-1, controller-2",
        "did you mean 'controller-",
    ),
    # maintenance windows
    Broken(
        "windows as a list",
        {"windows": GOOD["windows"]["openings"]},
        "windows",
        "a list",
        "a mapping",
        "write lines of `key: value`",
    ),
    Broken(
        "no openings",
        {"windows.openings": []},
        "windows.openings",
        "an empty list",
        "at least one window",
        "delete `windows`",
    ),
    Broken(
        "no time zone",
        {"windows.openings.1.timezone": DELETE},
        "windows.openings[1].timezone",
        "nothing",
        "the key 'timezone'",
        "add it",
    ),
    Broken(
        "unknown time zone",
        {"windows.openings.0.timezone": "Europe/Berln"},
        "windows.openings[0].timezone",
        "'Europe/Berln'",
        "a time zone of the IANA database",
        "did you mean 'Europe/Berlin'?",
    ),
    *(
        Broken(
            f"time zone {zone!r}",
            {"windows.openings.0.timezone": zone},
            "windows.openings[0].timezone",
            f"'{zone}'",
            "a time zone of the IANA database",
            "",
        )
        for zone in ("Europe", "../etc/passwd", "/etc/localtime", "+01:00", "")
    ),
    *(
        Broken(
            f"cron {cron!r}",
            {"windows.openings.0.cron": cron},
            "windows.openings[0].cron",
            repr(cron),
            "a cron expression: minute (one number), hour",
            'write for example "0 22 * * sat"',
        )
        for cron in (
            *("", "22:00", "@weekly", "* 22 * * sat", "*/5 22 * * *", "0,30 22 * * *", "0 22 * *", "0 22 * * sat 2026"),
            *("60 22 * * *", "0 24 * * *", "0 0 30 2 *", "0 22 * * sad", "H 22 * * *", "0 R * * *", "0 r/2 * * *"),
            *("0  22 * * *", "0 22 * * *\n", "0 22 * * $(id)"),
        )
    ),
    Broken(
        "days of the month and of the week",
        {"windows.openings.0.cron": "0 22 1-7 * sat"},
        "windows.openings[0].cron",
        "'0 22 1-7 * sat'",
        "a day of the month or a day of the week, not both",
        "0 22 * * sat#1",
    ),
    Broken(
        "minutes as a text",
        {"windows.openings.0.minutes": "4h"},
        "windows.openings[0].minutes",
        "'4h'",
        "a whole number",
        "without quotes",
    ),
    Broken(
        "a window of no length",
        {"windows.openings.0.minutes": 0},
        "windows.openings[0].minutes",
        "0",
        "from 5 to 10080 minutes",
        "how long it stays open",
    ),
    *(
        Broken(
            f"blackout {text!r}",
            {"windows.blackouts.1": text},
            "windows.blackouts[1]",
            shown,
            "a day or the first and the last of several, as in 2026-12-24 to 2027-01-02",
            "year-month-day",
        )
        for text, shown in (
            ("24.12.2026", "'24.12.2026'"),
            ("2026-02-30", "'2026-02-30'"),
            ("2026-12-24 - 2026-12-26", "'2026-12-24 - 2026-12-26'"),
            ("2026-12-26 to 2026-12-24", "'2026-12-26 to 2026-12-24'"),
            ("2026-12-24 to", "'2026-12-24 to'"),
            ("20261224", "'20261224'"),
            ("9999-12-31", "'9999-12-31'"),
            (datetime(2026, 12, 24, 12), "2026-12-24 12:00:00"),
            (20261224, "20261224"),
            (["2026-12-24", "2026-12-26"], "a list"),
        )
    ),
    Broken(
        "prepare_outside as a text",
        {"windows.prepare_outside": "no"},
        "windows.prepare_outside",
        "'no'",
        "true or false",
        "without quotes",
    ),
    Broken(
        "no seconds for an outage",
        {"windows.seconds_per_outage": 0},
        "windows.seconds_per_outage",
        "0",
        "seconds above 0",
        "write the seconds",
    ),
    # canary
    Broken(
        "canary by its name",
        {"canary": {"projects": ["research & development"]}},
        "canary.projects[0]",
        "'research & development'",
        "a project's id",
        "openstack project list",
    ),
    Broken(
        "canary as a number",
        {"canary": {"projects": [20260101]}},
        "canary.projects[0]",
        "20260101",
        "a text",
        "put it in quotes",
    ),
    Broken(
        "canary that is too long",
        {"canary": {"projects": ["p" * 65]}},
        "canary.projects[0]",
        "'ppp",
        "64 at most",
        "openstack project list",
    ),
    Broken(
        "canary with no list",
        {"canary": {"projects": "p1"}},
        "canary.projects",
        "'p1'",
        "a list",
        "write [...] around it",
    ),
    Broken(
        "canaries without end",
        {"canary": {"projects": [f"p{number}" for number in range(51)]}},
        "canary.projects",
        "a list",
        "50 projects at most",
        "name fewer of them",
    ),
    Broken(
        "canary twice",
        {"canary": {"projects": ["p1", "p2", "p1"]}},
        "canary.projects",
        "a list",
        "each project once",
        "delete the repeated one",
    ),
    Broken(
        "canary for no time",
        {"canary": {"projects": ["p1"], "minutes": 0}},
        "canary.minutes",
        "0",
        "from 1 to 10080 minutes",
        "write for example 30",
    ),
    Broken(
        "canary that may be slow for ever",
        {"canary": {"slowest": float("inf")}},
        "canary.slowest",
        "inf",
        "seconds above 0",
        "write the seconds",
    ),
    Broken(
        "misspelt setting of the canary",
        {"canary": {"project": ["p1"]}},
        "canary",
        "'project'",
        "only minutes, projects, slowest",
        "did you mean 'projects'?",
    ),
    # approvals, notifications
    Broken(
        "no time to answer",
        {"approvals": {"timeout": 0}},
        "approvals.timeout",
        "0",
        "seconds above 0",
        "write the seconds",
    ),
    Broken(
        "drain that is always slow",
        {"drain.warn_after": -1},
        "drain.warn_after",
        "-1",
        "seconds above 0",
        "write the seconds",
    ),
    Broken(
        "message of no kind",
        {"notifications": [{"connection": "mail"}]},
        "notifications[0]",
        "a mapping",
        "a mapping with the key 'kind'",
        "add `kind",
    ),
    Broken(
        "message of an unknown kind",
        {"notifications": [{"kind": "slack"}]},
        "notifications[0].kind",
        "'slack'",
        "one of smtp, webhook, notifier",
        "write one of them",
    ),
    Broken(
        "unknown event",
        {"notifications": [{"kind": "webhook", "connection": "hook", "events": ["failed"]}]},
        "notifications[0].events[0]",
        "'failed'",
        "one of started, approval, window, error, drain, done",
        "write one of them",
    ),
    Broken(
        "message of no event",
        {"notifications": [{"kind": "webhook", "connection": "hook", "events": []}]},
        "notifications[0].events",
        "an empty list",
        "at least one of started, approval, window, error, drain, done",
        "delete the key for all",
    ),
    Broken(
        "URL in a webhook",
        {"notifications": [{"kind": "webhook", "connection": "https://example.org/hook"}]},
        "notifications[0].connection",
        HIDDEN,
        "the id of an Airflow connection",
        "airflow connections add",
    ),
    Broken(
        "password of a mail server",
        {"notifications": [{"kind": "smtp", "connection": "mail", "to": ["a@b.org"], "password": "hunter2"}]},
        "notifications[0]",
        "'password'",
        "only connection, events, from, kind, to",
        "secrets belong in the Airflow connections",
    ),
    Broken(
        "mail to nobody",
        {"notifications": [{"kind": "smtp", "connection": "mail", "to": []}]},
        "notifications[0].to",
        "an empty list",
        "at least one address",
        "heat@example.org",
    ),
    Broken(
        "mail to a template",
        {"notifications": [{"kind": "smtp", "connection": "mail", "to": ["{{ conn }}@b.org"]}]},
        "notifications[0].to[0]",
        "'{{ conn }}@b.org'",
        "an e-mail address without a name",
        "heat@example.org",
    ),
    Broken(
        "notifier that is no path",
        {"notifications": [{"kind": "notifier", "notifier": "SlackNotifier"}]},
        "notifications[0].notifier",
        "'SlackNotifier'",
        "the import path of a notifier",
        "SlackNotifier",
    ),
    Broken(
        "arguments in a list",
        {"notifications": [{"kind": "notifier", "notifier": "a.B", "arguments": ["text"]}]},
        "notifications[0].arguments",
        HIDDEN,
        "a mapping",
        "write lines of `key: value`",
    ),
    Broken(
        "secret of a notifier",
        {"notifications": [{"kind": "notifier", "notifier": "a.B", "arguments": {"token": "hunter2"}}]},
        "notifications[0].arguments.'token'",
        HIDDEN,
        "no secret",
        "of which a notifier takes the id",
    ),
    Broken(
        "argument that is none",
        {"notifications": [{"kind": "notifier", "notifier": "a.B", "arguments": {"to whom": "x"}}]},
        "notifications[0].arguments",
        "the key (not shown",
        "the name of an argument",
        "documentation for its arguments",
    ),
    Broken(
        "pending release that isn't there",
        {"pending_release": "28.0.0"},
        "pending_release",
        "'28.0.0'",
        "a release to upgrade to: 26.0.2, 27.0.1",
        "delete the key",
    ),
    Broken(
        "first release pending",
        {"pending_release": "25.0.2"},
        "pending_release",
        "'25.0.2'",
        "a release to upgrade to: 26.0.2, 27.0.1",
        "delete the key",
    ),
    Broken(
        "pending release without windows",
        {"windows": DELETE},
        "pending_release",
        "'26.0.2'",
        "`windows`, whose opening starts the run",
        "trigger the run yourself",
    ),
]


class NotYaml(NamedTuple):
    """A file that holds no cloud at all, and what its one problem says."""

    id: str
    content: bytes
    where: str
    value: str
    expected: str
    todo: str


NOT_YAML = [
    NotYaml("empty", b"", "file", "nothing", "a mapping", "start from a copy of"),
    NotYaml("only comments", b"# later\n", "file", "nothing", "a mapping", "start from a copy of"),
    NotYaml("a list", b"- releases\n", "file", "a list", "a mapping", "start from a copy of"),
    NotYaml("a text", b"releases\n", "file", "'releases'", "a mapping", "start from a copy of"),
    NotYaml("an open bracket", b"releases: []\nhosts: [a,\nx: }", "line 3", "invalid YAML", "valid YAML", "this line"),
    NotYaml("a tab", b"releases:\n\t- x\n", "line 2", "invalid YAML", "valid YAML", "this line"),
    NotYaml("not UTF-8", "releases: []\nhosts: é".encode("latin-1"), "line 2", "not UTF-8", "a UTF-8 file", "save it"),
    NotYaml(
        "a control character", b"releases: []\nhosts: \x01", "line 2", "forbidden character", "valid YAML", "this line"
    ),
    NotYaml("two documents", b"releases: []\n---\nhosts: []\n", "line 2", "invalid YAML", "valid YAML", "this line"),
    NotYaml("a Python object", b"hosts: !!python/object:os.x {}", "line 1", "invalid YAML", "valid YAML", "this line"),
    NotYaml("an impossible date", b"hosts: 2026-02-30", "file", "ValueError", "plain YAML", "in quotes"),
    NotYaml("a key that is a list", b"? [a]\n: b", "line 1", "unhashable key", "valid YAML", "this line"),
    NotYaml("too deep", b"[" * 5000 + b"]" * 5000, "file", "RecursionError", "plain YAML", "in quotes"),
]
