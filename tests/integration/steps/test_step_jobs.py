"""Long steps over a real SSH connection: what becomes of them when whoever started them is gone."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import TaskDeferred

from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import (
    JobLostError,
    RemoteStepError,
    TransientError,
    UpgradeError,
)
from heat_upgrade.operators import steps as operators
from heat_upgrade.operators.steps import Results, StepsOperator
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import PlacedStep, Step
from heat_upgrade.run.plan import Plan
from heat_upgrade.triggers import job as triggers
from heat_upgrade.triggers.job import HostJobsTrigger
from lab.cloud.host import start_sshd, stop_sshd
from lab.cloud.model import Lab
from lab.processes import wait_until
from tests.integration.steps.conftest import NEW, OLD, Machine, only_the_fake_heat

ODD = "a 'quoted' \"word\" $HOME `id` $(id) ; rm -rf * \\ ü % ? # / @ & | > {} = !"
PLAN = Plan(OLD, NEW, ("controller-1",))
# Says that it began, works until a file tells it to end, and ends as the file says.
WORK = b"""
echo $$ >>"$DIR/begun"
echo "it has begun"
sleep 300 &
until [[ -e $DIR/end ]]; do sleep 0.05; done
kill $!
echo "it has ended"
printf '::said=%s\\n' "$WORD"
exit "$(cat "$DIR/end")"
"""


class WorkOperator(StepsOperator):
    """Do a test's work."""

    work: PlacedStep

    def steps(self, plan: Plan) -> list[PlacedStep]:
        return [self.work]

    def summary(self, plan: Plan) -> str:
        return "work"

    def verify(self, plan: Plan, results: Results) -> dict[str, str]:
        return results[0]


class Work:
    """A step on a host that lasts as long as a test wants it to."""

    def __init__(self, machine: Machine, path: Path, script: bytes = WORK) -> None:
        self.machine, self.path = machine, path / "odd 'folder'"
        self.path.mkdir(exist_ok=True)
        settings = {"DIR": str(self.path), "WORD": ODD}
        self.step = Step("work", settings, str(machine.state), {"work": script}, timeout=60)

    @property
    def begun(self) -> int:
        file = self.path / "begun"
        return len(file.read_text().splitlines()) if file.exists() else 0

    @property
    def group(self) -> int:
        return int((Path(self.step.job.folder) / "pid").read_text())

    @property
    def runs(self) -> bool:
        found = subprocess.run(["ps", "-o", "stat=", "-s", str(self.group)], capture_output=True, check=False)
        return any(not state.startswith(b"Z") for state in found.stdout.split())

    @property
    def followed(self) -> bool:
        found = subprocess.run(["pgrep", "-f", f"/job follow {self.step.job.id}"], capture_output=True, check=False)
        return found.returncode == 0

    def end(self, status: int = 0) -> None:
        (self.path / "end").write_text(f"{status}\n")

    def wait(self, times: int = 1) -> None:
        wait_until(lambda: self.begun == times, what="the work has begun", timeout=30)

    def operator(self) -> WorkOperator:
        operator = WorkOperator(task_id="work", cloud=self.machine.cloud)
        host = self.machine.cloud.host(self.machine.name)
        operator.work = PlacedStep(operator.clients.machine(host), self.step)
        return operator

    def run(self) -> dict[str, str]:
        """Do the work as a task would whose whole wait is in the worker."""
        got = self.operator().run(PLAN, Context())
        assert isinstance(got, dict)
        return got

    def defer(self) -> HostJobsTrigger:
        """Begin the work as a task does, and return what waits for it, as the triggerer makes it."""
        with pytest.raises(TaskDeferred) as deferred:
            self.run()
        _, arguments = deferred.value.trigger.serialize()
        return HostJobsTrigger(**arguments)

    def finish(self, event: list[dict[str, Any]]) -> dict[str, str]:
        context: Any = {"ti": type("Instance", (), {"xcom_pull": lambda *_, **__: PLAN.as_xcom()})()}
        got = self.operator().execute_complete(context, event)
        assert isinstance(got, dict)
        return got


@pytest.fixture
def work(machine: Machine, tmp_path: Path) -> Iterator[Work]:
    work = Work(machine, tmp_path)
    yield work
    with suppress(ProcessLookupError, FileNotFoundError):
        os.killpg(work.group, signal.SIGKILL)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defer as soon as it is known that the job runs."""
    monkeypatch.setattr(operators, "AT_ONCE", 0.3)


@pytest.fixture
def in_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never defer."""
    monkeypatch.setattr(operators, "AT_ONCE", 60)


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Log:
    """What a test's tasks and triggers have logged."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._text = capsys, ""

    def count(self, text: str) -> int:
        self._text += self._capsys.readouterr().out
        return self._text.count(text)

    def wait(self, text: str) -> None:
        wait_until(lambda: self.count(text) > 0, what=f"the log has {text!r}", timeout=30)


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Log:
    return Log(capsys)


Fire = Callable[[HostJobsTrigger], Future[list[dict[str, Any]]]]


@pytest.fixture
def fire(background: ThreadPoolExecutor) -> Fire:
    """Run a trigger, and give its event."""

    async def event(trigger: HostJobsTrigger) -> list[dict[str, Any]]:
        (fired,) = [event async for event in trigger.run()]
        payload: list[dict[str, Any]] = fired.payload
        return payload

    return lambda trigger: background.submit(lambda: asyncio.run(event(trigger)))


@pytest.fixture
def sshd(machine: Machine, steps_lab: Lab) -> Iterator[Callable[[bool], None]]:
    """Stop or start the host's sshd."""

    def turn(on: bool) -> None:
        if not on:
            with suppress(subprocess.CalledProcessError):  # nobody is connected
                machine.cut_connections()
            stop_sshd(machine.lab_host)
            return
        with only_the_fake_heat(steps_lab):
            start_sshd(machine.lab_host)

    yield turn
    turn(True)


def test_a_step_that_is_over_soon_is_not_deferred(work: Work, in_worker: None) -> None:
    work.end()
    assert work.run() == {"said": ODD}


def test_a_step_that_fails_soon_tells_why(work: Work, in_worker: None) -> None:
    work.end(7)
    with pytest.raises(RemoteStepError, match="controller-1: step work ended with status 7, expected 0"):
        work.run()


def test_a_long_step_is_followed_by_the_trigger(work: Work, soon: None, fire: Fire, log: Log) -> None:
    trigger = work.defer()
    work.wait()
    waiting = fire(trigger)
    work.end()
    assert work.finish(waiting.result(30)) == {"said": ODD}
    assert work.begun == 1
    for line in ("it has begun", "it has ended"):
        assert log.count(f"controller-1: {line}") == 1, "each line is told once"
    assert log.count("::said") == 0


def test_a_failure_is_told_after_the_deferral(work: Work, soon: None, fire: Fire) -> None:
    waiting = fire(work.defer())
    work.end(3)
    with pytest.raises(RemoteStepError, match="controller-1: step work ended with status 3, expected 0"):
        work.finish(waiting.result(30))


def test_a_second_try_follows_the_job_of_a_task_that_was_killed(work: Work, in_worker: None, log: Log) -> None:
    task = multiprocessing.get_context("fork").Process(target=work.run)
    task.start()
    work.wait()
    assert task.pid
    os.kill(task.pid, signal.SIGKILL)
    task.join()
    with ThreadPoolExecutor() as pool:
        second = pool.submit(work.run)
        log.wait("runs already, and is followed from its beginning")
        work.end()
        assert second.result(30) == {"said": ODD}
    assert work.begun == 1


def test_two_tries_at_once_give_one_job(work: Work, background: ThreadPoolExecutor) -> None:
    follow = threading.Barrier(5)

    def attempt() -> tuple[bool, dict[str, str]]:
        hook = work.machine.hook
        lines: list[str] = []
        with hook.started(work.step) as running:

            def over() -> bool:
                is_over = running.read()
                lines.extend(line for _, line in running.news())
                return is_over

            wait_until(lambda: over() or lines, what="it follows a job")
            follow.wait(30)
            wait_until(over, what="the job is over", timeout=30)
            return "runs already" in lines[0], hook.outcome(work.step.job, running).results

    tries = [background.submit(attempt) for _ in range(4)]
    follow.wait(30)
    work.end()
    found, results = zip(*[one.result(30) for one in tries], strict=True)
    assert sorted(found) == [False, True, True, True]
    assert list(results) == [{"said": ODD}] * 4
    assert work.begun == 1


def test_the_trigger_outlasts_an_sshd_that_is_away(
    work: Work, soon: None, fire: Fire, sshd: Callable[[bool], None], log: Log
) -> None:
    waiting = fire(work.defer())
    work.wait()
    wait_until(lambda: work.followed, what="the trigger follows the job", timeout=30)
    sshd(False)
    work.end()
    wait_until(lambda: not work.runs, what="the job is over", timeout=30)
    log.wait("connecting again in 4 s")
    assert not waiting.done()
    sshd(True)
    assert work.finish(waiting.result(60)) == {"said": ODD}
    assert work.begun == 1
    assert log.count("connection broke off while step work ran") == 1
    assert log.count("controller-1: it has begun") == 1


def test_a_host_that_stays_away_is_given_up(
    work: Work, soon: None, fire: Fire, sshd: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "ABSENCE", 1.0)
    trigger = work.defer()
    sshd(False)
    event = fire(trigger).result(60)
    with pytest.raises(TransientError, match=r"SSH to .* failed .*check the host.*clear this task"):
        work.finish(event)


def test_a_job_that_takes_too_long_goes_on(work: Work, soon: None, fire: Fire) -> None:
    trigger = work.defer()
    trigger.arguments.jobs[0]["deadline"] = time.time() - 1
    with pytest.raises(UpgradeError, match=r"step work has not ended within 60 s.*jobs/work-.*clear this task, which"):
        work.finish(fire(trigger).result(30))
    assert work.runs


def test_a_job_that_is_killed_on_the_host_is_started_again(
    work: Work, soon: None, fire: Fire, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = fire(work.defer())
    work.wait()
    os.killpg(work.group, signal.SIGKILL)
    with pytest.raises(JobLostError, match=r"ended without a status.*the next try starts it again"):
        work.finish(waiting.result(30))
    work.end()
    monkeypatch.setattr(operators, "AT_ONCE", 60)
    assert work.run() == {"said": ODD}
    assert work.begun == 2


def test_a_user_who_ends_a_deferred_task_ends_the_job(work: Work, soon: None) -> None:
    trigger = work.defer()
    work.wait()
    asyncio.run(trigger.on_kill())
    assert not work.runs


def test_a_user_who_ends_a_running_task_ends_the_job(
    work: Work, in_worker: None, background: ThreadPoolExecutor
) -> None:
    operator = work.operator()
    running = background.submit(operator.run, PLAN, Context())
    work.wait()
    operator.on_kill()
    with pytest.raises(JobLostError, match="the job was stopped, with the task that waited for it"):
        running.result(30)
    assert not work.runs


def test_a_stop_that_was_begun_is_waited_for_by_the_next_try(machine: Machine, tmp_path: Path, soon: None) -> None:
    """The service manager goes on to stop the engine when the step is gone that asked for it."""
    done = tmp_path / "work-is-done"
    machine.configure(OLD, ends_with=str(done))
    machine.serve("engine")
    work = Work(machine, tmp_path)
    work.step = steps.stop_engine(machine.source)
    first = work.defer()
    machine.await_state("engine", OLD, "STOPPING")
    asyncio.run(first.on_kill())
    assert not work.runs
    assert machine.service("engine", OLD) == "STOPPING", "it still has its work"
    second = work.defer()
    assert machine.service("engine", OLD) == "STOPPING"
    done.touch()
    (fired,) = asyncio.run(_all(second))
    assert work.finish(fired.payload) == {}
    assert machine.service("engine", OLD) == "STOPPED"


async def _all(trigger: HostJobsTrigger) -> list[Any]:
    return [event async for event in trigger.run()]


def test_what_the_triggerer_keeps_has_no_secret(work: Work, soon: None) -> None:
    trigger = work.defer()
    path, arguments = trigger.serialize()
    assert path == "heat_upgrade.triggers.job.HostJobsTrigger"
    (followed,) = arguments["jobs"]
    assert followed["machine"] == asdict(Clients(work.machine.cloud).machine(work.machine.cloud.host("controller-1")))
    assert followed["job"] == asdict(work.step.job)
