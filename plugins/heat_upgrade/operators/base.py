"""What the upgrade's operators share: the cloud, the run's plan, and hosts that aren't part of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade.exceptions import MayPass
from heat_upgrade.read_only import hands_off
from heat_upgrade.run.dry_run import INTENT, Intent

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud, Deployment
    from heat_upgrade.cloud.sections import Host

PREFLIGHT = "preflight"
DRAIN = "wait_until_drained"
CONFIRM = "confirm_cut_off"
VERIFY = "verify_cloud"
WATCH = "watch_api"
REPORT = "report"
# What upgrades a cloud, by the beginning of its DAG's id; one run of them all at a time.
UPGRADES = ("heat_rolling_upgrade", "heat_cold_upgrade")
# What a plan has several of.
_NAMES = ("hosts", "stranded", "moved")


@dataclass(frozen=True)
class Plan:
    """
    What preflight decided for a run; later tasks read it and still look at the cloud before they act.

    :param source: the release that the cloud comes from
    :param target: the release that it goes to
    :param hosts: names of the hosts that this run upgrades
    :param stranded: ids of stacks that were IN_PROGRESS with nobody working on them before the run
    :param delete_old_vhost: whether the source's vhost is deleted at the end
    :param going_back: whether the target is the older release, which has served here before
    :param cold: whether nothing serves the users between the source's end and the target's start
    :param retired: whether a cold upgrade has found every service on the target alone: there is nothing left to drain
    :param bounded_wait: seconds after which a cold upgrade asks whether to cut off what isn't done; 0 for never
    :param cut_off: what an operator has confirmed to cut off, stacks by id; None where nobody had to
    :param ignore_windows: whether users may be touched outside of maintenance windows
    :param dry_run: whether every task only tells what it would do
    :param approvals: where the run asks an operator before it goes on
    :param moved: names of the hosts whose APIs were on the target before the run
    """

    source: str
    target: str
    hosts: tuple[str, ...]
    stranded: tuple[str, ...] = ()
    delete_old_vhost: bool = False
    going_back: bool = False
    cold: bool = False
    retired: bool = False
    bounded_wait: float = 0.0
    cut_off: Mapping[str, str] | None = None
    ignore_windows: bool = False
    dry_run: bool = False
    approvals: str = "none"
    moved: tuple[str, ...] = ()

    @classmethod
    def of(cls, context: Context) -> Plan:
        """Read the plan from the run's preflight, and what was confirmed since."""
        saved: dict[str, Any] = context["ti"].xcom_pull(task_ids=PREFLIGHT)
        if saved.get("bounded_wait"):
            saved = saved | {"cut_off": context["ti"].xcom_pull(task_ids=CONFIRM)}
        return cls(**saved | {name: tuple(saved[name]) for name in _NAMES})

    def as_xcom(self) -> dict[str, Any]:
        """Return the plan as an XCom holds it."""
        return asdict(self) | {name: list(getattr(self, name)) for name in _NAMES}


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
        with hands_off(self.task_id):
            intent = self._intent(plan, context)
        self.log.info("Dry run. A real one here: %s", "\n".join(filter(None, [intent.says, intent.shows])))
        context["ti"].xcom_push(key=INTENT, value=intent.as_xcom())
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
            drain = context["ti"].xcom_pull(task_ids=DRAIN, key=INTENT)
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
