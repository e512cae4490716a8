"""The watch of a canary: when it ends, with which verdict, and what a restart or a hostile answer does to it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from heat_upgrade.exceptions import HeatDatabaseUnavailableError, TransientError
from heat_upgrade.hooks import heat_api, heat_database
from heat_upgrade.hooks.heat_api import BuildInfo
from heat_upgrade.readings import BegunActions
from heat_upgrade.triggers import canary as module
from heat_upgrade.triggers.canary import CanaryTrigger, WatchedCanary

OLD, NEW = "25.0.2", "26.0.2"
SINCE = 1_800_000_000.0


class World:
    """Heat's API and database, as the trigger finds them."""

    def __init__(self) -> None:
        self.answer: Callable[[], BuildInfo] = lambda: BuildInfo(NEW, NEW)
        self.count: Callable[[], BegunActions] = lambda: BegunActions(7, 1)
        self.asked: list[tuple[str, str | None]] = []
        self.counted: list[tuple[list[str], datetime, datetime]] = []
        self.stored: list[dict[str, Any]] = []

    def api(self, conn_id: str, project: str | None = None) -> World:
        self.asked.append((conn_id, project))
        return self

    def build_info(self) -> BuildInfo:
        return self.answer()

    def database(self, conn_id: str) -> World:
        assert conn_id == "heat_db"
        return self

    def actions_begun(self, projects: list[str], since: datetime, until: datetime) -> BegunActions:
        self.counted.append((projects, since, until))
        return self.count()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    async def keep(_: Any, state: dict[str, Any]) -> None:
        world.stored.append(json.loads(json.dumps(state)))

    async def find(_: Any) -> dict[str, Any] | None:
        return world.stored[-1] if world.stored else None

    monkeypatch.setattr(heat_api, "HeatApiHook", world.api)
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", world.database)
    monkeypatch.setattr(CanaryTrigger, "checkpoint", keep)
    monkeypatch.setattr(CanaryTrigger, "restore", find)
    return world


def canary(**other: Any) -> WatchedCanary:
    return replace(
        WatchedCanary(["p1", "p2"], NEW, "heat_api", "heat_db", "p1", SINCE, time.time() + 0.1, 1, 10.0, interval=0.01),
        **other,
    )


def watch(watched: WatchedCanary) -> dict[str, Any]:
    """Return what the trigger fires, after the way that its arguments take to the triggerer."""

    async def fired() -> list[Any]:
        _, fields = CanaryTrigger(watched).serialize()
        trigger = CanaryTrigger(**json.loads(json.dumps(fields)))
        events = [event.payload async for event in trigger.run()]
        await trigger.cleanup()
        return events

    (payload,) = asyncio.run(asyncio.wait_for(fired(), 30))
    return json.loads(json.dumps(payload))  # type: ignore[no-any-return]


def test_it_holds_for_its_time(world: World) -> None:
    deadline = time.time() + 0.2
    payload = watch(canary(deadline=deadline))
    assert time.time() >= deadline
    assert (payload["verdict"], payload["errors"]) == ("held", [])
    assert payload["probes"] > 2
    assert (payload["begun"], payload["failed"]) == (7, 1)
    assert set(world.asked) == {("heat_api", "p1")}
    projects, since, until = world.counted[-1]
    assert (projects, since) == (["p1", "p2"], datetime.fromtimestamp(SINCE, UTC))
    assert until > datetime.now(UTC)


def test_it_fails_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.count = lambda: BegunActions(7, 2)
    payload = watch(canary(deadline=time.time() + 3600))
    assert payload["verdict"] == "failed"
    assert payload["errors"][0].startswith("2 of 7 actions on the canary's stacks failed, expected 1 at the most")


@pytest.mark.parametrize("found", [BuildInfo(OLD, NEW), BuildInfo(NEW, OLD), BuildInfo(OLD, OLD)])
def test_a_canary_that_another_release_answers_has_failed(found: BuildInfo, world: World) -> None:
    world.answer = lambda: found
    (error,) = watch(canary(deadline=time.time() + 3600))["errors"]
    assert f"API {found.api} and engine {found.engine} answered the canary, expected {NEW} for both" in error


def test_in_the_connections_own_project_any_release_may_answer(world: World) -> None:
    world.answer = lambda: BuildInfo(OLD, OLD)
    assert watch(canary(asked_in=""))["verdict"] == "held"
    assert set(world.asked) == {("heat_api", None)}


def test_a_failed_request_is_told_with_its_reason(world: World) -> None:
    def fail() -> BuildInfo:
        raise TransientError("build_info at http://heat.example failed (503)")

    world.answer = fail
    payload = watch(canary(deadline=time.time() + 3600))
    assert payload["errors"][0].startswith("1 of 1 requests to the API failed (build_info at http://heat.example")


def test_an_error_that_may_hold_a_secret_is_not_told(world: World) -> None:
    def fail() -> BuildInfo:
        raise ValueError("password=Geheim77")

    world.answer = fail
    payload = watch(canary(deadline=time.time() + 3600))
    assert "ValueError" in payload["errors"][0]
    assert "Geheim77" not in json.dumps(payload)


def test_what_a_server_says_takes_one_line_and_not_all_of_it(world: World) -> None:
    world.answer = lambda: BuildInfo("evil\nFAILED: all\n" * 1000, NEW)
    (error,) = watch(canary(deadline=time.time() + 3600))["errors"]
    assert "\n" not in error
    assert len(error) < 500


def test_an_api_that_hangs_has_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(module, "PROBE_TIMEOUT", 0.05)

    def hang() -> BuildInfo:
        released.wait(20)
        return BuildInfo(NEW, NEW)

    world.answer = hang
    payload = watch(canary(deadline=time.time() + 3600, slowest=0.02))
    released.set()
    assert "no answer within" in payload["errors"][0]


def away() -> BegunActions:
    raise HeatDatabaseUnavailableError("Heat's database can't be read: check it")


def test_a_database_that_is_away_for_a_while_takes_nobody_back(world: World) -> None:
    left = [away] * 3

    def count() -> BegunActions:
        return left.pop()() if left else BegunActions(1, 0)

    world.count = count
    assert watch(canary(deadline=time.time()))["verdict"] == "held"


def test_a_database_that_stays_away_proves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.05)
    world.count = away
    payload = watch(canary(deadline=time.time()))
    assert payload["verdict"] == "failed"
    assert payload["errors"] == [
        "the canary's stacks could not be counted at its end (Heat's database can't be read: check it), expected that "
        "within 0.05 s: see Heat's database"
    ]
    assert payload["begun"] is payload["failed"] is None


def test_a_restart_of_the_triggerer_forgets_nothing(world: World) -> None:
    first = watch(canary())
    again = watch(canary(deadline=time.time()))
    assert again["probes"] == first["probes"] + 1


def test_time_that_nobody_watched_does_not_count(world: World) -> None:
    watch(canary())
    # As after a triggerer's outage of an hour, of which the deadline knows nothing.
    world.stored[-1]["until"] -= 3600

    async def fires() -> None:
        trigger = CanaryTrigger(canary(deadline=time.time() + 0.1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(trigger.run()), 0.5)
        await trigger.cleanup()

    asyncio.run(fires())
