"""The cloud file: which releases, which hosts, and how Heat runs on them. It holds no secrets.

``load_cloud`` reads one, ``Cloud`` is what it says, and a ``Deployment`` is one release on one host with every
name and path filled in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationError, model_validator

from heat_upgrade.cloud import checks as cloud_checks
from heat_upgrade.cloud.errors import problems_of
from heat_upgrade.cloud.fields import PROJECT_ROOT, CloudName, Version, Waves, raise_if_any
from heat_upgrade.cloud.loader import SAMPLE, read_yaml
from heat_upgrade.cloud.notifications import Notification
from heat_upgrade.cloud.sections import (
    API_ROLES,
    ROLES,
    Approvals,
    Backup,
    Commands,
    Connections,
    Drain,
    HAProxy,
    Healthcheck,
    Host,
    Installer,
    Layout,
    Listen,
    Pip,
    Release,
    Role,
    Rotation,
    Section,
    ServiceManager,
    Services,
    Supervisor,
    Systemd,
    Uv,
    Windows,
)
from heat_upgrade.problems import Problem, ProblemsError, show

__all__ = [
    "API_ROLES",
    "ROLES",
    "Cloud",
    "CloudFileError",
    "CloudsDirectoryError",
    "Commands",
    "Deployment",
    "HAProxy",
    "Healthcheck",
    "Host",
    "Listen",
    "Pip",
    "Release",
    "Role",
    "Supervisor",
    "Systemd",
    "Uv",
    "Windows",
    "clouds_directory",
    "load_cloud",
    "load_clouds",
]


class CloudFileError(ProblemsError):
    """A cloud file that can't be used; the message lists every problem."""


class CloudsDirectoryError(CloudFileError):
    """A directory of cloud files that isn't there."""


class Cloud(Section):
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
    waves: Waves = (1,)
    drain: Drain = Drain()
    backup: Backup = Backup()
    approvals: Approvals = Approvals()
    notifications: tuple[Notification, ...] = ()
    windows: Windows | None = None
    pending_release: Version | None = None

    @model_validator(mode="after")
    def _check_the_whole(self) -> Cloud:
        raise_if_any(cloud_checks.whole(self))
        return self

    def release(self, version: str) -> Release:
        """
        Return a release.

        :param version: its x.y.z
        :raises LookupError: if the cloud file has no such release
        """
        for release in self.releases:
            if release.version == version:
                return release
        raise LookupError(f"{version!r} is no release of {self.name}: {[r.version for r in self.releases]}")

    def host(self, name: str) -> Host:
        """
        Return a host.

        :param name: its name
        :raises LookupError: if the cloud file has no such host
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise LookupError(f"{name!r} is no host of {self.name}: {[h.name for h in self.hosts]}")

    def hosts_with(self, role: Role) -> list[Host]:
        """
        Return the hosts with a role, in the order of the file.

        :param role: the role
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
        """
        Return all names and paths of a release on a host.

        :param host: one of the cloud's hosts
        :param release: one of the cloud's releases
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
    """
    One release on one host.

    :param cloud: the cloud
    :param host: the host
    :param release: the release
    """

    cloud: Cloud = field(repr=False)
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
        """
        Return the name of a service, without the service manager's suffix.

        :param role: the service
        """
        return self._fill(self.release.unit or self.cloud.layout.unit, role)

    def listen(self, role: Role) -> Listen:
        """
        Return how an API listens.

        :param role: the API
        """
        listen = self.cloud.services.api if role == "api" else self.cloud.services.api_cfn
        return listen.model_copy(update={"address": self._fill(listen.address)})

    def rotation(self, role: Role) -> Healthcheck | HAProxy | Commands:
        """
        Return how an API leaves and rejoins the load balancer.

        :param role: the API
        """
        rotation = self.host.rotation or self.cloud.rotation
        templates = {"file", "server", "leave", "rejoin"} & set(type(rotation).model_fields)
        return rotation.model_copy(update={key: self._fill(getattr(rotation, key), role) for key in templates})

    def _fill(self, template: str, role: Role | None = None) -> str:
        return template.format(host=self.host.name, address=self.host.address, release=self.release.version, role=role)


def clouds_directory() -> Path:
    """Return the directory of the cloud files: HEAT_UPGRADE_CLOUDS if set, else the project's own."""
    return Path(os.environ.get("HEAT_UPGRADE_CLOUDS") or PROJECT_ROOT / "include" / "clouds")


def load_cloud(path: Path | str) -> Cloud:
    """
    Read a cloud file.

    :param path: the file; its name without the suffix is the cloud's name
    :raises CloudFileError: with every problem found
    """
    path = Path(path)
    data, problems = read_yaml(path)
    cloud = None
    if data is not None:
        if "name" in data:
            todo = "delete the key, the file's own name is the cloud's"
            problems.append(Problem("name", show(data["name"]), "no such key", todo))
        try:
            cloud = Cloud.model_validate({**data, "name": path.stem})
        except ValidationError as error:
            problems += problems_of(error, Cloud)
    if problems or cloud is None:
        # Outside of the except clause: pydantic's error holds the file's values and must not be chained.
        raise CloudFileError(str(path), problems)
    return cloud


def load_clouds(directory: Path | str) -> dict[str, Cloud | CloudFileError]:
    """
    Read all cloud files of a directory: for each name its cloud, or what is wrong with its file.

    :param directory: the directory of the ``*.yaml`` files
    :raises CloudsDirectoryError: if there is no such directory
    """
    directory = Path(directory)
    if not directory.is_dir():
        todo = f"create it with a copy of {SAMPLE} in it, or set HEAT_UPGRADE_CLOUDS"
        missing = Problem("directory", "no directory", "a directory of cloud files (*.yaml)", todo)
        raise CloudsDirectoryError(str(directory), [missing])
    files = sorted(path for path in directory.glob("*.y*ml") if not path.name.startswith("."))
    return {_usable(path.stem): _load_or_error(path) for path in files}


def _usable(stem: str) -> str:
    """Return a name that can stand in a DAG's id, also for a file that is refused for its name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", stem)[:200]


def _load_or_error(path: Path) -> Cloud | CloudFileError:
    if path.suffix == ".yml":
        rename = Problem("file name", repr(path.name), "a name that ends with .yaml", "rename the file")
        return CloudFileError(str(path), [rename])
    try:
        return load_cloud(path)
    except CloudFileError as error:
        return error.with_traceback(None)  # its frames hold the file's values
