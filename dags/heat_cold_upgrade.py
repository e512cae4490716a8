"""One DAG per cloud file: a cold upgrade of Heat, with an outage and with nothing of two releases at work at once."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param, chain

from heat_upgrade import dag_params, names
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.dag_factory import dags_of_clouds, for_each, in_order, may_prepare, report, upgrade_dag, watch
from heat_upgrade.notifications.send import notifiers
from heat_upgrade.operators import apis, approvals, database, dry_run, engines, gates, verify, vhosts
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.prepare import PrepareHostOperator
from heat_upgrade.run.approvals import OF_COLD
from heat_upgrade.run.parameters import LONGEST_DRAIN
from heat_upgrade.sensors.drain import AllApisStoppedSensor

DOC = Path(__file__).with_suffix(".md").read_text()


def cold_upgrade(cloud: Cloud) -> DAG:
    """Build the DAG that upgrades one cloud."""
    with upgrade_dag(names.COLD_UPGRADE, cloud, DOC) as dag:
        guide(cloud)
    # Not earlier: each task would get a copy of the form.
    dag.params.update(run_parameters(cloud))
    return dag


def guide(cloud: Cloud) -> None:
    """Build the tasks, and put them in order; between ``may_stop`` and ``verify_cloud`` users have no Heat."""
    with_engine, with_api = cloud.hosts_with("engine"), cloud.api_hosts
    started, done = notifiers(cloud, "started"), notifiers(cloud, "done")
    preflight = PreflightOperator(task_id=names.PREFLIGHT, cold=True, on_success_callback=started)
    prepare = for_each(cloud.hosts, names.PREPARE, PrepareHostOperator)
    create_vhost = vhosts.CreateVhostOperator(task_id=names.VHOST)
    approve_outage = approvals.ApproveOutageOperator(task_id=names.APPROVE_OUTAGE)
    may_stop = gates.MayStopOperator(task_id=names.MAY_STOP) if cloud.windows else None
    leave_rotation = for_each(with_api, names.LEAVE, apis.LeaveRotationOperator)
    stop_apis = for_each(with_api, names.STOP_APIS, apis.StopApiOperator)
    wait_until_drained = AllApisStoppedSensor(task_id=names.DRAIN)
    confirm_cut_off = approvals.ConfirmCutOffOperator(task_id=names.CONFIRM)
    approve_retire = approvals.ApproveRetireOperator(task_id=names.APPROVE_RETIRE)
    stop_engines = for_each(with_engine, names.STOP_ENGINES, engines.RetireEngineOperator)
    back_up_database = database.BackUpDatabaseOperator(task_id=names.BACKUP)
    sync_database = database.SyncDatabaseOperator(task_id=names.SYNC)
    start_new_engines = for_each(with_engine, names.START_ENGINES, engines.StartEngineOperator)
    start_apis = for_each(with_api, names.START_APIS, apis.StartApiOperator)
    rejoin_rotation = for_each(with_api, names.REJOIN, apis.RejoinRotationOperator)
    verify_cloud = verify.VerifyCloudOperator(task_id=names.VERIFY, on_success_callback=done)
    delete_old_vhost = vhosts.DeleteVhostOperator(task_id=names.DELETE_VHOST)
    show_plan, watch_api = dry_run.ShowPlanOperator(task_id=names.SHOW_PLAN), watch(cloud)

    ahead = (preflight, may_prepare(cloud), prepare, create_vhost, approve_outage, may_stop)
    stop = (leave_rotation, stop_apis, wait_until_drained, confirm_cut_off, approve_retire, stop_engines)
    start = (back_up_database, sync_database, start_new_engines, start_apis, rejoin_rotation)
    end = (verify_cloud, delete_old_vhost, show_plan)
    in_order(*ahead, *stop, *start, *end)
    chain([create_vhost, rejoin_rotation], watch_api)
    chain([show_plan, watch_api], report(cloud, "Cold upgrade"))


def run_parameters(cloud: Cloud) -> dict[str, Param]:
    """Build the trigger form."""
    return {
        "target_release": dag_params.target_release(cloud),
        "drain": Param(
            None,
            type=["null", "number"],
            minimum=0,
            maximum=LONGEST_DRAIN,
            title="Ask after so many minutes",
            description="How long the engines may take to finish before you are asked whether to cut off what remains. "
            "Empty or 0: never; the run waits as long as the cloud file's drain.timeout says, then fails.",
        ),
        "approvals": dag_params.approvals(
            OF_COLD, "Before the old engines stop, waiting costs: no API answers meanwhile."
        ),
        "delete_old_vhost": dag_params.delete_old_vhost(),
        **dag_params.ignore_windows(cloud),
        **dag_params.dry_run(),
    }


globals().update(dags_of_clouds(names.COLD_UPGRADE, cold_upgrade))
