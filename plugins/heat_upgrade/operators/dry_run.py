"""The end of a dry run: what all its tasks have shown, as one plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade.formatting import duration
from heat_upgrade.names import PLANNED, VERIFY
from heat_upgrade.operators.apis import LeaveRotationOperator, RejoinRotationOperator
from heat_upgrade.operators.base import CloudOperator, begin
from heat_upgrade.operators.flip import HELD_FOR
from heat_upgrade.operators.steps import HostOperator
from heat_upgrade.remote import steps
from heat_upgrade.run.dry_run import DryRun, PlannedAction, PlannedTask, markdown
from heat_upgrade.run.timings import Timings, longest_path

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from heat_upgrade.run.plan import Plan


class ShowPlanOperator(CloudOperator):
    """Show the plan of a dry run, and keep it as its XCom; skipped in a run that has done what others plan."""

    def execute(self, context: Context) -> str:
        """Gather what the tasks before this one have shown."""
        plan = begin(context, self.cloud)
        if not plan.dry_run:
            raise AirflowSkipException("this was no dry run: it has done what a dry run shows")
        page = markdown(self.gathered(plan, context))
        self.log.info("The plan\n%s", page)
        return page

    def gathered(self, plan: Plan, context: Context) -> DryRun:
        """Return what the tasks of this run have shown, with the time that a real one would take."""
        timings = Timings.last(context, going_back=plan.going_back)
        order = {task.task_id: task for task in self.dag.topological_sort()}  # type: ignore[no-untyped-call]
        tasks = self._tasks(order, timings, context)
        some_host = self.cloud.deployment(self.cloud.hosts[0], self.cloud.release(plan.source))
        upstream = {name: task.upstream_task_ids for name, task in order.items()}
        # What wouldn't be done takes no time, whatever it took when it was.
        takes = {task.task: task.seconds for task in tasks if task.seconds and not task.action.idle}
        # A run that ended at the drain, with hosts left for another one, says nothing about a whole run.
        run = timings.run if VERIFY in timings.seconds else ""
        outage = longest_path(upstream, _outage(takes, order)) if run else 0.0
        return DryRun(
            title=self._title(plan),
            tasks=tasks,
            estimate=[
                self._total(run, longest_path(upstream, takes)),
                self._touched(plan, _leaving(tasks, order), outage),
            ],
            unpacking=steps.stop_api(some_host).unpacking,
        )

    def _tasks(self, order: Mapping[str, BaseOperator], timings: Timings, context: Context) -> list[PlannedTask]:
        actions = context["ti"].xcom_pull(task_ids=list(order), key=PLANNED, map_indexes=-1)
        timed = {name for name, task in order.items() if getattr(task, "timed", True)}
        return [
            PlannedTask(
                task=name,
                host=task.host.name if isinstance(task, HostOperator) else "",
                action=PlannedAction.of_xcom(saved),
                seconds=timings.seconds.get(name) if name in timed else None,
            )
            for (name, task), saved in zip(order.items(), actions, strict=True)
            if saved
        ]

    def _title(self, plan: Plan) -> str:
        kind = "going back" if plan.going_back else "cold upgrade" if plan.cold else "upgrade"
        return f"{kind} of {self.cloud.name} from {plan.source} to {plan.target} on {', '.join(plan.hosts)}"

    def _total(self, run: str, seconds: float) -> str:
        if run:
            return (
                f"The whole run: about {duration(seconds)} as its tasks took in {run}, and a second or two of "
                "Airflow's between them; waiting for windows and answers isn't in it."
            )
        drain = self.cloud.drain
        return (
            "The whole run: not known, as no such run has got through yet. By the cloud file the drain takes "
            f"{duration(drain.readings * drain.interval)} to {duration(drain.timeout)}; how long installation, backup "
            "and migration take, the first run will show."
        )

    def _touched(self, plan: Plan, leaving: set[str], outage: float) -> str:
        if not leaving:
            return "Users: nothing is left to do that they could notice."
        windows = self.cloud.windows
        if not plan.cold:
            return (
                "Users: the old release serves them until the flip, which holds what changes a stack for a second or "
                f"two, {HELD_FOR} s at most; however long the sweep takes, they don't notice it."
            )
        if outage:
            return f"The outage: about {duration(outage)}, as its tasks took in that run."
        granted = f"; the cloud file grants {duration(windows.seconds_per_outage)}" if windows else ""
        return f"The outage: not known, as no such run has got through yet{granted}."


def _leaving(tasks: Iterable[PlannedTask], order: Mapping[str, BaseOperator]) -> set[str]:
    """Return the hosts whose APIs users would see leave."""
    return {task.host for task in tasks if isinstance(order[task.task], LeaveRotationOperator) and task.action.commands}


def _outage(takes: Mapping[str, float], order: Mapping[str, BaseOperator]) -> dict[str, float]:
    """Return the times of the tasks between the first API that leaves and the last that rejoins."""
    first, last = (
        {name for name, task in order.items() if isinstance(task, kind)}
        for kind in (LeaveRotationOperator, RejoinRotationOperator)
    )
    return {
        name: seconds
        for name, seconds in takes.items()
        if first & {name, *order[name].get_flat_relative_ids(upstream=True)}
        and last & {name, *order[name].get_flat_relative_ids(upstream=False)}
    }
