"""
The cloud file: which releases, which hosts, and how Heat runs on them. It holds no secrets.

``Cloud`` is what it says, and a ``Deployment`` is one release on one host with every name and path filled in.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from heat_upgrade.cloud.fields import CloudName, Version, Waves, raise_if_any
from heat_upgrade.cloud.notifications import Notification
from heat_upgrade.cloud.sections import (
    BESIDE_PORTS,
    Approvals,
    Backup,
    Canary,
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
    Windows,
    check_hosts,
    check_releases,
)
from heat_upgrade.formatting import first_few
from heat_upgrade.problems import Problem, did_you_mean, show


class Cloud(Section):
    """A cloud file; ``name`` is the file's name without its suffix."""

    name: CloudName
    releases: Annotated[tuple[Release, ...], AfterValidator(check_releases)]
    hosts: Annotated[tuple[Host, ...], AfterValidator(check_hosts)]
    connections: Connections
    service_manager: ServiceManager = Systemd(kind="systemd")
    become: Literal["sudo", "none"] = "sudo"
    installer: Installer = Pip(kind="pip")
    layout: Layout = Layout()
    services: Services = Services()
    rotation: Rotation
    waves: Waves = (1,)
    drain: Drain = Drain()
    canary: Canary = Canary()
    backup: Backup = Backup()
    approvals: Approvals = Approvals()
    notifications: tuple[Notification, ...] = ()
    windows: Windows | None = None
    pending_release: Version | None = None

    @model_validator(mode="after")
    def _check_the_whole(self) -> Cloud:
        raise_if_any(check_cloud(self))
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
    def api_hosts(self) -> list[Host]:
        """Return the hosts with an API of either kind, in the order of the file."""
        return [host for host in self.hosts if host.api_roles]

    @property
    def backup_host(self) -> Host:
        """Return the host that backs up the database: the one named, else the first with an engine."""
        return self.host(self.backup.host) if self.backup.host else self.hosts_with("engine")[0]

    def api_waves(self) -> list[list[Host]]:
        """Return the hosts with an API, wave after wave; the last size repeats until all are placed."""
        hosts = self.api_hosts
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

    def unit_beside(self, role: Role) -> str:
        """
        Return the name of the service that runs an API beside the one in front.

        :param role: the API
        """
        return f"{self.unit(role)}-beside"

    @property
    def router(self) -> str:
        """Return the directory of what stands in front of the release's APIs while an upgrade lasts."""
        return f"{self.config.rpartition('/')[0]}/router"

    def listen(self, role: Role) -> Listen:
        """
        Return how an API listens.

        :param role: the API
        """
        listen = self.cloud.services.api if role == "api" else self.cloud.services.api_cfn
        return listen.model_copy(update={"address": self._fill(listen.address)})

    def beside(self, role: Role) -> Listen:
        """
        Return how an API listens while another release's is in front of it.

        :param role: the API
        """
        listen = self.listen(role)
        address, place = self._fill(listen.aside.address), self.cloud.releases.index(self.release)
        return listen.model_copy(update={"address": address, "port": listen.aside.port + place % BESIDE_PORTS})

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


def check_cloud(cloud: Cloud) -> list[Problem]:
    """
    Return what is wrong between the parts of a cloud file, each of them being right.

    :param cloud: the cloud
    """
    return [
        *_places(cloud),
        *_ports(cloud),
        *_backends(cloud),
        *_servers(cloud),
        *_backup(cloud),
        *_drain(cloud),
        *_pending(cloud),
    ]


def _places(cloud: Cloud) -> Iterator[Problem]:
    """Yield templates by which two releases or two services of a host would overwrite each other."""
    reported = set()
    for host in cloud.hosts:
        deployments = [cloud.deployment(host, release) for release in cloud.releases]
        places = {
            "venv": [d.venv for d in deployments],
            "config": [d.config for d in deployments],
            "unit": [d.unit(role) for d in deployments for role in host.roles],
        }
        for key, values in places.items():
            index = _first_repeated(values)
            if index is not None and key not in reported:
                reported.add(key)
                yield _shared_place(key, values[index], host)


def _shared_place(key: str, value: str, host: Host) -> Problem:
    and_role, in_role = (" and role", " and {role}") if key == "unit" else ("", "")
    expected = f"a {key} of its own for each release{and_role} on {host.name}"
    return Problem(f"layout.{key}", f"{value!r} twice", expected, f"use {{release}}{in_role} in the template")


def _first_repeated(values: Iterable[Hashable]) -> int | None:
    seen: set[Hashable] = set()
    for index, value in enumerate(values):
        if value in seen:
            return index
        seen.add(value)
    return None


def _ports(cloud: Cloud) -> Iterator[Problem]:
    both = next((host for host in cloud.hosts if len(host.api_roles) > 1), None)
    if both and cloud.services.api.port == cloud.services.api_cfn.port:
        value, expected = str(cloud.services.api.port), f"a port other than api's: {both.name} runs both"
        yield Problem("services.api-cfn.port", value, expected, "write for example 8000")
        return
    taken = {cloud.services.api.port: "services.api.port", cloud.services.api_cfn.port: "services.api-cfn.port"}
    for key, listen in (("api", cloud.services.api), ("api-cfn", cloud.services.api_cfn)):
        place, first = f"services.{key}.beside.port", listen.aside.port
        ports = range(first, first + BESIDE_PORTS)
        if problem := _beside_ports(ports, taken):
            yield Problem(place, f"{first} to {ports[-1]}", problem, "write the first of three ports that are free")
        taken |= dict.fromkeys(ports, place)


def _beside_ports(ports: range, taken: Mapping[int, str]) -> str | None:
    if ports[-1] > 65535:
        return "ports up to 65535 for the old APIs beside"
    return next((f"ports other than {taken[port]}: {port} is taken" for port in ports if port in taken), None)


def _balanced(cloud: Cloud) -> Iterator[tuple[str, Host, Role, HAProxy]]:
    """Yield each API that HAProxy's socket takes out of rotation, with the place of its setting in the file."""
    for index, host in enumerate(cloud.hosts):
        where = f"hosts[{index}].rotation" if host.rotation else "rotation"
        for role in host.api_roles:
            rotation = cloud.deployment(host, cloud.releases[0]).rotation(role)
            if rotation.kind == "haproxy":
                yield where, host, role, rotation


def _backends(cloud: Cloud) -> Iterator[Problem]:
    reported = set()
    for where, host, role, rotation in _balanced(cloud):
        place = f"{where}.backends.{role}"
        if rotation.backend(role) is None and place not in reported:
            reported.add(place)
            expected = f"HAProxy's backend of {role}, a role of {host.name}"
            yield Problem(place, "nothing", expected, "copy its name from haproxy.cfg")


def _servers(cloud: Cloud) -> Iterator[Problem]:
    balanced = [(where, rotation, rotation.backend(role)) for where, _, role, rotation in _balanced(cloud)]
    index = _first_repeated((rotation.address, backend, rotation.server) for _, rotation, backend in balanced)
    if index is not None:
        where, rotation, _ = balanced[index]
        expected = "a server of its own for each host in HAProxy's backend"
        yield Problem(f"{where}.server", f"{rotation.server!r} twice", expected, "use {host} in the name")


def _backup(cloud: Cloud) -> Iterator[Problem]:
    name, known = cloud.backup.host, [host.name for host in cloud.hosts]
    if name and name not in known:
        todo = did_you_mean(name, known, "write a host's name or delete the key")
        yield Problem("backup.host", show(name), f"one of the hosts ({first_few(known)})", todo)


def _drain(cloud: Cloud) -> Iterator[Problem]:
    drain = cloud.drain
    if drain.timeout <= drain.interval * drain.readings:
        expected = f"more than interval x readings = {drain.interval * drain.readings:g} s"
        yield Problem("drain.timeout", f"{drain.timeout:g}", expected, "the gate could never open: write more")


def _pending(cloud: Cloud) -> Iterator[Problem]:
    pending, later = cloud.pending_release, [release.version for release in cloud.releases[1:]]
    if pending and pending not in later:
        todo = "write one of them, or delete the key until an upgrade is due"
        yield Problem("pending_release", show(pending), f"a release to upgrade to: {', '.join(later)}", todo)
    if pending and not cloud.windows:
        todo = "add `windows`, or delete the key and trigger the run yourself"
        yield Problem("pending_release", show(pending), "`windows`, whose opening starts the run", todo)
