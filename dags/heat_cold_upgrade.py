"""One DAG per cloud file: a cold upgrade of Heat, with an outage and with nothing of two releases at work at once."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param, chain

from heat_upgrade import names
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.dag_factory import (
    approvals,
    dags_of_clouds,
    delete_old_vhost,
    dry_run,
    for_each,
    ignore_windows,
    may_prepare,
    report,
    target_release,
    upgrade_dag,
)
from heat_upgrade.notifications.send import notifiers
from heat_upgrade.operators.apis import (
    LeaveRotationOperator,
    RejoinRotationOperator,
    StartApiOperator,
    StopApiOperator,
)
from heat_upgrade.operators.approvals import ApproveOutageOperator, ApproveRetireOperator, ConfirmCutOffOperator
from heat_upgrade.operators.database import BackUpDatabaseOperator, SyncDatabaseOperator
from heat_upgrade.operators.dry_run import ShowPlanOperator
from heat_upgrade.operators.engines import RetireEngineOperator, StartEngineOperator
from heat_upgrade.operators.gates import MayStopOperator
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.prepare import PrepareHostOperator
from heat_upgrade.operators.verify import VerifyCloudOperator
from heat_upgrade.operators.vhosts import CreateVhostOperator, DeleteVhostOperator
from heat_upgrade.run.approvals import OF_COLD
from heat_upgrade.run.parameters import LONGEST_DRAIN
from heat_upgrade.sensors.drain import AllApisStoppedSensor

DOC = Path(__file__).with_suffix(".md").read_text()


def cold_upgrade(cloud: Cloud) -> DAG:
    """Build the DAG that upgrades one cloud."""
    engines = cloud.hosts_with("engine")
    apis = [host for host in cloud.hosts if host.api_roles]
    with upgrade_dag(names.COLD_UPGRADE, cloud, DOC) as dag:
        create_vhost = CreateVhostOperator(task_id=names.VHOST)
        rejoin_rotation = for_each(apis, names.REJOIN, RejoinRotationOperator)
        delete_old_vhost = DeleteVhostOperator(task_id=names.DELETE_VHOST)
        show_plan = ShowPlanOperator(task_id=names.SHOW_PLAN)
        chain(
            # Nobody notices these: the new release is put beside the one that runs.
            PreflightOperator(task_id=names.PREFLIGHT, cold=True, on_success_callback=notifiers(cloud, "started")),
            *may_prepare(cloud),
            for_each(cloud.hosts, names.PREPARE, PrepareHostOperator),
            create_vhost,
            ApproveOutageOperator(task_id=names.APPROVE_OUTAGE),
            *([MayStopOperator(task_id=names.MAY_STOP)] if cloud.windows else []),
            # The outage.
            for_each(apis, names.LEAVE, LeaveRotationOperator),
            for_each(apis, names.STOP_APIS, StopApiOperator),
            AllApisStoppedSensor(task_id=names.DRAIN),
            ConfirmCutOffOperator(task_id=names.CONFIRM),
            ApproveRetireOperator(task_id=names.APPROVE_RETIRE),
            for_each(engines, names.STOP_ENGINES, RetireEngineOperator),
            BackUpDatabaseOperator(task_id=names.BACKUP),
            SyncDatabaseOperator(task_id=names.SYNC),
            for_each(engines, names.START_ENGINES, StartEngineOperator),
            for_each(apis, names.START_APIS, StartApiOperator),
            rejoin_rotation,
            # The end of the outage.
            VerifyCloudOperator(task_id=names.VERIFY, on_success_callback=notifiers(cloud, "done")),
            delete_old_vhost,
            show_plan,
        )
        report("Cold upgrade", cloud, unnoticed=create_vhost, noticed=rejoin_rotation, last=show_plan)
    # Not earlier: each task would get a copy of the form.
    dag.params.update(run_parameters(cloud))
    return dag


def run_parameters(cloud: Cloud) -> dict[str, Param]:
    """Build the trigger form."""
    return {
        "target_release": target_release(cloud),
        "drain": Param(
            None,
            type=["null", "number"],
            minimum=0,
            maximum=LONGEST_DRAIN,
            title="Ask after so many minutes",
            description="How long the engines may take to finish before you are asked whether to cut off what remains. "
            "Empty or 0: never; the run waits as long as the cloud file's drain.timeout says, then fails.",
        ),
        "approvals": approvals(OF_COLD, "Before the old engines stop, waiting costs: no API answers meanwhile."),
        "delete_old_vhost": delete_old_vhost(),
        **ignore_windows(cloud),
        **dry_run(),
    }


globals().update(dags_of_clouds(names.COLD_UPGRADE, cold_upgrade))
