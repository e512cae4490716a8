"""The moments of a run, read from what Airflow recorded of its tasks."""

from __future__ import annotations

from typing import Any

import pytest

from lab.airflow.dag_run import finished
from lab.traffic.moments import Moments, Window


class Airflow:
    """What the client of Airflow's API returns of one run."""

    def __init__(self, state: str = "success", **tasks: tuple[str, str | None]) -> None:
        self._state = state
        self._tasks = tasks

    def run(self, *_: str) -> dict[str, Any]:
        return _record("run", "00:00:10", "00:03:10")

    def xcoms(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """Return what a task tells of its hold; one that began at 00:02 had nothing to hold."""
        begin, end = self._tasks[task]
        if begin and begin.startswith("00:02"):
            return {"return_value": {"held": {}}}
        held = {"held_from": f"1970-01-01T{begin}+00:00", "held_until": f"1970-01-01T{end}+00:00"}
        return {"return_value": {"held": {"c1": 1.0}, **held}}

    def task_instances(self, *_: str) -> list[dict[str, Any]]:
        return [{"state": self._state, **_record(task, *times)} for task, times in self._tasks.items()]


def _record(name: str, begin: str | None, end: str | None) -> dict[str, Any]:
    times = {"start_date": begin, "end_date": end}
    return {"task_id": name, **{key: time and f"1970-01-01T{time}Z" for key, time in times.items()}}


@pytest.mark.parametrize(
    ("tasks", "drain", "moments"),
    [
        (
            {
                "flip": ("00:01:00.5", "00:01:03"),
                "wait_until_drained": ("00:01:04", "00:01:44"),
                "close": ("00:01:45", "00:01:47"),
            },
            40.0,
            Moments(10.0, Window(60.5, 63.0), 104.0, Window(105.0, 107.0)),
        ),
        ({"wait_until_drained": ("00:01:04", "00:01:44")}, 40.0, Moments(10.0, gate=104.0)),
        ({"flip": ("00:02:00", "00:02:09")}, 0.0, Moments(10.0)),
        ({"flip": ("00:01:00", None), "wait_until_drained": (None, None)}, 0.0, Moments(10.0)),
    ],
)
def test_a_finished_run_knows_its_moments(tasks: dict[str, Any], drain: float, moments: Moments) -> None:
    run = finished(Airflow(**tasks), "dag", "run-1", "failed")  # type: ignore[arg-type]
    assert (run.state, run.seconds, run.drain_seconds) == ("failed", 180.0, drain)
    assert run.moments == moments


@pytest.mark.parametrize("state", ["skipped", "upstream_failed"])
def test_a_run_that_ended_before_the_flip_has_none_though_airflow_gives_its_tasks_times(state: str) -> None:
    tasks = {"flip": ("00:01:00", "00:01:00"), "wait_until_drained": ("00:01:00", "00:01:00")}
    run = finished(Airflow(state, **tasks), "dag", "run-1", "success")  # type: ignore[arg-type]
    assert (run.drain_seconds, run.moments) == (0.0, Moments(10.0))
