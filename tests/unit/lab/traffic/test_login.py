"""Traffic where users have to log in: a token on each request, a new one in time, a refusal seen."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lab.traffic.client import HeatClient
from lab.traffic.ledger import Ledger
from lab.traffic.login import Login

PASSWORD = "p@ / % ? # ' \" x"


class Cloud(BaseHTTPRequestHandler):
    """Enough of Keystone to get tokens from, and of Heat to show them to."""

    lasts: timedelta
    logins: list[dict[str, Any]]
    seen: list[tuple[str, str, str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = body["auth"]["identity"]["password"]["user"]
        if user["password"] != PASSWORD:
            return self._answer(401, {"error": {"message": "no", "code": 401, "title": "Unauthorized"}})
        self.logins.append(body["auth"])
        token = {
            "project": {"id": "0123", "name": "demo", "domain": {"id": "default", "name": "Default"}},
            "user": {"id": "4567", "name": user["name"], "domain": {"id": "default", "name": "Default"}},
            "methods": ["password"],
            "issued_at": _time(timedelta()),
            "expires_at": _time(self.lasts),
        }
        return self._answer(201, {"token": token})

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["X-Auth-Token"], self.headers["X-Auth-User"]))
        self._answer(200, {"stacks": []})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Subject-Token", f"token-{len(self.logins)}")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def _time(later: timedelta) -> str:
    return (datetime.now(UTC) + later).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


@pytest.fixture
def cloud(request: pytest.FixtureRequest) -> Iterator[tuple[str, type[Cloud]]]:
    minutes = getattr(request, "param", 10)
    handler = type("Handler", (Cloud,), {"lasts": timedelta(minutes=minutes), "logins": [], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def login(url: str, password: str = PASSWORD) -> Login:
    names = {"user_domain_name": "Default", "project_name": "demo", "project_domain_name": "Default"}
    return Login({"auth_url": f"{url}/v3", "username": "demo", "password": password, **names})


def test_each_request_has_the_user_s_token_and_goes_to_the_user_s_project(cloud: tuple[str, type[Cloud]]) -> None:
    url, handler = cloud
    client = HeatClient(f"{url}/v1/%(project_id)s", None, Ledger(), login(url))
    assert client.in_progress() == client.in_progress() == set()
    assert handler.seen == [("/v1/0123/stacks?status=IN_PROGRESS", "token-1", "demo")] * 2
    assert len(handler.logins) == 1
    assert handler.logins[0]["scope"] == {"project": {"name": "demo", "domain": {"name": "Default"}}}


@pytest.mark.parametrize("cloud", [0], indirect=True)
def test_a_token_that_runs_out_is_replaced(cloud: tuple[str, type[Cloud]]) -> None:
    url, handler = cloud
    client = HeatClient(f"{url}/v1/0123", None, Ledger(), login(url))
    client.in_progress()
    client.in_progress()
    assert [token for _, token, _ in handler.seen] == ["token-2", "token-3"]


def test_a_login_that_is_refused_is_a_failed_request(cloud: tuple[str, type[Cloud]]) -> None:
    url, handler = cloud
    ledger, right = Ledger(), login(url)
    client = HeatClient(f"{url}/v1/%(project_id)s", None, ledger, right)
    client._session.auth = login(url, "wrong")
    assert client.in_progress() is None
    (failure,) = ledger.requests(0.0, 1.0).failures
    assert failure.error.startswith("Unauthorized: ")
    assert handler.seen == []


def test_where_nobody_asks_nobody_says_who_it_is(cloud: tuple[str, type[Cloud]]) -> None:
    url, handler = cloud
    HeatClient(f"{url}/v1/admin", None, Ledger()).in_progress()
    assert handler.seen == [("/v1/admin/stacks?status=IN_PROGRESS", None, None)]
    assert handler.logins == []
