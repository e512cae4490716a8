"""Follow jobs on hosts to their ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from heat_upgrade.exceptions import HostUnreachableError, JobTimeoutError, PermanentError, TransientError, is_retryable
from heat_upgrade.remote.step import Job, Outcome
from heat_upgrade.triggers.base import ArgumentsTrigger

if TYPE_CHECKING:
    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.hooks.ssh_command import RunningCommand

# Seconds between two reads of what has come over the connection; a read costs nothing.
READ_EVERY = 0.3
# Seconds to the next connection, the first time and at most.
SOON, AT_MOST = 2.0, 30.0
# Seconds for which a host may be away; a restart takes minutes.
ABSENCE = 600.0
# Seconds after which a connection has lasted.
LASTED = 30.0
# Seconds for a connection to be there, from its first packet to the command that follows the job; to be closed; and to
# end a job. What takes longer goes on in its thread and isn't waited for.
CONNECT_TIMEOUT, CLOSE_TIMEOUT, STOP_TIMEOUT = 120.0, 10.0, 28.0


@dataclass(frozen=True)
class FollowedJob:
    """
    A job on a host, and how to follow it.

    :param machine: what makes the host's hook; no secret, which the Airflow connection has
    :param job: the job
    :param logged: how many lines of its output, and of its standard error, are in the log
    :param timeout: seconds that the job may take, for the message
    :param deadline: when they are over, in seconds since the epoch; a restart of the triggerer doesn't prolong it
    """

    machine: dict[str, Any]
    job: dict[str, str]
    logged: list[int]
    timeout: float
    deadline: float

    @property
    def name(self) -> str:
        """Return what messages call the host."""
        name: str = self.machine["name"]
        return name

    def hook(self) -> HeatHostHook:
        """Import and make the hook: seconds on a busy machine, for which the loop shall not wait."""
        from heat_upgrade.hooks.host import HeatHostHook

        return HeatHostHook(**self.machine)

    def stop(self) -> None:
        """End the job."""
        self.hook().stop_job(Job(**self.job))


@dataclass(frozen=True)
class FollowedJobs:
    """
    Jobs on hosts.

    :param jobs: the fields of a ``FollowedJob``, for each
    """

    jobs: list[dict[str, Any]]


class HostJobsTrigger(ArgumentsTrigger[FollowedJobs]):
    """
    Wait until jobs on hosts are over, all at once; their output goes to the log as it comes.

    It fires once, with a list, a dict for each job: ``machine``, ``outcome`` (how the job ended, or None), ``reason``
    and ``retryable`` (why that isn't known, and whether another try may do better).
    """

    kind = FollowedJobs
    # Connections that are made or closed at once; one that is there needs none.
    threads = 16

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the jobs to their ends."""
        followers = [_Follower(self, FollowedJob(**job)) for job in self.arguments.jobs]
        ends = await asyncio.gather(*(follower.end() for follower in followers))
        yield TriggerEvent(ends)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """End the jobs: a user has failed, passed or cleared the task. A restart of the triggerer doesn't come here."""
        stops = (self.blocking(FollowedJob(**job).stop, STOP_TIMEOUT) for job in self.arguments.jobs)
        failed = [error for error in await asyncio.gather(*stops, return_exceptions=True) if error]
        if failed:
            raise failed[0]


class _Follower:
    """Follows a job to its end, over as many connections as that takes."""

    def __init__(self, trigger: HostJobsTrigger, followed: FollowedJob) -> None:
        self._trigger = trigger
        self._followed = followed
        self._job = Job(**followed.job)
        self._logged = followed.logged

    async def end(self) -> dict[str, Any]:
        """Return how the job has ended, or why that isn't known."""
        end: dict[str, Any] = {"machine": self._followed.name, "outcome": None, "reason": "", "retryable": False}
        try:
            return end | {"outcome": asdict(await self._outcome())}
        except (TransientError, PermanentError) as error:
            return end | {"reason": str(error), "retryable": is_retryable(error)}

    async def _outcome(self) -> Outcome:
        seen, pause = time.time(), SOON
        while True:
            begun = time.time()
            try:
                return await self._follow()
            except HostUnreachableError as broken:
                # A connection that lasted was a host that was there.
                if time.time() - begun > LASTED:
                    seen, pause = time.time(), SOON
                if time.time() - seen > ABSENCE:
                    raise
                self._trigger.log.warning("%s; connecting again in %.0f s", broken, pause)
            self._check_time()
            await asyncio.sleep(pause)
            pause = min(2 * pause, AT_MOST)

    async def _follow(self) -> Outcome:
        hook = await self._trigger.blocking(self._followed.hook)
        connection = ExitStack()
        try:
            running = await self._connect(connection, hook)
            while not running.read():
                self._log(running)
                self._check_time()
                await asyncio.sleep(READ_EVERY)
            self._log(running)
            return hook.outcome(self._job, running)
        finally:
            # In a thread as well: it waits for the connection's own one. That one ends by itself.
            with suppress(TimeoutError):
                await self._trigger.blocking(connection.close, CLOSE_TIMEOUT)

    async def _connect(self, connection: ExitStack, hook: HeatHostHook) -> RunningCommand:
        from heat_upgrade.hooks.ssh_command import LogOffset

        followed = hook.followed(self._job, LogOffset(*self._logged))
        try:
            return await self._trigger.blocking(partial(connection.enter_context, followed), CONNECT_TIMEOUT)
        except TimeoutError:
            raise HostUnreachableError(
                f"{self._followed.name}: no session within {CONNECT_TIMEOUT:.0f} s, expected one at once: check the "
                "host and its sshd, then clear this task, which follows the job"
            ) from None

    def _log(self, running: RunningCommand) -> None:
        for level, line in running.news():
            self._trigger.log.log(level, "%s: %s", self._followed.name, line)
        self._logged = list(running.offset)

    def _check_time(self) -> None:
        if time.time() > self._followed.deadline:
            raise JobTimeoutError(
                f"{self._followed.name}: step {self._job.step} has not ended within {self._followed.timeout:.0f} s, "
                f"expected its end: it goes on there, and what it has written is in {self._job.folder}; see what it "
                "waits for, then clear this task, which follows it"
            )
