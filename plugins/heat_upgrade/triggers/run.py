"""How a run's tasks are doing, asked by a trigger while another task waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from airflow.triggers.base import TriggerEvent

from heat_upgrade import compat
from heat_upgrade.triggers.arguments import ArgumentsTrigger

OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_log = logging.getLogger(__name__)


async def states_of_run(dag_id: str, run_id: str) -> Mapping[str, str | None]:
    """
    Return the state of each task of a run, None for one that waits for its turn; empty where Airflow doesn't answer.

    :param dag_id: the DAG
    :param run_id: the run
    """
    try:
        return await asyncio.to_thread(compat.task_states, dag_id, run_id)
    except Exception as error:
        _log.warning("Could not read the run's task states (%s): asking again", type(error).__name__)
        return {}


def unfinished(states: Mapping[str, str | None], but_for: str) -> list[str]:
    """
    Return the tasks that aren't over.

    :param states: the state of each task of a run
    :param but_for: a task that doesn't count
    """
    return sorted(task for task, state in states.items() if state not in OVER and task != but_for)


class OthersDoneTrigger(ArgumentsTrigger):
    """
    Wait until every other task of a run is over.

    :param dag_id: the DAG
    :param run_id: the run
    :param but_for: the task that waits
    :param interval: seconds from one look to the next
    """

    arguments = ("dag_id", "run_id", "but_for", "interval")

    def __init__(self, *, dag_id: str, run_id: str, but_for: str, interval: float = 5.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.but_for = but_for
        self.interval = interval

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again."""
        while not (states := await states_of_run(self.dag_id, self.run_id)) or unfinished(states, self.but_for):
            await asyncio.sleep(self.interval)
        yield TriggerEvent({})  # type: ignore[no-untyped-call]
