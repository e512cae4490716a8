"""A step that may take long: a job of its own on its host, which the triggerer follows to its end."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from heat_upgrade import hosts
from heat_upgrade.exceptions import HostRefused, HostUnreachable, JobOverdue
from heat_upgrade.operators.base import CloudOperator
from heat_upgrade.remote.step import Outcome
from heat_upgrade.run.dry_run import Command, Intent
from heat_upgrade.run.plan import Plan
from heat_upgrade.triggers.job import HostJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.hooks.ssh_command import RunningCommand, Told
    from heat_upgrade.remote.step import Job, Step

# Seconds to wait here: to defer and to resume costs as much as two of them.
AT_ONCE = 5.0
# Seconds beyond what the trigger needs to give up by itself and say why.
NET = 900
ERRORS = {error.__name__: error for error in (HostUnreachable, HostRefused, JobOverdue)}


class JobOperator(CloudOperator):
    """
    Have one step done on one host.

    A retry finds the job that runs and follows it. A user who fails, passes or clears the task ends the job.

    :cvar idle: why nothing is to be done, where nothing is
    """

    idle = ""
    _job: tuple[HeatHostHook, Job] | None = None

    def work(self, plan: Plan) -> tuple[Host, Step] | None:
        """Say what is to be done, and where; None if nothing is."""
        raise NotImplementedError(f"{type(self).__name__} has to say what it does")

    def does(self, plan: Plan) -> str:
        """Say in words what the step does."""
        raise NotImplementedError(f"{type(self).__name__} has to say in words what it does")

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Say which step would be started, and where."""
        if (work := self.work(plan)) is None:
            return Intent(f"nothing: {self.idle}")
        host, step = work
        return Intent(self.does(plan), (Command.of(host.name, step),))

    def finish(self, plan: Plan, results: dict[str, str]) -> Any:
        """Do what comes after the step; verify it."""

    def upgrade(self, plan: Plan) -> Any:
        """Start the step's job, or find it, and see its end here if it is over soon."""
        if (work := self.work(plan)) is None:
            return None
        host, step = work
        hook = hosts.hook_for(self.cloud, host)
        self._job = hook, step.job
        with hook.started(step) as running:
            over = self._wait(running, host.name)
            told = running.told
            outcome = hook.outcome(step.job, running) if over else None
        self._job = None
        if outcome is None:
            self._follow(host, step, told)
        return self._judge(plan, host.name, outcome)

    def _follow(self, host: Host, step: Step, told: Told) -> NoReturn:
        self.log.info("%s: step %s goes on, and the triggerer follows it", host.name, step.name)
        self.defer(
            trigger=HostJobTrigger(
                host=hosts.hook_arguments(self.cloud, host),
                job=asdict(step.job),
                told=list(told),
                patience=step.patience,
                deadline=time.time() + step.patience,
            ),
            method_name="execute_complete",
            # The trigger gives up by itself, and says why. This is a net.
            timeout=timedelta(seconds=step.patience + NET),
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Judge how the job has ended, or why nobody knows."""
        if event["raised"]:
            raise ERRORS[event["raised"]](event["message"])
        return self._judge(Plan.of(context), event["host"], Outcome(**event["outcome"]))

    def on_kill(self) -> None:
        """
        End the job with the task.

        A worker that is shut down can't be told from a user who has failed or cleared the task, so the job ends there
        too; the next try takes the step up again.
        """
        if self._job:
            hook, job = self._job
            hook.stop_job(job)

    def _judge(self, plan: Plan, name: str, outcome: Outcome) -> Any:
        from heat_upgrade.hooks.host import judge

        return self.finish(plan, judge(name, outcome))

    def _wait(self, running: RunningCommand, name: str) -> bool:
        deadline = time.monotonic() + AT_ONCE
        over = False
        while not over and time.monotonic() < deadline:
            time.sleep(0.1)
            over = running.read()
            for level, line in running.news():
                self.log.log(level, "%s: %s", name, line)
        return over
