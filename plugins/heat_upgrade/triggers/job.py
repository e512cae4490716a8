"""Follow jobs on hosts to their ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from heat_upgrade.exceptions import HostAuthError, HostUnreachableError, JobTimeoutError
from heat_upgrade.remote.step import Job, Outcome
from heat_upgrade.triggers.arguments import ArgumentsTrigger

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.hooks.ssh_command import RunningCommand

# Seconds between two reads of what has come over the connection; a read costs nothing.
READ_EVERY = 0.3
# Seconds to the next connection, the first time and at most.
SOON, AT_MOST = 2.0, 30.0
# Seconds for which a host may be away; a restart takes minutes.
ABSENCE = 600.0


@dataclass
class FollowedJob:
    """
    A job on a host, until it is over; its output goes to the log as it comes.

    :param machine: what makes the host's hook; no secret, which the Airflow connection has
    :param job: the job
    :param told: how many lines of its output, and of its errors, are in the log
    :param timeout: seconds that the job may take, for the message
    :param deadline: when they are over, in seconds since the epoch; a restart of the triggerer doesn't prolong it
    """

    machine: dict[str, Any]
    job: dict[str, str]
    told: list[int]
    timeout: float
    deadline: float

    @property
    def name(self) -> str:
        """Return what messages call the host."""
        name: str = self.machine["name"]
        return name

    async def end(self, log: Logger) -> dict[str, Any]:
        """
        Follow the job to its end, over as many connections as that takes.

        :param log: gets what the job writes
        :return: ``machine``, ``outcome`` (how the job ended, or None), ``raised`` and ``message`` (which error says why
            that isn't known)
        """
        end: dict[str, Any] = {"machine": self.name, "outcome": None, "raised": "", "message": ""}
        try:
            return end | {"outcome": asdict(await self._outcome(log))}
        except (HostUnreachableError, HostAuthError, JobTimeoutError) as error:
            return end | {"raised": type(error).__name__, "message": str(error)}

    def stop(self) -> None:
        """End the job."""
        self.hook().stop_job(Job(**self.job))

    def hook(self) -> HeatHostHook:
        """Import and make the hook: seconds on a busy machine, for which the loop shall not wait."""
        from heat_upgrade.hooks.host import HeatHostHook

        return HeatHostHook(**self.machine)

    async def _outcome(self, log: Logger) -> Outcome:
        seen, pause = time.time(), SOON
        while True:
            begun = time.time()
            try:
                return await self._follow(log)
            except HostUnreachableError as broken:
                # A connection that lasted was a host that was there.
                if time.time() - begun > AT_MOST:
                    seen, pause = time.time(), SOON
                if time.time() - seen > ABSENCE:
                    raise
                log.warning("%s; connecting again in %.0f s", broken, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, AT_MOST)

    async def _follow(self, log: Logger) -> Outcome:
        from heat_upgrade.hooks.ssh_command import Told

        job = Job(**self.job)
        hook = await asyncio.to_thread(self.hook)
        connection = ExitStack()
        try:
            followed = hook.followed(job, Told(*self.told))
            running = await asyncio.to_thread(connection.enter_context, followed)
            while not running.read():
                self._tell(running, log)
                self._check_time()
                await asyncio.sleep(READ_EVERY)
            self._tell(running, log)
            return hook.outcome(job, running)
        finally:
            # In a thread as well: it waits for the connection's own one.
            await asyncio.to_thread(connection.close)

    def _tell(self, running: RunningCommand, log: Logger) -> None:
        for level, line in running.news():
            log.log(level, "%s: %s", self.name, line)
        self.told = list(running.told)

    def _check_time(self) -> None:
        if time.time() > self.deadline:
            job = Job(**self.job)
            raise JobTimeoutError(
                f"{self.name}: step {job.step} has not ended within {self.timeout:.0f} s, expected its end: "
                f"it goes on there, and what it has written is in {job.folder}; see what it waits for, then clear this "
                "task, which follows it"
            )


class HostJobsTrigger(ArgumentsTrigger):
    """
    Wait until jobs on hosts are over, all at once; it fires once, with how each has ended.

    :param jobs: what makes a ``FollowedJob``, for each
    """

    arguments = ("jobs",)

    def __init__(self, *, jobs: list[dict[str, Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.jobs = jobs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the jobs to their ends."""
        ends = await asyncio.gather(*(FollowedJob(**job).end(self.log) for job in self.jobs))
        yield TriggerEvent(ends)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """End the jobs: a user has failed, passed or cleared the task. A restart of the triggerer doesn't come here."""
        stops = (asyncio.to_thread(FollowedJob(**job).stop) for job in self.jobs)
        failed = [error for error in await asyncio.gather(*stops, return_exceptions=True) if error]
        if failed:
            raise failed[0]
