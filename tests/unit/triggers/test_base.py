"""What triggers share: arguments that survive, threads of their own, and what is kept beside a restart."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.triggers.base import TriggerEvent

from heat_upgrade import compat
from heat_upgrade.triggers import base
from heat_upgrade.triggers.base import ArgumentsTrigger

TASK = {"dag_id": "dag", "task_id": "wait_until_drained", "run_id": "run"}


@dataclass(frozen=True)
class Wait:
    """Something to wait for."""

    name: str
    seconds: list[float]


class WaitTrigger(ArgumentsTrigger[Wait]):
    """Waits for something."""

    kind = Wait

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(self.arguments.name)  # type: ignore[no-untyped-call]


@pytest.fixture
def trigger() -> WaitTrigger:
    one = WaitTrigger(Wait("a", [1.5]))
    one._task_instance = SimpleNamespace(**TASK)  # type: ignore[assignment]
    return one


def test_a_triggerer_makes_it_again_from_its_arguments(trigger: WaitTrigger) -> None:
    path, fields = trigger.serialize()
    assert path == "tests.unit.triggers.test_base.WaitTrigger"
    again = WaitTrigger(**json.loads(json.dumps(fields)))
    assert again.arguments == trigger.arguments
    assert again.serialize() == (path, fields)


def test_a_field_that_is_missing_or_unknown_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="seconds"):
        WaitTrigger(name="a")
    with pytest.raises(TypeError, match="colour"):
        WaitTrigger(name="a", seconds=[], colour="blue")


def test_calls_that_hang_hold_up_no_other_trigger(trigger: WaitTrigger) -> None:
    released = threading.Event()

    async def both() -> int:
        hanging = [asyncio.create_task(trigger.blocking(released.wait)) for _ in range(50)]
        found = await WaitTrigger(Wait("b", [])).blocking(lambda: 7, timeout=10)
        found += await asyncio.wait_for(asyncio.to_thread(lambda: 1), 10)
        released.set()
        await asyncio.gather(*hanging)
        return found

    assert asyncio.run(both()) == 8


def test_a_call_is_waited_for_no_longer_than_that(trigger: WaitTrigger) -> None:
    released = threading.Event()

    async def late() -> None:
        with pytest.raises(TimeoutError):
            await trigger.blocking(released.wait, timeout=0.05)
        released.set()
        await trigger.cleanup()

    asyncio.run(late())


def test_a_call_knows_whose_log_its_lines_belong_to(trigger: WaitTrigger) -> None:
    whose = contextvars.ContextVar("whose", default="nobody")

    async def ask() -> str:
        whose.set("task")
        return await trigger.blocking(whose.get)

    assert asyncio.run(ask()) == "task"


def test_what_it_stores_it_finds_after_a_restart(trigger: WaitTrigger, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, ...], Any] = {}

    async def store(task: dict[str, str], key: str, value: Any) -> None:
        kept[(*task.values(), key)] = value

    async def stored(task: dict[str, str], key: str) -> Any:
        return kept.get((*task.values(), key))

    monkeypatch.setattr(compat, "store_xcom", store)
    monkeypatch.setattr(compat, "stored_xcom", stored)
    assert asyncio.run(trigger.restore()) is None
    asyncio.run(trigger.checkpoint({"seen": 3}))
    assert asyncio.run(trigger.restore()) == {"seen": 3}
    kept[(*TASK.values(), "history")] = "no state of ours"
    assert asyncio.run(trigger.restore()) is None


def test_no_wait_is_held_up_by_what_only_the_report_needs(
    trigger: WaitTrigger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(base, "CHECKPOINT_TIMEOUT", 0.05)
    monkeypatch.setattr(compat, "store_xcom", hang)
    monkeypatch.setattr(compat, "stored_xcom", mock.AsyncMock(side_effect=OSError("password=Geheim77")))
    asyncio.run(trigger.checkpoint({}))
    assert asyncio.run(trigger.restore()) is None
    log = capsys.readouterr().out
    assert "Could not store what the report shows of this wait (TimeoutError)" in log
    assert "Could not read what this wait has stored before (OSError)" in log
    assert "Geheim77" not in log


def test_without_a_task_nothing_is_kept() -> None:
    asyncio.run(WaitTrigger(Wait("a", [])).checkpoint({}))
    assert asyncio.run(WaitTrigger(Wait("a", [])).restore()) is None
