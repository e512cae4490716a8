"""What the DAG files share: a DAG per cloud file, and a group with the same task for every host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param, TaskGroup, TriggerRule, chain

from heat_upgrade.cloud.loader import CloudFileError, clouds_directory, load_clouds
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import Host
from heat_upgrade.names import MAY_PREPARE, PREFLIGHT, REPORT, WATCH
from heat_upgrade.notifications.send import notifiers
from heat_upgrade.operators.api_watch import WatchApiOperator
from heat_upgrade.operators.gates import MayPrepareOperator
from heat_upgrade.operators.preflight import BrokenCloudOperator
from heat_upgrade.operators.report import ReportOperator
from heat_upgrade.operators.steps import HostOperator
from heat_upgrade.report.notes import note_begin, note_error
from heat_upgrade.retries import RETRIES
from heat_upgrade.run.approvals import Approvals

if TYPE_CHECKING:
    from airflow.timetables.base import Timetable


def dags_of_clouds(procedure: str, build: Callable[[Cloud], DAG]) -> dict[str, DAG]:
    """
    Build a procedure's DAG for every cloud file; a broken one shows what is wrong with it, and the others keep theirs.

    :param procedure: what the DAGs' ids begin with
    :param build: gives the DAG of one cloud
    """
    dags = [
        _broken_cloud(f"{procedure}__{name}", cloud) if isinstance(cloud, CloudFileError) else build(cloud)
        for name, cloud in load_clouds(clouds_directory()).items()
    ]
    return {dag.dag_id: dag for dag in dags}


def upgrade_dag(
    procedure: str,
    cloud: Cloud,
    doc: str,
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS,
    schedule: Timetable | None = None,
) -> DAG:
    """
    Return an empty DAG for one cloud, as every upgrade wants it.

    :param procedure: what its id begins with
    :param cloud: the cloud; every task gets it
    :param doc: what the UI shows, as Markdown
    :param trigger_rule: what each task wants of those before it, unless it says otherwise
    :param schedule: when runs start by themselves; None for never
    """
    notes = {"on_execute_callback": note_begin, "on_failure_callback": [note_error, *notifiers(cloud, "error")]}
    return cloud_dag(procedure, cloud, doc, "upgrade", schedule, trigger_rule=trigger_rule, **notes)


def cloud_dag(
    procedure: str, cloud: Cloud, doc: str, tag: str, schedule: Timetable | None = None, **every_task: Any
) -> DAG:
    """
    Return an empty DAG for one cloud; its tasks are tried again by the same rules in every DAG.

    :param procedure: what its id begins with
    :param cloud: the cloud; every task gets it
    :param doc: what the UI shows, as Markdown
    :param tag: what the DAG is about, to be found by
    :param schedule: when runs start by themselves; None for never
    :param every_task: more that every task gets, unless it says otherwise
    """
    return DAG(
        dag_id=f"{procedure}__{cloud.name}",
        schedule=schedule,
        max_active_runs=1,
        catchup=False,
        default_args={"cloud": cloud, **RETRIES, **every_task},
        doc_md=doc,
        tags=["heat", tag, cloud.name],
    )


def target_release(cloud: Cloud) -> Param:
    """Build the form's field for the release to go to."""
    return Param(
        # A form that is sent off as it is neither goes back nor jumps; which release runs only the hosts can tell.
        None,
        type=["null", "string"],
        enum=[None, *(release.version for release in cloud.releases)],
        values_display={"null": "the one after the release that runs"},
        title="Target release",
        description="Empty: the one after the release that runs. The one before it goes back. A jump is refused.",
    )


def approvals(choices: Iterable[Approvals], costs: str) -> Param:
    """
    Build the form's field for where the run asks.

    :param choices: where such a run can ask
    :param costs: what waiting for an answer costs
    """
    return Param(
        str(Approvals.NONE),
        type="string",
        enum=list(map(str, choices)),
        title="Approvals",
        description="Where the run asks you, under Required Actions, before it goes on. Reject, or no answer in time, "
        f"stops it there. {costs}",
    )


def delete_old_vhost() -> Param:
    """Build the form's field for the end of the old vhost."""
    return Param(
        False,
        type="boolean",
        title="Delete the old vhost",
        description="Delete the old release's RabbitMQ vhost at the end. Off, it stays until you delete it.",
    )


def ignore_windows(cloud: Cloud) -> dict[str, Param]:
    """Build the form's field for a run that doesn't wait for a window; none where the cloud has no windows."""
    if not cloud.windows:
        return {}
    return {
        "ignore_windows": Param(
            False,
            type="boolean",
            title="Ignore maintenance windows",
            description="Affect users at once, whether a maintenance window is open or not.",
        )
    }


def dry_run() -> dict[str, Param]:
    """Build the form's field for a run that changes nothing."""
    return {
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Read everything, change nothing, and show the plan: what would be done on each host, the "
            "exact commands, how heat.conf would change, the drain as it is now, and how long it would take.",
        )
    }


def report(
    kind: str, cloud: Cloud, *, unnoticed: BaseOperator, noticed: BaseOperator | TaskGroup, last: BaseOperator
) -> None:
    """
    Let a run end with a report, and watch the API meanwhile.

    :param kind: what the DAG does, as ``Rolling upgrade``
    :param cloud: the cloud
    :param unnoticed: a task before users are touched; the watch begins after it
    :param noticed: what comes last of all that touches users; clearing any of it watches again
    :param last: the last task
    """
    # Begins as soon as one of the two is done, which is always the first: the second one is there for the clearing.
    watch_api = WatchApiOperator(task_id=WATCH, cloud=cloud, trigger_rule=TriggerRule.ONE_SUCCESS)
    chain([unnoticed, noticed], watch_api)
    # A teardown, as it runs also where somebody marks the run as failed. Nobody needs to hear twice of one failure.
    end = ReportOperator(task_id=REPORT, cloud=cloud, kind=kind, on_failure_callback=None)
    chain([last, watch_api], end.as_teardown(on_failure_fail_dagrun=True))


def may_prepare(cloud: Cloud) -> list[MayPrepareOperator]:
    """Build the gate before the preparation, for a cloud that wants even what no user notices in a window."""
    wanted = cloud.windows and not cloud.windows.prepare_outside
    return [MayPrepareOperator(task_id=MAY_PREPARE, cloud=cloud)] if wanted else []


def _broken_cloud(dag_id: str, error: CloudFileError) -> DAG:
    with DAG(dag_id=dag_id, schedule=None, doc_md=f"```\n{error}\n```", tags=["heat", "broken"]) as dag:
        BrokenCloudOperator(task_id=PREFLIGHT, problems=str(error))
    return dag


def for_each(hosts: Iterable[Host], group_id: str, operator: type[HostOperator]) -> TaskGroup:
    """
    Build a group with the same task for every host, all at once.

    :param hosts: hosts of the DAG's cloud
    :param group_id: the group
    :param operator: what each task does
    """
    with TaskGroup(group_id) as group:
        for host in hosts:
            operator(task_id=host.task_id, host=host)
    return group
