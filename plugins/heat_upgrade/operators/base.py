"""What the upgrade's operators share: the cloud, the run's plan, and hosts that aren't part of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud import Cloud, Deployment, Host

PREFLIGHT = "preflight"


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
    :param ignore_windows: whether users may be touched outside of maintenance windows
    """

    source: str
    target: str
    hosts: tuple[str, ...]
    stranded: tuple[str, ...] = ()
    delete_old_vhost: bool = False
    going_back: bool = False
    ignore_windows: bool = False

    @classmethod
    def of(cls, context: Context) -> Plan:
        """Read the plan from the run's preflight."""
        saved: dict[str, Any] = context["ti"].xcom_pull(task_ids=PREFLIGHT)
        return cls(**{**saved, "hosts": tuple(saved["hosts"]), "stranded": tuple(saved["stranded"])})

    def as_xcom(self) -> dict[str, Any]:
        """Return the plan as an XCom holds it."""
        return asdict(self) | {"hosts": list(self.hosts), "stranded": list(self.stranded)}


class CloudOperator(BaseOperator):
    """
    A step for the whole cloud.

    :param cloud: the cloud
    """

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cloud = cloud

    def execute(self, context: Context) -> Any:
        """Do the step for the run's plan."""
        return self.upgrade(Plan.of(context))

    def upgrade(self, plan: Plan) -> Any:
        """Do the step: look, act if needed, verify."""
        raise NotImplementedError(f"{type(self).__name__} has to say what it does")


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
        plan = Plan.of(context)
        if self.host.name not in plan.hosts:
            raise AirflowSkipException(f"{self.host.name} is not among this run's hosts: {', '.join(plan.hosts)}")
        return self.upgrade(plan)

    def source(self, plan: Plan) -> Deployment:
        """Return the release that the host comes from, with its paths and names there."""
        return self.cloud.deployment(self.host, self.cloud.release(plan.source))

    def target(self, plan: Plan) -> Deployment:
        """Return the release that the host goes to, with its paths and names there."""
        return self.cloud.deployment(self.host, self.cloud.release(plan.target))
