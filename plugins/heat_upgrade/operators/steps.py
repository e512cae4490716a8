"""Steps on hosts: what a task does there, and what a dry run shows of it, from one declaration."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.sdk.exceptions import AirflowException

from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.hosts import SSH_SESSIONS_AT_ONCE
from heat_upgrade.operators.base import UpgradeTask
from heat_upgrade.readings import Unavailable
from heat_upgrade.remote.step import Outcome, PlacedStep
from heat_upgrade.run.dry_run import PlannedAction, PlannedCommand
from heat_upgrade.run.plan import Plan
from heat_upgrade.triggers.job import FollowedJob, FollowedJobs, HostJobsTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Deployment
    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.hooks.ssh_command import LogOffset, RunningCommand
    from heat_upgrade.remote.step import Job, Machine, Step

T = TypeVar("T")
Results = list[dict[str, str]]
# How a job is after a while: its end, None while it goes on; and how much of its output is in the log.
Begun = tuple["Outcome | None", "LogOffset"]

# Seconds to wait here: to defer and to resume costs as much as two of them.
AT_ONCE = 5.0
# Seconds beyond what the trigger needs to give up by itself with the reason.
NET = 900


class StepsOperator(UpgradeTask):
    """
    Have steps done on hosts: side by side on several machines, one after the other on the same one.

    A step that may take long runs as a job of its own, at most one on a machine; the triggerer follows it to its end. A
    retry finds the job that runs and follows it. A user who fails, passes or clears the task ends it.
    """

    # What on_kill ends: jobs that were begun here, and that the triggerer doesn't follow yet.
    _jobs: Sequence[tuple[HeatHostHook, Job]] = ()

    @abstractmethod
    def steps(self, plan: Plan) -> Sequence[PlacedStep]:
        """Return what is to be done and where; each step inspects the host and changes only what differs."""

    @abstractmethod
    def summary(self, plan: Plan) -> str:
        """Return what the steps do, in a sentence that begins with a verb."""

    def idle(self, plan: Plan) -> str:
        """Return why nothing is to be done; asked only where there is no step."""
        return "every host is as it should be"

    def verify(self, plan: Plan, results: Results) -> Any:
        """
        See that the cloud is as it should be after the steps, and return the task's result.

        :param plan: the run's plan
        :param results: what each step has reported, in the order of ``steps``
        """

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Show the steps."""
        if not (placed := self.steps(plan)):
            return PlannedAction.nothing(self.idle(plan))
        return PlannedAction(self.summary(plan), tuple(PlannedCommand.of(each) for each in placed))

    def run(self, plan: Plan, context: Context) -> Any:
        """Have the steps done, and verify."""
        if not (placed := self.steps(plan)):
            self.log.info("Nothing to do: %s", self.idle(plan))
            return None
        do = self._do_jobs if any(each.step.timeout for each in placed) else self.do
        return self.verify(plan, do(placed))

    def do(self, placed: Sequence[PlacedStep]) -> Results:
        """
        Have short steps done, and return what each has reported.

        :param placed: the steps; on the same machine they come in this order
        :raises Exception: the error of the machine where one has failed, once all others are done as well
        """
        return self._side_by_side(placed, lambda hook, step: hook.run_step(step))

    def _do_jobs(self, placed: Sequence[PlacedStep]) -> Results:
        """Start each step's job, or find it, and see its end here if all are over soon."""
        jobs: list[tuple[HeatHostHook, Job]] = []
        self._jobs = jobs
        begun = self._side_by_side(placed, partial(self._begin, jobs))
        self._jobs = ()
        outcomes = [outcome for outcome, _ in begun if outcome]
        if len(outcomes) < len(placed):
            self._follow(placed, [logged for _, logged in begun])
        return self._judged(zip([each.machine.name for each in placed], outcomes, strict=True))

    def _side_by_side(self, placed: Sequence[PlacedStep], act: Callable[[HeatHostHook, Step], T]) -> list[T]:
        # The hooks read their connections here, in the task's own thread.
        hooks = {each.machine: self.clients.connect(each.machine) for each in placed}
        queues = {
            machine: [number for number, each in enumerate(placed) if each.machine == machine] for machine in hooks
        }
        done: dict[int, T] = {}

        def work(machine: Machine) -> Exception | None:
            try:
                for number in queues[machine]:
                    done[number] = act(hooks[machine], placed[number].step)
            except Exception as error:
                return error
            return None

        if len(hooks) == 1:
            errors = [*map(work, hooks)]
        else:
            with ThreadPoolExecutor(SSH_SESSIONS_AT_ONCE) as pool:
                errors = [*pool.map(work, hooks)]
        raise_first([error for error in errors if error])
        return [done[number] for number in range(len(placed))]

    def _begin(self, jobs: list[tuple[HeatHostHook, Job]], hook: HeatHostHook, step: Step) -> Begun:
        jobs.append((hook, step.job))
        with hook.started(step) as running:
            over = self._wait(running, hook.name)
            return hook.outcome(step.job, running) if over else None, running.offset

    def _wait(self, running: RunningCommand, name: str) -> bool:
        deadline = time.monotonic() + AT_ONCE
        over = False
        while not over and time.monotonic() < deadline:
            time.sleep(0.1)
            over = running.read()
            for level, line in running.news():
                self.log.log(level, "%s: %s", name, line)
        return over

    def _follow(self, placed: Sequence[PlacedStep], logged: Sequence[LogOffset]) -> NoReturn:
        followed = [
            FollowedJob(
                machine=asdict(machine),
                job=asdict(step.job),
                logged=list(offset),
                timeout=step.timeout,
                deadline=time.time() + step.timeout,
            )
            for (machine, step), offset in zip(placed, logged, strict=True)
        ]
        for machine, step in placed:
            self.log.info("%s: step %s goes on, and the triggerer follows it", machine.name, step.name)
        self.defer(
            trigger=HostJobsTrigger(FollowedJobs([asdict(each) for each in followed])),
            method_name="execute_complete",
            # The trigger gives up by itself, with the reason. This is a net.
            timeout=timedelta(seconds=max(each.timeout for each in followed) + NET),
        )

    def execute_complete(self, context: Context, event: list[dict[str, Any]]) -> Any:
        """Verify how the jobs have ended; fail where one has not ended well, or where that isn't known."""
        raise_first([Unavailable(each["reason"], each["retryable"]).error for each in event if each["reason"]])
        outcomes = [(each["machine"], Outcome(**each["outcome"])) for each in event]
        return self.verify(Plan.of(context), self._judged(outcomes))

    def _judged(self, outcomes: Iterable[tuple[str, Outcome]]) -> Results:
        from heat_upgrade.hooks.host import judge

        results: Results = []
        errors: list[Exception] = []
        for name, outcome in outcomes:
            try:
                results.append(judge(name, outcome))
            except AirflowException as error:
                errors.append(error)
        raise_first(errors)
        return results

    def on_kill(self) -> None:
        """
        End the jobs with the task.

        A worker that is shut down can't be told from a user who has failed or cleared the task, so the jobs end there
        too; the next try takes the steps up again.
        """
        errors: list[Exception] = []
        for hook, job in self._jobs:
            try:
                hook.stop_job(job)
            except Exception as error:
                errors.append(error)
        raise_first(errors)


class HostOperator(StepsOperator):
    """
    Steps for one host; skipped where the run leaves the host out.

    :param host: one of the cloud's hosts
    """

    def __init__(self, *, host: Host, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.host = host

    def left_out(self, plan: Plan) -> str:
        """Leave out a host that the run doesn't upgrade."""
        if self.host.name in plan.hosts:
            return ""
        return f"{self.host.name} is not among this run's hosts: {', '.join(plan.hosts)}"

    def source(self, plan: Plan) -> Deployment:
        """Return the release that the host comes from, with its paths and names there."""
        return self.cloud.deployment(self.host, self.cloud.release(plan.source))

    def target(self, plan: Plan) -> Deployment:
        """Return the release that the host goes to, with its paths and names there."""
        return self.cloud.deployment(self.host, self.cloud.release(plan.target))

    def here(self, *steps: Step) -> list[PlacedStep]:
        """Return steps, each on the host itself."""
        return [PlacedStep(self.clients.machine(self.host), step) for step in steps]


def raise_first(errors: Sequence[Exception]) -> None:
    """
    Raise what has gone wrong on some machines; another try helps only where it may help on each of them.

    :param errors: none, or one for each machine where something has
    :raises Exception: the only error as it is; of several one with all their texts
    """
    if not errors:
        return
    lasting = [error for error in errors if not isinstance(error, TransientError)]
    unforeseen = [error for error in lasting if not isinstance(error, AirflowException)]
    if len(errors) == 1 or unforeseen:
        raise [*unforeseen, *errors][0]
    kind = UpgradeError if lasting else TransientError
    raise kind("\n".join(map(str, errors)))
