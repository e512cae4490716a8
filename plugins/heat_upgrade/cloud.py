"""The cloud file: which releases, which hosts, and how Heat runs on them. It holds no secrets.

``load_cloud`` reads one, ``Cloud`` is what it says, and a ``Deployment`` is one release on one host with every
name and path filled in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from heat_upgrade import cloud_checks
from heat_upgrade.cloud_errors import SAMPLE, problems_of, read_yaml
from heat_upgrade.cloud_fields import (
    PROJECT_ROOT,
    Address,
    Argument,
    BackendName,
    CloudName,
    Command,
    ConnectionId,
    Count,
    HostKey,
    HostName,
    HostPath,
    ListenAddress,
    LocalFile,
    Path_,
    Port,
    Program,
    ReleasePath,
    RolePath,
    Seconds,
    ServerName,
    Unit,
    User,
    Version,
    Vhost,
    Wave,
    Whole,
    raise_if_any,
    rule,
)
from heat_upgrade.problems import Problem, ProblemsError

Role = Literal["engine", "api", "api-cfn"]
ROLES: tuple[Role, ...] = get_args(Role)
API_ROLES: tuple[Role, ...] = ("api", "api-cfn")


class CloudFileError(ProblemsError):
    """A cloud file that can't be used; the message lists every problem."""


class CloudsDirectoryError(CloudFileError):
    """A directory of cloud files that isn't there."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Release(_Model):
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
            raise_if_any(cloud_checks.pins(self.requirements, self.version))
        return self


class Healthcheck(_Model):
    """oslo.middleware's disable_by_file: while the file exists, the API's health check answers 503."""

    kind: Literal["healthcheck"]
    file: RolePath
    settle: Seconds = 6


class Backends(_Model):
    """HAProxy's name for the backend of each API."""

    api: BackendName | None = None
    api_cfn: BackendName | None = Field(default=None, alias="api-cfn")


class HAProxy(_Model):
    """HAProxy's admin socket, reached over SSH on the balancer's host."""

    kind: Literal["haproxy"]
    address: Address
    port: Port = 22
    host_key: HostKey | None = None
    socket: Path_ = "/run/haproxy/admin.sock"
    backends: Backends
    server: ServerName = "{host}"

    def backend(self, role: Role) -> str | None:
        """Return HAProxy's name for an API's backend, if the file gives one.

        :param role: the API.
        """
        return {"api": self.backends.api, "api-cfn": self.backends.api_cfn}.get(role)


class Commands(_Model):
    """The operator's own shell commands, run on a host of choice, else on the API's own."""

    kind: Literal["commands"]
    leave: Command
    rejoin: Command
    address: Address | None = None
    port: Port = 22
    host_key: HostKey | None = None


Rotation = Annotated[Healthcheck | HAProxy | Commands, Field(discriminator="kind")]


class Host(_Model):
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


class Connections(_Model):
    """Ids of the Airflow connections that hold addresses and secrets."""

    ssh: ConnectionId
    rabbitmq: ConnectionId
    database: ConnectionId
    api: ConnectionId


class Systemd(_Model):
    """Services are systemd units."""

    kind: Literal["systemd"]
    unit_dir: HostPath = "/etc/systemd/system"


class Supervisor(_Model):
    """Services are programs of a supervisord, one file each in its conf_dir."""

    kind: Literal["supervisor"]
    supervisorctl: Annotated[
        tuple[Argument, ...], rule(bool, "a command as a list", "write for example [supervisorctl]")
    ]
    conf_dir: HostPath


ServiceManager = Annotated[Systemd | Supervisor, Field(discriminator="kind")]


class Pip(_Model):
    """Releases are installed with pip into a venv."""

    kind: Literal["pip"]
    python: Program = "python3"


class Uv(_Model):
    """Releases are installed with uv into a venv."""

    kind: Literal["uv"]
    command: Program = "uv"
    python: Program = "python3"


Installer = Annotated[Pip | Uv, Field(discriminator="kind")]


class Layout(_Model):
    """Where a release lives on a host, as templates."""

    venv: ReleasePath = "/opt/heat/{release}"
    config: ReleasePath = "/etc/heat/{release}/heat.conf"
    unit: Unit = "heat-{role}-{release}"
    state: HostPath = "/var/lib/heat-upgrade"


class Listen(_Model):
    """How an API listens."""

    address: ListenAddress = "0.0.0.0"  # noqa: S104 -- behind the load balancer, as Heat's own default
    port: Port
    processes: Count = 2
    threads: Count = 4


class Services(_Model):
    """How the services of a release run."""

    user: User | None = None
    stop_timeout: Annotated[
        Whole, rule(lambda s: s > 0, "whole seconds above 0", "write a time above graceful_shutdown_timeout")
    ] = 3600
    api: Listen = Listen(port=8004)
    api_cfn: Listen = Field(default=Listen(port=8000), alias="api-cfn")


class Drain(_Model):
    """When the drain counts as over."""

    interval: Seconds = 10
    readings: Annotated[
        Whole, rule(lambda n: 2 <= n <= 1000, "at least 2 readings", "one clean reading proves nothing: write 3")
    ] = 3
    timeout: Seconds = 7200


class Backup(_Model):
    """Where the database's backup is written."""

    host: HostName | None = None
    directory: Path_ = "/var/backups/heat"


class Cloud(_Model):
    """A cloud file; ``name`` is the file's name without its suffix."""

    name: CloudName
    releases: Annotated[tuple[Release, ...], AfterValidator(cloud_checks.releases)]
    hosts: Annotated[tuple[Host, ...], AfterValidator(cloud_checks.hosts)]
    connections: Connections
    service_manager: ServiceManager = Systemd(kind="systemd")
    become: Literal["sudo", "none"] = "sudo"
    installer: Installer = Pip(kind="pip")
    layout: Layout = Layout()
    services: Services = Services()
    rotation: Rotation
    waves: Annotated[tuple[Wave, ...], rule(bool, "at least one wave", "write for example [1] or delete the key")] = (
        1,
    )
    drain: Drain = Drain()
    backup: Backup = Backup()

    @model_validator(mode="after")
    def _check_the_whole(self) -> Cloud:
        raise_if_any(cloud_checks.whole(self))
        return self

    def release(self, version: str) -> Release:
        """Return a release.

        :param version: its x.y.z.
        :raises LookupError: if the cloud file has no such release.
        """
        for release in self.releases:
            if release.version == version:
                return release
        raise LookupError(f"{version!r} is no release of {self.name}: {[r.version for r in self.releases]}")

    def host(self, name: str) -> Host:
        """Return a host.

        :param name: its name.
        :raises LookupError: if the cloud file has no such host.
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise LookupError(f"{name!r} is no host of {self.name}: {[h.name for h in self.hosts]}")

    def hosts_with(self, role: Role) -> list[Host]:
        """Return the hosts with a role, in the order of the file.

        :param role: the role.
        """
        return [host for host in self.hosts if role in host.roles]

    @property
    def backup_host(self) -> Host:
        """Return the host that backs up the database: the one named, else the first with an engine."""
        return self.host(self.backup.host) if self.backup.host else self.hosts_with("engine")[0]

    def api_waves(self) -> list[list[Host]]:
        """Return the hosts with an API, wave after wave; the last size repeats until all are placed."""
        hosts = [host for host in self.hosts if host.api_roles]
        return list(_cut(hosts, [_size(wave, len(hosts)) for wave in self.waves]))

    def deployment(self, host: Host, release: Release) -> Deployment:
        """Return all names and paths of a release on a host.

        :param host: one of the cloud's hosts.
        :param release: one of the cloud's releases.
        """
        return Deployment(self, host, release)


def _size(wave: int | str, hosts: int) -> int:
    return wave if isinstance(wave, int) else -(-hosts * int(wave.rstrip("%")) // 100)


def _cut(hosts: list[Host], sizes: list[int]) -> Iterator[list[Host]]:
    endless = chain(sizes, repeat(sizes[-1]))
    while hosts:
        size = next(endless)
        yield hosts[:size]
        hosts = hosts[size:]


@dataclass(frozen=True)
class Deployment:
    """One release on one host.

    :param cloud: the cloud.
    :param host: the host.
    :param release: the release.
    """

    cloud: Cloud
    host: Host
    release: Release

    @property
    def vhost(self) -> str:
        """Return the RabbitMQ vhost of the release."""
        return self.release.vhost

    @property
    def venv(self) -> str:
        """Return the directory of the release's venv."""
        return self._fill(self.release.venv or self.cloud.layout.venv)

    @property
    def config(self) -> str:
        """Return the path of the release's heat.conf."""
        return self._fill(self.release.config or self.cloud.layout.config)

    @property
    def state(self) -> str:
        """Return the directory of the upgrade's own files on the host."""
        return self._fill(self.cloud.layout.state)

    @property
    def service_manager(self) -> Systemd | Supervisor:
        """Return the host's service manager."""
        manager = self.cloud.service_manager
        if isinstance(manager, Systemd):
            return manager.model_copy(update={"unit_dir": self._fill(manager.unit_dir)})
        argv = tuple(self._fill(argument) for argument in manager.supervisorctl)
        return manager.model_copy(update={"supervisorctl": argv, "conf_dir": self._fill(manager.conf_dir)})

    def unit(self, role: Role) -> str:
        """Return the name of a service, without the service manager's suffix.

        :param role: the service.
        """
        return self._fill(self.release.unit or self.cloud.layout.unit, role)

    def listen(self, role: Role) -> Listen:
        """Return how an API listens.

        :param role: the API.
        """
        listen = self.cloud.services.api if role == "api" else self.cloud.services.api_cfn
        return listen.model_copy(update={"address": self._fill(listen.address)})

    def rotation(self, role: Role) -> Healthcheck | HAProxy | Commands:
        """Return how an API leaves and rejoins the load balancer.

        :param role: the API.
        """
        rotation = self.host.rotation or self.cloud.rotation
        templates = {"file", "server", "leave", "rejoin"} & set(type(rotation).model_fields)
        return rotation.model_copy(update={key: self._fill(getattr(rotation, key), role) for key in templates})

    def _fill(self, template: str, role: Role | None = None) -> str:
        values: dict[str, Any] = {"host": self.host.name, "address": self.host.address, "role": role}
        return template.format(release=self.release.version, **values)


def clouds_directory() -> Path:
    """Return the directory of the cloud files: HEAT_UPGRADE_CLOUDS if set, else the project's own."""
    return Path(os.environ.get("HEAT_UPGRADE_CLOUDS") or PROJECT_ROOT / "include" / "clouds")


def load_cloud(path: Path | str) -> Cloud:
    """Read a cloud file.

    :param path: the file; its name without the suffix is the cloud's name.
    :raises CloudFileError: with every problem found.
    """
    path = Path(path)
    data, problems = read_yaml(path)
    if not data and problems:
        raise CloudFileError(str(path), problems)
    if "name" in data:
        problems.append(Problem("name", "a name", "none: the file's own name is the cloud's", "delete the key"))
    try:
        cloud = Cloud.model_validate({**data, "name": path.stem})
    except ValidationError as error:
        problems += problems_of(error, Cloud)
    if problems:
        # Outside of the except clause: pydantic's error holds the file's values and must not be chained.
        raise CloudFileError(str(path), problems)
    return cloud


def load_clouds(directory: Path | str) -> dict[str, Cloud | CloudFileError]:
    """Read all cloud files of a directory: for each name its cloud, or what is wrong with its file.

    :param directory: the directory of the ``*.yaml`` files.
    :raises CloudsDirectoryError: if there is no such directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        todo = f"create it with a copy of {SAMPLE} in it, or set HEAT_UPGRADE_CLOUDS"
        missing = Problem("directory", "no directory", "a directory of cloud files (*.yaml)", todo)
        raise CloudsDirectoryError(str(directory), [missing])
    files = sorted(path for path in directory.glob("*.yaml") if not path.name.startswith("."))
    return {path.stem: _load_or_error(path) for path in files}


def _load_or_error(path: Path) -> Cloud | CloudFileError:
    try:
        return load_cloud(path)
    except CloudFileError as error:
        return error
