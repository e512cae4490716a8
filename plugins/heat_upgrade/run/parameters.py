"""The parameters of a run, checked against the cloud file before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heat_upgrade.cloud.fields import A_PROJECT_ID, PROJECT_ID
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import MOST_CANARIES
from heat_upgrade.formatting import first_few
from heat_upgrade.problems import Problem, ProblemsError, did_you_mean, show
from heat_upgrade.run.approvals import OF_COLD, OF_ROLLING, Approvals

ROLLING = ("target_release", "hosts", "canary", "approvals", "delete_old_vhost", "ignore_windows", "dry_run")
# All hosts, always: a cold upgrade of half a cloud is none.
COLD = ("target_release", "drain", "approvals", "delete_old_vhost", "ignore_windows", "dry_run")
LONGEST_DRAIN = 7 * 24 * 60


class ParameterError(ProblemsError):
    """Parameters that a run can't have; the message lists every problem."""


@dataclass(frozen=True)
class RunParameters:
    """What a run is to do.

    :param target_release: the release to go to; None for the one after the release that runs.
    :param hosts: the names of the hosts to upgrade, in the order of the cloud file.
    :param delete_old_vhost: whether the old release's vhost is deleted at the end.
    :param drain: minutes after which a cold upgrade asks whether to go on; 0 to wait as the cloud file says.
    :param ignore_windows: whether users may be touched outside of maintenance windows.
    :param dry_run: whether nothing is to be changed: every task only shows what it would do.
    :param approvals: where the run asks an operator before it goes on.
    :param canary: ids of the projects whose new stacks go ahead; none for everybody at once.
    """

    target_release: str | None
    hosts: tuple[str, ...]
    delete_old_vhost: bool = False
    drain: float = 0.0
    ignore_windows: bool = False
    dry_run: bool = False
    approvals: Approvals = Approvals.NONE
    canary: tuple[str, ...] = ()

    @classmethod
    def parse(cls, params: Mapping[str, Any], cloud: Cloud, names: Collection[str] = ROLLING) -> RunParameters:
        """Return a run's parameters.

        :param params: the run's ``params``; without ``hosts`` all hosts are meant, without ``canary`` the cloud's own.
        :param cloud: the cloud that the run is for.
        :param names: the parameters that such a run has.
        :raises ParameterError: with every problem found.
        """
        everyone = [host.name for host in cloud.hosts]
        target = params.get("target_release")
        hosts = params.get("hosts", everyone)
        flags = {name: params.get(name, False) for name in ("delete_old_vhost", "ignore_windows", "dry_run")}
        drain = params.get("drain")
        approvals = params.get("approvals", Approvals.NONE)
        canary = _canary(params, cloud) if "canary" in names else ()
        problems = [
            *_unknown(params, names),
            *_wrong_target(target, [release.version for release in cloud.releases]),
            *_wrong_hosts(hosts, everyone),
            *_wrong_canary(canary),
            *_wrong_flags(flags),
            *_wrong_drain(drain),
            *_wrong_approvals(approvals, OF_COLD if "drain" in names else OF_ROLLING),
        ]
        if problems:
            raise ParameterError(f"parameters for {cloud.name}", problems)
        chosen = tuple(name for name in everyone if name in hosts)
        wait = float(drain or 0)
        return cls(target, chosen, drain=wait, approvals=Approvals(approvals), canary=tuple(canary), **flags)


def _unknown(params: Mapping[str, Any], names: Collection[str]) -> Iterator[Problem]:
    # A misspelt `hosts` would otherwise upgrade them all.
    for name in sorted(set(params) - set(names), key=str):
        todo = did_you_mean(str(name), names, "leave it out")
        yield Problem("parameters", f"the unknown parameter {show(name)}", f"only {', '.join(names)}", todo)


def _wrong_target(target: Any, versions: list[str]) -> Iterator[Problem]:
    if target is not None and target not in versions:
        todo = "choose one of them or add the release to the cloud file"
        yield Problem("target_release", show(target), f"one of {', '.join(versions)}", todo)


def _wrong_hosts(hosts: Any, known: list[str]) -> Iterator[Problem]:
    example = f"write for example {known[:2]!r}".replace("'", '"')
    if not isinstance(hosts, list | tuple) or not hosts:
        yield Problem("hosts", show(hosts), "a list with at least one of the cloud's hosts", example)
        return
    for index, name in enumerate(hosts):
        where = f"hosts[{index}]"
        if not isinstance(name, str):
            yield Problem(where, show(name), "the name of a host", example)
        elif name not in known:
            todo = did_you_mean(name, known, "write a name from the cloud file")
            yield Problem(where, show(name), f"a host of the cloud ({first_few(known)})", todo)
        elif name in hosts[:index]:
            yield Problem(where, show(name), "each host once", "delete the repeated one")


def _canary(params: Mapping[str, Any], cloud: Cloud) -> Any:
    given = params.get("canary")
    return cloud.canary.projects if given in (None, [], ()) else given


def _wrong_canary(projects: Any) -> Iterator[Problem]:
    example = "write the ids of `openstack project list`, or leave it empty for the cloud file's"
    if not isinstance(projects, list | tuple):
        yield Problem("canary", show(projects), "a list of projects' ids", example)
        return
    if len(projects) > MOST_CANARIES:
        yield Problem("canary", f"{len(projects)} projects", f"{MOST_CANARIES} at most", "name fewer of them")
        return
    for index, project in enumerate(projects):
        where = f"canary[{index}]"
        if not isinstance(project, str) or not re.fullmatch(PROJECT_ID, project, re.ASCII):
            yield Problem(where, show(project), A_PROJECT_ID, example)
        elif project in projects[:index]:
            yield Problem(where, show(project), "each project once", "delete the repeated one")


def _wrong_flags(flags: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in flags.items():
        if not isinstance(value, bool):
            yield Problem(name, show(value), "true or false", "write true or false without quotes")


def _wrong_drain(value: Any) -> Iterator[Problem]:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_DRAIN:
        todo = "write for example 30, or leave it empty to wait as long as the cloud file says"
        yield Problem("drain", show(value), f"minutes from 0 to {LONGEST_DRAIN}", todo)


def _wrong_approvals(value: Any, choices: Collection[Approvals]) -> Iterator[Problem]:
    if value not in choices:
        todo = did_you_mean(str(value), list(map(str, choices)), "choose one of them")
        yield Problem("approvals", show(value), f"one of {', '.join(choices)}", todo)
