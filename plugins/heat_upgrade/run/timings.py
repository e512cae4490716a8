"""How long earlier runs took, and what that says of the next one: one record, written by each run that went well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from heat_upgrade.names import LEAVE, REJOIN, REPORT, SWITCH, TIMINGS, TIMINGS_BACK, of_host

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud

# Safety factor on the slowest measured host.
MARGIN = 1.5
# Seconds that a host is taken to need where nothing says so.
USUAL_HOST = 120.0


@dataclass(frozen=True)
class Timings:
    """
    How long tasks took.

    :param run: the latest run that went well; empty where none has yet
    :param seconds: by task; of one that the run didn't need, as long as it took in the latest run that did
    """

    run: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def last(cls, context: Context, *, going_back: bool) -> Timings:
        """
        Return the record of earlier runs of the same DAG.

        :param context: of any task of the DAG
        :param going_back: which runs: going back takes another time than going on
        """
        saved: dict[str, Any] | None = context["ti"].xcom_pull(
            task_ids=REPORT, key=_key(going_back), map_indexes=-1, include_prior_dates=True
        )
        return cls(**saved) if saved else cls()

    def after(self, run: str, seconds: Mapping[str, float]) -> Timings:
        """
        Return the record after one more run.

        :param run: the run's id
        :param seconds: how long its tasks took
        """
        return Timings(run, {**self.seconds, **seconds})

    def save(self, context: Context, *, going_back: bool) -> None:
        """
        Keep the record for the runs to come.

        :param context: the report's, as the record is found there
        :param going_back: whether the run went back
        """
        context["ti"].xcom_push(key=_key(going_back), value=asdict(self))

    def moving(self, host: str) -> float | None:
        """
        Return how many seconds the APIs of a host took to move; None if no run has measured it.

        :param host: the host's name, as the ids of tasks have it
        """
        steps = [self.seconds.get(task) for task in tasks_of_move(host)]
        return None if None in steps else sum(filter(None, steps))


def tasks_of_move(host: str) -> tuple[str, ...]:
    """
    Return the tasks that move the APIs of a host in a rolling upgrade.

    :param host: the host's name, as the ids of tasks have it
    """
    return tuple(of_host(host, step) for step in (LEAVE, SWITCH, REJOIN))


def _key(going_back: bool) -> str:
    return TIMINGS_BACK if going_back else TIMINGS


def time_of_sweep(cloud: Cloud, remaining: set[str], timings: Timings) -> tuple[timedelta, str]:
    """
    Return how long a sweep takes at most, and what says so.

    :param cloud: the cloud
    :param remaining: names of the hosts whose APIs are still to move
    :param timings: how long earlier runs took
    """
    known = {host.name: timings.moving(host.task_id) for host in cloud.hosts if host.api_roles}
    slowest, source = USUAL_HOST, "a guess"
    if cloud.windows:
        slowest, source = cloud.windows.seconds_per_host, "the cloud file's seconds_per_host"
    source = f"{source}, as no run has measured it yet"
    if measured := {name: seconds for name, seconds in known.items() if seconds}:
        name = max(measured, key=measured.__getitem__)
        slowest, source = measured[name], f"{name} when it moved last, the slowest"
    waves = sum(any(host.name in remaining for host in wave) for wave in cloud.api_waves())
    reason = f"{len(remaining)} hosts in {waves} waves are left; a host takes {slowest:.0f} s ({source})"
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
