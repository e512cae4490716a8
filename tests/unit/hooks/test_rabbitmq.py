"""The management API in states that a healthy broker can't be brought to: a fake one on the loopback tells them."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade.exceptions import RabbitMQManagementError
from heat_upgrade.hooks import rabbitmq
from heat_upgrade.hooks.rabbitmq import Policy, RabbitMQManagementHook

PASSWORD = "p@ss/w%rd?#'\" ö€"
PLAIN = "queues/heat?disable_stats=true"
TOTALS = "queues/heat?disable_stats=true&enable_queue_totals=true"


def totals(name: str, **changed: Any) -> dict[str, Any]:
    counts = {"messages": 0, "messages_ready": 0, "messages_unacknowledged": 0}
    return {"name": name, "state": "running", "type": "classic", "arguments": {}, **counts, **changed}


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != field}


def consumer(queue: str) -> dict[str, Any]:
    return {"queue": {"name": queue, "vhost": "heat"}}


class FakeBroker(ThreadingHTTPServer):
    """Answers each path of the API with what the test has put there: a value, or a status and a text."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.credentials: set[str] = set()
        self.answers: dict[str, Any] = {
            "whoami": {"name": "operator", "tags": ["administrator"]},
            PLAIN: [totals("engine"), totals("engine_worker")],
            TOTALS: [
                totals("engine", messages=3, messages_ready=1, messages_unacknowledged=2),
                totals("engine_worker"),
            ],
            "consumers/heat": [consumer("engine"), consumer("engine")],
            "connections?disable_stats=true": [],
            "vhosts/heat/connections": [],
            "policies/heat": [],
            "operator-policies/heat": [],
        }


class _Handler(BaseHTTPRequestHandler):
    server: FakeBroker

    def do_GET(self) -> None:
        self.server.credentials.add(b64decode(self.headers["Authorization"].split()[1]).decode())
        answer = self.server.answers.get(self.path.removeprefix("/api/"), (404, '{"reason": "Not Found"}'))
        status, text = answer if isinstance(answer, tuple) else (200, json.dumps(answer))
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def connect(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> RabbitMQManagementHook:
    connection = {"conn_type": "http", "host": "127.0.0.1", "login": "operator", "password": PASSWORD, **changed}
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", json.dumps(connection))
    return RabbitMQManagementHook("broker")


@pytest.fixture
def hook(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> RabbitMQManagementHook:
    return connect(monkeypatch, port=broker.server_port)


def test_a_healthy_answer_is_read(broker, hook):
    assert [(q.name, q.ready, q.unacknowledged, q.consumers) for q in hook.queues("heat")] == [
        ("engine", 1, 2, 2),
        ("engine_worker", 0, 0, 0),
    ]
    assert broker.credentials == {f"operator:{PASSWORD}"}


UNRELIABLE = {
    "a queue without messages": (
        {TOTALS: [without(totals("engine"), "messages"), totals("engine_worker")]},
        "'engine'",
    ),
    "a queue without messages_ready": (
        {TOTALS: [without(totals("engine"), "messages_ready"), totals("engine_worker")]},
        "'engine' holds [None, 0, 0]",
    ),
    "a count that is null": (
        {TOTALS: [totals("engine", messages_unacknowledged=None), totals("engine_worker")]},
        "None",
    ),
    "a count that is text": ({TOTALS: [totals("engine", messages_ready="0"), totals("engine_worker")]}, "['0', 0, 0]"),
    "a count that is a fraction": ({TOTALS: [totals("engine", messages=0.0), totals("engine_worker")]}, "0.0"),
    "a count that is true": ({TOTALS: [totals("engine", messages=True), totals("engine_worker")]}, "True"),
    "a count below zero": ({TOTALS: [totals("engine", messages_ready=-1), totals("engine_worker")]}, "-1"),
    "a queue that is down": ({TOTALS: [totals("engine", state="down"), totals("engine_worker")]}, "'down'"),
    "a queue that syncs": ({TOTALS: [totals("engine", state="syncing"), totals("engine_worker")]}, "'syncing'"),
    "a queue without a state": ({TOTALS: [without(totals("engine"), "state"), totals("engine_worker")]}, "None"),
    "a queue missing among the totals": ({TOTALS: [totals("engine")]}, "['engine_worker']"),
    "no totals at all": ({TOTALS: []}, "['engine', 'engine_worker']"),
    "a queue missing in the plain listing": ({PLAIN: [totals("engine")]}, "['engine_worker']"),
    "a consumer of a queue that isn't listed": ({"consumers/heat": [consumer("engine_worker.1")]}, "engine_worker.1"),
    "a row without a name": ({PLAIN: [{"vhost": "heat"}]}, "leaves out ['name']"),
    "a row that is no object": ({PLAIN: ["engine"]}, "no list"),
    "an object instead of a list": ({TOTALS: {"items": []}}, "no list"),
    "not JSON": ({PLAIN: (200, "<html>a proxy</html>")}, "something else than JSON"),
    "an empty answer": ({PLAIN: (200, "")}, "no list"),
    "a redirection": ({PLAIN: (302, "")}, "302"),
    "503": ({PLAIN: (503, "")}, "503"),
    "401": ({PLAIN: (401, '{"reason": "Login failed"}')}, "answers 401 (Login failed)"),
    "a user who doesn't see all": ({"whoami": {"name": "operator", "tags": ["management"]}}, "['management']"),
    "a user without tags": ({"whoami": {"name": "operator"}}, "'administrator'"),
    "no consumers": ({"consumers/heat": (404, "")}, "404"),
}


@pytest.mark.parametrize(("answers", "expected"), UNRELIABLE.values(), ids=UNRELIABLE.keys())
def test_an_answer_that_cannot_be_relied_on_is_an_error(broker, hook, answers, expected):
    broker.answers |= answers
    with pytest.raises(RabbitMQManagementError) as caught:
        hook.queues("heat")
    assert expected in str(caught.value)
    assert "Airflow connection 'broker'" in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "next_step", "passes"),
    [
        (401, "check login and password of the connection, and that 'operator' is an administrator", False),
        (403, "expected success", False),
        (404, "check that the vhost exists", False),
        (500, "check the server's log", True),
        (503, "check the server's log", True),
    ],
)
def test_an_error_carries_its_status_the_next_step_and_whether_it_may_pass(broker, hook, status, next_step, passes):
    broker.answers[PLAIN] = (status, "{}")
    with pytest.raises(RabbitMQManagementError, match=str(status)) as caught:
        hook.queues("heat")
    assert caught.value.status == status
    assert next_step in str(caught.value)
    assert isinstance(caught.value, AirflowFailException) != passes


@pytest.mark.parametrize("tags", ["administrator", "monitoring,policymaker", ["monitoring"]])
def test_old_servers_tell_tags_as_text(broker, hook, tags):
    broker.answers["whoami"] = {"name": "operator", "tags": tags}
    assert hook.consumers("heat") == {"engine": 2}


def test_a_server_that_does_not_answer_in_time_is_an_error(broker, hook, monkeypatch):
    monkeypatch.setattr(rabbitmq, "_TIMEOUT", (0.2, 0.2))
    release = threading.Event()
    monkeypatch.setattr(_Handler, "do_GET", lambda self: release.wait(30))
    with pytest.raises(RabbitMQManagementError, match="ReadTimeout"):
        hook.queues("heat")
    release.set()


def test_streams_are_left_out(broker, hook):
    stream = {"name": "engine_fanout", "type": "stream", "state": "running", "totals": None}
    broker.answers[PLAIN].append(stream)
    broker.answers[TOTALS].append(stream)
    assert [queue.name for queue in hook.queues("heat")] == ["engine", "engine_worker"]


def test_a_client_whose_details_are_not_there_yet_has_no_name(broker, hook):
    broker.answers["connections?disable_stats=true"] = [
        {"name": "10.0.0.1:1 -> 10.0.0.2:5672", "vhost": "heat"},
        {"name": "10.0.0.1:2 -> 10.0.0.2:5672", "vhost": "heat"},
        {"name": "10.0.0.1:3 -> 10.0.0.2:5672", "vhost": "heat"},
        {"name": "10.0.0.1:4 -> 10.0.0.2:5672", "vhost": "nova"},
    ]
    broker.answers["vhosts/heat/connections"] = [
        {
            "name": "10.0.0.1:2 -> 10.0.0.2:5672",
            "peer_host": "10.0.0.1",
            "client_properties": {"connection_name": "heat-engine:9140:f0722bc6-6b03-47e6-9802-953767c6ccf0"},
        },
        {
            "name": "10.0.0.1:3 -> 10.0.0.2:5672",
            "peer_host": "10.0.0.1",
            "client_properties": {"connection_name": "somebody's shovel"},
        },
        {"name": "gone", "peer_host": "10.0.0.9", "client_properties": {"connection_name": "uwsgi:1:a"}},
    ]
    assert [(c.program, c.pid, c.peer) for c in hook.connections("heat")] == [
        (None, None, "10.0.0.1:1"),
        ("heat-engine", 9140, "10.0.0.1"),
        ("somebody's shovel", None, "10.0.0.1"),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"port": 1},
        {"host": "host.invalid", "port": 15672},
        {"schema": "https"},
        {"schema": "https", "extra": {"ca": "/there/is/no/such.pem"}},
    ],
)
def test_a_server_out_of_reach_is_an_error_with_the_next_step(broker, monkeypatch, changed):
    hook = connect(monkeypatch, **{"port": broker.server_port, **changed})
    with pytest.raises(RabbitMQManagementError, match="check that the server runs") as caught:
        hook.queues("heat")
    assert "operator" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "changed", [{"schema": "ftp"}, {"host": "operator:secret@host"}, {"host": "a/b"}, {"host": ""}]
)
def test_an_address_that_cannot_be_used_is_refused_without_telling_it(monkeypatch, changed):
    with pytest.raises(Exception, match="mend the connection") as caught:
        connect(monkeypatch, **changed).queues("heat")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "http://127.0.0.1:15672"),
        ({"schema": "https"}, "https://127.0.0.1:15671"),
        ({"host": "::1", "port": 1}, "http://[::1]:1"),
        ({"host": "rabbit.example", "port": 1}, "http://rabbit.example:1"),
    ],
)
def test_the_address_comes_from_the_connection(monkeypatch, changed, expected):
    assert connect(monkeypatch, **changed)._address == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, True),
        ({"verify": False}, False),
        ({"verify": "false"}, False),
        ({"ca": "/ca.pem", "verify": False}, "/ca.pem"),
    ],
)
def test_certificates_are_verified_unless_told_otherwise(monkeypatch, extra, expected):
    session = connect(monkeypatch, extra=extra).get_conn()
    assert session.verify == expected
    assert not session.trust_env


def policy(pattern: str, definition: dict[str, Any], apply_to: str = "all") -> dict[str, Any]:
    return {"name": "p", "pattern": pattern, "apply-to": apply_to, "priority": 0, "definition": definition}


@pytest.mark.parametrize("listing", ["policies/heat", "operator-policies/heat"])
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (policy(".*", {"message-ttl": 70000}), "message-ttl 70000"),
        (policy("^engine_worker$", {"message-ttl": 0}, "queues"), "message-ttl 0"),
        (policy("^(?!(amq\\.|reply_)).*", {"message-ttl": 1, "expires": 2}), "message-ttl 1, expires 2"),
        (policy("listener", {"expires": 60000}, "classic_queues"), "expires 60000"),
        (policy("\\Qonly Erlang(", {"message-ttl": 1}), "message-ttl 1"),
        (policy("^(reply_|.*_fanout_)", {"message-ttl": 1}), None),
        (policy(".*", {"ha-mode": "all"}), None),
        (policy(".*", {"message-ttl": 1}, "exchanges"), None),
        (policy("^nova", {"message-ttl": 1}), None),
    ],
)
def test_policies_that_expire_work_are_found(broker, hook, listing, found, expected):
    broker.answers[listing] = [found]
    name = "operator policy 'p'" if listing.startswith("operator") else "policy 'p'"
    assert [(p.name, p.setting) for p in hook.expiring_policies("heat")] == ([(name, expected)] if expected else [])


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
    broker.answers[PLAIN] = [totals(name, arguments=arguments)]
    found = [(p.name, p.setting) for p in hook.expiring_policies("heat")]
    assert found == ([(f"queue {name!r}", expected)] if expected else [])


def test_a_policy_that_a_name_starts_with_is_searched_as_rabbitmq_does():
    assert Policy("p", "worker", "all", 0, {}, operator=False).matches("engine_worker")
    assert not Policy("p", "^worker", "all", 0, {}, operator=False).matches("engine_worker")


def test_ids_of_engines_come_from_the_names_of_their_queues(broker, hook):
    broker.answers[PLAIN] = [
        totals("heat-engine-listener"),
        totals("heat-engine-listener.a"),
        totals("engine_worker.b"),
    ]
    broker.answers["consumers/heat"] = [consumer("heat-engine-listener.c"), consumer("heat-engine-listener")]
    assert hook.engine_ids("heat") == {"a"}
    assert hook.live_engine_ids("heat") == {"c"}
