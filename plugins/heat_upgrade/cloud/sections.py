"""The sections of the cloud file, as its sample explains them one by one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from datetime import timedelta
from functools import cached_property
from ipaddress import ip_address
from itertools import pairwise
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from heat_upgrade.cloud.fields import (
    Address,
    Argument,
    BackendName,
    Blackout,
    CanaryMinutes,
    Command,
    ConnectionId,
    Count,
    Cron,
    Flag,
    HostKey,
    HostName,
    HostPath,
    ListenAddress,
    LocalFile,
    Minutes,
    PlainPath,
    Port,
    Program,
    ProjectId,
    ReleasePath,
    Seconds,
    ServerName,
    TimeZone,
    Unit,
    User,
    Version,
    Vhost,
    Whole,
    invalid,
    raise_if_any,
    rule,
)
from heat_upgrade.cloud.pins import check_pins
from heat_upgrade.names import BESIDE_HOSTS
from heat_upgrade.problems import Problem, show
from heat_upgrade.windows import Calendar, Window

Role = Literal["engine", "api", "api-cfn"]
ROLES: tuple[Role, ...] = get_args(Role)
API_ROLES: tuple[Role, ...] = ("api", "api-cfn")
# Projects of a canary: each is in the state of every router, and in what each flip sends there.
MOST_CANARIES = 50
# From an API's port to that of the API beside, unless the cloud file names one: 18004 and 18000 where Heat has its own.
_ASIDE = 10000
# Going back, two releases' APIs run beside for a while; releases that far apart in a cloud file never meet.
BESIDE_PORTS = 3


class Section(BaseModel):
    """A mapping in the cloud file: no unknown keys, and nothing changes it once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Release(Section):
    """A release of Heat; the overrides are for one that was installed by other means."""

    version: Version
    vhost: Vhost
    requirements: LocalFile | None = None
    venv: ReleasePath | None = None
    config: ReleasePath | None = None
    unit: Unit | None = None

    @model_validator(mode="after")
    def _check_pins(self) -> Release:
        if self.requirements:
            raise_if_any(check_pins(self.requirements, self.version))
        return self


class Healthcheck(Section):
    """
    oslo.middleware's disable_by_file: while the file exists, the health check answers 503.

    The file is the host's, not an API's: both APIs read the same heat.conf.
    """

    kind: Literal["healthcheck"]
    file: HostPath
    settle: Seconds = 6


class Backends(Section):
    """HAProxy's name for the backend of each API."""

    api: BackendName | None = None
    api_cfn: BackendName | None = Field(default=None, alias="api-cfn")


class HAProxy(Section):
    """HAProxy's admin socket, reached over SSH on the balancer's host."""

    kind: Literal["haproxy"]
    address: Address
    port: Port = 22
    host_key: HostKey | None = None
    socket: PlainPath = "/run/haproxy/admin.sock"
    backends: Backends
    server: ServerName = "{host}"

    def backend(self, role: Role) -> str | None:
        """
        Return HAProxy's name for an API's backend, if the file gives one.

        :param role: the API
        """
        return {"api": self.backends.api, "api-cfn": self.backends.api_cfn}.get(role)


class Commands(Section):
    """Shell commands of the cloud's own, run on a given host, else on the API's own."""

    kind: Literal["commands"]
    leave: Command
    rejoin: Command
    address: Address | None = None
    port: Port = 22
    host_key: HostKey | None = None


Rotation = Annotated[Healthcheck | HAProxy | Commands, Field(discriminator="kind")]


class Host(Section):
    """A host that runs Heat."""

    name: HostName
    address: Address
    port: Port = 22
    host_key: HostKey | None = None
    roles: Annotated[
        tuple[Role, ...],
        rule(bool, f"at least one of {', '.join(ROLES)}", "give the host a role or delete it"),
        rule(lambda roles: len(set(roles)) == len(roles), "each role once", "delete the repeated one"),
    ]
    rotation: Rotation | None = None

    @property
    def task_id(self) -> str:
        """Return the host's name as an Airflow task-group id."""
        return self.name.replace("-", "_").replace(".", "_")

    @property
    def api_roles(self) -> tuple[Role, ...]:
        """Return the APIs that the host runs."""
        return tuple(role for role in self.roles if role in API_ROLES)


class Connections(Section):
    """Ids of the Airflow connections that hold addresses and secrets."""

    ssh: ConnectionId
    rabbitmq: ConnectionId
    database: ConnectionId
    api: ConnectionId


class Systemd(Section):
    """Services are systemd units."""

    kind: Literal["systemd"]
    unit_dir: HostPath = "/etc/systemd/system"


class Supervisor(Section):
    """Services are programs of a supervisord, one file each in its conf_dir."""

    kind: Literal["supervisor"]
    supervisorctl: Annotated[
        tuple[Argument, ...], rule(bool, "a command as a list", "write for example [supervisorctl]")
    ]
    conf_dir: HostPath


ServiceManager = Annotated[Systemd | Supervisor, Field(discriminator="kind")]


class Pip(Section):
    """Releases are installed with pip into a venv."""

    kind: Literal["pip"]
    python: Program = "python3"


class Uv(Section):
    """Releases are installed with uv into a venv."""

    kind: Literal["uv"]
    command: Program = "uv"
    python: Program = "python3"


Installer = Annotated[Pip | Uv, Field(discriminator="kind")]


class Layout(Section):
    """Where a release lives on a host, as templates."""

    venv: ReleasePath = "/opt/heat/{release}"
    config: ReleasePath = "/etc/heat/{release}/heat.conf"
    unit: Unit = "heat-{role}-{release}"
    state: HostPath = "/var/lib/heat-upgrade"


class Beside(Section):
    """
    Where a release's API listens while another one is in front of it; only that one has to reach it.

    :param port: the first of three: a release listens there or above, by its place in the cloud file
    """

    address: ListenAddress = "127.0.0.1"
    port: Port


class Listen(Section):
    """How an API listens."""

    address: ListenAddress = "0.0.0.0"  # noqa: S104 -- behind the load balancer, as Heat's own default
    port: Port
    processes: Count = 2
    threads: Count = 4
    beside: Beside | None = None

    @property
    def aside(self) -> Beside:
        """Return where it listens while another release's API is in front of it."""
        return self.beside or Beside.model_construct(port=self.port + _ASIDE)


class Services(Section):
    """How the services of a release run."""

    user: User | None = None
    stop_timeout: Annotated[
        Whole, rule(lambda s: s > 0, "whole seconds above 0", "write a time above graceful_shutdown_timeout")
    ] = 3600
    api: Listen = Listen(port=8004)
    api_cfn: Listen = Field(default=Listen(port=8000), alias="api-cfn")


class Drain(Section):
    """When the drain counts as over."""

    interval: Seconds = 10
    readings: Annotated[
        Whole, rule(lambda n: 2 <= n <= 1000, "at least 2 readings", "one clean reading proves nothing: write 3")
    ] = 3
    timeout: Seconds = 7200
    warn_after: Seconds = 1800


class Approvals(Section):
    """How long a run that asks waits for an answer; none means no."""

    timeout: Seconds = 86400


class Canary(Section):
    """
    Whose new stacks go to the new side first, for how long, and what has to hold meanwhile.

    A failed request and more failed stacks than usual always end it. ``slowest`` is an answer of the API's, in seconds.
    """

    projects: Annotated[
        tuple[ProjectId, ...],
        rule(lambda ids: len(ids) <= MOST_CANARIES, f"{MOST_CANARIES} projects at most", "name fewer of them"),
        rule(lambda ids: len(set(ids)) == len(ids), "each project once", "delete the repeated one"),
    ] = ()
    minutes: CanaryMinutes = 30
    slowest: Seconds = 10


class Backup(Section):
    """Where the database's backup is written."""

    host: HostName | None = None
    directory: PlainPath = "/var/backups/heat"


class Opening(Section):
    """A maintenance window: when it opens and how long it stays open."""

    cron: Cron
    minutes: Minutes
    timezone: TimeZone

    def __str__(self) -> str:
        """Return the window as the UI shows it."""
        return f"{self.cron} {self.timezone}, {self.minutes} min"


class Windows(Section):
    """When user-visible changes are allowed, and what else has to wait for that."""

    openings: Annotated[
        tuple[Opening, ...], rule(bool, "at least one window", "list one or delete `windows`: then no run waits")
    ]
    blackouts: tuple[Blackout, ...] = ()
    prepare_outside: Flag = True
    seconds_per_outage: Seconds = 3600

    @cached_property
    def calendar(self) -> Calendar:
        """Return the windows as a calendar."""
        return Calendar(
            tuple(
                Window(opening.cron, timedelta(minutes=opening.minutes), ZoneInfo(opening.timezone), self.blackouts)
                for opening in self.openings
            )
        )


def check_releases(releases: tuple[Release, ...]) -> tuple[Release, ...]:
    """
    Check the releases against each other.

    :param releases: in the order of the file
    """
    problems = []
    if len(releases) < 2:
        todo = "list the release that runs and the one to go to"
        problems.append(Problem("", f"{len(releases)} of them", "at least two releases", todo))
    for index, (before, release) in enumerate(pairwise(releases), start=1):
        problems += _follows(f"[{index}]", before, release)
    problems += _repeated("releases", "vhost", [(release.vhost, release.vhost) for release in releases])
    raise_if_any(problems)
    return releases


def _follows(where: str, before: Release, release: Release) -> Iterator[Problem]:
    old, new = (tuple(map(int, r.version.split("."))) for r in (before, release))
    value = f"{release.version} after {before.version}"
    if new <= old:
        yield Problem(f"{where}.version", value, "each release once, oldest first", "reorder the releases")
    elif new[0] > old[0] + 1:
        todo = f"list a release {old[0] + 1}.y.z between them, Heat tests upgrades only between sequential releases"
        yield Problem(f"{where}.version", value, "the next major release", todo)
    if not release.requirements:
        todo = f"add `requirements: include/releases/openstack-heat-{release.version}.txt`"
        yield Problem(f"{where}.requirements", "nothing", "a file with pins (optional for the first only)", todo)


def check_hosts(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """
    Check the hosts against each other.

    :param hosts: in the order of the file
    """
    if not hosts:
        raise invalid("at least one host", "list the hosts that run Heat")
    names = [(host.name, host.name.lower()) for host in hosts]
    ids = [(host.name, host.task_id.lower()) for host in hosts]  # a-b and a.b are two names, but one task-group id
    ends = [(f"{host.address} port {host.port}", (_same(host.address), host.port)) for host in hosts]
    problems = _repeated("hosts", "name", names) or _repeated("hosts", "name", ids, "a name (- and . are the same)")
    problems += _repeated("hosts", "address", ends, "an address and port")
    raise_if_any([*problems, *_reserved(hosts), *_missing_roles(hosts)])
    return hosts


def _reserved(hosts: tuple[Host, ...]) -> Iterator[Problem]:
    for index, host in enumerate(hosts):
        if host.task_id in BESIDE_HOSTS:
            expected = "a name other than the DAG's own tasks"
            yield Problem(f"[{index}].name", show(host.name), expected, "rename the host")


def _missing_roles(hosts: tuple[Host, ...]) -> Iterator[Problem]:
    roles = {role for host in hosts for role in host.roles}
    for role, why in (("engine", "an empty engine list can't work"), ("api", "users need an API")):
        if role not in roles:
            yield Problem("", f"no host with the role {role}", f"at least one ({why})", f"add {role} to a host's roles")


def _same(address: str) -> Hashable:
    try:
        return ip_address(address)
    except ValueError:
        return address.lower()


def _repeated(
    section: str, key: str, entries: Iterable[tuple[str, Hashable]], what: str | None = None
) -> list[Problem]:
    """Return a problem for each entry, a value and what identifies it, that an earlier one has already."""
    first: dict[Hashable, int] = {}
    problems = []
    for index, (value, identity) in enumerate(entries):
        if first.setdefault(identity, index) != index:
            expected = f"{what or f'a {key}'} of its own, {section}[{first[identity]}] has this one"
            problems.append(Problem(f"[{index}].{key}", show(value), expected, "change one of the two"))
    return problems
