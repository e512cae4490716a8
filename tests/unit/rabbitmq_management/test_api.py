"""One request: what answers are bounded by, and what each kind of failure says."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest
import requests
from airflow.sdk.exceptions import AirflowFailException

from rabbitmq_management import api
from rabbitmq_management.exceptions import RabbitMQManagementError, RabbitMQRefusedError, RabbitMQUnavailableError
from tests.unit._helpers.management_api import OFF, PASSWORD

TIMEOUT = {"timeout": 0.3}


@pytest.mark.parametrize(
    ("status", "reason", "next_step", "final"),
    [
        (301, "", "give the server's management.path_prefix as path_prefix, or https", True),
        (400, "[ha-mode] are not recognised policy settings", "expected settings that this version knows", True),
        (400, "bad", "check the server's log", True),
        (401, "Login failed", "check login and password of the connection, and what 'operator' may do", True),
        (403, "", "expected success", True),
        (404, "Not Found", "check that the vhost exists, and path_prefix", True),
        (408, "", "expected success", False),
        (429, "", "expected success", False),
        (500, "", "check the server's log", False),
        (503, "", "check the server's log", False),
        (*OFF[:1], json.loads(OFF[1])["reason"], "disable_metrics_collector and management.disable_stats to", True),
    ],
)
def test_an_error_carries_its_status_the_next_step_and_whether_it_is_final(
    broker, hook, status, reason, next_step, final
):
    broker.answers["whoami"] = (status, json.dumps({"reason": reason}))
    with pytest.raises(RabbitMQManagementError, match=str(status)) as caught:
        hook.api.row("whoami")
    assert caught.value.status == status
    assert next_step in str(caught.value)
    assert reason in str(caught.value)
    assert type(caught.value) is (RabbitMQRefusedError if final else RabbitMQUnavailableError)
    assert isinstance(caught.value, AirflowFailException) == final


def test_credentials_go_to_the_server_and_nowhere_else(broker, hook):
    broker.answers["whoami"] = (302, "")
    with pytest.raises(RabbitMQRefusedError, match="302"):
        hook.api.row("whoami")
    assert broker.credentials == {f"operator:{PASSWORD}"}
    assert not hook.get_conn().trust_env


def test_the_path_prefix_comes_first(broker, connect):
    broker.prefix = "/rabbitmq"
    hook = connect(broker.server_port, extra={"path_prefix": "/rabbitmq/"})
    assert hook.tags() == {"administrator"}
    assert broker.requests == ["/rabbitmq/api/whoami"]


@pytest.mark.parametrize(
    "changed",
    [
        {"port": 1},
        {"host": "host.invalid", "port": 15672},
        {"schema": "https"},
        {"schema": "https", "extra": {"ca_file": "/there/is/no/such.pem"}},
    ],
)
def test_a_server_out_of_reach_is_an_error_with_the_next_step(broker, connect, changed):
    hook = connect(**{"port": broker.server_port, **changed})
    with pytest.raises(RabbitMQUnavailableError, match="check that the server runs") as caught:
        hook.api.row("whoami")
    assert str(caught.value).startswith(f"RabbitMQ's management API at {hook.api.endpoint.url} (Airflow connection")
    assert PASSWORD not in str(caught.value)


def test_a_server_that_says_nothing_is_an_error(broker, connect):
    broker.answers["whoami"] = lambda handler: time.sleep(1)
    with pytest.raises(RabbitMQUnavailableError, match="ReadTimeout"):
        connect(broker.server_port, extra=TIMEOUT).api.row("whoami")


def test_a_server_that_drips_is_an_error_after_a_while(broker, connect):
    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    broker.answers["whoami"] = drip
    began = time.monotonic()
    with pytest.raises(RabbitMQUnavailableError, match="takes more than 1 s to answer 'whoami'"):
        connect(broker.server_port, extra=TIMEOUT).api.row("whoami")
    assert time.monotonic() - began < 3


def test_a_server_that_breaks_off_is_an_error(broker, hook):
    def break_off(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b'{"name": "operator", "tags": []}')
        handler.close_connection = True

    broker.answers["whoami"] = break_off
    with pytest.raises(RabbitMQUnavailableError, match="doesn't answer"):
        hook.api.row("whoami")


@pytest.mark.parametrize(("status", "expected"), [(200, "more than 1 MiB to 'whoami'"), (500, "answers 500")])
def test_a_server_that_floods_is_cut_off(broker, hook, monkeypatch, status, expected):
    sent: list[int] = []

    def flood(handler: Any) -> None:
        handler.send_response(status)
        handler.end_headers()
        while len(sent) < 10_000:
            sent.append(handler.wfile.write(b"[" * 2**16))

    monkeypatch.setattr(api, "LARGEST_ANSWER", 2**20)
    broker.answers["whoami"] = flood
    with pytest.raises(RabbitMQManagementError, match=expected):
        hook.api.row("whoami")
    hook.get_conn().close()
    assert len(sent) < 1000


def test_an_answer_that_unpacks_to_a_large_one_stays_packed(broker, hook):
    def packed(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(b"[" + b" " * 2**24 + b"]"))

    broker.answers["whoami"] = packed
    with pytest.raises(RabbitMQUnavailableError, match="something else than JSON"):
        hook.api.row("whoami")


@pytest.mark.parametrize(
    "text",
    ["<html>a proxy</html>", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "1" * 9999],
)
def test_what_is_no_json_is_an_error(broker, hook, text):
    broker.answers["whoami"] = (200, text)
    with pytest.raises(RabbitMQUnavailableError, match="something else than JSON"):
        hook.api.row("whoami")


@pytest.mark.parametrize("answer", [None, [], "text", 1])
def test_an_object_is_wanted_where_one_is_read(broker, hook, answer):
    broker.answers["whoami"] = answer
    with pytest.raises(RabbitMQUnavailableError, match="answers no object to 'whoami'"):
        hook.api.row("whoami")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "answers no list to 'nodes'"),
        ({"items": []}, "answers no list to 'nodes'"),
        (["rabbit@a"], "answers no list to 'nodes'"),
        ([{"running": True}], r"leaves out \['name'\] of 'None'"),
        ([{"name": 5, "running": True}], r"leaves out \['name'\] of '5'"),
        ([{"name": "n", "running": None}], r"leaves out \['running'\] of 'n'"),
    ],
)
def test_a_list_of_objects_is_wanted_where_one_is_read(broker, hook, answer, expected):
    broker.answers["nodes"] = answer
    with pytest.raises(RabbitMQUnavailableError, match=expected):
        hook.api.rows("nodes", {"name": str, "running": bool})


def test_what_the_server_says_is_shown_escaped_and_short(broker, hook):
    broker.answers["whoami"] = (400, json.dumps({"reason": "\x1b[2Jfine\n" + "\u202ex" * 5000}))
    with pytest.raises(RabbitMQRefusedError) as caught:
        hook.api.row("whoami")
    assert "'\\x1b[2Jfine\\n\\u202ex" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def test_no_secret_is_in_the_hook_its_session_or_a_traceback(broker, hook):
    broker.answers["whoami"] = (401, "")
    with pytest.raises(RabbitMQRefusedError) as caught:
        hook.api.row("whoami")
    shown = [repr(hook), repr(hook.api), repr(vars(hook.api)), repr(hook.get_conn()), str(caught.getrepr(style="long"))]
    assert not [text for text in shown if PASSWORD in text or repr(PASSWORD)[1:-1] in text]
    assert isinstance(hook.get_conn(), requests.Session)
