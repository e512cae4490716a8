"""
One DAG per cloud file: a rolling upgrade of Heat, in the order of Heat's own upgrade guide.

The old engines stay until the drain is over, which the guide doesn't ask for: stopping a busy engine loses work even
while another one of its release is alive.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from airflow.sdk import DAG, BaseOperator, Param, TaskGroup, TriggerRule, chain

from heat_upgrade import dag_params, names
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import Host
from heat_upgrade.dag_factory import (
    barrier,
    dags_of_clouds,
    for_each,
    in_order,
    may_prepare,
    report,
    upgrade_dag,
    watch,
)
from heat_upgrade.notifications.send import notifiers
from heat_upgrade.operators import apis, approvals, database, dry_run, engines, gates, verify, vhosts
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.prepare import PrepareHostOperator
from heat_upgrade.run.approvals import OF_ROLLING
from heat_upgrade.sensors.drain import OldEnginesDrainedSensor
from heat_upgrade.timetables.windows import WindowsTimetable

DOC = Path(__file__).with_suffix(".md").read_text()
# Else a task minds no skip: a host that isn't part of a run is skipped, and holds up neither the next host nor the run.
ALL = {"trigger_rule": TriggerRule.ALL_SUCCESS}
Sweep = list[TaskGroup | BaseOperator | list[TaskGroup]]


def rolling_upgrade(cloud: Cloud) -> DAG:
    """Build the DAG that upgrades one cloud."""
    schedule = WindowsTimetable(cloud.windows) if cloud.windows else None
    with upgrade_dag(names.ROLLING_UPGRADE, cloud, DOC, TriggerRule.NONE_FAILED, schedule) as dag:
        guide(cloud)
    # Not earlier: each task would get a copy of the form, with all hosts in it.
    dag.params.update(run_parameters(cloud))
    return dag


def guide(cloud: Cloud) -> None:
    """Build the tasks, and put them in the order of the guide."""
    started, done = notifiers(cloud, "started"), notifiers(cloud, "done")
    may_start = gates.MayStartOperator(task_id=names.MAY_START) if cloud.windows else None
    preflight = PreflightOperator(task_id=names.PREFLIGHT, on_success_callback=started)
    prepare = for_each(cloud.hosts, names.PREPARE, PrepareHostOperator)
    back_up_database = database.BackUpDatabaseOperator(task_id=names.BACKUP)
    create_vhost = vhosts.CreateVhostOperator(task_id=names.VHOST)
    sync_database = database.SyncDatabaseOperator(task_id=names.SYNC)
    start_new_engines = for_each(cloud.hosts_with("engine"), names.START_ENGINES, engines.StartEngineOperator)
    approve_switch = approvals.ApproveSwitchOperator(task_id=names.APPROVE_SWITCH)
    may_switch = gates.MaySwitchOperator(task_id=names.MAY_SWITCH)
    # Where hosts are left for another run, this one ends here.
    wait_until_drained = OldEnginesDrainedSensor(task_id=names.DRAIN, on_skipped_callback=done)
    approve_retire = approvals.ApproveRetireOperator(task_id=names.APPROVE_RETIRE, **ALL)
    verify_cloud = verify.VerifyCloudOperator(task_id=names.VERIFY, on_success_callback=done, **ALL)
    delete_old_vhost = vhosts.DeleteVhostOperator(task_id=names.DELETE_VHOST, **ALL)
    show_plan = dry_run.ShowPlanOperator(task_id=names.SHOW_PLAN, **ALL)
    watch_api = watch(cloud)

    ahead = (may_start, preflight, may_prepare(cloud), prepare, back_up_database)
    beside = (create_vhost, sync_database, start_new_engines)
    switch = (approve_switch, may_switch, *sweep(cloud), wait_until_drained)
    end = (approve_retire, retire(cloud), verify_cloud, delete_old_vhost, show_plan)
    in_order(*ahead, *beside, *switch, *end)
    chain([sync_database, wait_until_drained], watch_api)
    chain([show_plan, watch_api], report(cloud, "Rolling upgrade"))


def sweep(cloud: Cloud) -> Sweep:
    """Build the steps that move the APIs, wave after wave, with an approval between them where the run asks for it."""
    waves = [[move_apis(host) for host in wave] for wave in cloud.api_waves()]
    steps: Sweep = [waves[0]]
    for number, (wave, next_wave) in enumerate(pairwise(waves), start=1):
        if not len(wave) == len(next_wave) == 1:
            # One task between them: waves of a hundred hosts would draw ten thousand arrows.
            steps.append(barrier(f"{names.AFTER_WAVE}{number}"))
        # An approval that the run doesn't ask for is skipped before its turn, and holds up nobody then.
        chain(steps[-1], next_wave)
        steps += [
            approvals.ApproveWaveOperator(task_id=f"{names.APPROVE_WAVE}{number + 1}", wave=number + 1),
            next_wave,
        ]
    return steps


def move_apis(host: Host) -> TaskGroup:
    """Build the group that moves the APIs of one host; skipped as a whole where the run leaves the host out."""
    with TaskGroup(host.task_id) as group:
        chain(
            apis.LeaveRotationOperator(task_id=names.LEAVE, host=host),
            apis.SwitchApiOperator(task_id=names.SWITCH, host=host, **ALL),
            apis.RejoinRotationOperator(task_id=names.REJOIN, host=host, **ALL),
        )
    return group


def retire(cloud: Cloud) -> TaskGroup:
    """Build the group that stops the old engines, host after host, once the sensor has opened."""
    with TaskGroup(names.RETIRE) as group:
        hosts = cloud.hosts_with("engine")
        chain(*[engines.RetireEngineOperator(task_id=host.task_id, host=host, **ALL) for host in hosts])
    return group


def run_parameters(cloud: Cloud) -> dict[str, Param]:
    """Build the trigger form."""
    hosts = [host.name for host in cloud.hosts]
    return {
        "target_release": dag_params.target_release(cloud),
        "hosts": Param(
            hosts,
            type="array",
            examples=hosts,
            title="Hosts",
            description="All, or some now and the others in a later run; the last run retires the old engines.",
        ),
        "approvals": dag_params.approvals(
            OF_ROLLING,
            "Between the hosts, waiting costs: old and new APIs share the rotation, and the two sides can do a stack's "
            "work twice, so answer within minutes. Hosts that move side by side share a question.",
        ),
        "delete_old_vhost": dag_params.delete_old_vhost(),
        **dag_params.ignore_windows(cloud),
        **dag_params.dry_run(),
    }


globals().update(dags_of_clouds(names.ROLLING_UPGRADE, rolling_upgrade))
