"""How a run's tasks are doing, asked by a trigger while another task waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow.triggers.base import TriggerEvent

from heat_upgrade import compat
from heat_upgrade.triggers.base import ArgumentsTrigger

OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
# Seconds that Airflow has to answer.
TIMEOUT = 30.0


async def states_of_run(trigger: ArgumentsTrigger[Any], dag_id: str, run_id: str) -> Mapping[str, str | None]:
    """
    Return the state of each task of a run, None for one that waits for its turn; empty where Airflow doesn't answer.

    :param trigger: the trigger that asks
    :param dag_id: the DAG
    :param run_id: the run
    """
    try:
        return await trigger.blocking(partial(compat.task_states, dag_id, run_id), TIMEOUT)
    except Exception as error:
        trigger.log.warning("Could not read the run's task states (%s): asking again", type(error).__name__)
        return {}


def unfinished(states: Mapping[str, str | None], but_for: str) -> list[str]:
    """
    Return the tasks that aren't over.

    :param states: the state of each task of a run
    :param but_for: a task that doesn't count
    """
    return sorted(task for task, state in states.items() if state not in OVER and task != but_for)


@dataclass(frozen=True)
class OtherTasks:
    """
    All tasks of a run but one.

    :param dag_id: the DAG
    :param run_id: the run
    :param but_for: the task that waits
    :param interval: seconds from one check to the next
    """

    dag_id: str
    run_id: str
    but_for: str
    interval: float = 5.0


class OthersDoneTrigger(ArgumentsTrigger[OtherTasks]):
    """Wait until every other task of a run is over."""

    kind = OtherTasks

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check until they are."""
        tasks = self.arguments
        while not (states := await states_of_run(self, tasks.dag_id, tasks.run_id)) or unfinished(
            states, tasks.but_for
        ):
            await asyncio.sleep(tasks.interval)
        yield TriggerEvent({})  # type: ignore[no-untyped-call]
