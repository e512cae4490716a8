"""Rules of the cloud file that look at more than one value."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from heat_upgrade.cloud.fields import raise_if_any, wrong
from heat_upgrade.problems import Problem, did_you_mean, show, some

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Cloud, HAProxy, Host, Release, Role

# The steps for the whole cloud. A host's own group stands beside them, so no host can have such a name.
TASKS_OF_THE_DAG = frozenset(
    [
        "may_start",
        "preflight",
        "may_prepare",
        "prepare",
        "back_up_database",
        "create_vhost",
        "sync_database",
        "start_new_engines",
        "approve_switch",
        "may_switch",
        "wait_until_drained",
        "approve_retire",
        "retire",
        "verify_cloud",
        "delete_old_vhost",
        "show_plan",
        "watch_api",
        "report",
    ]
)

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,. -]*\])?\s*==\s*([\w.!+-]+)\s*(?:;.*)?")


def pins(requirements: Path, version: str) -> list[Problem]:
    """
    Return what is wrong with a release's requirements file.

    :param requirements: the file
    :param version: the release of openstack-heat that it has to pin
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


def hosts(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """
    Check the hosts against each other.

    :param hosts: in the order of the file
    """
    if not hosts:
        raise wrong("at least one host", "list the hosts that run Heat")
    names = [(host.name, host.name.lower()) for host in hosts]
    ids = [(host.name, host.task_id.lower()) for host in hosts]  # a-b and a.b are two names, but one task-group id
    ends = [(f"{host.address} port {host.port}", (_same(host.address), host.port)) for host in hosts]
    problems = _repeated("hosts", "name", names) or _repeated("hosts", "name", ids, "a name (- and . are the same)")
    problems += _repeated("hosts", "address", ends, "an address and port")
    raise_if_any([*problems, *_reserved(hosts), *_missing_roles(hosts)])
    return hosts


def _reserved(hosts: tuple[Host, ...]) -> Iterator[Problem]:
    for index, host in enumerate(hosts):
        if host.task_id in TASKS_OF_THE_DAG:
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


def whole(cloud: Cloud) -> list[Problem]:
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
    told = set()
    for host in cloud.hosts:
        deployments = [cloud.deployment(host, release) for release in cloud.releases]
        places = {
            "venv": [d.venv for d in deployments],
            "config": [d.config for d in deployments],
            "unit": [d.unit(role) for d in deployments for role in host.roles],
        }
        for key, values in places.items():
            index = _first_repeated(values)
            if index is not None and key not in told:
                told.add(key)
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


def _balanced(cloud: Cloud) -> Iterator[tuple[str, Host, Role, HAProxy]]:
    """Yield each API that HAProxy's socket takes out of rotation, with the place of its setting in the file."""
    for index, host in enumerate(cloud.hosts):
        where = f"hosts[{index}].rotation" if host.rotation else "rotation"
        for role in host.api_roles:
            rotation = cloud.deployment(host, cloud.releases[0]).rotation(role)
            if rotation.kind == "haproxy":
                yield where, host, role, rotation


def _backends(cloud: Cloud) -> Iterator[Problem]:
    told = set()
    for where, host, role, rotation in _balanced(cloud):
        place = f"{where}.backends.{role}"
        if rotation.backend(role) is None and place not in told:
            told.add(place)
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
        yield Problem("backup.host", show(name), f"one of the hosts ({some(known)})", todo)


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
