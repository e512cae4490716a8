"""The trigger that follows a job: connections that break and come back, on a clock of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import pytest

from heat_upgrade.exceptions import HostAuthError, HostUnreachableError
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hooks.ssh_command import RunningCommand, Told
from heat_upgrade.remote.step import Job, Outcome
from heat_upgrade.triggers import job as module
from heat_upgrade.triggers.job import FollowedJob, HostJobsTrigger

HOST = {"ssh_conn_id": "ssh", "address": "10.0.0.11", "port": 22, "host_key": "ssh-ed25519 AAAA", "name": "c1"}
JOB = {"step": "prepare", "id": "prepare-1", "state": "/state", "bundle": "b", "become": "none"}
ENDED = Outcome(0, {"a": "b"})


def trigger(**changed: Any) -> HostJobsTrigger:
    job: dict[str, Any] = {"machine": HOST, "job": JOB, "told": [2, 0], "timeout": 60, "deadline": time.time() + 60}
    return HostJobsTrigger(jobs=[job | changed])


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """A host that answers, and whose job is over at once."""
    monkeypatch.setattr(module, "SOON", 0.01)
    monkeypatch.setattr(module, "AT_MOST", 0.02)
    monkeypatch.setattr(module, "READ_EVERY", 0.01)
    hook = mock.create_autospec(HeatHostHook, instance=True)
    hook.outcome.return_value = ENDED

    @contextmanager
    def followed(job: Job, told: Told) -> Iterator[RunningCommand]:
        assert job == Job(**JOB)
        running = mock.create_autospec(RunningCommand, instance=True, told=told)
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


def test_it_is_made_anew_from_what_it_serializes() -> None:
    path, arguments = trigger(deadline=12.5).serialize()
    assert path == "heat_upgrade.triggers.job.HostJobsTrigger"
    again = HostJobsTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)


def test_it_tells_how_the_job_ended(hook: mock.Mock) -> None:
    told = event(trigger())
    assert (told["machine"], told["raised"], told["message"]) == ("c1", "", "")
    assert Outcome(**told["outcome"]) == ENDED


def test_it_connects_again_until_the_host_is_there(hook: mock.Mock) -> None:
    hook.outcome.side_effect = [HostUnreachableError("away")] * 5 + [ENDED]
    assert event(trigger())["outcome"]["status"] == 0


def test_it_gives_up_on_a_host_that_stays_away(hook: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ABSENCE", 0.1)
    hook.outcome.side_effect = HostUnreachableError("away")
    assert event(trigger()) == {"machine": "c1", "outcome": None, "raised": "HostUnreachableError", "message": "away"}


def test_it_does_not_try_again_where_it_is_refused(hook: mock.Mock) -> None:
    hook.outcome.side_effect = HostAuthError("another key")
    assert event(trigger())["raised"] == "HostAuthError"
    hook.outcome.assert_called_once()


def test_a_restart_does_not_prolong_the_wait(hook: mock.Mock) -> None:
    running = mock.create_autospec(RunningCommand, instance=True, told=Told())
    running.read.return_value = False
    hook.followed.side_effect = lambda *_: nullcontext(running)
    told = event(trigger(deadline=time.time() - 1))
    assert told["raised"] == "JobTimeoutError"
    assert "c1: step prepare has not ended within 60 s" in told["message"]
    assert "/state/jobs/prepare-1" in told["message"]


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
    jobs = [trigger().jobs[0] | {"machine": HOST | {"name": name}} for name in ("c1", "c2")]
    other = mock.create_autospec(HeatHostHook, instance=True, followed=hook.followed)
    other.outcome.side_effect = HostAuthError("another key")
    monkeypatch.setattr(FollowedJob, "hook", lambda job: {"c1": other, "c2": hook}[job.machine["name"]])
    assert [(end["machine"], end["raised"]) for end in fired(HostJobsTrigger(jobs=jobs))] == [
        ("c1", "HostAuthError"),
        ("c2", ""),
    ]
    other.stop_job.side_effect = HostUnreachableError("away")
    with pytest.raises(HostUnreachableError, match="away"):
        asyncio.run(HostJobsTrigger(jobs=jobs).on_kill())
    hook.stop_job.assert_called_once_with(Job(**JOB))
