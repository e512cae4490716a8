"""Ask the API through the load balancer, again and again, as a user would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import TYPE_CHECKING

from airflow.triggers.base import TriggerEvent

from heat_upgrade.report.availability import Availability
from heat_upgrade.triggers.arguments import ArgumentsTrigger
from heat_upgrade.triggers.base import keep, kept
from heat_upgrade.triggers.run import states_of_run

if TYPE_CHECKING:
    import httpx

# Seconds after which a probe has failed.
PATIENCE = 10.0
# Seconds from one look at the run to the next, and looks from one time that the account is stored to the next.
LOOK_EVERY, KEEP_EVERY = 2.0, 15
# The states of a task whose turn hasn't come.
WAITING = (None, "scheduled", "queued")


class ApiWatchTrigger(ArgumentsTrigger):
    """
    Probe the API until the turn of a task has come; fires once, with the account.

    :param url: what to ask for, without logging in
    :param verify: whether to verify the server's certificate, or by which CA certificates' file
    :param until: id of the task, in the same run
    :param interval: seconds from one probe to the next
    """

    arguments = ("url", "verify", "until", "interval")

    def __init__(self, *, url: str, verify: bool | str, until: str, interval: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.url = url
        self.verify = verify
        self.until = until
        self.interval = interval

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Probe, and look now and then whether it is enough."""
        earlier = await kept(self)
        seen = Availability.of(earlier) if earlier else Availability(self.url)
        # Beside the probes: an Airflow that is slow to answer must not look like an API that nobody has watched.
        turn = asyncio.create_task(self._await_turn(seen))
        try:
            async with await asyncio.to_thread(self._client) as client:
                while not turn.done():
                    next_probe = time.time() + self.interval
                    await self._probe(client, seen)
                    await asyncio.wait([turn], timeout=max(0.0, next_probe - time.time()))
        finally:
            turn.cancel()
        await keep(self, seen.as_xcom())
        yield TriggerEvent(seen.as_xcom())  # type: ignore[no-untyped-call]

    async def _await_turn(self, seen: Availability) -> None:
        for look in count(1):
            await asyncio.sleep(LOOK_EVERY)
            if await self._enough():
                return
            if look % KEEP_EVERY == 0:
                await keep(self, seen.as_xcom())

    def _client(self) -> httpx.AsyncClient:
        import ssl

        import httpx

        verify = ssl.create_default_context(cafile=self.verify) if isinstance(self.verify, str) else self.verify
        # A connection for each probe, as a new user's: one that is kept would stay with the API that has taken it.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.AsyncClient(verify=verify, limits=limits, timeout=PATIENCE)

    async def _probe(self, client: httpx.AsyncClient, seen: Availability) -> None:
        began = time.time()
        try:
            status = (await client.get(self.url)).status_code
        except Exception as error:
            # Not its text, which nobody has checked for secrets.
            seen.observe(began, time.time(), type(error).__name__)
            return
        # Heat answers with its versions and 300, Multiple Choices.
        seen.observe(began, time.time(), None if status < 400 else f"HTTP {status}")

    async def _enough(self) -> bool:
        instance = self.task_instance
        if instance is None:
            return False
        states = await states_of_run(instance.dag_id, instance.run_id)
        return bool(states) and states.get(self.until) not in WAITING
