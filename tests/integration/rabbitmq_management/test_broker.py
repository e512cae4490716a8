"""Hook, trigger and sensor on one real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout, TaskDeferred

from lab.cloud.model import Lab
from lab.cloud.rabbitmq import rabbitmqctl, start_management, stop_management
from lab.processes import wait_until
from rabbitmq_management.exceptions import RabbitMQManagementError, RabbitMQRefusedError, RabbitMQUnavailableError
from rabbitmq_management.hooks.management import RabbitMQManagementHook
from rabbitmq_management.sensors.queues import QueuesDrainedSensor
from tests.integration.conftest import Client, RabbitMQ, Start

Connect = Callable[..., RabbitMQManagementHook]


@pytest.fixture
def connect(servers: Lab, monkeypatch: pytest.MonkeyPatch) -> Connect:
    def made(**changed: Any) -> RabbitMQManagementHook:
        account = servers.management()
        settings = {"conn_type": "rabbitmq_management", "schema": "http", "host": account.host, "port": account.port}
        login = {"login": account.login, "password": account.password}
        monkeypatch.setenv("AIRFLOW_CONN_BROKER", json.dumps({**settings, **login, **changed}))
        return RabbitMQManagementHook("broker")

    return made


@pytest.fixture
def hook(connect: Connect) -> RabbitMQManagementHook:
    return connect()


@pytest.fixture
def statistics_off(servers: Lab) -> Iterator[None]:
    """Switch RabbitMQ's statistics off, as management_agent.disable_metrics_collector does."""
    variable = "rabbitmq_management_agent, disable_metrics_collector"
    rabbitmqctl(servers, "eval", f"application:set_env({variable}, true).")
    yield
    rabbitmqctl(servers, "eval", f"application:unset_env({variable}).")


@pytest.fixture
def path_prefix(servers: Lab) -> Iterator[str]:
    """Set management.path_prefix."""
    rabbitmqctl(servers, "eval", 'application:set_env(rabbitmq_management, path_prefix, "/rabbitmq").')
    _restart_management(servers)
    yield "/rabbitmq"
    rabbitmqctl(servers, "eval", "application:unset_env(rabbitmq_management, path_prefix).")
    _restart_management(servers)


def _restart_management(lab: Lab) -> None:
    stop_management(lab)
    start_management(lab)


def sensor(vhost: str, queues: str | list[str], **changed: Any) -> QueuesDrainedSensor:
    settings: dict[str, Any] = {"clean_readings": 3, "poke_interval": 0.2, "timeout": 30, **changed}
    return QueuesDrainedSensor(task_id="drained", vhost=vhost, queues=queues, rabbitmq_conn_id="broker", **settings)


def run(waiting: QueuesDrainedSensor) -> None:
    """Run a sensor as Airflow does, its trigger included."""
    with pytest.raises(TaskDeferred) as deferral:
        waiting.execute({})  # type: ignore[typeddict-item]

    async def event() -> dict[str, Any]:
        return (await anext(aiter(deferral.value.trigger.run()))).payload

    waiting.execute_complete({}, asyncio.run(event()))  # type: ignore[typeddict-item]


@pytest.mark.usefixtures("hook")
def test_the_wait_ends_with_the_last_acknowledgement(rabbitmq: RabbitMQ, vhost: str, client: Start) -> None:
    keeper: Client = client("consumer.py", rabbitmq.transport_url(vhost, "amqp"), "orders")
    rabbitmq.publish(vhost, "orders")
    with pytest.raises(AirflowSensorTimeout, match=r"queue 'orders' \(0 ready, 1 unacknowledged\) is not empty"):
        run(sensor(vhost, "orders", timeout=2))
    threading.Timer(1.0, keeper.say, ["ack"]).start()
    began = time.monotonic()
    run(sensor(vhost, "ord.*"))
    assert time.monotonic() - began >= 1.0


@pytest.mark.usefixtures("hook", "statistics_off")
def test_without_statistics_queues_are_read_and_clients_are_not_known(rabbitmq: RabbitMQ, vhost: str) -> None:
    hook = RabbitMQManagementHook("broker")
    rabbitmq.make_queue(vhost, "orders")
    run(sensor(vhost, "orders"))
    rabbitmq.publish(vhost, "orders")
    with pytest.raises(AirflowSensorTimeout, match=r"\(1 ready, 0 unacknowledged\)"):
        run(sensor(vhost, "orders", timeout=1))
    for reading in (hook.consumers, hook.connections, hook.queues):
        with pytest.raises(RabbitMQUnavailableError, match=r"shows no statistics of .*disable_metrics_collector"):
            reading(vhost)
    assert [(node.running, node.alarms, node.partitions) for node in hook.nodes()] == [(True, None, None)]


def test_a_path_prefix_is_a_setting_of_the_connection(connect: Connect, vhost: str, path_prefix: str) -> None:
    assert connect(extra={"path_prefix": path_prefix}).queues(vhost) == []
    assert connect(extra={"path_prefix": path_prefix}).vhost_exists(vhost)
    for reading in (connect().queues, connect().vhost_exists):
        with pytest.raises(RabbitMQRefusedError, match=r"answers 404 .*path_prefix of the connection"):
            reading(vhost)


def test_a_vhost_that_does_not_exist_is_told_apart(hook: RabbitMQManagementHook, vhost: str) -> None:
    assert hook.vhost_exists(vhost)
    assert not hook.vhost_exists("no such vhost")
    with pytest.raises(RabbitMQRefusedError, match=r"answers 404 .*check that the vhost exists"):
        hook.queues("no such vhost")


def test_the_test_button_says_who_answers(connect: Connect, hook: RabbitMQManagementHook) -> None:
    passed, message = hook.test_connection()
    assert passed
    assert "answers 'operator' (administrator); the connection uses http" in message
    passed, message = connect(password="wr@ng/pass").test_connection()
    assert not passed
    assert "answers 401" in message
    assert "wr@ng/pass" not in message


def test_queues_are_counted_as_messages_come_and_go(
    hook: RabbitMQManagementHook, rabbitmq: RabbitMQ, vhost: str
) -> None:
    """RabbitMQ's statistics are up to 5 s old; these readings have no time to be."""
    rabbitmq.make_queue(vhost, "orders")
    for round_ in range(20):
        rabbitmq.publish(vhost, "orders")
        assert [queue.ready for queue in hook.queues(vhost)] == [1], f"round {round_}"
        rabbitmq.purge(vhost, "orders")
        assert [queue.ready for queue in hook.queues(vhost)] == [0], f"round {round_}"


def test_kinds_of_queues_are_told_apart(hook: RabbitMQManagementHook, rabbitmq: RabbitMQ, vhost: str) -> None:
    for kind in ("classic", "quorum", "stream"):
        rabbitmq.make_queue(vhost, kind, durable=True, arguments={"x-queue-type": kind})
        rabbitmq.publish(vhost, kind)
    wait_until(
        lambda: {q.name: q.ready for q in hook.queues(vhost, skip_streams=True)} == {"classic": 1, "quorum": 1},
        what="the quorum queue has counted",
        timeout=10,
    )
    assert {q.name: bool(q.leader) for q in hook.queues(vhost, skip_streams=True)} == {"classic": False, "quorum": True}
    with pytest.raises(RabbitMQRefusedError, match="has a stream 'stream'"):
        hook.queues(vhost)


@pytest.mark.parametrize("kind", ["policies", "operator-policies"])
@pytest.mark.parametrize(
    ("pattern", "applies"),
    [("^(?!(amq\\.|reply_)).*", True), ("\\Qorders\\E", True), ("(?i)ORDERS", True), ("^nova", False)],
)
def test_policies_are_matched_as_rabbitmq_does(
    hook: RabbitMQManagementHook, rabbitmq: RabbitMQ, vhost: str, kind: str, pattern: str, applies: bool
) -> None:
    rabbitmq.make_queue(vhost, "orders")
    rabbitmq.make_queue(vhost, "reply_1")
    body = {"pattern": pattern, "definition": {"message-ttl": 70000}, "apply-to": "queues"}
    rabbitmq.call("PUT", kind, vhost, "ttl", body=body)
    found = [(policy.name, policy.setting) for policy in hook.expiring_policies(vhost, "orders".__eq__)]
    name = "policy 'ttl'" if kind == "policies" else "operator policy 'ttl'"
    assert found == ([(name, "message-ttl 70000")] if applies else [])


def test_a_pattern_that_would_take_python_for_ever_takes_no_time(
    hook: RabbitMQManagementHook, rabbitmq: RabbitMQ, vhost: str
) -> None:
    rabbitmq.make_queue(vhost, "o" * 40)
    body = {"pattern": "^(o+)+$x", "definition": {"message-ttl": 1}, "apply-to": "queues"}
    for kind in ("policies", "operator-policies"):
        rabbitmq.call("PUT", kind, vhost, "slow", body=body)
    began = time.monotonic()
    with suppress(RabbitMQManagementError):  # as well: it isn't known
        assert hook.expiring_policies(vhost) == []
    assert time.monotonic() - began < 5
    for kind in ("policies", "operator-policies"):
        rabbitmq.call("DELETE", kind, vhost, "slow")


def test_the_policy_of_highest_priority_counts(hook: RabbitMQManagementHook, rabbitmq: RabbitMQ, vhost: str) -> None:
    rabbitmq.make_queue(vhost, "orders")
    for name, priority, definition in (("ttl", 0, {"message-ttl": 1}), ("above", 1, {"max-length": 1})):
        body = {"pattern": ".*", "definition": definition, "apply-to": "queues", "priority": priority}
        rabbitmq.call("PUT", "policies", vhost, name, body=body)
    assert hook.expiring_policies(vhost) == []
    rabbitmq.call("DELETE", "policies", vhost, "above")
    assert [policy.setting for policy in hook.expiring_policies(vhost)] == ["message-ttl 1"]


def test_clients_are_seen_at_once_and_by_the_name_that_they_give(
    hook: RabbitMQManagementHook, rabbitmq: RabbitMQ, vhost: str, engine: Callable[..., Client]
) -> None:
    running = engine(vhost, "61f3c624")
    names = {client.client_name for client in hook.connections(vhost)}
    assert all(name and name.startswith(f"heat-engine:{running.process.pid}:") for name in names), names
    wait_until(lambda: len(hook.consumers(vhost)) >= 9, what="its consumers show")
    assert set(hook.consumers(vhost).values()) == {1}
    running.end()
    assert hook.connections(vhost) == []
