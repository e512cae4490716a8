"""The management hook on a real RabbitMQ: live readings, and vhosts made like another."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
from heat_upgrade.hooks.vhosts import VhostHook
from lab.processes import wait_until
from rabbitmq_management.exceptions import RabbitMQManagementError
from rabbitmq_management.records import Permission
from tests.integration.conftest import EVERYTHING, Client, RabbitMQ

ENGINE = "61f3c624-32d0-439d-82a0-dbb6884d780c"
ODD_NAMES = ["a b", "a/b", "a%2Fb", 'ü€?#&"', "..heat", "a\\b;$(c)"]


@pytest.fixture
def hook(connections: Callable[..., None]) -> VhostHook:
    return VhostHook("rabbitmq")


def counts(hook: HeatRabbitMQHook, vhost: str) -> dict[str, tuple[int, int, int]]:
    return {q.name: (q.ready, q.unacknowledged, q.consumers) for q in hook.queues(vhost)}


def test_messages_are_counted_as_they_come_and_go(hook, rabbitmq, vhost):
    """RabbitMQ's statistics are up to 5 s old; these readings have no time to be."""
    rabbitmq.make_queue(vhost, "engine_worker")
    for round_ in range(20):
        rabbitmq.publish(vhost, "engine_worker")
        assert counts(hook, vhost) == {"engine_worker": (1, 0, 0)}, f"round {round_}"
        rabbitmq.purge(vhost, "engine_worker")
        assert counts(hook, vhost) == {"engine_worker": (0, 0, 0)}, f"round {round_}"


def test_messages_that_a_consumer_has_not_acknowledged_are_counted(hook, rabbitmq, vhost, client):
    keeper: Client = client("consumer.py", rabbitmq.transport_url(vhost, "amqp"), "engine_worker")
    rabbitmq.publish(vhost, "engine_worker")
    wait_until(lambda: counts(hook, vhost)["engine_worker"][:2] == (0, 1), what="it is delivered")
    assert keeper.say("ack") == "acked"
    wait_until(lambda: counts(hook, vhost)["engine_worker"][:2] == (0, 0), what="it is acknowledged")


def test_an_engine_is_seen_with_its_queues_program_and_id(hook, vhost, engine):
    running: Client = engine(vhost, ENGINE)
    wait_until(lambda: hook.live_engine_ids(vhost) == {ENGINE}, what="its consumers show")
    consumers = hook.consumers(vhost)
    assert consumers.keys() >= {"engine", "engine_worker", f"engine_worker.{ENGINE}", f"heat-engine-listener.{ENGINE}"}
    assert set(consumers.values()) == {1}
    clients = hook.clients(vhost)
    assert {client.program for client in clients} == {"heat-engine"}
    assert {client.pid for client in clients} == {running.process.pid}
    running.end()
    # Those that go are seen at once: nothing here waits.
    assert hook.clients(vhost) == []
    assert hook.live_engine_ids(vhost) == set()
    assert hook.engine_ids(vhost) == {ENGINE}


def test_a_client_that_has_just_come_is_seen_at_once(hook, rabbitmq, vhost, client):
    client("consumer.py", rabbitmq.transport_url(vhost, "amqp"), "engine_worker")
    assert len(hook.clients(vhost)) == 1


def test_only_this_vhosts_clients_count(hook, rabbitmq, vhost, client):
    rabbitmq.make_vhost("another")
    client("consumer.py", rabbitmq.transport_url("another", "amqp"), "engine")
    assert hook.clients(vhost) == []
    assert hook.queues(vhost) == []
    assert hook.delete(vhost)
    rabbitmq.make_vhost(vhost)
    with pytest.raises(RabbitMQManagementError, match=r"clients on vhost 'another', expected none"):
        hook.delete("another")
    rabbitmq.call("DELETE", "vhosts", "another")


def test_quorum_queues_are_counted_and_streams_left_out(hook, rabbitmq, vhost):
    rabbitmq.make_queue(vhost, "engine", durable=True, arguments={"x-queue-type": "quorum"})
    rabbitmq.make_queue(vhost, "engine_fanout_1", durable=True, arguments={"x-queue-type": "stream"})
    rabbitmq.publish(vhost, "engine")
    rabbitmq.publish(vhost, "engine_fanout_1")
    # RabbitMQ counts a quorum queue's messages every 5 s.
    wait_until(lambda: counts(hook, vhost) == {"engine": (1, 0, 0)}, what="the message shows")


@pytest.mark.parametrize("kind", ["policies", "operator-policies"])
def test_an_expiring_policy_is_found(hook, rabbitmq, vhost, kind):
    body = {"pattern": "^(?!(amq\\.|reply_)).*", "definition": {"message-ttl": 70000}, "apply-to": "queues"}
    rabbitmq.call("PUT", kind, vhost, "ttl", body=body)
    name = "policy 'ttl'" if kind == "policies" else "operator policy 'ttl'"
    assert [(p.name, p.setting) for p in hook.expiring_policies(vhost)] == [(name, "message-ttl 70000")]
    rabbitmq.call("DELETE", kind, vhost, "ttl")
    assert hook.expiring_policies(vhost) == []


def test_an_expiring_queue_is_found_and_heats_own_settings_are_not(hook, rabbitmq, vhost, engine):
    engine(vhost, ENGINE)
    assert hook.expiring_policies(vhost) == []
    rabbitmq.make_queue(vhost, "engine_worker.x", arguments={"x-message-ttl": 60000})
    assert [(p.name, p.setting) for p in hook.expiring_policies(vhost)] == [
        ("queue 'engine_worker.x'", "x-message-ttl 60000")
    ]


def test_the_cluster_and_our_own_rights_are_told(hook):
    (node,) = hook.nodes()
    assert (node.running, node.alarms, node.partitions) == (True, (), ())
    assert hook.tags() == {"administrator"}


def test_a_permission_counts_if_it_is_whole(hook, rabbitmq, vhost):
    assert Permission("heat", True) in hook.permissions(vhost)
    rabbitmq.call("PUT", "permissions", vhost, "heat", body={**EVERYTHING, "write": ""})
    assert Permission("heat", False) in hook.permissions(vhost)
    rabbitmq.call("DELETE", "permissions", vhost, "heat")
    assert "heat" not in {permission.user for permission in hook.permissions(vhost)}


def described(rabbitmq: RabbitMQ, vhost: str) -> dict[str, Any]:
    """Everything that makes a vhost serve, without its name."""
    listings = {
        "permissions": ("vhosts", vhost, "permissions"),
        "topic permissions": ("vhosts", vhost, "topic-permissions"),
        "policies": ("policies", vhost),
        "operator policies": ("operator-policies", vhost),
    }
    found: dict[str, Any] = {
        name: sorted(({k: v for k, v in row.items() if k != "vhost"} for row in rabbitmq.rows(*path)), key=str)
        for name, path in listings.items()
    }
    found["default queue type"] = rabbitmq.call("GET", "vhosts", vhost)["default_queue_type"]
    return found


@pytest.fixture
def source(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A vhost with one of everything, odd names among them, and users that aren't everybody's."""
    name = f"source-{uuid.uuid4().hex[:8]}"
    users = [f"nova-{name}", f'ü / % "{name}'[:60]]
    rabbitmq.make_vhost(name, defaultqueuetype="quorum")
    # The user that makes the copy has no permissions here, as it may be in a real cloud.
    rabbitmq.call("DELETE", "permissions", name, "operator")
    for user in users:
        rabbitmq.make_user(user, "x")
        rabbitmq.call("PUT", "permissions", name, user, body={"configure": "^a", "write": "", "read": ".*"})
    for exchange in ("amq.topic", "amq.direct"):
        body = {"exchange": exchange, "write": "^a", "read": ".*"}
        rabbitmq.call("PUT", "topic-permissions", name, "heat", body=body)
    for number, policy in enumerate(["ha all", "a/b%?#ü"]):
        body = {"pattern": "^(?!amq\\.).*", "definition": {"max-length": 7}, "priority": number, "apply-to": "queues"}
        rabbitmq.call("PUT", "policies", name, policy, body=body)
    body = {"pattern": ".*", "definition": {"expires": 7000}, "priority": 1, "apply-to": "queues"}
    rabbitmq.call("PUT", "operator-policies", name, "limits", body=body)
    yield name
    rabbitmq.call("DELETE", "vhosts", name)
    for user in users:
        rabbitmq.call("DELETE", "users", user)


@pytest.mark.parametrize("odd", ["heat_26", *ODD_NAMES])
def test_a_vhost_is_made_like_another(hook, rabbitmq, source, odd):
    target = f"{odd}{uuid.uuid4().hex[:8]}"
    planned = [change.text for change in hook.changes(source, target)]
    assert not hook.vhost_exists(target)
    assert hook.create_like(source, target) == planned
    assert hook.vhost_exists(target)
    assert described(rabbitmq, target) == described(rabbitmq, source)
    assert {"created", "permissions of user 'heat'", "policy 'ha all'", "operator policy 'limits'"} <= set(planned)
    assert hook.create_like(source, target) == []
    assert hook.delete(target)
    assert not hook.delete(target)


def test_what_has_gone_missing_is_mended_and_nothing_else_touched(hook, rabbitmq, source):
    target = f"target-{uuid.uuid4().hex[:8]}"
    rabbitmq.make_vhost(target, description="ours", tags="a,b", defaultqueuetype="quorum")
    rabbitmq.call("PUT", "permissions", target, "operator", body=EVERYTHING)
    hook.create_like(source, target)
    like = described(rabbitmq, source)
    like["permissions"] = sorted([*like["permissions"], {"user": "operator", **EVERYTHING}], key=str)
    assert described(rabbitmq, target) == like
    made = rabbitmq.call("GET", "vhosts", target)
    assert (made["description"], made["tags"]) == ("ours", ["a", "b"])
    rabbitmq.call("DELETE", "policies", target, "ha all")
    rabbitmq.call("PUT", "permissions", target, "heat", body={"configure": "", "write": "", "read": ""})
    assert hook.create_like(source, target) == ["permissions of user 'heat'", "policy 'ha all'"]
    assert described(rabbitmq, target) == like
    rabbitmq.call("DELETE", "vhosts", target)


def test_once_the_source_is_gone_nothing_is_to_be_copied(hook, vhost):
    assert hook.create_like("gone", vhost) == []
    with pytest.raises(RabbitMQManagementError, match="neither vhost 'gone' nor vhost 'nor this'"):
        hook.create_like("gone", "nor this")
    assert not hook.vhost_exists("nor this")


READINGS = [
    "queues",
    "consumers",
    "clients",
    "permissions",
    "policies",
    "expiring_policies",
    "engine_ids",
    "live_engine_ids",
]


@pytest.mark.parametrize("reading", READINGS)
def test_a_vhost_that_does_not_exist_is_an_error_and_not_empty(hook, reading):
    with pytest.raises(RabbitMQManagementError, match="404") as caught:
        getattr(hook, reading)("no such vhost")
    assert "check that the vhost exists" in str(caught.value)


@pytest.mark.parametrize("reading", [*READINGS, "vhost_exists"])
@pytest.mark.parametrize(
    ("changed", "expected"),
    [({"password": "wr@ng/pass"}, "401"), ({"login": "nobody"}, "401"), ({"port": 1}, "Connection refused")],
)
def test_a_broker_out_of_reach_is_an_error(connections, servers, vhost, reading, changed, expected):
    connections("rabbitmq", **changed)
    with pytest.raises(RabbitMQManagementError, match=expected) as caught:
        getattr(HeatRabbitMQHook("rabbitmq"), reading)(vhost)
    assert servers.management().password not in str(caught.value)
    assert "wr@ng/pass" not in str(caught.value)


@pytest.mark.parametrize("reading", ["queues", "consumers", "clients", "live_engine_ids"])
def test_a_user_who_would_see_nobody_else_is_refused(rabbitmq, vhost, connections, engine, reading):
    """RabbitMQ answers such a user 200 and an empty list, while an engine is there."""
    engine(vhost, ENGINE)
    rabbitmq.make_user("blinkered", "blinkered", "management")
    rabbitmq.call("PUT", "permissions", vhost, "blinkered", body={"configure": "", "write": "", "read": ""})
    connections("rabbitmq", login="blinkered", password="blinkered")
    hook = HeatRabbitMQHook("rabbitmq")
    assert hook.api.call("GET", f"consumers/{vhost}") == []
    with pytest.raises(RabbitMQManagementError, match="expected 'administrator'"):
        getattr(hook, reading)(vhost)
    rabbitmq.call("DELETE", "users", "blinkered")
