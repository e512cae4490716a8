"""One run of the upgrade's DAG in a lab's Airflow, told line by line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab.airflow.client import AirflowApi, TaskStates
from lab.airflow.server import airflow_client
from lab.cloud.model import Lab
from lab.traffic.moments import Moments, Window

# Airflow gives such tasks times as well.
NEVER_AT_WORK = {"skipped", "upstream_failed", "removed"}
TOLD = {"running", "deferred", "success", "failed", "up_for_retry", "skipped", "upstream_failed"}


@dataclass(frozen=True)
class DagRun:
    """
    A finished run.

    :param dag_id: its DAG.
    :param run_id: its id.
    :param state: success or failed.
    :param seconds: from its start to its end.
    :param drain_seconds: how long the sensor waited, from its first start to its end.
    :param moments: when it did what users may feel.
    """

    dag_id: str
    run_id: str
    state: str
    seconds: float
    drain_seconds: float
    moments: Moments


def dag_id(lab: Lab) -> str:
    """Return the id of the lab's upgrade DAG."""
    return f"heat_rolling_upgrade__{lab.name}"


def run_upgrade(lab: Lab, conf: Mapping[str, Any], *, timeout: float = 1800, tell: bool = True) -> DagRun:
    """
    Trigger the lab's upgrade and wait for its end.

    :param lab: the lab; its Airflow runs.
    :param conf: the run's parameters.
    :param timeout: seconds to wait at most.
    :param tell: print a line for each task that changes its state.
    :raises AirflowApiError: on a timeout or a refused request.
    """
    api = airflow_client(lab)
    api.wait_for_dag(dag_id(lab))
    begun = time.monotonic()

    def progress(changed: TaskStates) -> None:
        for task, state in changed.items():
            if tell and state in TOLD:
                print(f"{time.monotonic() - begun:7.1f} s  {state:<15} {task}", flush=True)

    run_id = api.trigger(dag_id(lab), conf)
    state = api.wait_for_run(dag_id(lab), run_id, timeout=timeout, progress=progress)
    return finished(api, dag_id(lab), run_id, state)


def finished(api: AirflowApi, dag: str, run_id: str, state: str) -> DagRun:
    """Return what Airflow recorded of a run's times."""
    (began, ended), tasks = _times(api.run(dag, run_id)), _task_times(api, dag, run_id)
    drain = tasks.get("wait_until_drained")
    windows = {task: _held(api, dag, run_id, task) for task in ("flip", "close") if task in tasks}
    moments = Moments(began, windows.get("flip"), drain[1] if drain else None, windows.get("close"))
    return DagRun(dag, run_id, state, ended - began, drain[1] - drain[0] if drain else 0.0, moments)


def _held(api: AirflowApi, dag: str, run_id: str, task: str) -> Window | None:
    """Return from when to when a task held what users change, as it tells; None where it had nothing to hold."""
    told = api.xcoms(dag, run_id, task).get("return_value") or {}
    if "held_from" not in told:
        return None
    return Window(*(datetime.fromisoformat(told[key]).timestamp() for key in ("held_from", "held_until")))


def failed_logs(api: AirflowApi, run: DagRun) -> str:
    """Return the end of the log of each task that failed."""
    failed = [task for task, state in api.task_states(run.dag_id, run.run_id).items() if state == "failed"]
    return "\n".join(f"--- {task}\n{api.log(run.dag_id, run.run_id, task)[-3000:]}" for task in failed)


def _task_times(api: AirflowApi, dag: str, run_id: str) -> dict[str, tuple[float, float]]:
    """Return begin and end of each task that has been at work, in seconds since the epoch."""
    tasks = [task for task in api.task_instances(dag, run_id) if task["state"] not in NEVER_AT_WORK]
    return {task["task_id"]: _times(task) for task in tasks if task["start_date"] and task["end_date"]}


def _times(timed: Mapping[str, Any]) -> tuple[float, float]:
    begun, ended = (datetime.fromisoformat(timed[key]).timestamp() for key in ("start_date", "end_date"))
    return begun, ended
