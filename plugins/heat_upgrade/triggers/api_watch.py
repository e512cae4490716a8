"""Ask the API through the load balancer, again and again, as a user would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from airflow.triggers.base import TriggerEvent

from heat_upgrade.report.availability import Availability
from heat_upgrade.triggers.base import ArgumentsTrigger
from heat_upgrade.triggers.run import states_of_run

if TYPE_CHECKING:
    import httpx

# Seconds after which a probe has failed.
PROBE_TIMEOUT = 10.0
# Bytes.
LARGEST_ANSWER = 65536
# Seconds from one check of the run to the next, and checks from one checkpoint to the next.
CHECK_EVERY, CHECKPOINT_EVERY = 2.0, 15
# The states of a task whose turn hasn't come.
WAITING = (None, "scheduled", "queued")


@dataclass(frozen=True)
class WatchedApi:
    """
    An API, and how it is watched.

    :param url: what to ask for, without logging in
    :param verify: whether to verify the server's certificate, or by which CA certificates' file
    :param until: id of the task, in the same run, whose turn ends the watch
    :param interval: seconds from one probe to the next
    """

    url: str
    verify: bool | str
    until: str
    interval: float = 1.0


class ApiWatchTrigger(ArgumentsTrigger[WatchedApi]):
    """Probe the API until the turn of a task has come; fires once, with the account."""

    kind = WatchedApi

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Probe, and check now and then whether that is enough."""
        earlier = await self.restore()
        seen = Availability.of(earlier) if earlier else Availability(self.arguments.url)
        # Beside the probes: an Airflow that is slow to answer must not look like an API that nobody has watched.
        turn = asyncio.create_task(self._await_turn(seen))
        try:
            async with await self.blocking(self._client) as client:
                while not turn.done():
                    next_probe = time.time() + self.arguments.interval
                    await self._probe(client, seen)
                    await asyncio.wait([turn], timeout=max(0.0, next_probe - time.time()))
        finally:
            turn.cancel()
        await self.checkpoint(seen.as_xcom())
        yield TriggerEvent(seen.as_xcom())  # type: ignore[no-untyped-call]

    async def _await_turn(self, seen: Availability) -> None:
        for check in count(1):
            await asyncio.sleep(CHECK_EVERY)
            if await self._enough():
                return
            if check % CHECKPOINT_EVERY == 0:
                await self.checkpoint(seen.as_xcom())

    def _client(self) -> httpx.AsyncClient:
        import ssl

        import httpx

        verify: ssl.SSLContext | bool | str = self.arguments.verify
        if isinstance(verify, str):
            verify = ssl.create_default_context(cafile=verify)
        # A connection for each probe, as a new user's: one that is kept would stay with the API that has taken it.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.AsyncClient(verify=verify, limits=limits, timeout=PROBE_TIMEOUT)

    async def _probe(self, client: httpx.AsyncClient, seen: Availability) -> None:
        began = time.time()
        try:
            status = await asyncio.wait_for(self._status(client), PROBE_TIMEOUT)
        except Exception as error:
            # Not its text, which may hold a secret.
            seen.observe(began, time.time(), type(error).__name__)
            return
        # Heat answers with its versions and 300, Multiple Choices.
        seen.observe(began, time.time(), None if status < 400 else f"HTTP {status}")

    async def _status(self, client: httpx.AsyncClient) -> int:
        """Read a whole answer, but never more than Heat's own could be."""
        async with client.stream("GET", self.arguments.url) as answer:
            size = 0
            async for piece in answer.aiter_raw():
                size += len(piece)
                if size > LARGEST_ANSWER:
                    break
            return answer.status_code

    async def _enough(self) -> bool:
        instance = self.task_instance
        if instance is None:
            return False
        states = await states_of_run(self, instance.dag_id, instance.run_id)
        return bool(states) and states.get(self.arguments.until) not in WAITING
