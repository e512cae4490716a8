"""The trigger: what it does with readings; the readings themselves come from real servers in tests/integration."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowException

from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
from heat_upgrade.readings import Broker, Database, Unavailable
from heat_upgrade.triggers import drain as module
from heat_upgrade.triggers.drain import OldEnginesDrainedTrigger
from tests.unit._helpers.readings import BROKER, DEAD, held, queue, reading, stack, swap

QUIET = Database(stacks=(), held=())


def trigger(*, interval: float = 0.01, timeout: float = 60.0, **changed: Any) -> OldEnginesDrainedTrigger:
    return OldEnginesDrainedTrigger(
        **{
            "old_vhost": "heat",
            "new_vhost": "heat_26",
            "rabbitmq_conn_id": "rabbitmq",
            "database_conn_id": "database",
            "interval": interval,
            "readings": 3,
            "timeout": timeout,
            "deadline": time.time() + timeout,
            "stranded_stacks": [],
            **changed,
        }
    )


def outcome(waiting: OldEnginesDrainedTrigger) -> dict[str, Any]:
    async def events() -> list[Any]:
        return [event.payload async for event in waiting.run()]

    fired = asyncio.run(events())
    assert len(fired) == 1
    return fired[0]


def one_after_the_other(values: Iterable[Any]) -> Callable[[OldEnginesDrainedTrigger], Any]:
    """Return each value once and the last one for ever; raise those that are exceptions."""
    left: Iterator[Any] = iter(values)
    last: list[Any] = []

    def read(_: OldEnginesDrainedTrigger) -> Any:
        last.append(next(left, last[-1] if last else None))
        if isinstance(last[-1], Exception):
            raise last[-1]
        return last[-1]

    return read


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def give(brokers: Iterable[Any] = (BROKER,), databases: Iterable[Any] = (QUIET,)) -> None:
        monkeypatch.setattr(OldEnginesDrainedTrigger, "_read_broker", one_after_the_other(brokers))
        monkeypatch.setattr(OldEnginesDrainedTrigger, "_read_database", one_after_the_other(databases))

    return give


@pytest.mark.parametrize(("at", "sent"), [(0.0, 1), (2e9, 0)])
def test_a_long_wait_is_told_once_with_the_reading_at_hand(reads, monkeypatch, at, sent):
    send = mock.Mock()
    monkeypatch.setattr(module, "send_packed", send)
    reads([replace(BROKER, queues=swap(queue("engine", ready=1))), BROKER])
    warning = {"at": at, "message": {}, "entries": []}
    assert outcome(trigger(warning=warning))["status"] == "drained"
    assert send.call_count == sent
    for call in send.call_args_list:
        assert call.args[0] == warning
        assert "waits for  queue 'engine'" in call.args[1]


def test_it_is_restored_from_what_it_serializes():
    path, arguments = trigger(stranded_stacks=["s1"], deadline=12.5).serialize()
    assert path == "heat_upgrade.triggers.drain.OldEnginesDrainedTrigger"
    again = OldEnginesDrainedTrigger(**arguments)
    assert again.serialize() == (path, arguments)
    assert (again.arguments.deadline, again.arguments.stranded_stacks) == (12.5, ["s1"])


def test_after_a_flip_it_waits_for_what_stayed_alone(reads):
    reads(databases=[Database((stack("kept"), stack("later")), ())] * 3 + [Database((stack("later"),), ())])
    event = outcome(trigger(kept_stacks=["kept"]))
    assert event["status"] == "drained"
    assert event["table"].startswith("reading 6  ")


def test_it_opens_once_the_old_side_is_quiet(reads):
    reads(databases=[Database((stack(),), (held(),))] * 3 + [QUIET])
    event = outcome(trigger())
    assert event["status"] == "drained"
    assert event["table"].startswith("reading 6  ")


def test_every_reading_is_logged(reads, capsys):
    reads()
    outcome(trigger())
    assert re.findall("clean ./3", capsys.readouterr().out) == ["clean 0/3", "clean 1/3", "clean 2/3", "clean 3/3"]


@pytest.mark.parametrize("error", [AirflowException("401: check the password"), ValueError("secret")])
@pytest.mark.parametrize("part", ["brokers", "databases"])
def test_what_cannot_be_read_holds_the_gate_until_it_can(reads, part, error):
    good = {"brokers": BROKER, "databases": QUIET}[part]
    reads(**{part: [good, good, error, good]})
    event = outcome(trigger())
    assert event["status"] == "drained"
    assert event["table"].startswith("reading 6  ")


def test_an_error_that_nobody_has_foreseen_is_told_without_its_text(reads):
    reads(databases=[ValueError("secret")])
    event = outcome(trigger(timeout=0.05))
    assert event["status"] == "timed out"
    assert "failed unexpectedly (ValueError)" in event["message"]
    assert "secret" not in event["message"] + event["table"]


def test_an_answer_that_never_comes_is_no_answer(reads, monkeypatch):
    reads()
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    monkeypatch.setattr(OldEnginesDrainedTrigger, "_read_database", lambda _: time.sleep(0.5))
    assert "no answer within" in outcome(trigger(timeout=0.2))["message"]


def test_a_server_that_owes_an_answer_is_not_asked_again(reads, monkeypatch):
    reads()
    answer, asked = threading.Event(), []

    def owed(_: OldEnginesDrainedTrigger) -> Broker:
        asked.append(threading.current_thread())
        answer.wait(30)
        return BROKER

    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    monkeypatch.setattr(OldEnginesDrainedTrigger, "_read_broker", owed)

    async def read() -> list[Any]:
        waiting = trigger()
        late = [(await waiting.read()).broker for _ in range(5)]
        assert len(asked) == 1
        answer.set()
        while isinstance(last := (await waiting.read()).broker, Unavailable):
            pass
        assert last == BROKER
        assert len(asked) == 2, "what came late is of another moment"
        return late

    late = asyncio.run(read())
    assert all(isinstance(broker, Unavailable) and "no answer within" in broker.reason for broker in late)


def test_the_loop_goes_on_while_a_server_is_slow(reads, monkeypatch):
    reads()
    asked, loop_went_on, answered = threading.Event(), threading.Event(), []

    def slow(_: OldEnginesDrainedTrigger) -> Broker:
        asked.set()
        answered.append(loop_went_on.wait(10))
        return BROKER

    async def read() -> None:
        reading = asyncio.create_task(trigger().read())
        while not asked.is_set():
            await asyncio.sleep(0)
        loop_went_on.set()
        await reading

    monkeypatch.setattr(OldEnginesDrainedTrigger, "_read_broker", slow)
    asyncio.run(read())
    assert answered == [True]


def test_work_that_nobody_can_read_fails_at_once(reads):
    left = reading(queues=(queue("engine_worker", ready=1, consumers=0),), connections=())
    reads(brokers=[left.broker])
    event = outcome(trigger(interval=60, timeout=7200))
    assert event["status"] == "failed"
    assert "start an engine of the old release" in event["message"]


def test_a_deserted_vhost_needs_one_reading(reads):
    reads(brokers=[replace(BROKER, exists=False, queues=(), connections=())])
    event = outcome(trigger(interval=60, timeout=7200))
    assert event["status"] == "drained"
    assert event["table"].startswith("reading 1  ")


def test_a_timeout_names_what_is_in_the_way(reads):
    busy = reading(queues=swap(queue("engine_worker", ready=2)))
    reads(brokers=[busy.broker], databases=[Database((stack(age=5),), (held(DEAD, stack_id="s2"),))])
    event = outcome(trigger(timeout=0.1))
    assert event["status"] == "timed out"
    for text in ("within 0 s", "'engine_worker'", "name-s1", "project admin", "age 5 s", "name-s2", DEAD):
        assert text in event["message"]
    assert set(event["stacks"]) == {"s1", "s2"}
    assert len(event["reasons"]) == 3


def test_what_is_left_cannot_be_told_without_a_whole_reading(reads):
    reads(databases=[AirflowException("401")])
    assert outcome(trigger(timeout=0.05))["stacks"] is None


def test_no_vhost_of_the_new_release_has_no_engines():
    hook = mock.create_autospec(HeatRabbitMQHook, instance=True)
    hook.vhost_exists.side_effect = lambda vhost: vhost == "heat"
    hook.queues.return_value = hook.clients.return_value = hook.expiring_policies.return_value = []
    assert module.read_broker(hook, "heat", "heat_26").new_engines == frozenset()
    hook.engine_ids.assert_not_called()


def test_a_restart_does_not_prolong_the_wait(reads):
    reads(databases=[Database((stack(),), (held(),))])
    _, arguments = trigger(timeout=3600, deadline=time.time() - 1).serialize()
    assert outcome(OldEnginesDrainedTrigger(**arguments))["status"] == "timed out"


def test_after_an_error_the_connection_is_made_again(reads):
    reads(brokers=[AirflowException("401")])
    waiting = trigger()
    waiting._rabbitmq = object()  # type: ignore[assignment]
    taken = asyncio.run(waiting.read())
    assert isinstance(taken.broker, Unavailable)
    assert waiting._rabbitmq is None


def test_both_parts_of_a_reading_are_kept(reads):
    reads()
    taken = asyncio.run(trigger().read())
    assert isinstance(taken.broker, Broker)
    assert taken.database == QUIET
    assert taken.seconds < 5
