"""What a lab is: its addresses, ports, paths and hosts. Nothing here starts or stops anything."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from lab.passwords import load_secrets
from lab.processes import LabError, Server

PROJECT_ROOT = Path(__file__).resolve().parents[2]

Size = Literal["full", "small"]
Role = Literal["engine", "api", "api-cfn"]

FIRST_RELEASE = "25.0.2"
RELEASES = {"25.0.2": "heat_25", "26.0.2": "heat_26", "27.0.1": "heat_27"}

# The same ports in every lab: each has addresses of its own. High ones, so that no account needs to be root.
SSH_PORT = 22022
DATABASE_PORT = 23306
AMQP_PORT = 26672
MANAGEMENT_PORT = 26673
API_PORT = 28004
CFN_PORT = 28000
# From an API's port to that of the API beside it.
BESIDE = 100

# Erlang and the browser want 127.0.0.1, so these ports are a lab's own. Below the range of outgoing connections.
_FIRST_OWN_PORT = 30000
_OWN_PORTS = {"epmd": 0, "distribution": 1, "airflow": 2, "log_triggerer": 3, "log_worker": 4}
_BLOCKS = 250

# Who administers RabbitMQ.
OPERATOR = "operator"

_UNIX_SOCKET_LIMIT = 107


@dataclass(frozen=True)
class Account:
    """Where and as whom to log in: never printed with its password."""

    host: str
    port: int
    login: str
    password: str

    def __repr__(self) -> str:
        """Leave the password out, a test that fails prints its arguments."""
        return f"Account({self.login} at {self.host}:{self.port})"


@dataclass(frozen=True)
class LabHost:
    """
    One host of a lab: an address, an sshd and a supervisord of its own.

    :param name: its name in the cloud file.
    :param address: its loopback address.
    :param roles: the Heat services that it runs.
    :param rotation: how its APIs leave the load balancer.
    :param root: the directory that stands for the host's file system.
    :param lab_state: the lab's state directory.
    """

    name: str
    address: str
    roles: tuple[Role, ...]
    rotation: Literal["healthcheck", "haproxy"]
    root: Path
    lab_state: Path

    @property
    def host_key(self) -> str:
        """The public key of its sshd, as the cloud file wants it."""
        return " ".join((self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="utf-8").split()[:2])

    @property
    def sshd(self) -> Server:
        """Its SSH server."""
        return self._server("sshd")

    @property
    def supervisord(self) -> Server:
        """Its service manager."""
        return self._server("supervisord")

    def _server(self, program: str) -> Server:
        name = f"{program}-{self.name}"
        return Server(name, self.lab_state / "run" / f"{name}.pid", self.lab_state / "log" / f"{name}.log")

    @property
    def apis(self) -> tuple[Role, ...]:
        """The API services that it runs."""
        return tuple(role for role in self.roles if role != "engine")

    def venv(self, release: str = "{release}") -> Path:
        """Return where the virtual environment of a release is."""
        return self.root / "opt/heat" / release

    def config(self, release: str = "{release}") -> Path:
        """Return where the configuration of a release is."""
        return self.root / "etc/heat" / release / "heat.conf"

    def router(self, release: str) -> Path:
        """Return where an upgrade keeps the files of the router in front of a release's APIs."""
        return self.config(release).parent / "router"

    @property
    def rotation_file(self) -> Path:
        """The file whose existence makes the health check fail."""
        return self.root / "var/lib/heat/out-of-rotation"

    @property
    def home(self) -> Path:
        """The home of the account that logs in there; what SSH starts is known by it."""
        return self.root / "home"

    @property
    def environment(self) -> Path:
        """More variables for what SSH starts there, one ``NAME=value`` a line; read when sshd starts."""
        return self.root / "etc/environment"

    @property
    def supervisor_conf(self) -> Path:
        """The configuration of its supervisord."""
        return self.root / "etc/supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        """Where its supervisord takes commands. Short, for the limit of such paths."""
        return self.root / "run/sv.sock"

    @property
    def supervisor_log(self) -> Path:
        """The log of its supervisord."""
        return self.root / "var/log/supervisord.log"

    def service_starts(self) -> dict[str, int]:
        """Return how often its supervisord has started each program."""
        starts: dict[str, int] = {}
        if self.supervisor_log.exists():
            for program in re.findall(r"spawned: '([^']+)' with pid", self.supervisor_log.read_text(encoding="utf-8")):
                starts[program] = starts.get(program, 0) + 1
        return starts


class Lab:
    """
    A real Heat cloud on this machine.

    :param name: its name: lower case letters, digits and dashes, at most 20.
    :param size: ``full`` or ``small``; by default what the lab was made with, else ``full``.
    :raises LabError: if the name can't be used, or the lab exists with another size.
    """

    def __init__(self, name: str, size: Size | None = None) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", name):
            raise LabError(f"lab name {name!r}: expected lower case letters, digits and dashes, at most 20")
        self.name = name
        self.root = PROJECT_ROOT
        self.state = PROJECT_ROOT / ".state" / name
        self.size: Size = self._known_size(size)
        self.block = zlib.crc32(name.encode()) % _BLOCKS + 1
        self._check_paths()

    def _known_size(self, wanted: Size | None) -> Size:
        file = self.state / "size"
        known = file.read_text(encoding="utf-8").strip() if file.exists() else None
        if known and wanted and known != wanted:
            raise LabError(
                f"lab {self.name} exists with size {known}, {wanted} was asked for: "
                f"remove it first with `python -m lab down --name {self.name} --wipe`"
            )
        return "small" if (wanted or known) == "small" else "full"

    def _check_paths(self) -> None:
        # Both servers make their sockets under a longer name first, with their pid in it.
        sockets = [self.admin_socket.with_suffix(".sock.0000000.tmp")]
        sockets += [host.supervisor_socket.with_suffix(".sock.0000000") for host in self.hosts]
        longest = max(sockets, key=lambda path: len(str(path)))
        if len(str(longest)) > _UNIX_SOCKET_LIMIT:
            raise LabError(
                f"{longest} is longer than a Unix socket's path may be ({_UNIX_SOCKET_LIMIT} characters): "
                "check the project out into a directory with a shorter path"
            )

    def address(self, number: int) -> str:
        """Return one of the lab's loopback addresses."""
        return f"127.{self.block}.0.{number}"

    def own_port(self, purpose: str) -> int:
        """Return a port on 127.0.0.1 that only this lab uses."""
        return _FIRST_OWN_PORT + 10 * self.block + _OWN_PORTS[purpose]

    def lock(self, purpose: str) -> Path:
        """Return a lock's file; outside of the state, which can be removed while it is held."""
        return self.state.with_name(f"{self.name}.{purpose}.lock")

    @property
    def server_address(self) -> str:
        """Where MariaDB and RabbitMQ listen."""
        return self.address(2)

    @property
    def balancer_address(self) -> str:
        """Where HAProxy listens, and its host's sshd."""
        return self.address(10)

    @cached_property
    def hosts(self) -> tuple[LabHost, ...]:
        """The Heat hosts, in the order of the sweep."""
        if self.size == "small":
            return (
                self._host("controller-1", 11, ("engine", "api", "api-cfn"), "healthcheck"),
                self._host("controller-2", 12, ("engine", "api", "api-cfn"), "haproxy"),
            )
        return (
            self._host("controller-1", 11, ("engine", "api"), "healthcheck"),
            self._host("controller-2", 12, ("engine", "api"), "healthcheck"),
            self._host("controller-3", 13, ("engine", "api", "api-cfn"), "haproxy"),
            self._host("api-1", 14, ("api", "api-cfn"), "haproxy"),
        )

    @cached_property
    def balancer(self) -> LabHost:
        """The host of the load balancer: an sshd beside HAProxy."""
        return self._host("balancer", 10, (), "haproxy")

    def _host(
        self, name: str, number: int, roles: tuple[Role, ...], rotation: Literal["healthcheck", "haproxy"]
    ) -> LabHost:
        return LabHost(name, self.address(number), roles, rotation, self.state / "hosts" / name, self.state)

    def host(self, name: str) -> LabHost:
        """
        Return a host by its name.

        :raises LabError: if the lab has no such host.
        """
        for host in (*self.hosts, self.balancer):
            if host.name == name:
                return host
        raise LabError(f"lab {self.name} has no host {name!r}: {', '.join(host.name for host in self.hosts)}")

    def hosts_with(self, role: Role) -> tuple[LabHost, ...]:
        """Return the hosts that have a role, in the order of the sweep."""
        return tuple(host for host in self.hosts if role in host.roles)

    def service_starts(self) -> dict[str, dict[str, int]]:
        """Return, for each host, how often each program was started."""
        return {host.name: host.service_starts() for host in self.hosts}

    @property
    def endpoint(self) -> str:
        """The Heat API through HAProxy, with the project that noauth gives everybody."""
        return f"http://{self.balancer_address}:{API_PORT}/v1/admin"

    @property
    def cfn_endpoint(self) -> str:
        """The CloudFormation API through HAProxy."""
        return f"http://{self.balancer_address}:{CFN_PORT}/v1"

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The lab's passwords, from its private file."""
        return load_secrets(self.state / "secrets.yaml")

    def database(self) -> Account:
        """Return the account of Heat's database, which is named heat."""
        return Account(self.server_address, DATABASE_PORT, "heat", self.secrets["database"])

    def database_url(self) -> str:
        """Return the SQLAlchemy URL of Heat's database. It holds the password."""
        account = self.database()
        return f"mysql+pymysql://{account.login}:{_quoted(account.password)}@{account.host}:{account.port}/heat"

    def login(self) -> None:
        """Nobody asks users of the lab's Heat who they are."""

    def management(self) -> Account:
        """Return the administrator of RabbitMQ's management API."""
        return Account(self.server_address, MANAGEMENT_PORT, OPERATOR, self.secrets["management"])

    def transport_url(self, release: str = FIRST_RELEASE) -> str:
        """Return the message bus URL of a release. It holds the password."""
        login = f"heat:{_quoted(self.secrets['amqp'])}"
        return f"rabbit://{login}@{self.server_address}:{AMQP_PORT}/{RELEASES[release]}"

    def server(self, name: str) -> Server:
        """Return one of the lab's own servers, by its name."""
        return Server(name, self.state / "run" / f"{name}.pid", self.state / "log" / f"{name}.log")

    @property
    def admin_socket(self) -> Path:
        """HAProxy's admin socket."""
        return self.state / "haproxy/admin.sock"

    @property
    def ssh_key(self) -> Path:
        """The private key that logs in at every host."""
        return self.state / "ssh/id_ed25519"

    @property
    def clouds_directory(self) -> Path:
        """Where the lab's cloud file is: the value of HEAT_UPGRADE_CLOUDS."""
        return self.state / "clouds"

    @property
    def airflow_home(self) -> Path:
        """Where the lab's Airflow lives."""
        return self.state / "airflow"

    @property
    def airflow_url(self) -> str:
        """The address of the lab's Airflow, UI and API."""
        return f"http://127.0.0.1:{self.own_port('airflow')}"


def _quoted(text: str) -> str:
    return quote(text, safe="")
