"""How long earlier runs took, and what that says of the next one: one record, written by each run that went well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from heat_upgrade.names import LEAVE, REJOIN, REPORT, SWITCH, TIMINGS, TIMINGS_BACK, of_host

if TYPE_CHECKING:
    from airflow.sdk import Context


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


def tasks_of_move(host: str) -> tuple[str, ...]:
    """
    Return the tasks that move the APIs of a host in a rolling upgrade.

    :param host: the host's name, as the ids of tasks have it
    """
    return tuple(of_host(host, step) for step in (LEAVE, SWITCH, REJOIN))


def _key(going_back: bool) -> str:
    return TIMINGS_BACK if going_back else TIMINGS


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
