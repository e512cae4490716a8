"""The folder of the cloud: what each machine is when it boots, and what the upgrade is told about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from lab.cloud.haproxy import BACKENDS, configuration
from lab.cloud.heat_config import HEALTHCHECK, HEAT
from lab.cloud.host import make_key
from lab.cloud.mariadb import service_account
from lab.cloud.model import FIRST_RELEASE, OPERATOR, PROJECT_ROOT, RELEASES
from lab.cloud.rabbitmq import definitions
from lab.compose import identity
from lab.compose.certificates import make_certificates
from lab.passwords import load_secrets, write_private

NAME = "compose"
BROKERS = ("lab-rabbitmq-1", "lab-rabbitmq-2", "lab-rabbitmq-3")
DATABASE = "lab-mariadb"
BALANCER = "lab-balancer"
CONTROLLERS = ("lab-controller-1", "lab-controller-2")
API_PORT, CFN_PORT = 8004, 8000
# The account that Airflow logs in with, and the one of Heat's services.
LOGIN, SERVICE_USER = "heat-upgrade", "heat"
ROTATION_FILE = "/var/lib/heat/out-of-rotation"
ADMIN_SOCKET = "/run/haproxy/admin.sock"
# Where the same files are on a machine and in Airflow's containers.
MACHINE_CA = "/etc/ssl/lab/ca.crt"
AIRFLOW_SECRETS = "/opt/airflow/secrets"
ENGINE_WORKERS = 2
# Of each API, as in the units of the first release. A request waits for its engine, and engines wait for Keystone.
API_THREADS = 32
# The account of Airflow's image, where whoever makes the folder is root.
AIRFLOW_UID = os.getuid() or 50000

_TLS = """
[oslo_messaging_rabbit]
ssl = true
ssl_ca_file = {ca}
rabbit_quorum_queue = true
"""
_RABBITMQ = """\
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = {ca}
ssl_options.certfile = /etc/ssl/lab/server.crt
ssl_options.keyfile = /etc/ssl/lab/server.key
management.ssl.port = 15671
management.ssl.cacertfile = {ca}
management.ssl.certfile = /etc/ssl/lab/server.crt
management.ssl.keyfile = /etc/ssl/lab/server.key
load_definitions = /etc/rabbitmq/definitions.json
cluster_formation.peer_discovery_backend = classic_config
"""
_MARIADB = f"""\
[mariadbd]
bind_address = 0.0.0.0
init_file = /etc/mysql/lab.sql
ssl_ca = {MACHINE_CA}
ssl_cert = /etc/ssl/lab/server.crt
ssl_key = /etc/ssl/lab/server.key
require_secure_transport = on
skip_name_resolve
skip_log_bin
max_connections = 1000
innodb_flush_log_at_trx_commit = 2
"""


@dataclass
class Machine:
    """
    A machine: its files by path, owners and modes of those that aren't everybody's, the services that it starts.

    :param name: its host name.
    """

    name: str
    files: dict[str, str] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)

    def put(self, path: str, text: str, *, owner: str = "root:root", mode: str = "644") -> None:
        """Add a file."""
        self.files[path] = text
        self.modes[path] = f"{owner} {mode}"

    def write(self, folder: Path) -> None:
        """Write all that the machine reads when it boots."""
        for path, text in self.files.items():
            write_private(folder / "files" / path.lstrip("/"), text)
        (folder / "modes").write_text("".join(f"{mode} {path}\n" for path, mode in self.modes.items()))
        (folder / "units").write_text("".join(f"{unit}\n" for unit in self.units))


@dataclass(frozen=True)
class ComposeCloud:
    """
    The cloud of ``docker compose --profile lab``.

    :param state: where its machines' files and its secrets are: LAB_DIR.
    """

    state: Path = PROJECT_ROOT / ".state/compose"
    # As the catalogue has it: the project is the one that its user logs in to.
    endpoint: str = "http://127.0.0.1:18004/v1/%(project_id)s"
    cfn_endpoint: str = "http://127.0.0.1:18000/v1"
    identity_url: str = "http://127.0.0.1:15000/v3"

    @property
    def secrets(self) -> dict[str, str]:
        """The passwords, from a private file."""
        return load_secrets(self.state / "passwords.yaml", identity.SECRETS)

    @property
    def certificates(self) -> Path:
        """Where the authority and the servers' certificate are."""
        return self.state / "certificates"

    @property
    def clouds(self) -> Path:
        """Where the cloud file is: CLOUDS_DIR."""
        return self.state / "clouds"

    @property
    def airflow_secrets(self) -> Path:
        """What Airflow's workers and triggerer have: SECRETS_DIR."""
        return self.state / "secrets"

    def database_url(self) -> str:
        """Return the SQLAlchemy URL of Heat's database, as this machine reaches it. It holds the password."""
        return self._database_url("heat", "database", "127.0.0.1:13306", self.certificates / "ca.crt")

    def _database_url(self, service: str, secret: str, server: str = DATABASE, ca: str | Path = MACHINE_CA) -> str:
        password = quote(self.secrets[secret], safe="")
        return f"mysql+pymysql://{service}:{password}@{server}/{service}?ssl_ca={ca}"

    def login(self) -> dict[str, str]:
        """Return how the user logs in whose stacks the traffic's are. It holds the password."""
        return identity.login(self.secrets, self.identity_url)

    def transport_url(self, release: str = FIRST_RELEASE) -> str:
        """Return the message bus URL of a release, with all the brokers. It holds the password."""
        login = f"heat:{quote(self.secrets['amqp'], safe='')}"
        return f"rabbit://{','.join(f'{login}@{broker}:5671' for broker in BROKERS)}/{RELEASES[release]}"

    def write(self) -> None:
        """Write the folder; keys and passwords that are there already stay."""
        for part in (self.state, self.clouds, self.airflow_secrets / "ssh"):
            part.mkdir(parents=True, exist_ok=True)
        make_certificates(self.certificates, (*BROKERS, DATABASE))
        make_key(self.airflow_secrets / "ssh/id_ed25519", comment="lab")
        for machine in self._machines():
            machine.write(self.state / "machines" / machine.name)
        self._write_airflow_secrets()
        cloud = yaml.safe_dump(self._cloud_file(), sort_keys=False)
        (self.clouds / f"{NAME}.yaml").write_text(cloud, encoding="utf-8")

    def _machines(self) -> Iterator[Machine]:
        yield from map(self._broker, BROKERS)
        yield self._database()
        yield self._keystone()
        yield from map(self._controller, CONTROLLERS)
        yield self._balancer()

    def _put_certificates(self, machine: Machine, owner: str) -> None:
        machine.put(MACHINE_CA, (self.certificates / "ca.crt").read_text())
        machine.put("/etc/ssl/lab/server.crt", (self.certificates / "server.crt").read_text())
        key = (self.certificates / "server.key").read_text()
        machine.put("/etc/ssl/lab/server.key", key, owner=f"{owner}:{owner}", mode="600")

    def _broker(self, name: str) -> Machine:
        machine = Machine(name, units=["rabbitmq-server"])
        nodes = "".join(
            f"cluster_formation.classic_config.nodes.{number} = rabbit@{broker}\n"
            for number, broker in enumerate(BROKERS, 1)
        )
        private = {"owner": "rabbitmq:rabbitmq", "mode": "600"}
        accounts_of = definitions(self.secrets["amqp"], self.secrets["management"])
        machine.put("/etc/rabbitmq/rabbitmq.conf", _RABBITMQ.format(ca=MACHINE_CA) + nodes)
        machine.put("/etc/rabbitmq/enabled_plugins", "[rabbitmq_management].\n")
        machine.put("/etc/rabbitmq/definitions.json", json.dumps(accounts_of), **private)
        machine.put("/var/lib/rabbitmq/.erlang.cookie", self.secrets["auth_encryption_key"], **private)
        self._put_certificates(machine, "rabbitmq")
        return machine

    def _database(self) -> Machine:
        machine = Machine(DATABASE, units=["mariadb"])
        machine.put("/etc/mysql/mariadb.conf.d/90-lab.cnf", _MARIADB)
        accounts = {"heat": "database", "keystone": "keystone_database"}
        sql = "".join(service_account(name, self.secrets[secret]) for name, secret in accounts.items())
        machine.put("/etc/mysql/lab.sql", sql, owner="mysql:mysql", mode="600")
        self._put_certificates(machine, "mysql")
        return machine

    def _keystone(self) -> Machine:
        machine = Machine(identity.MACHINE, units=["keystone"])
        private = {"owner": "keystone:keystone", "mode": "600"}
        configuration = identity.CONFIGURATION.format(database_url=self._database_url("keystone", "keystone_database"))
        services = {
            "orchestration": f"http://{BALANCER}:{API_PORT}/v1/%(project_id)s",
            "cloudformation": f"http://{BALANCER}:{CFN_PORT}/v1",
        }
        machine.put(MACHINE_CA, (self.certificates / "ca.crt").read_text())
        machine.put("/etc/keystone/keystone.conf", configuration, **private)
        machine.put("/etc/keystone/administrator", self.secrets["administrator"], **private)
        machine.put("/etc/keystone/accounts.json", json.dumps(identity.accounts(self.secrets, services)), **private)
        return machine

    def _controller(self, name: str) -> Machine:
        machine = Machine(name)
        machine.units += ["ssh", *(f"heat-{role}@{FIRST_RELEASE}" for role in ("engine", "api", "api-cfn"))]
        self._put_login(machine)
        machine.put(MACHINE_CA, (self.certificates / "ca.crt").read_text())
        directory = f"/etc/heat/{FIRST_RELEASE}"
        text = HEAT.format(
            transport_url=self.transport_url(),
            database_url=self._database_url("heat", "database"),
            host=name,
            key=self.secrets["auth_encryption_key"],
            directory=directory,
            cfn_server=f"http://{BALANCER}:{CFN_PORT}",
            release=FIRST_RELEASE,
        ).replace("num_engine_workers = 1", f"num_engine_workers = {ENGINE_WORKERS}")
        text += _TLS.format(ca=MACHINE_CA) + identity.heat_configuration(self.secrets)
        if name == CONTROLLERS[0]:
            text += HEALTHCHECK.format(file=ROTATION_FILE)
        machine.put(f"{directory}/heat.conf", text, owner=f"{SERVICE_USER}:{SERVICE_USER}", mode="600")
        return machine

    def _balancer(self) -> Machine:
        machine = Machine(BALANCER, units=["ssh", "haproxy"])
        self._put_login(machine)
        servers = {role: {name: name for name in CONTROLLERS} for role in BACKENDS}
        ports = {"api": API_PORT, "api-cfn": CFN_PORT}
        text = configuration(ADMIN_SOCKET, "0.0.0.0", {role: ports[role] for role in BACKENDS}, servers)
        # The names are known once their machines run.
        text = text.replace("default-server check", "default-server init-addr last,libc,none resolvers docker check")
        text += "\nresolvers docker\n    parse-resolv-conf\n"
        machine.put("/etc/haproxy/haproxy.cfg", text)
        return machine

    def _put_login(self, machine: Machine) -> None:
        key = self.state / "host-keys" / machine.name
        make_key(key, comment=machine.name)
        machine.put("/etc/ssh/ssh_host_ed25519_key", key.read_text(), mode="600")
        public = (self.airflow_secrets / "ssh/id_ed25519.pub").read_text()
        home, owner = f"/home/{LOGIN}/.ssh", f"{LOGIN}:{LOGIN}"
        machine.put(f"{home}/authorized_keys", public, owner=owner, mode="600")
        machine.modes[home] = f"{owner} 700"

    def _host_key(self, name: str) -> str:
        return " ".join((self.state / f"host-keys/{name}.pub").read_text().split()[:2])

    def _write_airflow_secrets(self) -> None:
        folder = self.airflow_secrets
        write_private(folder / "ca.crt", (self.certificates / "ca.crt").read_text())
        write_private(folder / "connections.yaml", yaml.safe_dump(self._connections(), sort_keys=False))
        # One host is known by Airflow's known_hosts, the others by the cloud file.
        write_private(folder / "ssh/known_hosts", f"{CONTROLLERS[1]} {self._host_key(CONTROLLERS[1])}\n")
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, AIRFLOW_UID, 0)

    def _connections(self) -> Mapping[str, Any]:
        ca = f"{AIRFLOW_SECRETS}/ca.crt"
        return {
            "lab_ssh": {
                "conn_type": "ssh",
                "login": LOGIN,
                "extra": json.dumps({"key_file": "/opt/airflow/.ssh/id_ed25519"}),
            },
            "lab_rabbitmq": {
                "conn_type": "rabbitmq_management",
                "host": BROKERS[0],
                "login": OPERATOR,
                "password": self.secrets["management"],
                "extra": json.dumps({"ca_file": ca}),
            },
            "lab_database": {
                "conn_type": "mysql",
                "host": DATABASE,
                "schema": "heat",
                "login": "heat",
                "password": self.secrets["database"],
                "extra": json.dumps({"ssl": {"ca": ca}}),
            },
            "lab_api": identity.connection(self.secrets),
        }

    def _cloud_file(self) -> Mapping[str, Any]:
        releases = list(RELEASES)[:2]
        return {
            "releases": [
                {
                    "version": release,
                    "vhost": RELEASES[release],
                    "requirements": f"include/releases/openstack-heat-{release}.txt",
                }
                for release in releases
            ],
            "hosts": [self._host(name) for name in CONTROLLERS],
            "connections": {kind: f"lab_{kind}" for kind in ("ssh", "rabbitmq", "database", "api")},
            "service_manager": {"kind": "systemd"},
            "installer": {"kind": "uv", "command": "/usr/local/bin/uv", "python": "/usr/bin/python3"},
            "layout": {"unit": "heat-{role}@{release}"},
            "services": {
                "user": SERVICE_USER,
                "api": {"port": API_PORT, "processes": 1, "threads": API_THREADS},
                "api-cfn": {"port": CFN_PORT, "processes": 1, "threads": API_THREADS},
            },
            "rotation": {"kind": "healthcheck", "file": ROTATION_FILE, "settle": 3},
            "drain": {"interval": 5, "readings": 3, "timeout": 1800},
        }

    def _host(self, name: str) -> dict[str, Any]:
        host: dict[str, Any] = {"name": name, "address": name, "roles": ["engine", "api", "api-cfn"]}
        if name == CONTROLLERS[0]:
            return host | {"host_key": self._host_key(name)}
        host["rotation"] = {
            "kind": "haproxy",
            "address": BALANCER,
            "host_key": self._host_key(BALANCER),
            "socket": ADMIN_SOCKET,
            "backends": dict(BACKENDS),
            "server": "{host}",
        }
        return host
