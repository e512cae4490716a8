"""
Airflow's APIs that aren't public: all that the package uses of them, each with the reason and where it was found.

The places are those of Airflow 3.3.2 with task SDK 1.3.2. After another release of Airflow look here first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID


def ended_tasks(instance: Any) -> Iterable[dict[str, Any]]:
    """
    Return ``task_id``, ``state`` and ``duration`` (seconds) of each task of a run that is over.

    ``airflow.sdk.execution_time.task_runner`` (3.3.2): the task instance has it, its public protocol doesn't.

    :param instance: the task instance of any task of the run
    """
    crumbs: Iterable[dict[str, Any]] = instance.get_task_breadcrumbs(instance.dag_id, instance.run_id)
    return crumbs


def task_states(dag_id: str, run_id: str) -> Mapping[str, str | None]:
    """
    Return the state of each task of a run, None for one that waits for its turn.

    ``airflow.sdk.execution_time.task_runner`` (3.3.2): a trigger's task instance doesn't have it, a task's does.

    :param dag_id: the DAG
    :param run_id: the run
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states: Mapping[str, str | None] = RuntimeTaskInstance.get_task_states(dag_id, run_ids=[run_id]).get(run_id, {})
    return states


async def store_xcom(task: Mapping[str, str], key: str, value: Any) -> None:
    """
    Store an XCom of a task that waits in the triggerer.

    ``airflow.sdk.execution_time.xcom`` (3.3.2): a trigger's task instance has no ``xcom_push``.

    :param task: ``dag_id``, ``run_id`` and ``task_id``
    :param key: under which key
    :param value: anything that JSON holds
    """
    from airflow.sdk.execution_time.xcom import XCom

    await XCom.aset(key, value, map_index=-1, **task)


async def stored_xcom(task: Mapping[str, str], key: str) -> Any:
    """
    Return an XCom of a task that waits in the triggerer, None where there is none.

    ``airflow.sdk.execution_time.xcom`` (3.3.2): a trigger's task instance has no ``xcom_pull``.

    :param task: ``dag_id``, ``run_id`` and ``task_id``
    :param key: under which key
    """
    from airflow.sdk.execution_time.xcom import XCom

    return await XCom.aget_one(key=key, map_index=-1, **task)


def redacted(text: str) -> str:
    """
    Return a text without what Airflow knows for a secret, as its own logs have it.

    ``airflow.sdk.log`` (3.3.2): the function is there, but isn't exported.

    :param text: any text
    """
    from airflow.sdk.log import redact  # type: ignore[attr-defined]

    return str(redact(text))


def ask_while_deferred(instance: UUID, options: Sequence[str], subject: str, body: str) -> None:
    """
    Show a question for a task that is about to be deferred; an answer resumes it in place of its trigger's event.

    ``airflow.sdk.execution_time.hitl`` (3.3.2): ``HITLOperator`` asks only for tasks that wait for nothing else. In
    ``airflow.api_fastapi.core_api.routes.public.hitl`` an answer resumes deferred tasks as well.

    :param instance: the id of the task instance
    :param options: the answers to choose from
    :param subject: the question
    :param body: what is shown with it, as Markdown
    """
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    upsert_hitl_detail(ti_id=instance, options=list(options), subject=subject, body=body, params={})


def only_readers_of_xcoms() -> Callable[..., None]:
    """
    Return the dependency of a FastAPI route that lets in whoever may read a DAG's XComs, and nobody else.

    ``airflow.api_fastapi`` (3.3.2): an app of a plugin is served without any check of who asks.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag

    return requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM)


def xcom_in_server(dag_id: str, run_id: str, task: str, key: str) -> Any:
    """
    Return an XCom of a run in the API server's process, None where there is none.

    ``airflow.models`` (3.3.2): the task SDK reads XComs for tasks; the server has them in its database.

    :param dag_id: the DAG
    :param run_id: the run
    :param task: the task's id
    :param key: under which key
    """
    from airflow.models.xcom import XComModel
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.utils.session import create_session

    query = XComModel.get_many(run_id=run_id, key=key, dag_ids=dag_id, task_ids=task, map_indexes=-1, limit=1)
    with create_session(scoped=False) as session:
        row = session.scalars(query).first()
        return None if row is None else XCom.deserialize_value(row)
