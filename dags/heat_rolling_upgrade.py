"""
One DAG per cloud file: a rolling upgrade of Heat, in the order of Heat's own upgrade guide.

Two things are safer than the guide. The old engines stay until the drain is over: stopping a busy one loses work even
while another one of its release is alive. And users are sent to the new release at one moment, on all hosts: no stack
is ever worked on by two sides, which can't ask each other.
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
from heat_upgrade.operators import apis, approvals, canary, database, dry_run, engines, flip, gates, verify, vhosts
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.prepare import PrepareHostOperator
from heat_upgrade.run.approvals import OF_ROLLING
from heat_upgrade.sensors.drain import OldEnginesDrainedSensor
from heat_upgrade.timetables.windows import WindowsTimetable

DOC = Path(__file__).with_suffix(".md").read_text()
# Else a task minds no skip: a host that isn't part of a run is skipped, and holds up neither the next host nor the run.
ALL = {"trigger_rule": TriggerRule.ALL_SUCCESS}
# A run without a canary skips its tasks; one that ends at the gate skips these, too.
CANARY_OR_NONE = {"trigger_rule": TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS}
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
    # All of them first, each seen listening, before anybody can be sent to them.
    start_new_engines = for_each(cloud.hosts_with("engine"), names.START_ENGINES, engines.StartEngineOperator)
    start_beside = flip.StartBesideOperator(task_id=names.START_BESIDE)
    prove_new_side = flip.ProveOperator(task_id=names.PROVE)
    approve_flip = approvals.ApproveFlipOperator(task_id=names.APPROVE_FLIP)
    # Where hosts are left for another run, this one ends here.
    may_flip = gates.MayFlipOperator(task_id=names.MAY_FLIP, on_skipped_callback=done)
    flip_sides = flip.FlipOperator(task_id=names.FLIP, **CANARY_OR_NONE)
    wait_until_drained = OldEnginesDrainedSensor(task_id=names.DRAIN, **ALL)
    approve_retire = approvals.ApproveRetireOperator(task_id=names.APPROVE_RETIRE, **ALL)
    close = flip.CloseOperator(task_id=names.CLOSE, **ALL)
    retire = engines.RetireEnginesOperator(task_id=names.RETIRE, **ALL)
    verify_cloud = verify.VerifyCloudOperator(task_id=names.VERIFY, on_success_callback=done, **ALL)
    delete_old_vhost = vhosts.DeleteVhostOperator(task_id=names.DELETE_VHOST, **ALL)
    show_plan = dry_run.ShowPlanOperator(task_id=names.SHOW_PLAN, **ALL)
    watch_api = watch(cloud)

    ahead = (may_start, preflight, may_prepare(cloud), prepare, back_up_database)
    beside = (create_vhost, sync_database, start_new_engines, start_beside)
    in_front = (*sweep(cloud), prove_new_side)
    over = (approve_flip, may_flip, *some_first(), flip_sides, wait_until_drained)
    end = (approve_retire, close, retire, verify_cloud, delete_old_vhost, show_plan)
    in_order(*ahead, *beside, *in_front, *over, *end)
    # What the run doesn't need is skipped before its turn, and holds up nobody then.
    chain(prove_new_side, may_flip, flip_sides)
    chain([sync_database, close], watch_api)
    chain([show_plan, watch_api], report(cloud, "Rolling upgrade"))


def sweep(cloud: Cloud) -> Sweep:
    """Build the steps that put the new APIs in front, wave after wave, with an approval between them if asked for."""
    waves = [[put_in_front(host) for host in wave] for wave in cloud.api_waves()]
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


def put_in_front(host: Host) -> TaskGroup:
    """Build the group that puts a host's new APIs in front; skipped as a whole where the run leaves the host out."""
    with TaskGroup(host.task_id) as group:
        chain(
            apis.LeaveRotationOperator(task_id=names.LEAVE, host=host),
            apis.SwitchApiOperator(task_id=names.SWITCH, host=host, **ALL),
            apis.RejoinRotationOperator(task_id=names.REJOIN, host=host, **ALL),
        )
    return group


def some_first() -> list[BaseOperator]:
    """Build the steps of a canary, whose projects go over before everybody else."""
    return [
        canary.FlipCanaryOperator(task_id=names.FLIP_CANARY, **ALL),
        canary.WatchCanaryOperator(task_id=names.WATCH_CANARY, **ALL),
        canary.EndCanaryOperator(task_id=names.END_CANARY, **ALL),
    ]


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
            description="All, or some now and the others in a later run, which sends users over and ends the old side.",
        ),
        "canary": dag_params.canary(cloud),
        "approvals": dag_params.approvals(
            OF_ROLLING,
            "Waiting costs users nothing: until the flip the old release serves all of them. Hosts that move side by "
            "side share a question.",
        ),
        "delete_old_vhost": dag_params.delete_old_vhost(),
        **dag_params.ignore_windows(cloud),
        **dag_params.dry_run(),
    }


globals().update(dags_of_clouds(names.ROLLING_UPGRADE, rolling_upgrade))
