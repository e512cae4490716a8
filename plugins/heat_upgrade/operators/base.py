"""What the upgrade's operators share: the cloud, the run's plan, and hosts that aren't part of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade.exceptions import MayPass
from heat_upgrade.names import DRAIN, PLANNED, UPGRADES
from heat_upgrade.read_only import read_only
from heat_upgrade.run.dry_run import Intent
from heat_upgrade.run.plan import Plan

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud, Deployment
    from heat_upgrade.cloud.sections import Host


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
    :raises MayPass: while the other one runs
    """
    # Preflight has looked, and any run since has seen this one; but not while this one had failed and wasn't cleared.
    if context["dag_run"].clear_number and (others := other_runs(context, cloud)):
        raise MayPass(
            f"{', '.join(others)} has a run in progress, expected one run over a cloud at a time: see that one to its "
            "end, then clear this task"
        )
    return Plan.of(context)


class UpgradeTask(BaseOperator if TYPE_CHECKING else object):  # type: ignore[misc]
    """
    A task of an upgrade: it acts, or in a dry run tells what it would do. Whoever inherits from it can do both.

    :cvar timed: whether the time that it took once says how long it will take; not so where it waits for people
    """

    cloud: Cloud
    timed = True

    def perform(self, plan: Plan, context: Context) -> Any:
        """Decide, for all tasks, between the two; what a dry run tells is no result of the task."""
        if not plan.dry_run:
            return self.act(plan, context)
        with read_only(self.task_id):
            intent = self._intent(plan, context)
        self.log.info("Dry run. A real one here: %s", "\n".join(filter(None, [intent.says, intent.shows])))
        context["ti"].xcom_push(key=PLANNED, value=intent.as_xcom())
        return None

    def act(self, plan: Plan, context: Context) -> Any:
        """Do the task, and whatever else its run or Airflow wants of it."""
        return self.upgrade(plan)

    def upgrade(self, plan: Plan) -> Any:
        """Do the step: look, act if needed, verify."""
        raise NotImplementedError(f"{type(self).__name__} has to say what it does")

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Read what ``upgrade`` would read, change nothing, wait for nothing, and say what it would do."""
        raise NotImplementedError(f"{type(self).__name__} has to say what it would do in a dry run")

    def _intent(self, plan: Plan, context: Context) -> Intent:
        if DRAIN in self.get_flat_relative_ids(upstream=True):
            drain = context["ti"].xcom_pull(task_ids=DRAIN, key=PLANNED)
            if drain and drain["ends_run"]:
                return Intent(f"nothing: the run would have ended with {DRAIN}")
        return self.rehearse(plan, context)


class CloudOperator(UpgradeTask, BaseOperator):
    """
    A step for the whole cloud.

    :param cloud: the cloud
    """

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cloud = cloud

    def execute(self, context: Context) -> Any:
        """Do the step for the run's plan."""
        return self.perform(begin(context, self.cloud), context)


class HostOperator(CloudOperator):
    """
    A step for one host; skipped where the run leaves the host out.

    :param cloud: the cloud
    :param host: one of its hosts
    """

    def __init__(self, *, host: Host, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.host = host

    def execute(self, context: Context) -> Any:
        """Do the step for the run's plan if the host is part of it."""
        plan = begin(context, self.cloud)
        if self.host.name not in plan.hosts:
            raise AirflowSkipException(f"{self.host.name} is not among this run's hosts: {', '.join(plan.hosts)}")
        return self.perform(plan, context)

    def source(self, plan: Plan) -> Deployment:
        """Return the release that the host comes from, with its paths and names there."""
        return self.cloud.deployment(self.host, self.cloud.release(plan.source))

    def target(self, plan: Plan) -> Deployment:
        """Return the release that the host goes to, with its paths and names there."""
        return self.cloud.deployment(self.host, self.cloud.release(plan.target))
