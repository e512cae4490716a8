"""The hook of Heat's API where no cloud is needed to tell."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.hooks.heat_api import BuildInfo, HeatApiHook

NOBODY_THERE = "http://127.0.0.1:9"


class Api(BaseHTTPRequestHandler):
    """Answers as heat-api does where it was asked for build_info of project admin, else with the status in the path."""

    def do_GET(self) -> None:
        found = self.path == "/v1/admin/build_info"
        status = int(self.path.split("/")[1]) if self.path[1:4].isdigit() else 200 if found else 404
        body = json.dumps({"api": {"revision": "26.0.2"}, "engine": {"revision": "25.0.2"}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output to itself."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_one_api_is_asked_past_any_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "generic", "host": f"{NOBODY_THERE}/v1/admin", "extra": {"auth_type": "none"}}
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, NOBODY_THERE)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert HeatApiHook("heat").build_info(url) == BuildInfo(api="26.0.2", engine="25.0.2")


@pytest.mark.parametrize(("status", "passes"), [(401, False), (403, False), (500, True), (503, True)])
def test_a_login_that_is_refused_is_no_matter_of_waiting(
    url: str, status: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "generic", "host": f"{NOBODY_THERE}/v1/admin", "extra": {"auth_type": "none"}}
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    with pytest.raises(
        TransientError if passes else UpgradeError, match=r"build_info at .* failed .*connection 'heat'"
    ):
        HeatApiHook("heat").build_info(f"{url}/{status}")


def test_an_api_that_is_not_there_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "generic", "host": f"{NOBODY_THERE}/v1/admin", "extra": {"auth_type": "none"}}
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    hook = HeatApiHook("heat")
    with pytest.raises(TransientError, match="build_info"):
        hook.build_info(NOBODY_THERE)
    with pytest.raises(TransientError, match="the smoke stack"):
        hook.run_smoke_stack()
