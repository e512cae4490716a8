"""What of RabbitMQ is Heat's; what of the management API's answers is relied on is told in rabbitmq_management."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from heat_upgrade.exceptions import PermanentError, RabbitMQRefusedError, RabbitMQUnavailableError, TransientError
from heat_upgrade.hooks.vhosts import VhostHook
from heat_upgrade.read_only import read_only
from rabbitmq_management.exceptions import RabbitMQManagementError
from tests.unit._helpers.management_api import FakeBroker, connection, fake_broker, queue


def consumer(name: str) -> dict[str, Any]:
    return {"queue": {"name": name, "vhost": "heat"}}


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with fake_broker("heat") as server:
        server.hold(queue("engine", 1, 2), queue("engine_worker"))
        yield server


@pytest.fixture
def hook(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> VhostHook:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(broker.server_port))
    return VhostHook("broker")


def test_queues_are_read_with_their_consumers_and_without_streams(broker, hook):
    stream = {"name": "engine_fanout", "type": "stream", "state": "running", "totals": None}
    broker.hold(queue("engine", 1, 2), queue("engine_worker"), stream)
    broker.answers["consumers/heat"] = [consumer("engine"), consumer("engine")]
    assert [(q.name, q.ready, q.unacknowledged, q.consumers) for q in hook.queues("heat")] == [
        ("engine", 1, 2, 2),
        ("engine_worker", 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("answers", "passes"),
    [
        ({"queues/heat": (503, "")}, True),
        ({"totals/heat": []}, True),
        ({"totals/heat": [queue("engine", state="down"), queue("engine_worker")]}, True),
        ({"queues/heat": (401, "")}, False),
        ({"queues/heat": (404, "")}, False),
        ({"whoami": {"name": "operator", "tags": ["management"]}}, False),
    ],
)
def test_an_error_is_one_of_the_upgrades_own_and_says_whether_it_may_pass(broker, hook, answers, passes):
    broker.answers |= answers
    kind, root = (RabbitMQUnavailableError, TransientError) if passes else (RabbitMQRefusedError, PermanentError)
    with pytest.raises(RabbitMQManagementError, match="Airflow connection 'broker'") as caught:
        hook.queues("heat")
    assert type(caught.value) is kind
    assert isinstance(caught.value, root)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"conn_type": "http"}, "has type 'http', expected 'rabbitmq_management'"),
        ({"conn_type": "generic"}, "has type 'generic', expected 'rabbitmq_management'"),
        ({"host": "operator:secret@host"}, "has a host that can't be used"),
    ],
)
def test_a_connection_that_cannot_be_used_is_not_tried_again(monkeypatch, changed, expected):
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(1, **changed))
    with pytest.raises(PermanentError, match="correct the connection") as caught:
        VhostHook("broker").tags()
    assert f"Airflow connection 'broker' {expected}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nothing_is_sent_that_changes_something_where_only_reading_is_allowed(broker, hook):
    broker.answers |= {"vhosts/heat": {"name": "heat"}, "vhosts": [{"name": "heat"}]}
    broker.answers |= {f"vhosts/heat/{kind}": [] for kind in ("permissions", "topic-permissions")}
    for act in (lambda: hook.create_like("heat", "heat_26"), lambda: hook.delete("heat")):
        with read_only("a dry run"), pytest.raises(PermanentError, match="a dry run was about to send RabbitMQ a"):
            act()


@pytest.mark.parametrize(
    ("said", "program", "pid"),
    [
        ("heat-engine:9140:f0722bc6-6b03-47e6-9802-953767c6ccf0", "heat-engine", 9140),
        ("somebody's shovel", "somebody's shovel", None),
        (None, None, None),
    ],
)
def test_a_clients_program_comes_from_the_name_that_oslo_messaging_gives_it(broker, hook, said, program, pid):
    name = "10.0.0.1:1 -> 10.0.0.2:5672"
    broker.answers["connections"] = [{"name": name, "vhost": "heat"}, {"name": "another", "vhost": "nova"}]
    if said:
        details = {"name": name, "peer_host": "10.0.0.1", "client_properties": {"connection_name": said}}
        broker.answers["vhosts/heat/connections"] = [details]
    peer = "10.0.0.1" if said else "10.0.0.1:1"
    assert [(c.program, c.pid, c.peer) for c in hook.clients("heat")] == [(program, pid, peer)]


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [("^heat-engine-listener$", True), ("^(?!(amq\\.|reply_)).*", True), ("^nova", False), ("^reply_", False)],
)
@pytest.mark.parametrize("listing", ["policies/heat", "operator-policies/heat"])
def test_a_policy_counts_that_expires_work_or_is_going_to(broker, hook, listing, pattern, counts):
    policy = {"name": "p", "pattern": pattern, "apply-to": "all", "priority": 0, "definition": {"message-ttl": 7}}
    broker.answers |= {listing: [policy], f"filtered/{pattern}": {"items": [], "filtered_count": 0}}
    name = "operator policy 'p'" if listing.startswith("operator") else "policy 'p'"
    assert [found.name for found in hook.expiring_policies("heat")] == [name] * counts


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("engine_worker", {"x-message-ttl": 5}, "x-message-ttl 5"),
        ("engine_worker.61f3c624", {"x-expires": 5}, "x-expires 5"),
        ("engine_fanout_84ca2bc5", {"x-expires": 1800000}, None),
        ("reply_84ca2bc5", {"x-expires": 1800000}, None),
        ("engine", {"x-queue-type": "quorum"}, None),
    ],
)
def test_arguments_that_expire_work_are_found(broker, hook, name, arguments, expected):
    broker.hold(queue(name, arguments=arguments))
    found = [(p.name, p.setting) for p in hook.expiring_policies("heat")]
    assert found == ([(f"queue {name!r}", expected)] if expected else [])


def test_ids_of_engines_come_from_the_names_of_their_queues(broker, hook):
    broker.hold(queue("heat-engine-listener"), queue("heat-engine-listener.a"), queue("engine_worker.b"))
    broker.answers["consumers/heat"] = [consumer("heat-engine-listener.c"), consumer("heat-engine-listener")]
    assert hook.engine_ids("heat") == {"a"}
    assert hook.live_engine_ids("heat") == {"c"}


def test_who_reads_notifications_is_named_by_its_program(broker, hook):
    engine, ceilometer = "10.0.0.1:1 -> 10.0.0.2:5672", "10.0.0.3:1 -> 10.0.0.2:5672"
    broker.answers["connections"] = [{"name": name, "vhost": "heat"} for name in (engine, ceilometer)]
    said = {"peer_host": "10.0.0.3", "client_properties": {"connection_name": "ceilometer-agent-notification:8:a-b"}}
    broker.answers["vhosts/heat/connections"] = [{"name": ceilometer, **said}]
    broker.answers["consumers/heat"] = [
        consumer("engine") | {"channel_details": {"connection_name": engine}},
        consumer("notifications.info") | {"channel_details": {"connection_name": ceilometer}},
        consumer("notifications.error") | {"channel_details": {"connection_name": ceilometer}},
        consumer("notifications.warn") | {"channel_details": []},
        consumer("notifications.audit"),
    ]
    (found,) = hook.notification_readers("heat")
    assert str(found) == "ceilometer-agent-notification (pid 8) at 10.0.0.3"
