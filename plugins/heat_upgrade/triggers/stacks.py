"""Read Heat's database again and again until some stacks have left IN_PROGRESS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import TriggerEvent

from heat_upgrade.readings import IN_PROGRESS
from heat_upgrade.triggers.arguments import ArgumentsTrigger


class StacksEndedTrigger(ArgumentsTrigger):
    """
    Wait until stacks have left IN_PROGRESS, or the time is up; it fires once, with whether all of them have.

    :param stacks: the ids of the stacks
    :param database_conn_id: Airflow connection to Heat's database
    :param interval: seconds from one reading to the next
    :param deadline: when the wait ends, in seconds since the epoch; a restart of the triggerer doesn't prolong it
    """

    arguments = ("stacks", "database_conn_id", "interval", "deadline")

    def __init__(self, *, stacks: list[str], database_conn_id: str, interval: float, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stacks = stacks
        self.database_conn_id = database_conn_id
        self.interval = interval
        self.deadline = deadline

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read until no stack is in progress any more, or the time is up."""
        while True:
            left = await self._in_progress()
            if not left or time.time() + self.interval > self.deadline:
                yield TriggerEvent(not left)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.interval)

    async def _in_progress(self) -> bool:
        """Tell whether a stack is in progress, as one that can't be read may be."""
        try:
            # In a thread, as the triggerer's loop serves other triggers too.
            number = await asyncio.to_thread(self._count)
        except AirflowException as error:
            self.log.warning("Not read: %s", error)
            return True
        self.log.info("%d of %d stacks are in progress", number, len(self.stacks))
        return number > 0

    def _count(self) -> int:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        states = HeatDatabaseHook(self.database_conn_id).stack_states(self.stacks)
        return sum(state.status == IN_PROGRESS for state in states.values())
