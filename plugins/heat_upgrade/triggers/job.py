"""Follow a job on a host to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from heat_upgrade.exceptions import HostRefused, HostUnreachable, JobOverdue
from heat_upgrade.remote.step import Job, Outcome
from heat_upgrade.triggers.arguments import ArgumentsTrigger

if TYPE_CHECKING:
    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.hooks.ssh_command import RunningCommand

# Seconds between two looks at what has come over the connection; a look costs nothing.
LOOK = 0.3
# Seconds to the next connection, the first time and at most.
SOON, AT_MOST = 2.0, 30.0
# Seconds for which a host may be away; a restart takes minutes.
ABSENCE = 600.0


class HostJobTrigger(ArgumentsTrigger):
    """
    Wait until a job on a host is over; its output goes to the log as it comes.

    It fires once, with a dict: ``host``, ``outcome`` (how the job ended, or None), ``raised`` and ``message`` (which
    error says why nobody knows how it ended).

    :param host: what makes the host's hook; no secret, which the Airflow connection has
    :param job: the job
    :param told: how many lines of its output, and of its errors, are in the log
    :param patience: seconds that the job may take, for the message
    :param deadline: when they are over, in seconds since the epoch; a restart of the triggerer doesn't prolong it
    """

    arguments = ("host", "job", "told", "patience", "deadline")

    def __init__(
        self, *, host: dict[str, Any], job: dict[str, str], told: list[int], patience: float, deadline: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host = host
        self.job = job
        self.told = told
        self.patience = patience
        self.deadline = deadline

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the job to its end, over as many connections as that takes."""
        event: dict[str, Any] = {"host": self.host["name"], "outcome": None, "raised": "", "message": ""}
        try:
            event["outcome"] = asdict(await self._outcome())
        except (HostUnreachable, HostRefused, JobOverdue) as error:
            event |= {"raised": type(error).__name__, "message": str(error)}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """End the job: a user has failed, passed or cleared the task. A restart of the triggerer doesn't come here."""
        await asyncio.to_thread(lambda: self._hook().stop_job(Job(**self.job)))

    async def _outcome(self) -> Outcome:
        seen, pause = time.time(), SOON
        while True:
            begun = time.time()
            try:
                return await self._follow()
            except HostUnreachable as broken:
                # A connection that lasted was a host that was there.
                if time.time() - begun > AT_MOST:
                    seen, pause = time.time(), SOON
                if time.time() - seen > ABSENCE:
                    raise
                self.log.warning("%s; connecting again in %.0f s", broken, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, AT_MOST)

    async def _follow(self) -> Outcome:
        from heat_upgrade.hooks.ssh_command import Told

        job = Job(**self.job)
        hook = await asyncio.to_thread(self._hook)
        connection = ExitStack()
        try:
            followed = hook.followed(job, Told(*self.told))
            running = await asyncio.to_thread(connection.enter_context, followed)
            while not running.read():
                self._tell(running)
                self._check_time()
                await asyncio.sleep(LOOK)
            self._tell(running)
            return hook.outcome(job, running)
        finally:
            # In a thread as well: it waits for the connection's own one.
            await asyncio.to_thread(connection.close)

    def _tell(self, running: RunningCommand) -> None:
        for level, line in running.news():
            self.log.log(level, "%s: %s", self.host["name"], line)
        self.told = list(running.told)

    def _check_time(self) -> None:
        if time.time() > self.deadline:
            job = Job(**self.job)
            raise JobOverdue(
                f"{self.host['name']}: step {job.step} has not ended within {self.patience:.0f} s, expected its end: "
                f"it goes on there, and what it has written is in {job.folder}; see what it waits for, then clear this "
                "task, which follows it"
            )

    def _hook(self) -> HeatHostHook:
        """Import and make the hook: seconds on a busy machine, for which the loop shall not wait."""
        from heat_upgrade.hooks.host import HeatHostHook

        return HeatHostHook(**self.host)
