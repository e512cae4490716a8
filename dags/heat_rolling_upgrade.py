"""
One DAG per cloud file: a rolling upgrade of Heat, in the order of Heat's own upgrade guide.

The old engines stay until the drain is over, which the guide doesn't ask for: stopping a busy engine loses work even
while another one of its release is alive.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TaskGroup, TriggerRule, chain

from heat_upgrade import names
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import Host
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
    SwitchApiOperator,
)
from heat_upgrade.operators.approvals import ApproveRetireOperator, ApproveSwitchOperator, ApproveWaveOperator
from heat_upgrade.operators.database import BackUpDatabaseOperator, SyncDatabaseOperator
from heat_upgrade.operators.dry_run import ShowPlanOperator
from heat_upgrade.operators.engines import RetireEngineOperator, StartEngineOperator
from heat_upgrade.operators.gates import MayStartOperator, MaySwitchOperator
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.prepare import PrepareHostOperator
from heat_upgrade.operators.verify import VerifyCloudOperator
from heat_upgrade.operators.vhosts import CreateVhostOperator, DeleteVhostOperator
from heat_upgrade.run.approvals import OF_ROLLING
from heat_upgrade.sensors.drain import OldEnginesDrainedSensor
from heat_upgrade.timetables.windows import WindowsTimetable

DOC = Path(__file__).with_suffix(".md").read_text()


def rolling_upgrade(cloud: Cloud) -> DAG:
    """Build the DAG that upgrades one cloud."""
    schedule = WindowsTimetable(cloud.windows) if cloud.windows else None
    # A host that isn't part of a run is skipped, and a skip doesn't hold up the next host; a failure does.
    with upgrade_dag(names.ROLLING_UPGRADE, cloud, DOC, TriggerRule.NONE_FAILED, schedule) as dag:
        prepare = for_each(cloud.hosts, names.PREPARE, PrepareHostOperator)
        # A group of their own, not the first task of each host's group: every new engine must listen before the first
        # API moves, and groups that wait for one another can't be drawn.
        start_new_engines = for_each(cloud.hosts_with("engine"), names.START_ENGINES, StartEngineOperator)
        waves = [[switch_api(host) for host in wave] for wave in cloud.api_waves()]
        wait_until_drained = OldEnginesDrainedSensor(
            task_id=names.DRAIN,
            # Where hosts are left for another run, this one ends here.
            on_skipped_callback=notifiers(cloud, "done"),
        )
        retire = retire_old_engines(cloud)
        sync_database = SyncDatabaseOperator(task_id=names.SYNC)
        delete_old_vhost = DeleteVhostOperator(task_id=names.DELETE_VHOST, trigger_rule=TriggerRule.ALL_SUCCESS)
        show_plan = ShowPlanOperator(task_id=names.SHOW_PLAN, trigger_rule=TriggerRule.ALL_SUCCESS)

        chain(
            *([MayStartOperator(task_id=names.MAY_START)] if cloud.windows else []),
            PreflightOperator(task_id=names.PREFLIGHT, on_success_callback=notifiers(cloud, "started")),
            *may_prepare(cloud),
            prepare,
            BackUpDatabaseOperator(task_id=names.BACKUP),
            CreateVhostOperator(task_id=names.VHOST),
            sync_database,
            start_new_engines,
            ApproveSwitchOperator(task_id=names.APPROVE_SWITCH),
            MaySwitchOperator(task_id=names.MAY_SWITCH),
            waves[0],
        )
        one_after_the_other(waves)
        chain(
            waves[-1],
            wait_until_drained,
            ApproveRetireOperator(task_id=names.APPROVE_RETIRE, trigger_rule=TriggerRule.ALL_SUCCESS),
            retire,
            VerifyCloudOperator(
                task_id=names.VERIFY,
                trigger_rule=TriggerRule.ALL_SUCCESS,
                on_success_callback=notifiers(cloud, "done"),
            ),
            delete_old_vhost,
            show_plan,
        )
        report("Rolling upgrade", cloud, unnoticed=sync_database, noticed=wait_until_drained, last=show_plan)
    # Not earlier: each task would get a copy of the form, with all hosts in it.
    dag.params.update(run_parameters(cloud))
    return dag


def switch_api(host: Host) -> TaskGroup:
    """Build the group that moves the APIs of one host; skipped as a whole where the run leaves the host out."""
    with TaskGroup(host.task_id) as group:
        chain(
            LeaveRotationOperator(task_id=names.LEAVE, host=host),
            SwitchApiOperator(task_id=names.SWITCH, host=host, trigger_rule=TriggerRule.ALL_SUCCESS),
            RejoinRotationOperator(task_id=names.REJOIN, host=host, trigger_rule=TriggerRule.ALL_SUCCESS),
        )
    return group


def one_after_the_other(waves: list[list[TaskGroup]]) -> None:
    """Let each wave begin when all of the wave before has been verified, and approved where the run asks for it."""
    for number, (wave, next_wave) in enumerate(pairwise(waves), start=1):
        approve = ApproveWaveOperator(task_id=f"{names.APPROVE_WAVE}{number + 1}", wave=number + 1)
        last: list[TaskGroup] | EmptyOperator = wave
        if not len(wave) == len(next_wave) == 1:
            # One task between them: waves of a hundred hosts would draw ten thousand arrows.
            last = barrier(f"{names.AFTER_WAVE}{number}")
            chain(wave, last)
        chain(last, approve, next_wave)
        # An approval that the run doesn't ask for is skipped before its turn, and holds up nobody then.
        chain(last, next_wave)


def barrier(task_id: str) -> EmptyOperator:
    """Build a task that does nothing; without a callback no worker has to run it."""
    return EmptyOperator(task_id=task_id, on_execute_callback=None)


def retire_old_engines(cloud: Cloud) -> TaskGroup:
    """Build the group that stops the old engines, host after host, once the sensor has opened."""
    with TaskGroup(names.RETIRE) as group:
        chain(
            *[
                RetireEngineOperator(task_id=host.task_id, host=host, trigger_rule=TriggerRule.ALL_SUCCESS)
                for host in cloud.hosts_with("engine")
            ]
        )
    return group


def run_parameters(cloud: Cloud) -> dict[str, Param]:
    """Build the trigger form."""
    hosts = [host.name for host in cloud.hosts]
    return {
        "target_release": target_release(cloud),
        "hosts": Param(
            hosts,
            type="array",
            examples=hosts,
            title="Hosts",
            description="All, or some now and the others in a later run; the last run retires the old engines.",
        ),
        "approvals": approvals(
            OF_ROLLING,
            "Between the hosts, waiting costs: old and new APIs share the rotation, and the two sides can do a stack's "
            "work twice, so answer within minutes. Hosts that move side by side share a question.",
        ),
        "delete_old_vhost": delete_old_vhost(),
        **ignore_windows(cloud),
        **dry_run(),
    }


globals().update(dags_of_clouds(names.ROLLING_UPGRADE, rolling_upgrade))
