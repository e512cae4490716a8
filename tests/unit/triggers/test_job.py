"""The trigger that follows a job: connections that break and come back, on a clock of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import pytest

from heat_upgrade.exceptions import HostAuthError, HostUnreachableError
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hooks.ssh_command import LogOffset, RunningCommand
from heat_upgrade.remote.step import Job, Outcome
from heat_upgrade.triggers import job as module
from heat_upgrade.triggers.job import FollowedJob, FollowedJobs, HostJobsTrigger

HOST = {"ssh_conn_id": "ssh", "address": "10.0.0.11", "port": 22, "host_key": "ssh-ed25519 AAAA", "name": "c1"}
JOB = {"step": "prepare", "id": "prepare-1", "state": "/state", "bundle": "b", "become": "none"}
ENDED = Outcome(0, {"a": "b"})


def trigger(**changed: Any) -> HostJobsTrigger:
    job: dict[str, Any] = {"machine": HOST, "job": JOB, "logged": [2, 0], "timeout": 60, "deadline": time.time() + 60}
    return HostJobsTrigger(FollowedJobs([job | changed]))


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """A host that answers, and whose job is over at once."""
    monkeypatch.setattr(module, "SOON", 0.01)
    monkeypatch.setattr(module, "AT_MOST", 0.02)
    monkeypatch.setattr(module, "READ_EVERY", 0.01)
    hook = mock.create_autospec(HeatHostHook, instance=True)
    hook.outcome.return_value = ENDED

    @contextmanager
    def followed(job: Job, offset: LogOffset) -> Iterator[RunningCommand]:
        assert job == Job(**JOB)
        running = mock.create_autospec(RunningCommand, instance=True, offset=offset)
        running.read.return_value = True
        yield running

    hook.followed.side_effect = followed
    monkeypatch.setattr(FollowedJob, "hook", lambda _: hook)
    return hook


def event(waiting: HostJobsTrigger) -> dict[str, Any]:
    (end,) = fired(waiting)
    return end


def fired(waiting: HostJobsTrigger) -> list[dict[str, Any]]:
    async def events() -> list[Any]:
        return [event.payload async for event in waiting.run()]

    (payload,) = asyncio.run(events())
    return json.loads(json.dumps(payload))  # type: ignore[no-any-return]


def test_it_is_restored_from_what_it_serializes() -> None:
    path, arguments = trigger(deadline=12.5).serialize()
    assert path == "heat_upgrade.triggers.job.HostJobsTrigger"
    again = HostJobsTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)


def test_it_tells_how_the_job_ended(hook: mock.Mock) -> None:
    told = event(trigger())
    assert (told["machine"], told["reason"]) == ("c1", "")
    assert Outcome(**told["outcome"]) == ENDED


def test_it_connects_again_until_the_host_is_there(hook: mock.Mock) -> None:
    hook.outcome.side_effect = [HostUnreachableError("away")] * 5 + [ENDED]
    assert event(trigger())["outcome"]["status"] == 0


def test_it_gives_up_on_a_host_that_stays_away(hook: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ABSENCE", 0.1)
    hook.outcome.side_effect = HostUnreachableError("away")
    assert event(trigger()) == {"machine": "c1", "outcome": None, "reason": "away", "retryable": True}


def test_it_does_not_try_again_where_it_is_refused(hook: mock.Mock) -> None:
    hook.outcome.side_effect = HostAuthError("another key")
    assert event(trigger()) == {"machine": "c1", "outcome": None, "reason": "another key", "retryable": False}
    hook.outcome.assert_called_once()


def test_a_restart_does_not_prolong_the_wait(hook: mock.Mock) -> None:
    running = mock.create_autospec(RunningCommand, instance=True, offset=LogOffset())
    running.read.return_value = False
    hook.followed.side_effect = lambda *_: nullcontext(running)
    told = event(trigger(deadline=time.time() - 1))
    assert not told["retryable"]
    assert "c1: step prepare has not ended within 60 s" in told["reason"]
    assert "/state/jobs/prepare-1" in told["reason"]


def test_only_a_user_ends_the_job(hook: mock.Mock) -> None:
    async def cut_off() -> None:
        hook.outcome.side_effect = HostUnreachableError("away")
        running = asyncio.create_task(anext(trigger().run()))  # type: ignore[arg-type]
        while not hook.outcome.called:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cut_off())
    hook.stop_job.assert_not_called()
    asyncio.run(trigger().on_kill())
    hook.stop_job.assert_called_once_with(Job(**JOB))


def test_jobs_on_several_hosts_are_followed_side_by_side(hook: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = mock.create_autospec(HeatHostHook, instance=True)
    refusing.followed.side_effect = HostAuthError("another key")
    refusing.stop_job.side_effect = HostUnreachableError("away")
    monkeypatch.setattr(FollowedJob, "hook", lambda followed: refusing if followed.name == "c1" else hook)
    jobs = [trigger().arguments.jobs[0] | {"machine": HOST | {"name": name}} for name in ("c1", "c2")]
    waiting = HostJobsTrigger(FollowedJobs(jobs))
    assert [(end["machine"], end["reason"]) for end in fired(waiting)] == [("c1", "another key"), ("c2", "")]
    with pytest.raises(HostUnreachableError, match="away"):
        asyncio.run(waiting.on_kill())
    hook.stop_job.assert_called_once()


def test_a_host_that_accepts_and_says_nothing_holds_up_no_other(
    hook: mock.Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(module, "ABSENCE", 0.1)
    stuck, released = mock.create_autospec(HeatHostHook, instance=True), threading.Event()
    stuck.followed.side_effect = lambda *_: _never(released)
    monkeypatch.setattr(FollowedJob, "hook", lambda followed: stuck if followed.name == "c1" else hook)
    jobs = [trigger().arguments.jobs[0] | {"machine": HOST | {"name": name}} for name in ("c1", "c2")]
    begun = time.monotonic()
    first, second = fired(HostJobsTrigger(FollowedJobs(jobs)))
    assert time.monotonic() - begun < 5
    released.set()
    assert first["retryable"]
    assert "c1: no session within 0 s" in first["reason"]
    assert second["outcome"]["status"] == 0


@contextmanager
def _never(released: threading.Event) -> Iterator[RunningCommand]:
    released.wait(30)
    yield mock.create_autospec(RunningCommand, instance=True)
