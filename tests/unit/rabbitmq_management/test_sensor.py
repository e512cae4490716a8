"""The sensor looks once in the worker, waits in the triggerer, and tells what is in the way."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from rabbitmq_management.sensors.queues import QueuesDrainedSensor
from rabbitmq_management.triggers.queues import QueuesDrainedTrigger
from tests.unit._helpers.management_api import FakeBroker, connection, queue, quorum

CONTEXT: Any = {}


@pytest.fixture(autouse=True)
def airflow_connection(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(broker.server_port))


def sensor(**changed: Any) -> QueuesDrainedSensor:
    settings = {"vhost": "v", "queues": "a", "rabbitmq_conn_id": "broker", **changed}
    return QueuesDrainedSensor(task_id="drained", **settings)


def test_it_defers_to_a_trigger_with_its_arguments(broker):
    broker.hold(queue("a"))
    with pytest.raises(TaskDeferred) as caught:
        sensor(queues=("a", "b"), missing_ok=True, timeout=600, clean_readings=5).execute(CONTEXT)
    deferral = caught.value
    assert isinstance(deferral.trigger, QueuesDrainedTrigger)
    wait = deferral.trigger.wait
    assert (wait.vhost, wait.queues, wait.rabbitmq_conn_id) == ("v", ["a", "b"], "broker")
    assert (wait.clean_readings, wait.interval, wait.timeout, wait.missing_ok) == (5, 10, 600, True)
    assert 590 < wait.deadline - time.time() <= 600
    assert deferral.method_name == "execute_complete"
    assert deferral.timeout > timedelta(seconds=wait.timeout)


def test_nothing_waits_where_one_reading_is_enough(broker):
    broker.hold(queue("a"), queue("b", 1))
    assert sensor(clean_readings=1).execute(CONTEXT) is None


def test_one_reading_of_a_quorum_queue_is_never_enough(broker):
    broker.hold(quorum("a"))
    with pytest.raises(TaskDeferred):
        sensor(clean_readings=1).execute(CONTEXT)


REFUSED = [
    ({}, {"queues/v": (404, "{}")}, "check that the vhost exists"),
    ({}, {"queues/v": (401, "{}")}, "check login and password"),
    ({}, {"queues/v": [{"name": "a"}], "totals/v": [{"name": "a", "type": "stream"}]}, "has a stream 'a'"),
    ({"queues": "a("}, {}, "expected a regular expression.*: correct task 'drained' in its Dag file"),
    ({"queues": ""}, {}, "queues is ''"),
]


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("settings", "answers", "expected"), REFUSED)
def test_what_no_waiting_can_mend_fails_at_once(broker, deferrable, settings, answers, expected):
    broker.answers |= answers
    with pytest.raises(AirflowFailException, match=expected):
        sensor(deferrable=deferrable, **settings).execute(CONTEXT)
    with pytest.raises(AirflowSkipException):
        sensor(deferrable=deferrable, soft_fail=True, **settings).execute(CONTEXT)


def test_what_may_pass_is_waited_for(broker):
    broker.answers["queues/v"] = (503, "")
    with pytest.raises(TaskDeferred):
        sensor().execute(CONTEXT)


def test_a_wait_that_took_too_long_says_why():
    event = {"status": "timed out", "message": "queue 'a' (1 ready, 0 unacknowledged) is not empty"}
    with pytest.raises(AirflowSensorTimeout, match="queue 'a' \\(1 ready"):
        sensor().execute_complete(CONTEXT, event)
    with pytest.raises(AirflowSkipException):
        sensor(soft_fail=True).resume_execution("execute_complete", {"event": event}, CONTEXT)


def test_a_wait_that_ended_well_passes():
    assert sensor().execute_complete(CONTEXT, {"status": "drained", "message": "reading 3"}) is None


def test_it_can_wait_in_the_worker(broker):
    broker.hold(queue("a"))
    broker.answer_in_turn("totals/v", [queue("a", 1)], [queue("a", 1)], [queue("a")])
    sensor(deferrable=False, poke_interval=0.01, timeout=60).execute(CONTEXT)
    assert len(broker.requests) == 10  # five readings: two filled, three clean


def test_a_wait_in_the_worker_goes_on_when_a_reading_fails(broker):
    broker.hold(queue("a"))
    broker.answer_in_turn("totals/v", [queue("a")], (401, "{}"), (503, ""), [queue("a")])
    sensor(deferrable=False, poke_interval=0.01, timeout=60).execute(CONTEXT)
    assert len(broker.requests) == 12  # six readings: a clean one that counts no more, two that failed, three clean


def test_a_wait_in_the_worker_that_took_too_long_says_why(broker):
    broker.hold(queue("a", 1))
    with pytest.raises(AirflowSensorTimeout, match=r"not drained within 0 s(.|\n)*queue 'a' \(1 ready, 0 unack"):
        sensor(deferrable=False, poke_interval=0.05, timeout=0.2).execute(CONTEXT)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mode": "reschedule"}, "mode is 'reschedule', expected 'poke'"),
        ({"clean_readings": 0}, "clean_readings is 0, expected at least 1"),
    ],
)
def test_settings_under_which_it_could_never_end_are_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        sensor(**settings)


def test_what_may_be_a_template_is_one():
    assert set(QueuesDrainedSensor.template_fields) == {"vhost", "queues", "rabbitmq_conn_id"}
