"""Steps on several machines in one task: side by side, each to its end, from the declaration that a dry run shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import HostUnreachableError, RemoteStepError, TransientError, UpgradeError
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hooks.ssh_command import LogOffset, RunningCommand
from heat_upgrade.operators import steps as module
from heat_upgrade.operators.steps import Results, StepsOperator
from heat_upgrade.remote.step import Job, Machine, Outcome, PlacedStep, Step
from heat_upgrade.run.plan import Plan
from tests.unit._helpers.healthy import CLOUD, NEW, OLD
from tests.unit.operators.test_operators import context, ended

PLAN = Plan(OLD, NEW, ("controller-1",))
C1, C2 = (Machine(name, "ssh", "10.0.0.1") for name in ("c1", "c2"))
Act = Callable[[str, Step], dict[str, str]]


class FlipOperator(StepsOperator):
    """Something on several machines at once."""

    placed: tuple[PlacedStep, ...] = ()

    def steps(self, plan: Plan) -> tuple[PlacedStep, ...]:
        return self.placed

    def summary(self, plan: Plan) -> str:
        return "flip them all"

    def verify(self, plan: Plan, results: Results) -> Results:
        return results


def flip(*placed: tuple[Machine, str], timeout: float = 0) -> Any:
    task = FlipOperator(task_id="flip", cloud=CLOUD)
    task.placed = tuple(PlacedStep(machine, Step(name, {}, "/state", timeout=timeout)) for machine, name in placed)
    return task


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Callable[[Act], None]:
    """Return what lets a step do something."""

    def connect(act: Act, machine: Machine) -> HeatHostHook:
        hook = mock.create_autospec(HeatHostHook, instance=True)
        hook.name = machine.name
        hook.run_step.side_effect = lambda step: act(machine.name, step)
        return hook  # type: ignore[no-any-return]

    return lambda act: monkeypatch.setattr(Clients, "connect", lambda _, machine: connect(act, machine))


def test_machines_work_side_by_side_and_each_in_its_order(machines: Callable[[Act], None]) -> None:
    both, done = threading.Barrier(2, timeout=10), []

    def act(name: str, step: Step) -> dict[str, str]:
        if step.name == "hold":
            both.wait()
        done.append((name, step.name))
        return {"said": f"{name} {step.name}"}

    machines(act)
    task = flip((C1, "hold"), (C2, "hold"), (C1, "release"))
    assert [result["said"] for result in task.execute(context(PLAN))] == ["c1 hold", "c2 hold", "c1 release"]
    assert [step for name, step in done if name == "c1"] == ["hold", "release"]


def test_a_machine_that_fails_stops_itself_and_no_other(machines: Callable[[Act], None]) -> None:
    done = []

    def act(name: str, step: Step) -> dict[str, str]:
        if name == "c1":
            raise RemoteStepError("c1: the disk is full")
        done.append((name, step.name))
        return {}

    machines(act)
    with pytest.raises(RemoteStepError, match=r"^c1: the disk is full$"):
        flip((C1, "hold"), (C2, "hold"), (C1, "release"), (C2, "release")).execute(context(PLAN))
    assert done == [("c2", "hold"), ("c2", "release")]


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((HostUnreachableError("c1: away"), HostUnreachableError("c2: away")), TransientError),
        ((HostUnreachableError("c1: away"), RemoteStepError("c2: the disk is full")), UpgradeError),
        ((HostUnreachableError("c1: away"), ValueError("c2: nobody has foreseen it")), ValueError),
    ],
    ids=["may pass", "does not pass", "unforeseen"],
)
def test_another_try_helps_only_where_it_may_help_everywhere(
    errors: tuple[Exception, Exception], kind: type[Exception], machines: Callable[[Act], None]
) -> None:
    raised = dict(zip(("c1", "c2"), errors, strict=True))

    def act(name: str, step: Step) -> dict[str, str]:
        raise raised[name]

    machines(act)
    with pytest.raises(kind) as caught:
        flip((C1, "hold"), (C2, "hold")).execute(context(PLAN))
    assert str(errors[1]) in str(caught.value)
    assert isinstance(caught.value, AirflowFailException) == (kind is UpgradeError)


def test_a_dry_run_shows_the_same_steps(machines: Callable[[Act], None]) -> None:
    machines(lambda *_: pytest.fail("a step in a dry run"))
    action = flip((C1, "hold"), (C2, "hold")).preview(PLAN, context(PLAN))
    assert (action.summary, action.idle) == ("flip them all", False)
    assert [command.where for command in action.commands] == ["c1", "c2"]
    assert all("/hold </dev/null" in command.line for command in action.commands)


def test_where_there_is_no_step_a_run_and_a_dry_run_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert flip().execute(context(PLAN)) is None
    assert "Nothing to do: every host is as it should be" in capsys.readouterr().out
    assert flip().preview(PLAN, context(PLAN)).text == "nothing: every host is as it should be"


class TestJobs:
    """Long steps: jobs on all machines, and one wait for all of them."""

    @pytest.fixture
    def over(self, monkeypatch: pytest.MonkeyPatch) -> set[str]:
        """Return the machines whose jobs are over at once; others' go on."""
        over: set[str] = set()
        monkeypatch.setattr(module, "AT_ONCE", 0.0)

        def connect(_: Clients, machine: Machine) -> HeatHostHook:
            hook = mock.create_autospec(HeatHostHook, instance=True)
            hook.name = machine.name

            @contextmanager
            def started(_: Step) -> Iterator[RunningCommand]:
                running = mock.create_autospec(RunningCommand, instance=True, offset=LogOffset(1, 0))
                running.read.side_effect = lambda: machine.name in over
                running.news.side_effect = lambda: iter(())
                yield running

            hook.started.side_effect = started
            hook.outcome.return_value = Outcome(0, {"said": machine.name})
            return hook  # type: ignore[no-any-return]

        monkeypatch.setattr(module, "AT_ONCE", 0.05)
        monkeypatch.setattr(Clients, "connect", connect)
        return over

    def test_where_one_goes_on_the_triggerer_follows_all(self, over: set[str]) -> None:
        over.add("c1")
        task = flip((C1, "stop"), (C2, "stop"), timeout=60)
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context(PLAN))
        jobs = deferred.value.trigger.arguments.jobs
        assert [job["machine"] for job in jobs] == [asdict(C1), asdict(C2)]
        event = [ended(Outcome(0, {"said": name}), name) for name in ("c1", "c2")]
        assert task.execute_complete(context(PLAN), event) == [{"said": "c1"}, {"said": "c2"}]

    def test_where_all_are_over_nobody_waits(self, over: set[str]) -> None:
        over.update(("c1", "c2"))
        assert flip((C1, "stop"), (C2, "stop"), timeout=60).execute(context(PLAN)) == [{"said": "c1"}, {"said": "c2"}]

    def test_every_end_that_is_no_good_one_is_told(self, over: set[str]) -> None:
        event = [
            ended(Outcome(1, {}, "the disk is full"), "c1"),
            ended(Outcome(1, {"job": "lost"}, "x"), "c2"),
        ]
        with pytest.raises(UpgradeError, match=r"c1: the disk is full\nc2: the job has ended without a status"):
            flip((C1, "stop"), (C2, "stop"), timeout=60).execute_complete(context(PLAN), event)

    def test_a_killed_task_ends_every_job(self, over: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
        task = flip((C1, "stop"), (C2, "stop"), timeout=60)
        stopped = []

        def kill(_: object, running: RunningCommand, name: str) -> bool:
            begun.wait()
            if name == "c1":
                with pytest.raises(HostUnreachableError, match="c1: away"):
                    task.on_kill()
            return True

        begun = threading.Barrier(2, timeout=10)
        connect = Clients.connect

        def connected(clients: Clients, machine: Machine) -> HeatHostHook:
            def stop(job: Job) -> None:
                stopped.append((machine.name, job))
                if machine is C1:
                    raise HostUnreachableError("c1: away")

            hook: Any = connect(clients, machine)
            hook.stop_job.side_effect = stop
            return hook  # type: ignore[no-any-return]

        monkeypatch.setattr(Clients, "connect", connected)
        monkeypatch.setattr(FlipOperator, "_wait", kill)
        task.execute(context(PLAN))
        assert sorted(stopped) == [("c1", task.placed[0].step.job), ("c2", task.placed[1].step.job)]
