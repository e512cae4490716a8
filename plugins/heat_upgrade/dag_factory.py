"""What the DAG files share: a DAG per cloud file, when tasks are tried again, and what each guide is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import (
    DAG,
    BaseOperator,
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
    TaskGroup,
    TriggerRule,
    chain,
)

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

if TYPE_CHECKING:
    from airflow.timetables.base import Timetable

# As the table of heat_upgrade.exceptions says; Airflow never retries the others that it names, and retries the rest.
POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="heat_upgrade.exceptions.TransientError",
            action=RetryAction.RETRY,
            reason="a host or server doesn't answer, or a job was cut off: that may pass by itself",
        ),
        RetryRule(
            exception="airflow.sdk.exceptions.AirflowNotFoundException",
            action=RetryAction.FAIL,
            reason="an Airflow connection is missing: add the one that the error names, then clear this task",
        ),
    ]
)
# Tries after 5 to 10, 10 to 20, ... 80 to 120 seconds: an outage of a minute passes, and five minutes are enough.
RETRIES: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
    "retry_policy": POLICY,
}


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


def in_order(*steps: BaseOperator | TaskGroup | list[TaskGroup] | None) -> None:
    """
    Put the steps of a guide one after the other.

    :param steps: tasks, groups, or groups side by side; None for one that the cloud doesn't want
    """
    chain(*(step for step in steps if step is not None))


def barrier(task_id: str) -> EmptyOperator:
    """
    Build a task that does nothing; without a callback no worker has to run it.

    :param task_id: its id
    """
    return EmptyOperator(task_id=task_id, on_execute_callback=None)


def may_prepare(cloud: Cloud) -> MayPrepareOperator | None:
    """
    Build the gate before the preparation, for a cloud that wants even what no user notices in a window.

    :param cloud: the cloud
    """
    wanted = cloud.windows and not cloud.windows.prepare_outside
    return MayPrepareOperator(task_id=MAY_PREPARE, cloud=cloud) if wanted else None


def watch(cloud: Cloud) -> WatchApiOperator:
    """
    Build the task that watches the API while users are touched.

    It comes after a task before they are, and after the last task that touches them. It begins as soon as one of the
    two is done, which is always the first: the second one is there so that clearing it watches again.

    :param cloud: the cloud
    """
    return WatchApiOperator(task_id=WATCH, cloud=cloud, trigger_rule=TriggerRule.ONE_SUCCESS)


def report(cloud: Cloud, kind: str) -> BaseOperator:
    """
    Build the task that ends a run: a teardown, as it runs also where somebody marks the run as failed.

    :param cloud: the cloud
    :param kind: what the DAG does, as ``Rolling upgrade``
    """
    # Nobody needs to hear twice of one failure.
    end = ReportOperator(task_id=REPORT, cloud=cloud, kind=kind, on_failure_callback=None)
    end.as_teardown(on_failure_fail_dagrun=True)
    return end
