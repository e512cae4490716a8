"""From which release an upgrade goes to its target, decided by what runs on the hosts and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import Release
from heat_upgrade.problems import Problem, ProblemsError

_SEQUENTIAL = "Heat's upgrade guide: upgrades are tested only between sequential releases"
_STOP_THE_REST = "stop what should not run there, so that one release and its next one remain"


class MoveError(ProblemsError):
    """A move that is refused, with the reason and the target to choose instead."""


@dataclass(frozen=True)
class Move:
    """A move from one release to the next one, or back to the one before.

    :param source: the release that the move retires.
    :param target: the release that it brings.
    :param going_back: whether the target is the older one.
    """

    source: Release
    target: Release
    going_back: bool = False


def plan_move(cloud: Cloud, target: str, running: Mapping[str, Set[str]], *, stopped: bool = False) -> Move:
    """Return the move that brings the hosts to the target.

    :param cloud: the cloud.
    :param target: the release to go to, one of the cloud's.
    :param running: for each host the releases of which a service runs there; none, one, or two in mid-upgrade.
    :param stopped: whether a cold upgrade has stopped the target itself on a host, and was left at that.
    :raises MoveError: if it isn't a move to the next release, or back to the one before.
    """
    goal = cloud.release(target)
    others = _others(cloud, target, running)
    if not others:
        return _come_back(cloud, goal) if stopped else _nothing_left(cloud, goal)
    _refuse_unknown(cloud, others)
    _refuse_several(cloud, goal, others)
    source = cloud.release(next(iter(others)))
    todo = _what_to_choose(cloud, source, mixed=any(target in releases for releases in running.values()))
    _refuse_jump(cloud, source, goal, todo)
    return Move(source, goal, going_back=_is_next(cloud, goal, source))


def next_release(cloud: Cloud, running: Mapping[str, Set[str]]) -> Release:
    """Return the release after the one that runs: in mid-upgrade the newer of the two, at the list's end the last.

    :param cloud: the cloud.
    :param running: for each host the releases of which a service runs there; where nothing is known, what is said of
        the last release tells why.
    """
    found = set[str]().union(*running.values())
    places = [place for place, release in enumerate(cloud.releases, start=1) if release.version in found]
    return cloud.releases[places[0]] if places and places[0] < len(cloud.releases) else cloud.releases[-1]


def _others(cloud: Cloud, target: str, running: Mapping[str, Set[str]]) -> dict[str, list[str]]:
    """Return the hosts by each release other than the target that runs on them, oldest release first."""
    versions = {version for releases in running.values() for version in releases} - {target}
    order = [release.version for release in cloud.releases]
    known_first = sorted(versions, key=lambda v: (order.index(v) if v in order else len(order), v))
    return {v: [host for host, releases in running.items() if v in releases] for v in known_first}


def _nothing_left(cloud: Cloud, goal: Release) -> Move:
    """Return the move that has brought the hosts to where they are; the first release is come to by going back."""
    position = cloud.releases.index(goal)
    if position == 0:
        return Move(cloud.releases[1], goal, going_back=True)
    return Move(cloud.releases[position - 1], goal)


def _come_back(cloud: Cloud, goal: Release) -> Move:
    """Return the move back to what was stopped a while ago, from what was to follow it."""
    position = cloud.releases.index(goal)
    neighbour = cloud.releases[position + 1 if position + 1 < len(cloud.releases) else position - 1]
    return Move(neighbour, goal, going_back=True)


def _refuse_unknown(cloud: Cloud, others: Mapping[str, list[str]]) -> None:
    unknown = [version for version in others if version not in {r.version for r in cloud.releases}]
    if unknown:
        found = "; ".join(f"{version} on {', '.join(others[version])}" for version in unknown)
        expected = f"only releases of the cloud file ({', '.join(r.version for r in cloud.releases)})"
        todo = "add the release that runs to the cloud file's `releases`, or stop it there"
        raise MoveError(f"upgrade of {cloud.name}", [Problem("running releases", found, expected, todo)])


def _refuse_several(cloud: Cloud, goal: Release, others: Mapping[str, list[str]]) -> None:
    if len(others) < 2:
        return
    found = "; ".join(f"{version} on {', '.join(hosts)}" for version, hosts in others.items())
    releases = [cloud.release(version) for version in others]
    if len(releases) == 2 and _is_next(cloud, *releases):
        todo = f"choose {releases[1].version} to finish that upgrade first"
    else:
        todo = _STOP_THE_REST
    expected = f"one release beside {goal.version} at most ({_SEQUENTIAL})"
    raise MoveError(f"upgrade of {cloud.name}", [Problem("running releases", found, expected, todo)])


def _refuse_jump(cloud: Cloud, source: Release, goal: Release, todo: str) -> None:
    if not (_is_next(cloud, source, goal) or _is_next(cloud, goal, source)):
        expected = f"the release next to {source.version}, which runs ({_SEQUENTIAL})"
        raise _refused(cloud, goal.version, expected, todo)


def _is_next(cloud: Cloud, release: Release, following: Release) -> bool:
    return cloud.releases.index(following) == cloud.releases.index(release) + 1


def _what_to_choose(cloud: Cloud, source: Release, *, mixed: bool) -> str:
    """Say what to do instead of a move that the source can't make; a mix with the target has to end first."""
    if mixed:
        return _STOP_THE_REST
    later = cloud.releases[cloud.releases.index(source) + 1 :]
    return f"choose {later[0].version}" if later else f"add the release after {source.version} to the cloud file"


def _refused(cloud: Cloud, target: str, expected: str, todo: str) -> MoveError:
    return MoveError(f"upgrade of {cloud.name}", [Problem("target_release", repr(target), expected, todo)])
