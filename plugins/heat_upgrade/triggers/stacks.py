"""Read Heat's database until some stacks have left IN_PROGRESS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import TriggerEvent

from heat_upgrade.readings import IN_PROGRESS
from heat_upgrade.triggers.base import ArgumentsTrigger

# Seconds that the database has to answer.
TIMEOUT = 30.0


@dataclass(frozen=True)
class StacksToEnd:
    """
    Stacks that are to leave IN_PROGRESS.

    :param stacks: their ids
    :param database_conn_id: Airflow connection to Heat's database
    :param interval: seconds from one reading to the next
    :param deadline: when the wait ends, in seconds since the epoch; a restart of the triggerer doesn't prolong it
    """

    stacks: list[str]
    database_conn_id: str
    interval: float
    deadline: float


class StacksEndedTrigger(ArgumentsTrigger[StacksToEnd]):
    """Wait until stacks have left IN_PROGRESS, or the time is up; fires once, with whether all of them have."""

    kind = StacksToEnd

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read until no stack is in progress any more, or the time is up."""
        wait = self.arguments
        while True:
            remaining = await self._in_progress()
            if not remaining or time.time() + wait.interval > wait.deadline:
                yield TriggerEvent(not remaining)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(wait.interval)

    async def _in_progress(self) -> bool:
        """Return whether a stack is in progress, as one that can't be read may be."""
        try:
            number = await self.blocking(self._count, TIMEOUT)
        except (AirflowException, TimeoutError) as error:
            self.log.warning("Could not read how the stacks are: %s", error or f"no answer within {TIMEOUT:.0f} s")
            return True
        self.log.info("%d of %d stacks are in progress", number, len(self.arguments.stacks))
        return number > 0

    def _count(self) -> int:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        states = HeatDatabaseHook(self.arguments.database_conn_id).stack_states(self.arguments.stacks)
        return sum(state.status == IN_PROGRESS for state in states.values())
