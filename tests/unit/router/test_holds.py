"""While the upgrade holds changes: who waits, for how long, and what it knows of requests under way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from heat_upgrade.router import heat_upgrade_router, state
from tests.unit.router.sides import AT_REST, NEW, OLD, PROJECT, ROOT, Answered, Here, call, counts, fields, router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.router.conftest import Host

LIST = f"/v1/{PROJECT}/stacks"
LISTED, RESTING = f"{LIST}/name/{ROOT}", f"{LIST}/name/{AT_REST}"
PROCESSES = multiprocessing.get_context("spawn")  # a fork of a process with threads may get stuck


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def until(condition: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def still_waits(answers: list[Future[Answered]]) -> bool:
    """Return whether none of the answers is there, some looks of the router later."""
    time.sleep(10 * heat_upgrade_router.LOOK_EVERY)
    return not any(answer.done() for answer in answers)


def test_changes_wait_and_then_go_by_the_new_state(host: Host, pool: ThreadPoolExecutor) -> None:
    app = host.router()
    held = state.hold(host.directory, "changes", 10, 1)
    answers = [pool.submit(call, app, *request) for request in (("POST", LIST), ("PUT", RESTING), ("DELETE", LISTED))]
    assert still_waits(answers)
    ready = state.prepare(host.directory, held.sequence, fields(NEW, stacks={ROOT: OLD}))
    assert still_waits(answers)
    state.release(host.directory, ready.sequence)
    assert [answer.result(5).side for answer in answers] == ["here", "here", "beside"]
    told = counts(host.directory)
    assert (told["held_create"], told["held_change"]) == (1, 2)
    assert 0.2 < told["longest_held_change"] < 5


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", LIST),
        ("HEAD", LISTED),
        ("OPTIONS", LIST),
        ("POST", f"{LIST}/preview"),
        ("PUT", f"{RESTING}/preview"),
        ("POST", f"/v1/{PROJECT}/validate"),
    ],
)
def test_reads_never_wait(host: Host, method: str, path: str) -> None:
    state.hold(host.directory, "changes", 10, 1)
    assert host.ask(method, path).side == "beside"


def test_queries_of_cfn_that_read_never_wait(host: Host, pool: ThreadPoolExecutor) -> None:
    state.hold(host.directory, "changes", 10, 1)
    assert host.ask("POST", "/v1/", b"Action=DescribeStacks&StackName=x", api="cfn").side == "beside"
    signal = pool.submit(host.ask, "POST", f"/v1/signal/arn:openstack:heat::p:stacks/n/{ROOT}/resources/r", api="cfn")
    query = pool.submit(host.ask, "GET", "/v1/", query="Action=CreateStack&StackName=x", api="cfn")
    hidden = pool.submit(host.ask, "GET", LISTED, query="_method=DELETE")
    assert still_waits([signal, query, hidden])
    state.release(host.directory, 2)


def test_a_hold_of_the_listed_lets_the_others_through(host: Host, pool: ThreadPoolExecutor) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    held = state.hold(host.directory, "listed", 10, 1)
    assert host.ask("POST", LIST).side == "here"
    assert host.ask("PUT", RESTING).side == "here"
    waiting = pool.submit(host.ask, "PUT", LISTED)
    assert still_waits([waiting])
    ready = state.prepare(host.directory, held.sequence, fields(NEW))
    state.release(host.directory, ready.sequence)
    assert waiting.result(5).side == "here"


def test_a_hold_that_nobody_ends_runs_out_and_nothing_has_moved(host: Host) -> None:
    state.hold(host.directory, "changes", 0.3, 1)
    began = time.monotonic()
    assert host.ask("POST", LIST).side == "beside"
    assert 0.2 < time.monotonic() - began < 2


def test_a_hold_from_before_a_reboot_is_over(host: Host) -> None:
    known = state.read(host.directory)
    assert known is not None
    later = heat_upgrade_router.Hold("changes", time.monotonic() + 3600, 10)
    state._write(host.directory, known._replace(sequence=2, hold=later))
    began = time.monotonic()
    assert host.ask("POST", LIST).side == "beside"
    assert time.monotonic() - began < 1


def test_a_prepared_state_that_nobody_releases_refuses_changes_and_reads_go_on(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heat_upgrade_router, "PATIENCE", 0.2)
    held = state.hold(host.directory, "changes", 0.1, 1)
    state.prepare(host.directory, held.sequence, fields(NEW))
    assert host.ask("POST", LIST).side == "503"
    assert host.ask("GET", LIST).side == "here"


def test_a_hold_waits_for_changes_under_way_and_not_for_reads(host: Host, pool: ThreadPoolExecutor) -> None:
    host.state(default=NEW)
    host.here.wait = threading.Event()
    app = host.router()
    reading = pool.submit(call, app, "GET", LIST)
    until(lambda: len(host.here.got) == 1)
    released = state.release(host.directory, state.hold(host.directory, "changes", 5, 0.1).sequence)
    changing = pool.submit(call, app, "PUT", RESTING)
    until(lambda: len(host.here.got) == 2)
    with pytest.raises(state.StateError, match=r"changes under way take longer than 0\.1 s"):
        state.hold(host.directory, "changes", 5, 0.1)
    known = state.read(host.directory)
    assert known is not None
    assert (known.sequence, known.hold) == (released.sequence + 2, None)
    host.here.wait.set()
    assert [reading.result(5).side, changing.result(5).side] == ["here", "here"]
    state.hold(host.directory, "changes", 5, 1)


def test_a_change_that_is_handed_over_is_under_way_until_the_api_beside_answers(
    host: Host, pool: ThreadPoolExecutor
) -> None:
    goes_on = threading.Event()

    def slow(handler: Any) -> None:
        assert goes_on.wait(30)
        handler.send_response(204)
        handler.end_headers()

    host.beside.answer = slow
    changing = pool.submit(host.ask, "DELETE", RESTING)
    until(lambda: host.beside.got)
    holding = pool.submit(state.hold, host.directory, "changes", 5, 5)
    time.sleep(0.1)
    assert not holding.done()
    goes_on.set()
    assert changing.result(5).status == 204
    assert holding.result(5).hold


def test_a_hold_of_the_listed_waits_for_no_others(host: Host, pool: ThreadPoolExecutor) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    host.here.wait = threading.Event()
    changing = pool.submit(host.ask, "PUT", RESTING)
    until(lambda: host.here.got)
    state.hold(host.directory, "listed", 5, 0.1)
    host.here.wait.set()
    assert changing.result(5).side == "here"


class Gate:
    """Open when its file is there: an event of multiprocessing gets stuck when one who waits for it is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wait(self, seconds: float) -> bool:
        until(self.path.exists, seconds)
        return True


def _worker(directory: Any, begun: Any, goes_on: Any) -> None:
    """One of several processes of an API, with a change under way."""
    app = Here()
    app.wait = goes_on
    watch = threading.Thread(target=lambda: app.entered.wait() and begun.release(), daemon=True)
    watch.start()
    call(router(directory, app=app), "PUT", RESTING)


def test_a_hold_sees_changes_in_other_processes_and_forgets_those_of_killed_ones(host: Host) -> None:
    host.state(default=NEW)
    begun, goes_on = PROCESSES.Semaphore(0), Gate(host.directory / "go")
    workers = [PROCESSES.Process(target=_worker, args=(host.directory, begun, goes_on)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in workers:
        assert begun.acquire(timeout=30)
    with pytest.raises(state.StateError, match="take longer"):
        state.hold(host.directory, "changes", 5, 0.1)
    os.kill(workers[0].pid or 0, signal.SIGKILL)
    workers[0].join()
    with pytest.raises(state.StateError, match="take longer"):
        state.hold(host.directory, "changes", 5, 0.1)
    goes_on.path.touch()
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()
    state.hold(host.directory, "changes", 5, 1)


def _users(directory: Any, stop: Any, log: Any) -> None:
    """Change stacks all the time, and note which side took each change, and when."""
    app = router(
        directory, app=lambda environ, start: (log.put((time.monotonic(), "here")), start("200 OK", []), [])[2]
    )
    app._beside.answer = lambda environ, start: (log.put((time.monotonic(), "beside")), start("200 OK", []), [])[2]
    while not stop.is_set():
        call(app, "POST", LIST)


def test_no_change_crosses_a_flip_in_any_process(host: Host) -> None:
    stop, log = PROCESSES.Event(), PROCESSES.Queue()
    users = [PROCESSES.Process(target=_users, args=(host.directory, stop, log)) for _ in range(4)]
    for user in users:
        user.start()
    flips, seen = [], [log.get(timeout=30) for _ in users]
    for default in (NEW, OLD) * 10:
        held = state.hold(host.directory, "changes", 10, 5)
        quiet = time.monotonic()
        ready = state.prepare(host.directory, held.sequence, fields(default))
        flips.append((quiet, time.monotonic(), default))
        state.release(host.directory, ready.sequence)
        time.sleep(0.05)
    stop.set()
    while any(user.is_alive() for user in users) or not log.empty():
        while not log.empty():
            seen.append(log.get())
        time.sleep(0.01)
    sides = {NEW: "here", OLD: "beside"}
    for (_, since, default), (quiet, _, _) in zip(flips, [*flips[1:], (time.monotonic(), 0, "")], strict=True):
        during = [side for when, side in seen if since <= when <= quiet]
        assert during
        assert set(during) == {sides[default]}
    for quiet, since, _ in flips:
        assert not [side for when, side in seen if quiet < when < since]
