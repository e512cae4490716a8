"""Rules of the cloud file that look at more than one value."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from heat_upgrade.cloud_fields import raise_if_any
from heat_upgrade.problems import Problem, show

if TYPE_CHECKING:
    from heat_upgrade.cloud import Cloud, HAProxy, Host, Release, Role

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,. -]*\])?\s*==\s*([\w.!+-]+)\s*(?:;.*)?")


def pins(requirements: Path, version: str) -> list[Problem]:
    """Return what is wrong with a release's requirements file.

    :param requirements: the file.
    :param version: the release of openstack-heat that it has to pin.
    """
    freeze = f"write it with `pip freeze` from a venv with openstack-heat {version}"
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{str(requirements)!r} ({type(error).__name__})"
        return [Problem("requirements", reason, "a readable file of pins", freeze)]
    problems, pinned = [], {}
    for number, line in enumerate(lines, start=1):
        requirement = re.sub(r"(^|\s)#.*", "", line).split("--hash=")[0].strip(" \t\\")
        pin = _PIN.fullmatch(requirement)
        if pin:
            pinned[re.sub(r"[-_.]+", "-", pin[1]).lower()] = pin[2]
        elif requirement:
            where, value = f"requirements, line {number}", show(requirement)
            problems.append(Problem(where, value, "a pin as in name==1.2.3", freeze))
    heat = pinned.get("openstack-heat")
    if heat != version:
        value = f"openstack-heat {heat}" if heat else "no pin of openstack-heat"
        problems.append(Problem("requirements", value, f"openstack-heat=={version}", freeze))
    return problems


def releases(releases: tuple[Release, ...]) -> tuple[Release, ...]:
    """Check the releases against each other.

    :param releases: in the order of the file.
    """
    problems = []
    if len(releases) < 2:
        todo = "list the release that runs and the one to go to"
        problems.append(Problem("", f"{len(releases)} of them", "at least two releases", todo))
    for index, (before, release) in enumerate(pairwise(releases), start=1):
        problems += _follows(f"[{index}]", before, release)
    problems += _repeated("vhost", [(f"[{i}].vhost", r.vhost, r.vhost) for i, r in enumerate(releases)])
    raise_if_any(problems)
    return releases


def _follows(where: str, before: Release, release: Release) -> Iterator[Problem]:
    old, new = (tuple(map(int, r.version.split("."))) for r in (before, release))
    value = f"{release.version} after {before.version}"
    if new <= old:
        yield Problem(f"{where}.version", value, "each release once, oldest first", "reorder the releases")
    elif new[0] > old[0] + 1:
        todo = f"list a release {old[0] + 1}.y.z between them: Heat tests upgrades only between sequential releases"
        yield Problem(f"{where}.version", value, "the next major release", todo)
    if not release.requirements:
        todo = f"add `requirements: include/releases/openstack-heat-{release.version}.txt`"
        yield Problem(f"{where}.requirements", "nothing", "a file with pins (optional for the first only)", todo)


def hosts(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """Check the hosts against each other.

    :param hosts: in the order of the file.
    """
    numbered = list(enumerate(hosts))
    names = [(f"[{i}].name", h.name, h.name.lower()) for i, h in numbered]
    # a-b and a.b are two names, but one task-group id
    ids = [(f"[{i}].name", h.name, h.task_id.lower()) for i, h in numbered]
    ends = [(f"[{i}].address", f"{h.address} port {h.port}", (_same(h.address), h.port)) for i, h in numbered]
    problems = list(_repeated("name", names) or _repeated("task id", ids)) + list(_repeated("address and port", ends))
    roles = {role for host in hosts for role in host.roles}
    problems += [
        Problem("", f"no host with the role {role}", f"at least one ({what})", f"add {role} to a host's roles")
        for role, what in (("engine", "an empty engine list can't work"), ("api", "users need an API"))
        if role not in roles
    ]
    raise_if_any(problems)
    return hosts


def _same(address: str) -> Hashable:
    try:
        return ip_address(address)
    except ValueError:
        return address.lower()


def _repeated(what: str, entries: Iterable[tuple[str, str, Hashable]]) -> list[Problem]:
    first: dict[Hashable, str] = {}
    problems = []
    for where, value, key in entries:
        if first.setdefault(key, where) != where:
            expected = f"a {what} of its own, {first[key]} has this one"
            problems.append(Problem(where, show(value), expected, "change one of the two"))
    return problems


def whole(cloud: Cloud) -> list[Problem]:
    """Return what is wrong between the parts of a cloud file, each of them being right.

    :param cloud: the cloud.
    """
    return [
        *_places(cloud),
        *_ports(cloud),
        *_backends(cloud),
        *_servers(cloud),
        *_backup(cloud),
        *_drain(cloud),
    ]


def _places(cloud: Cloud) -> Iterator[Problem]:
    """Yield templates by which two releases or two services of a host would overwrite each other."""
    told = set()
    for host in cloud.hosts:
        deployments = [cloud.deployment(host, release) for release in cloud.releases]
        places = {
            "venv": [d.venv for d in deployments],
            "config": [d.config for d in deployments],
            "unit": [d.unit(role) for d in deployments for role in host.roles],
        }
        for key, values in places.items():
            value = _first_repeated(values)
            if value and key not in told:
                told.add(key)
                expected = f"a {key} of its own for each release{' and role' if key == 'unit' else ''} on {host.name}"
                todo = f"use {{release}}{' and {role}' if key == 'unit' else ''} in the template"
                yield Problem(f"layout.{key}", f"{value!r} twice", expected, todo)


def _first_repeated(values: Sequence[str]) -> str | None:
    return next((value for i, value in enumerate(values) if value in values[:i]), None)


def _ports(cloud: Cloud) -> Iterator[Problem]:
    both = next((host for host in cloud.hosts if len(host.api_roles) > 1), None)
    if both and cloud.services.api.port == cloud.services.api_cfn.port:
        value, expected = str(cloud.services.api.port), f"a port other than api's: {both.name} runs both"
        yield Problem("services.api-cfn.port", value, expected, "write for example 8000")


def _rotations(cloud: Cloud) -> Iterator[tuple[str, Host, Role, HAProxy]]:
    for index, host in enumerate(cloud.hosts):
        where = f"hosts[{index}].rotation" if host.rotation else "rotation"
        for role in host.api_roles:
            rotation = cloud.deployment(host, cloud.releases[0]).rotation(role)
            if rotation.kind == "haproxy":
                yield where, host, role, rotation


def _backends(cloud: Cloud) -> Iterator[Problem]:
    wanted = {
        (where, role): host for where, host, role, rot in reversed(list(_rotations(cloud))) if not rot.backend(role)
    }
    for (where, role), host in wanted.items():
        expected = f"HAProxy's backend of {role}: {host.name} has that role"
        yield Problem(f"{where}.backends.{role}", "nothing", expected, "copy its name from haproxy.cfg")


def _servers(cloud: Cloud) -> list[Problem]:
    entries = [
        (f"{where}.server of {host.name}", r.server, (r.address, r.backend(role), r.server))
        for where, host, role, r in _rotations(cloud)
    ]
    return _repeated("server name in the backend", entries)[:1]


def _backup(cloud: Cloud) -> Iterator[Problem]:
    names = [host.name for host in cloud.hosts]
    if cloud.backup.host and cloud.backup.host not in names:
        yield Problem(
            "backup.host", show(cloud.backup.host), "one of the hosts", "write a host's name or delete the key"
        )


def _drain(cloud: Cloud) -> Iterator[Problem]:
    drain = cloud.drain
    if drain.timeout <= drain.interval * drain.readings:
        expected = f"more than interval x readings = {drain.interval * drain.readings:g} s"
        yield Problem("drain.timeout", f"{drain.timeout:g}", expected, "the gate could never open: write more")
