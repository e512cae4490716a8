"""Watch how the first projects fare on the new side, until everybody may follow or they have to come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from heat_upgrade.flip.canary import FAILED, HELD, Limits, errors_of
from heat_upgrade.formatting import duration, one_line
from heat_upgrade.readings import BegunActions, Unavailable
from heat_upgrade.report.availability import Availability
from heat_upgrade.triggers.base import ArgumentsTrigger

if TYPE_CHECKING:
    from heat_upgrade.hooks.heat_api import BuildInfo, HeatApiHook

# What the API is asked for: the releases of the API and of an engine, so an engine of that side answers too.
ASKED = "build_info"
# Seconds after which a request has failed, unless the cloud file grants it more; those for a reading of the database.
PROBE_TIMEOUT, READ_TIMEOUT = 30.0, 30.0
# Seconds beyond the canary's time for a database that doesn't answer just then.
GRACE = 300.0
# Readings from one line in the log, and one checkpoint, to the next.
TOLD_EVERY = 12
# Characters of a reason that a server may have given.
LONGEST_REASON = 300
# Beyond every clock: what has begun since has no end.
AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class WatchedCanary:
    """
    A canary, and what has to hold for it.

    :param projects: ids of the projects that go ahead
    :param release: the release that works for them
    :param api_conn_id: Airflow connection to Heat's API
    :param database_conn_id: Airflow connection to Heat's database
    :param asked_in: the project in which the API is asked, one of the canary's; empty for the connection's own
    :param since: when the canary began, in seconds since the epoch
    :param deadline: when it may end; a restart of the triggerer doesn't prolong it, time that nobody watched does
    :param usual: how many of the canary's actions failed in as long a time before
    :param slowest: seconds that an answer of the API may take
    :param interval: seconds from one reading to the next
    """

    projects: list[str]
    release: str
    api_conn_id: str
    database_conn_id: str
    asked_in: str
    since: float
    deadline: float
    usual: int
    slowest: float
    interval: float = 5.0


class CanaryTrigger(ArgumentsTrigger[WatchedCanary]):
    """
    Watch a canary until its time is over or something doesn't hold.

    It fires once, with a dict: ``verdict`` is ``held`` or ``failed``, ``errors`` says what didn't hold, and ``probes``,
    ``slowest``, ``begun`` and ``failed`` are what was measured; the latter two are None where they couldn't be read.
    """

    kind = WatchedCanary

    def __init__(self, arguments: WatchedCanary | None = None, **fields: Any) -> None:
        super().__init__(arguments, **fields)
        self._api: HeatApiHook | None = None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask and count until there is a verdict."""
        await self.blocking(_load_hooks)
        earlier = await self.restore()
        seen = Availability.of(earlier) if earlier else Availability(ASKED)
        for number in count(1):
            next_reading = time.time() + self.arguments.interval
            _, begun = await asyncio.gather(self._probe(seen), self.answer("database", self._count, READ_TIMEOUT))
            outcome = self._outcome(seen, begun)
            if outcome or number % TOLD_EVERY == 1:
                self._tell(seen, begun)
                await self.checkpoint(seen.as_xcom())
            if outcome:
                yield TriggerEvent({**outcome, **_measured(seen, begun)})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(max(0.0, next_reading - time.time()))

    def _outcome(self, seen: Availability, begun: BegunActions | Unavailable) -> dict[str, Any] | None:
        canary = self.arguments
        counted = None if isinstance(begun, Unavailable) else begun
        if errors := errors_of(seen, counted, Limits(canary.slowest, canary.usual)):
            return {"verdict": FAILED, "errors": errors}
        late = time.time() - canary.deadline - seen.unwatched
        if late < 0:
            return None
        if isinstance(begun, Unavailable):
            errors.append(
                f"the canary's stacks could not be counted at its end ({_cut(begun.reason)}), expected that within "
                f"{GRACE:g} s: see Heat's database"
            )
            return {"verdict": FAILED, "errors": errors} if late > GRACE else None
        return {"verdict": HELD, "errors": []}

    async def _probe(self, seen: Availability) -> None:
        began = time.time()
        answer = await self.answer("API", self._ask, max(PROBE_TIMEOUT, self.arguments.slowest))
        seen.observe(began, time.time(), self._wrong(answer))

    def _wrong(self, answer: BuildInfo | Unavailable) -> str | None:
        if isinstance(answer, Unavailable):
            return _cut(answer.reason)
        if self.arguments.asked_in and set(answer) != {self.arguments.release}:
            return _cut(
                f"API {answer.api} and engine {answer.engine} answered the canary, expected {self.arguments.release} "
                "for both"
            )
        return None

    def _ask(self) -> BuildInfo:
        from heat_upgrade.hooks.heat_api import HeatApiHook

        self._api = self._api or HeatApiHook(self.arguments.api_conn_id, self.arguments.asked_in or None)
        return self._api.build_info()

    def _count(self) -> BegunActions:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        since = datetime.fromtimestamp(self.arguments.since, UTC)
        hook = HeatDatabaseHook(self.arguments.database_conn_id)
        return hook.actions_begun(self.arguments.projects, since, datetime.now(UTC) + AHEAD)

    def _tell(self, seen: Availability, begun: BegunActions | Unavailable) -> None:
        canary = self.arguments
        stacks = (
            f"their stacks were not counted ({_cut(begun.reason)})"
            if isinstance(begun, Unavailable)
            else f"{begun.total} actions on their stacks, {begun.failed} failed, {canary.usual} in as long before"
        )
        self.log.info(
            "%d projects ahead: %d requests to the API, %d failed, the slowest took %.1f s; %s; %s to go",
            *(len(canary.projects), seen.probes, seen.failed, seen.slowest, stacks),
            duration(max(0.0, canary.deadline + seen.unwatched - time.time())),
        )


def _measured(seen: Availability, begun: BegunActions | Unavailable) -> dict[str, Any]:
    total, failed = (None, None) if isinstance(begun, Unavailable) else begun
    return {"probes": seen.probes, "slowest": seen.slowest, "begun": total, "failed": failed}


def _cut(reason: str) -> str:
    return one_line(reason)[:LONGEST_REASON]


def _load_hooks() -> None:
    """Import what asks: seconds on a busy machine, which would count as the API's."""
    from heat_upgrade.hooks import heat_api, heat_database  # noqa: F401
