"""What the hook reads, and which answers it doesn't rely on."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitmq_management.exceptions import RabbitMQManagementError, RabbitMQRefusedError, RabbitMQUnavailableError
from rabbitmq_management.records import Node, QueueReading
from tests.unit._helpers.management_api import OFF, PASSWORD, queue, quorum, without

QUEUES, TOTALS = "queues/v", "totals/v"


def consumer(name: str) -> dict[str, Any]:
    return {"queue": {"name": name, "vhost": "v"}}


def test_a_healthy_answer_is_read(broker, hook):
    broker.hold(queue("a", 1, 2), queue("b"), quorum("c", 4, messages=6))
    broker.answers["consumers/v"] = [consumer("a"), consumer("a")]
    assert hook.queues("v") == [
        QueueReading("a", 1, 2, 2),
        QueueReading("b", 0, 0, 0),
        QueueReading("c", 4, 0, 0, "quorum", "rabbit@b", 2),
    ]


def test_the_server_is_asked_for_no_more_than_is_read(broker, hook):
    broker.hold(queue("a"))
    hook.queues("v", consumers=False)
    assert broker.requests == [
        "/api/queues/v?disable_stats=true&columns=name",
        "/api/queues/v?disable_stats=true&enable_queue_totals=true&columns=name,type,state,messages_ready,"
        "messages_unacknowledged,messages,leader,members,online",
    ]


def test_consumers_that_were_not_read_are_not_zero(broker, hook):
    broker.hold(queue("a"))
    broker.answers |= {"consumers/v": OFF, "whoami": {"name": "operator", "tags": ["management"]}}
    assert [reading.consumers for reading in hook.queues("v", consumers=False)] == [None]


def test_only_what_is_wanted_is_judged(broker, hook):
    broker.hold(queue("a"), queue("b", state="down"), quorum("c", leader=None))
    broker.answers[QUEUES].append(queue("d"))
    broker.answers["consumers/v"] = [consumer("gone")]
    assert [reading.name for reading in hook.queues("v", "a".__eq__)] == ["a"]


@pytest.mark.parametrize("skip_streams", [True, False])
def test_a_stream_is_left_out_or_an_error_and_never_empty(broker, hook, skip_streams):
    broker.hold(queue("a"), {"name": "s", "type": "stream", "state": "running", "totals": None})
    if skip_streams:
        assert [reading.name for reading in hook.queues("v", skip_streams=True)] == ["a"]
        return
    with pytest.raises(RabbitMQRefusedError, match="has a stream 's', expected classic and quorum queues"):
        hook.queues("v")


ROWS = {
    "no messages": (without(queue("a"), "messages"), "[0, 0, None]"),
    "no messages_ready": (without(queue("a"), "messages_ready"), "[None, 0, 0]"),
    "a count that is null": (queue("a", messages_unacknowledged=None), "[0, None, 0]"),
    "a count that is text": (queue("a", messages_ready="0"), "['0', 0, 0]"),
    "a count that is a fraction": (queue("a", messages=0.0), "0.0"),
    "a count that is true": (queue("a", messages=True), "True"),
    "a count below zero": (queue("a", messages_ready=-1), "-1"),
    "counts that don't add up": (queue("a", 2, 2, messages=3), "[2, 2, 3] messages"),
    "a queue that is down": (queue("a", state="down"), "'down'"),
    "a queue that syncs": (queue("a", state="syncing"), "'syncing'"),
    "a queue without a state": (without(queue("a"), "state"), "None"),
    "a quorum queue in the minority": (quorum("a", state="minority"), "'minority'"),
    "no leader": (quorum("a", leader=""), "is led by '', with 3 of 3 members"),
    "no leader told": (without(quorum("a"), "leader"), "is led by None"),
    "a leader that is away": (quorum("a", online=["rabbit@a", "rabbit@c"]), "is led by 'rabbit@b', with 2 of 3"),
    "no majority": (quorum("a", online=["rabbit@b"]), "with 1 of 3 members online"),
    "half of the members": (quorum("a", members=["rabbit@a", "rabbit@b"], online=["rabbit@b"]), "1 of 2"),
    "no members": (without(quorum("a"), "online"), "with 0 of 3 members online"),
    "members that are no list": (quorum("a", online="rabbit@b"), "with 0 of 3 members online"),
}


@pytest.mark.parametrize(("row", "expected"), ROWS.values(), ids=ROWS.keys())
def test_a_queue_whose_count_cannot_be_relied_on_is_an_error(broker, hook, row, expected):
    broker.hold(row, queue("b"))
    with pytest.raises(RabbitMQUnavailableError) as caught:
        hook.queues("v")
    assert expected in str(caught.value)
    assert "Airflow connection 'broker'" in str(caught.value)
    assert PASSWORD not in str(caught.value)


ANSWERS = {
    "a queue missing among the totals": ({TOTALS: [queue("a")]}, "['b']"),
    "no totals at all": ({TOTALS: []}, "['a', 'b']"),
    "a queue missing in the plain listing": ({QUEUES: [queue("a")]}, "['b']"),
    "a consumer of a queue that isn't listed": ({"consumers/v": [consumer("c")]}, "['c']"),
    "many that differ": ({TOTALS: [queue(f"q{n:02}") for n in range(50)]}, "'q07'] and 42 more"),
    "a row without a name": ({QUEUES: [{"vhost": "v"}]}, "leaves out ['name']"),
    "a row without a type": ({TOTALS: [without(queue("a"), "type"), queue("b")]}, "leaves out ['type'] of 'a'"),
    "a consumer without a queue": ({"consumers/v": [{"queue": []}]}, "leaves out ['queue']"),
    "a consumer of a queue without a name": ({"consumers/v": [{"queue": {}}]}, "leaves out ['name']"),
    "an empty answer": ({QUEUES: (200, "")}, "no list"),
    "503": ({QUEUES: (503, "")}, "503"),
    "a user who doesn't see all": ({"whoami": {"name": "operator", "tags": ["management"]}}, "['management']"),
    "a user without tags": ({"whoami": {"name": "operator"}}, "'administrator'"),
    "tags that are no list": ({"whoami": {"name": "operator", "tags": 5}}, "tags"),
    "no consumers": ({"consumers/v": (404, "")}, "404"),
    "statistics off on the server": ({"consumers/v": OFF}, "disable_metrics_collector"),
    "statistics off on another node": (
        {
            "nodes": [
                {"name": "a", "running": True, "mem_alarm": False, "disk_free_alarm": False},
                {"name": "b", "running": True},
            ]
        },
        "shows no statistics of b, expected them, as consumers and clients there are not shown either",
    ),
}


@pytest.mark.parametrize(("answers", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_that_cannot_be_relied_on_is_an_error(broker, hook, answers, expected):
    broker.hold(queue("a"), queue("b"))
    broker.answers |= answers
    with pytest.raises(RabbitMQManagementError) as caught:
        hook.queues("v")
    assert expected in str(caught.value)


@pytest.mark.parametrize("tags", ["administrator", "monitoring,policymaker", ["monitoring"]])
def test_old_servers_write_tags_as_text(broker, hook, tags):
    broker.answers["whoami"] = {"name": "operator", "tags": tags}
    broker.answers["consumers/v"] = [consumer("a")]
    assert hook.consumers("v") == {"a": 1}


def test_a_user_who_loses_a_tag_is_noticed(broker, hook):
    assert hook.consumers("v") == {}
    broker.answers["whoami"] = {"name": "operator", "tags": []}
    with pytest.raises(RabbitMQRefusedError, match="expected 'administrator' or 'monitoring'"):
        hook.consumers("v")


@pytest.mark.parametrize("reading", ["consumers", "connections"])
def test_a_node_that_does_not_run_has_no_clients(broker, hook, reading):
    broker.answers["nodes"].append({"name": "rabbit@b", "running": False})
    assert not getattr(hook, reading)("v")


def test_clients_are_not_counted_where_statistics_are_off(broker, hook):
    """RabbitMQ 4 answers 200 and an empty list then, while clients are connected."""
    broker.answers["nodes"] = [{"name": "rabbit@a", "running": True}]
    with pytest.raises(RabbitMQUnavailableError, match="shows no statistics of rabbit@a"):
        hook.connections("v")


def test_a_client_whose_details_are_not_there_yet_is_shown_without(broker, hook):
    names = [f"10.0.0.1:{port} -> 10.0.0.2:5672" for port in range(1, 6)]
    broker.answers["connections"] = [
        *({"name": name, "vhost": "v"} for name in names[:4]),
        {"name": names[4], "vhost": "w"},
    ]
    broker.answers["vhosts/v/connections"] = [
        {"name": names[1], "peer_host": "10.0.0.1", "client_properties": {"connection_name": "shovel"}},
        {"name": names[2], "peer_host": "10.0.0.1", "client_properties": {}},
        {"name": names[3], "peer_host": "10.0.0.1", "client_properties": "none"},
        {"name": "gone", "peer_host": "10.0.0.9"},
    ]
    assert [(client.name, client.peer, client.client_name) for client in hook.connections("v")] == [
        (names[0], "10.0.0.1:1", None),
        (names[1], "10.0.0.1", "shovel"),
        (names[2], "10.0.0.1", None),
        (names[3], "10.0.0.1", None),
    ]


def test_what_a_node_does_not_show_is_not_in_order(broker, hook):
    broker.answers["nodes"] = [
        {"name": "a", "running": True, "mem_alarm": True, "disk_free_alarm": False, "partitions": ["rabbit@b"]},
        {"name": "b", "running": True},
        {"name": "c", "running": False, "mem_alarm": None, "disk_free_alarm": False},
    ]
    assert hook.nodes() == [
        Node("a", True, ("memory alarm",), ("rabbit@b",)),
        Node("b", True, None, None),
        Node("c", False, None, None),
    ]


@pytest.mark.parametrize(
    ("answers", "passes", "expected"),
    [
        (
            {},
            True,
            "RabbitMQ 3.10.8 of cluster 'rabbit@a' answers 'operator' (administrator); the connection uses http",
        ),
        ({"whoami": {"name": "guest"}}, True, "answers 'guest' (no tags)"),
        ({"whoami": (401, '{"reason": "Login failed"}')}, False, "answers 401 ('Login failed')"),
        ({"overview": (301, "")}, False, "path_prefix"),
    ],
)
def test_the_test_button_says_who_answers_or_what_is_wrong(broker, hook, answers, passes, expected):
    broker.answers |= answers
    passed, message = hook.test_connection()
    assert passed == passes
    assert expected in message
    assert PASSWORD not in message


def test_the_test_button_tells_of_a_connection_that_cannot_be_used(connect):
    passed, message = connect(host="a b").test_connection()
    assert not passed
    assert "correct the connection" in message


def policy(name: str, **definition: int) -> dict[str, Any]:
    return {"name": name, "pattern": "^a", "apply-to": "all", "priority": 0, "definition": definition}


@pytest.mark.parametrize(
    ("applied", "definition", "expected"),
    [
        ("p", {"message-ttl": 1, "expires": 2}, [("policy 'p'", "message-ttl 1, expires 2")]),
        ("p", {"message-ttl": 0}, [("policy 'p'", "message-ttl 0")]),
        ("p", {"max-length": 1}, []),
        ("another", {"message-ttl": 1}, []),
        (None, {"message-ttl": 1}, []),
    ],
)
def test_the_policy_that_rabbitmq_applies_counts(broker, hook, applied, definition, expected):
    broker.hold(queue("a", policy=applied), queue("b", policy="p"))
    broker.answers["policies/v"] = [policy("p", **definition)]
    found = hook.expiring_policies("v", "a".__eq__)
    assert [(expiring.name, expiring.setting) for expiring in found] == expected


@pytest.mark.parametrize(
    ("filtered", "expected"),
    [
        ({"items": [{"name": "a"}], "filtered_count": 1}, True),
        ({"items": [{"name": "b"}], "filtered_count": 1}, False),
        ({"items": [], "filtered_count": 0}, False),
        ({"items": [{"name": "b"}], "filtered_count": 501}, True),  # the rest isn't known
    ],
)
def test_an_operator_policys_pattern_is_matched_by_rabbitmq(broker, hook, filtered, expected):
    broker.hold(queue("a"), queue("b"))
    broker.answers |= {"operator-policies/v": [policy("o", expires=1)], "filtered/^a": filtered}
    assert bool(hook.expiring_policies("v", "a".__eq__)) == expected


@pytest.mark.parametrize(("applied", "expected"), [("o", True), ("", False), (None, False)])
def test_a_server_that_shows_operator_policies_is_not_asked_again(broker, hook, applied, expected):
    broker.hold(queue("a", operator_policy=applied), queue("b", operator_policy="o"))
    broker.answers["operator-policies/v"] = [policy("o", expires=1)]
    assert bool(hook.expiring_policies("v", "a".__eq__)) == expected


@pytest.mark.parametrize(
    ("pattern", "apply_to", "expected"),
    [
        (".*", "all", True),
        ("worker", "classic_queues", True),  # as RabbitMQ searches
        ("^worker", "queues", False),
        ("\\Qonly Erlang(", "queues", True),
        (".*", "exchanges", False),
        ("^a$", "all", False),
    ],
)
def test_a_policy_counts_on_what_is_expected_before_it_is_there(broker, hook, pattern, apply_to, expected):
    broker.hold(queue("a"), queue("b", policy="p"))
    broker.answers["policies/v"] = [{**policy("p", expires=1), "pattern": pattern, "apply-to": apply_to}]
    assert bool(hook.expiring_policies("v", "a".__eq__, ["a", "the_worker"])) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"x-message-ttl": 5}, [("queue 'a'", "x-message-ttl 5")]),
        ({"x-expires": 5}, [("queue 'a'", "x-expires 5")]),
        ({"x-queue-type": "quorum"}, []),
    ],
)
def test_a_queues_own_arguments_count(broker, hook, arguments, expected):
    broker.hold(queue("a", arguments=arguments), queue("b", arguments={"x-expires": 1}))
    found = hook.expiring_policies("v", "a".__eq__)
    assert [(expiring.name, expiring.setting) for expiring in found] == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [({"vhosts/v": {"name": "v"}}, True), ({"vhosts/v": (404, "{}"), "vhosts": [{"name": "/"}]}, False)],
)
def test_a_vhost_that_is_not_there_is_no_error(broker, hook, answers, expected):
    broker.answers |= answers
    assert hook.vhost_exists("v") == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"vhosts/v": (503, "{}")}, "503"),
        ({"vhosts/v": (404, "{}"), "vhosts": (404, "")}, "path_prefix"),  # behind a wrong path
        ({"vhosts/v": (404, "{}"), "vhosts": [{"name": "v"}]}, "404"),
        ({"vhosts/v": (404, "{}"), "vhosts": (200, "a page")}, "JSON"),
    ],
)
def test_whether_a_vhost_is_there_is_not_guessed(broker, hook, answers, expected):
    broker.answers |= answers
    with pytest.raises(RabbitMQManagementError, match=expected):
        hook.vhost_exists("v")
