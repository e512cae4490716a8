"""What the upgrade's tasks share: the cloud, the run's plan, and that a dry run only shows what a real one does."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import TransientError
from heat_upgrade.names import MAY_FLIP, PLANNED, UPGRADES
from heat_upgrade.read_only import read_only
from heat_upgrade.run.dry_run import PlannedAction
from heat_upgrade.run.plan import Plan

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud


def other_runs(context: Context, cloud: Cloud) -> list[str]:
    """
    Return the DAGs other than this task's own that have a run over the cloud; of its own Airflow runs one at a time.

    :param context: the task's
    :param cloud: the cloud
    """
    instance = context["ti"]
    others = {f"{upgrade}__{cloud.name}" for upgrade in UPGRADES} - {instance.dag_id}
    return [dag_id for dag_id in sorted(others) if instance.get_dr_count(dag_id, states=["running"])]


def begin(context: Context, cloud: Cloud) -> Plan:
    """
    Return the run's plan, unless another run has taken over the cloud.

    :param context: the task's
    :param cloud: the cloud
    :raises TransientError: while the other one runs
    """
    # Preflight has looked, and any run since has seen this one; but not while this one had failed and wasn't cleared.
    if context["dag_run"].clear_number and (others := other_runs(context, cloud)):
        raise TransientError(
            f"{', '.join(others)} has a run in progress, expected one run over a cloud at a time: see that one to its "
            "end, then clear this task"
        )
    return Plan.of(context)


class CloudOperator(BaseOperator):
    """
    A task of one cloud.

    :param cloud: the cloud
    """

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cloud = cloud

    @cached_property
    def clients(self) -> Clients:
        """Return what connects to the cloud's hosts and servers."""
        return Clients(self.cloud)


class UpgradeTask(CloudOperator):
    """
    A task of an upgrade: it acts, or in a dry run shows what it would do.

    :cvar timed: whether the time that it took once says how long it will take; not so where it waits for people
    """

    timed = True

    def execute(self, context: Context) -> Any:
        """Decide, for all tasks, between the two; what a dry run shows is no result of the task."""
        plan = begin(context, self.cloud)
        if reason := self.left_out(plan):
            raise AirflowSkipException(reason)
        if not plan.dry_run:
            return self.run(plan, context)
        with read_only(self.task_id):
            action = self._after_the_end(context) or self.preview(plan, context)
        self.log.info("Dry run. A real run here: %s", "\n".join(filter(None, [action.text, action.shows])))
        context["ti"].xcom_push(key=PLANNED, value=action.as_xcom())
        return None

    @abstractmethod
    def run(self, plan: Plan, context: Context) -> Any:
        """Inspect the cloud, act where needed, verify; return the task's result."""

    @abstractmethod
    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Read what ``run`` would read, change nothing, wait for nothing, and return what it would do."""

    def left_out(self, plan: Plan) -> str:
        """Return why the task is no part of the run; empty where it is."""
        return ""

    def is_needed(self, plan: Plan) -> bool:
        """Say whether the run needs the task; one that it doesn't is skipped long before its turn."""
        return True

    def _after_the_end(self, context: Context) -> PlannedAction | None:
        """Return that there is nothing to do where a real run would have ended before this task."""
        if MAY_FLIP in self.get_flat_relative_ids(upstream=True):
            gate = context["ti"].xcom_pull(task_ids=MAY_FLIP, key=PLANNED)
            if gate and gate["ends_run"]:
                return PlannedAction.nothing(f"the run would have ended with {MAY_FLIP}")
        return None


def skip_unneeded(task: BaseOperator, plan: Plan) -> None:
    """
    Skip the tasks that the run doesn't need, so that they don't even start.

    :param task: one that comes before them, at its end; whatever follows them needs an arrow past them
    :param plan: the run's plan
    """
    later = task.get_flat_relatives(upstream=False)
    if unneeded := [each.task_id for each in later if isinstance(each, UpgradeTask) and not each.is_needed(plan)]:
        raise DownstreamTasksSkipped(tasks=unneeded)  # type: ignore[no-untyped-call]


def may_be_unneeded(task: object) -> bool:
    """
    Tell whether some runs don't need a task.

    :param task: a task of an upgrade
    """
    return isinstance(task, UpgradeTask) and type(task).is_needed is not UpgradeTask.is_needed
