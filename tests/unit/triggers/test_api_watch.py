"""The account of the API's probe: what counts as an outage, and what a restart of the triggerer does to it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from heat_upgrade.report.availability import MOST_OUTAGES, Availability
from heat_upgrade.triggers import api_watch as module
from heat_upgrade.triggers.api_watch import ApiWatchTrigger


def seen(*problems: str | None, every: float = 1.0) -> Availability:
    account = Availability("http://heat.example/")
    for number, problem in enumerate(problems):
        account.observe(1000 + number * every, 1000.2 + number * every, problem)
    return account


def test_an_api_that_always_answers_has_no_outage():
    account = seen(None, None, None)
    assert (account.probes, account.failed, account.outages, account.longest) == (3, 0, [], None)
    assert (account.since, account.until) == (1000, 1002.2)
    assert account.slowest == pytest.approx(0.2)


def test_an_outage_lasts_until_the_next_good_answer():
    account = seen(None, "HTTP 503", "ReadTimeout", None, None, "HTTP 503", None)
    assert [(outage.began, outage.until, outage.probes, outage.reason) for outage in account.outages] == [
        (1001, 1003, 2, "HTTP 503"),
        (1005, 1006, 1, "HTTP 503"),
    ]
    assert account.longest is account.outages[0]
    assert account.failed == 3


def test_an_outage_that_goes_on_lasts_until_its_latest_probe():
    account = seen(None, "HTTP 503", "HTTP 503")
    assert account.outages[0].seconds == pytest.approx(1.2)


def test_time_without_a_probe_counts_neither_as_up_nor_as_down():
    account = seen("HTTP 503", None, every=600)
    assert account.outages[0].seconds == pytest.approx(0.2)
    assert account.unwatched == pytest.approx(599.8)


def test_an_account_of_many_outages_stays_small_and_true():
    account = seen(*["HTTP 503", None] * (MOST_OUTAGES + 5))
    assert len(account.outages) == MOST_OUTAGES
    assert (account.more, account.failed) == (5, MOST_OUTAGES + 5)
    assert {outage.seconds for outage in account.outages} == {1.0}


def test_it_is_restored_from_what_is_kept():
    once = seen(None, "HTTP 503", None)
    again = Availability.of(once.as_xcom())
    assert again == once
    again.observe(1003, 1003.1, "HTTP 503")
    assert len(again.outages) == 2


class Api(BaseHTTPRequestHandler):
    """Answers as it is told, one answer after the other, and then for ever like the last."""

    answers: list[int]
    # Bytes of a body, one piece after the other, and seconds between them.
    body: tuple[int, int, float] = (0, 0, 0.0)

    def do_GET(self) -> None:
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        pieces, size, pause = self.body
        self.send_header("Content-Length", str(pieces * size))
        self.end_headers()
        with suppress(OSError):
            for _ in range(pieces):
                self.wfile.write(b"x" * size)
                time.sleep(pause)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what the trigger has stored with its task, the latest last; what is there already it finds."""
    kept: list[dict[str, Any]] = []

    async def keep(_: Any, course: dict[str, Any]) -> None:
        kept.append(course)

    async def find(_: Any) -> dict[str, Any] | None:
        return kept[-1] if kept else None

    monkeypatch.setattr(ApiWatchTrigger, "checkpoint", keep)
    monkeypatch.setattr(ApiWatchTrigger, "restore", find)
    return kept


class Counting(ApiWatchTrigger):
    """Counts its probes, so that a busy machine gets the time for them."""

    done = 0

    async def _probe(self, *arguments: Any) -> None:
        await super()._probe(*arguments)
        self.done += 1

    async def until_probed(self, often: int) -> None:
        """Wait for so many more probes."""
        wanted = self.done + often
        while self.done < wanted:
            await asyncio.sleep(0.01)


def watch(url: str, monkeypatch: pytest.MonkeyPatch, states: list[Any]) -> dict[str, Any]:
    """Let the trigger probe until its task's turn comes; ``states`` are what Airflow tells, look by look."""
    left = iter(states)
    trigger = Counting(url=url, verify=True, until="verify_cloud", interval=0.01)

    async def told(_: ApiWatchTrigger, dag_id: str, run_id: str) -> dict[str, Any]:
        assert (dag_id, run_id) == ("dag", "run")
        await trigger.until_probed(2)
        return {"verify_cloud": state} if (state := next(left)) != "no answer" else {}

    async def fired() -> list[Any]:
        trigger._task_instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="watch_api")  # type: ignore[assignment]
        return [event.payload async for event in trigger.run()]

    monkeypatch.setattr(module, "states_of_run", told)
    monkeypatch.setattr(module, "CHECK_EVERY", 0.1)
    (payload,) = asyncio.run(fired())
    return payload


def test_it_probes_until_the_turn_of_the_task_has_come(api, stored, monkeypatch):
    Api.answers = [300, 503, 200, 300]
    payload = watch(f"http://127.0.0.1:{api.server_port}/", monkeypatch, [None, "scheduled", "no answer", "running"])
    account = Availability.of(payload)
    assert account.probes > 4
    assert account.failed == 1
    assert account.outages[0].reason == "HTTP 503"
    assert stored[-1] == payload


@pytest.mark.parametrize("state", ["success", "failed", "upstream_failed", "skipped", "up_for_retry"])
def test_a_run_that_got_there_in_whatever_way_ends_it(state, api, stored, monkeypatch):
    Api.answers = [300]
    assert watch(f"http://127.0.0.1:{api.server_port}/", monkeypatch, [state])["failed"] == 0


def test_an_api_that_is_gone_is_an_outage_and_no_error(api, stored, monkeypatch):
    port = api.server_port
    api.shutdown()
    api.server_close()
    account = Availability.of(watch(f"http://127.0.0.1:{port}/", monkeypatch, [None, "running"]))
    assert account.probes == account.failed > 0
    assert account.outages[0].reason == "ConnectError"


@pytest.mark.parametrize(
    ("body", "failed"),
    [((1000, 10**6, 0.0), False), ((1000, 1, 0.02), True)],
    ids=["an endless answer", "one that trickles"],
)
def test_neither_size_nor_time_of_an_answer_is_the_servers_to_choose(body, failed, api, stored, monkeypatch):
    monkeypatch.setattr(Api, "body", body)
    monkeypatch.setattr(module, "PROBE_TIMEOUT", 0.1)
    Api.answers = [300]
    begun = time.monotonic()
    account = Availability.of(watch(f"http://127.0.0.1:{api.server_port}/", monkeypatch, ["running"]))
    assert time.monotonic() - begun < 10
    assert account.probes >= 2
    assert {outage.reason for outage in account.outages} == ({"TimeoutError"} if failed else set())


def test_after_a_restart_of_the_triggerer_it_goes_on_with_what_it_has_seen(api, stored, monkeypatch):
    Api.answers = [300]
    url = f"http://127.0.0.1:{api.server_port}/"
    first = watch(url, monkeypatch, ["running"])
    second = watch(url, monkeypatch, ["running"])
    assert second["probes"] > first["probes"] > 0
    assert second["since"] == first["since"]


def test_it_probes_on_while_airflow_is_slow_to_answer(api, stored, monkeypatch):
    Api.answers = [300]

    async def slow(trigger: Counting) -> bool:
        await trigger.until_probed(4)
        return True

    monkeypatch.setattr(ApiWatchTrigger, "_enough", slow)
    assert watch(f"http://127.0.0.1:{api.server_port}/", monkeypatch, [])["probes"] > 3


def test_it_is_restored_from_what_it_serializes():
    path, arguments = ApiWatchTrigger(url="http://h/", verify="/ca.pem", until="verify_cloud").serialize()
    assert path == "heat_upgrade.triggers.api_watch.ApiWatchTrigger"
    assert ApiWatchTrigger(**arguments).serialize() == (path, arguments)
