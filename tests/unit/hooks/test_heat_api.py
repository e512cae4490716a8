"""The hook of Heat's API where no cloud is needed to tell."""

from __future__ import annotations

import json
import re
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
    assert HeatApiHook("heat").past_the_balancer(url).build_info() == BuildInfo(api="26.0.2", engine="25.0.2")


@pytest.mark.parametrize(("status", "passes"), [(401, False), (403, False), (500, True), (503, True)])
def test_a_login_that_is_refused_is_no_matter_of_waiting(
    url: str, status: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "generic", "host": f"{NOBODY_THERE}/v1/admin", "extra": {"auth_type": "none"}}
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    with pytest.raises(
        TransientError if passes else UpgradeError, match=r"build_info at .* failed .*connection 'heat'"
    ):
        HeatApiHook("heat").past_the_balancer(f"{url}/{status}").build_info()


def test_an_api_that_is_not_there_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "generic", "host": f"{NOBODY_THERE}/v1/admin", "extra": {"auth_type": "none"}}
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    hook = HeatApiHook("heat")
    with pytest.raises(TransientError, match="build_info"):
        hook.past_the_balancer(NOBODY_THERE).build_info()
    with pytest.raises(TransientError, match="the smoke stack"):
        hook.run_smoke_stack()


def test_the_test_button_says_which_releases_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the form leaves it: fields that were not filled in are empty.
    extra = {"auth_type": "none", "region_name": "", "project_name": None}
    connection = {"conn_type": "heat_api", "host": f"{url}/v1/admin", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    assert HeatApiHook("heat").test_connection() == (
        True,
        "Heat answers in project admin: API 26.0.2, engine 25.0.2",
    )


@pytest.mark.parametrize(
    ("host", "auth_type", "reason"),
    [
        ("{url}/v1/other", "none", "NotFound"),
        ("{url}/503/v1/admin", "none", "ServiceUnavailable"),
        (NOBODY_THERE, "none", "ConnectFailure"),
        (NOBODY_THERE, "password", "MissingRequiredOptions|ConnectFailure|DiscoveryFailure"),
        (NOBODY_THERE, "no-such-type", "NoMatchingPlugin"),
    ],
)
def test_the_test_button_says_what_is_wrong(
    host: str, auth_type: str, reason: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {
        "conn_type": "heat_api",
        "host": host.format(url=url),
        "login": "operator",
        "password": "hunter2",
        "extra": {"auth_type": auth_type},
    }
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    works, says = HeatApiHook("heat").test_connection()
    assert works is False
    assert re.match(rf"Heat doesn't answer \(({reason}): .*check URL, login", says, re.DOTALL), says
    assert "hunter2" not in says


@pytest.mark.parametrize(
    ("given", "verified"),
    [(None, True), ("", True), (True, True), ("true", True), (False, False), ("False", False), ("/ca.pem", "/ca.pem")],
)
def test_certificates_are_verified_as_the_form_says(
    given: bool | str | None, verified: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"auth_type": "none", "verify": given}
    connection = {"conn_type": "heat_api", "host": "https://heat.example/v1/admin", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_HEAT", json.dumps(connection))
    assert HeatApiHook("heat").verify == verified
