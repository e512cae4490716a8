"""How long runs have taken, and what that says of the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from heat_upgrade.names import REJOIN, of_host

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.sections import Windows
    from heat_upgrade.run.plan import Plan

# Safety factor on the slowest measured host.
MARGIN = 1.5
# Seconds that a host is taken to need where nothing says so.
USUAL_HOST = 120.0


def measured_by(plan: Plan) -> str:
    """Return under which key a run that got through leaves its id: going back takes another time than going on."""
    return "measured_way_back" if plan.going_back else "measured_run"


def time_of_sweep(cloud: Cloud, left: set[str], windows: Windows | None, context: Context) -> tuple[timedelta, str]:
    """
    Return how long a sweep takes at most, and what says so.

    :param cloud: the cloud
    :param left: names of the hosts whose APIs are still to move
    :param windows: the cloud's windows, None if it has none
    :param context: of any task of the DAG: earlier runs have left there how long each host took
    """
    took = {
        host.name: context["ti"].xcom_pull(
            task_ids=of_host(host.task_id, REJOIN), map_indexes=-1, include_prior_dates=True
        )
        for host in cloud.hosts
        if host.api_roles
    }
    known = {name: seconds for name, seconds in took.items() if seconds}
    slowest, source = USUAL_HOST, "a guess, as no run has measured it yet"
    if windows:
        slowest, source = windows.seconds_per_host, "the cloud file's seconds_per_host, as no run has measured it yet"
    if known:
        name = max(known, key=known.__getitem__)
        slowest, source = known[name], f"{name} when it moved last, the slowest"
    waves = sum(any(host.name in left for host in wave) for wave in cloud.api_waves())
    reason = f"{len(left)} hosts in {waves} waves are left; a host takes {slowest:.0f} s ({source})"
    return timedelta(seconds=waves * slowest * MARGIN), reason


def longest_path(upstream: Mapping[str, Iterable[str]], seconds: Mapping[str, float]) -> float:
    """
    Return how long tasks take when each begins at the end of those before it.

    :param upstream: for each task those before it; each comes after all of them
    :param seconds: how long tasks take; those that aren't in it take no time
    """
    ends: dict[str, float] = {}
    for task, before in upstream.items():
        ends[task] = max((ends[each] for each in before), default=0.0) + seconds.get(task, 0.0)
    return max(ends.values(), default=0.0)
