"""The trigger reads until the queues are drained or the time is up, and holds nobody up meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization

from rabbitmq_management.triggers import queues as module
from rabbitmq_management.triggers.queues import QueuesDrainedTrigger, Wait
from tests.unit._helpers.management_api import OFF, PASSWORD, FakeBroker, connection, queue, quorum

FAST: dict[str, Any] = {
    "vhost": "v",
    "queues": ".*",
    "rabbitmq_conn_id": "broker",
    "clean_readings": 2,
    "interval": 0.02,
    "timeout": 60.0,
}


@pytest.fixture(autouse=True)
def airflow_connection(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(broker.server_port))


def trigger(**changed: Any) -> QueuesDrainedTrigger:
    wait = {**FAST, **changed}
    return QueuesDrainedTrigger(**{"deadline": time.time() + wait["timeout"], **wait})


def outcome(waiting: QueuesDrainedTrigger) -> dict[str, Any]:
    async def last() -> dict[str, Any]:
        events = [event async for event in waiting.run()]
        assert len(events) == 1
        return events[0].payload

    return asyncio.run(last())


def test_it_ends_once_the_queues_are_empty(broker):
    broker.hold(queue("a"))
    broker.answer_in_turn("totals/v", [queue("a", 1)], [queue("a")])
    event = outcome(trigger())
    assert event == {"status": "drained", "message": "reading 3: 2 of 2 clean readings in a row"}


def test_when_the_time_is_up_it_names_the_queues_in_the_way(broker):
    broker.hold(queue("orders", 3, 1), queue("done"), queue("nobody's", 1))
    event = outcome(trigger(queues=["orders", "done", "gone"], timeout=0.2))
    assert event["status"] == "timed out"
    assert event["message"].startswith("the queues of vhost 'v' were not drained within 0 s, expected 2 clean readings")
    assert "queue 'orders' (3 ready, 1 unacknowledged) is not empty" in event["message"]
    assert "queue 'gone' isn't there" in event["message"]
    assert "done" not in event["message"]
    assert "nobody" not in event["message"]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"totals/v": (503, "")}, "answers 503"),
        ({"totals/v": []}, "only in some of its answers"),
        ({"totals/v": [queue("a", state="down")]}, "'down'"),
        ({"queues/v": (404, "{}")}, "check that the vhost exists"),
        ({"totals/v": [quorum("a", online=["rabbit@b"])]}, "1 of 3 members online"),
        ({"totals/v": [{"name": "a", "type": "stream"}]}, "has a stream 'a'"),
    ],
)
def test_what_is_not_known_is_not_empty_and_may_pass(broker, answers, expected):
    broker.hold(queue("a"))
    healthy = dict(broker.answers)
    broker.answers |= answers
    event = outcome(trigger(timeout=0.3))
    assert event["status"] == "timed out"
    assert "the queues were not read: RabbitMQ's management API at" in event["message"]
    assert expected in event["message"]
    assert PASSWORD not in event["message"]
    key = next(iter(answers))
    broker.answer_in_turn(key, answers[key], answers[key], healthy[key])
    assert outcome(trigger())["message"] == "reading 4: 2 of 2 clean readings in a row"


def test_statistics_that_are_off_do_not_matter(broker):
    broker.hold(queue("a"))
    broker.answers |= {"consumers/v": OFF, "nodes": [{"name": "rabbit@a", "running": True}]}
    assert outcome(trigger())["status"] == "drained"


def test_a_connection_that_is_corrected_meanwhile_is_used(broker, monkeypatch):
    broker.hold(queue("a"))
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(1))
    read = module.read_queues

    def read_and_correct(*arguments: Any) -> Any:
        found = read(*arguments)
        monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(broker.server_port))
        return found

    monkeypatch.setattr(module, "read_queues", read_and_correct)
    assert outcome(trigger())["message"] == "reading 3: 2 of 2 clean readings in a row"


def test_what_nobody_has_foreseen_is_not_empty_and_not_shown(broker, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(PASSWORD)

    monkeypatch.setattr("rabbitmq_management.hooks.management.RabbitMQManagementHook.queues", fail)
    event = outcome(trigger(timeout=0.1))
    assert "the queues were not read: unexpected RuntimeError, see the log" in event["message"]
    assert PASSWORD not in event["message"]


def test_a_restart_does_not_prolong_the_wait(broker):
    broker.hold(queue("a", 1))
    _, arguments = trigger(deadline=time.time() - 1).serialize()
    assert outcome(QueuesDrainedTrigger(**arguments))["status"] == "timed out"
    assert len(broker.requests) == 2


def test_its_arguments_are_what_airflow_can_store():
    path, arguments = trigger(queues=["a", "b"], missing_ok=True).serialize()
    assert path == "rabbitmq_management.triggers.queues.QueuesDrainedTrigger"
    stored = BaseSerialization.deserialize(json.loads(json.dumps(BaseSerialization.serialize(arguments))))
    assert QueuesDrainedTrigger(**stored).wait == Wait(**arguments)
    assert QueuesDrainedTrigger(**stored).wait.missing_ok


@pytest.fixture
def stalled(broker: FakeBroker) -> Iterator[threading.Event]:
    """A server that answers nothing; set once it has been asked."""
    asked, release = threading.Event(), threading.Event()

    def stall(_handler: Any) -> None:
        asked.set()
        release.wait(60)

    broker.answers["queues/v"] = stall
    yield asked
    release.set()


def test_a_server_that_stalls_holds_up_neither_the_loop_nor_other_threads(stalled):
    """Readings run in a thread of the trigger's own: those that all triggers share stay free."""

    async def beside() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
        wait = asyncio.create_task(anext(aiter(trigger().run())))
        while not stalled.is_set():
            await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.to_thread(int), 5)
        assert not wait.done()
        wait.cancel()

    asyncio.run(beside())


@pytest.mark.usefixtures("stalled")
def test_a_reading_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    event = outcome(trigger(timeout=0.3))
    assert event["status"] == "timed out"
    assert "the queues were not read: no answer within 0 s" in event["message"]


def test_a_trigger_that_is_cancelled_ends(broker):
    broker.hold(queue("a", 1))

    async def cancelled() -> None:
        wait = asyncio.create_task(anext(aiter(trigger(interval=60, timeout=600).run())))
        while len(broker.requests) < 2:
            await asyncio.sleep(0.01)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait

    asyncio.run(cancelled())
