"""A management API on the loopback that answers what a test wants: states a healthy broker can't be brought to."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PASSWORD = "p@ss/w%rd?#'\" ö€"
OFF = (400, '{"error": "bad_request", "reason": "Stats in management UI are disabled on this node"}')


def queue(name: str, ready: int = 0, unacknowledged: int = 0, **changed: Any) -> dict[str, Any]:
    """Return a row of a classic queue as RabbitMQ shows it."""
    counts = {"messages": ready + unacknowledged, "messages_ready": ready, "messages_unacknowledged": unacknowledged}
    return {"name": name, "state": "running", "type": "classic", "arguments": {}, **counts, **changed}


def quorum(name: str, ready: int = 0, leader: str = "rabbit@b", **changed: Any) -> dict[str, Any]:
    """Return a row of a quorum queue of three healthy nodes."""
    members = ["rabbit@a", "rabbit@b", "rabbit@c"]
    return queue(name, ready, **{"type": "quorum", "leader": leader, "members": members, "online": members, **changed})


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a row that lacks a field."""
    return {key: value for key, value in row.items() if key != field}


class FakeBroker(ThreadingHTTPServer):
    """
    Answers each path of the API with a value, or a status and a text; ``answers`` has no query in its paths.

    The two listings of queues are told apart: ``queues/VHOST`` and, with the totals, ``totals/VHOST``. What is a
    function takes the handler.
    """

    daemon_threads = True

    def __init__(self, vhost: str = "v") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.credentials: set[str] = set()
        self.requests: list[str] = []
        self.prefix = ""
        self.vhost = vhost
        self.answers: dict[str, Any] = {
            "whoami": {"name": "operator", "tags": ["administrator"]},
            "overview": {"rabbitmq_version": "3.10.8", "cluster_name": "rabbit@a"},
            "nodes": [{"name": "rabbit@a", "running": True, "mem_alarm": False, "disk_free_alarm": False}],
            f"consumers/{vhost}": [],
            "connections": [],
            f"vhosts/{vhost}/connections": [],
            f"policies/{vhost}": [],
            f"operator-policies/{vhost}": [],
        }
        self.hold()

    def hold(self, *rows: dict[str, Any]) -> None:
        """Let these be the queues."""
        self.answers[f"queues/{self.vhost}"] = list(rows)
        self.answers[f"totals/{self.vhost}"] = list(rows)

    def answer_in_turn(self, key: str, *answers: Any) -> None:
        """Give each request an answer of its own, and all after them the last."""
        left = list(answers)

        def answer(handler: _Handler) -> None:
            handler.reply(left.pop(0) if len(left) > 1 else left[0])

        self.answers[key] = answer

    def key(self, path: str) -> str:
        """Return under which key the answer to a request stands."""
        parts = urlsplit(path.removeprefix(f"{self.prefix}/api/"))
        query = parse_qs(parts.query)
        if "name" in query:
            return f"filtered/{query['name'][0]}"
        totals = "enable_queue_totals" in query
        return unquote(parts.path.replace("queues/", "totals/") if totals else parts.path)


class _Handler(BaseHTTPRequestHandler):
    server: FakeBroker

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(self.path)
        server.credentials.add(b64decode(self.headers["Authorization"].split()[1]).decode())
        answer = server.answers.get(server.key(self.path), (404, '{"reason": "Not Found"}'))
        if callable(answer):
            with suppress(ConnectionError):
                answer(self)
        else:
            self.reply(answer)

    def reply(self, answer: Any) -> None:
        """Send a whole answer."""
        status, text = answer if isinstance(answer, tuple) else (200, json.dumps(answer))
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def fake_broker(vhost: str = "v") -> Iterator[FakeBroker]:
    """Serve a fake management API."""
    with FakeBroker(vhost) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def connection(port: int | None = None, **changed: Any) -> str:
    """Return an Airflow connection to it, as an environment variable holds it."""
    settings = {"conn_type": "rabbitmq_management", "schema": "http", "host": "127.0.0.1", "port": port}
    return json.dumps({**settings, "login": "operator", "password": PASSWORD, **changed})
