"""What the readings say of a real cluster that loses its nodes, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.cloud.model import Lab
from lab.processes import wait_until
from rabbitmq_management.exceptions import RabbitMQUnavailableError
from rabbitmq_management.hooks.management import RabbitMQManagementHook
from rabbitmq_management.records import QueueReading
from rabbitmq_management.triggers.queues import QueuesDrainedTrigger
from rabbitmq_management.watch import SETTLING
from tests.integration.rabbitmq_management.cluster import VHOST, Node, cluster

MESSAGES = 3
# Seconds from one count of a quorum queue's messages to the next.
TICK = 5.0

Connect = Callable[[Node], RabbitMQManagementHook]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with cluster(Lab("brokers", "small")) as started:
        yield started


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    def made(node: Node) -> RabbitMQManagementHook:
        monkeypatch.setenv("AIRFLOW_CONN_BROKER", node.connection())
        return RabbitMQManagementHook("broker")

    return made


def fill(node: Node, queue: str, kind: str) -> None:
    arguments = {"x-queue-type": kind}
    node.call("PUT", f"queues/{VHOST}/{queue}", {"durable": True, "node": node.name, "arguments": arguments})
    message = {"properties": {"delivery_mode": 2}, "routing_key": queue, "payload": "", "payload_encoding": "string"}
    for _ in range(MESSAGES):
        assert node.call("POST", f"exchanges/{VHOST}/amq.default/publish", message) == {"routed": True}


def read(hook: RabbitMQManagementHook, queue: str) -> QueueReading:
    (reading,) = hook.queues(VHOST, queue.__eq__, consumers=False)
    return reading


def read_or_none(hook: RabbitMQManagementHook, queue: str) -> QueueReading | None:
    try:
        return read(hook, queue)
    except RabbitMQUnavailableError:
        return None


def wait_for_drained(queue: str, timeout: float) -> dict[str, Any]:
    trigger = QueuesDrainedTrigger(
        vhost=VHOST,
        queues=[queue],
        rabbitmq_conn_id="broker",
        clean_readings=2,
        interval=0.3,
        timeout=timeout,
        deadline=time.time() + timeout,
    )

    async def event() -> dict[str, Any]:
        return (await anext(aiter(trigger.run()))).payload

    return asyncio.run(event())


def test_no_queue_of_a_cluster_that_loses_nodes_is_taken_for_empty(nodes: list[Node], connect: Connect) -> None:
    fill(nodes[0], "orders", "quorum")
    fill(nodes[0], "classic", "classic")
    hook = connect(nodes[0])
    wait_until(lambda: read(hook, "orders").ready == MESSAGES, what="the messages are counted", timeout=2 * TICK)
    assert read(hook, "orders").leader == nodes[0].name
    assert read(hook, "classic").ready == MESSAGES
    nodes[0].kill()
    lose_the_leader(connect(nodes[1]), nodes)
    nodes[2].kill()
    lose_the_majority(connect(nodes[1]))


def lose_the_leader(hook: RabbitMQManagementHook, nodes: list[Node]) -> None:
    """RabbitMQ shows 0 messages, state running and a leader, until the new leader's first tick."""
    wait_until(
        lambda: (reading := read_or_none(hook, "orders")) is not None and not reading.messages,
        what="the new leader shows no messages",
        timeout=4 * TICK,
    )
    event = wait_for_drained("orders", timeout=2 * TICK)
    assert event["status"] == "timed out"
    assert f"queue 'orders' ({MESSAGES} ready, 0 unacknowledged) is not empty" in event["message"]
    assert read_or_none(hook, "classic") is None
    # Clients of a node that is down are gone with it.
    assert [node.running for node in hook.nodes() if node.name == nodes[0].name] == [False]
    assert hook.consumers(VHOST) == {}
    nodes[1].call("DELETE", f"queues/{VHOST}/orders/contents")
    began = time.monotonic()
    assert wait_for_drained("orders", timeout=8 * TICK)["status"] == "drained"
    assert time.monotonic() - began >= SETTLING


def lose_the_majority(hook: RabbitMQManagementHook) -> None:
    """What is left shows state running and what it last knew."""
    wait_until(lambda: read_or_none(hook, "orders") is None, what="the majority is missed", timeout=30)
    until = time.monotonic() + TICK
    while time.monotonic() < until:
        with pytest.raises(RabbitMQUnavailableError, match="orders"):
            read(hook, "orders")
