"""A run waits for a maintenance window and goes on by itself; a scheduled one with nothing pending is skipped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import dag_id
from lab.cloud.model import Lab
from lab.processes import wait_until
from tests.e2e.before_upgrade.sinks import Sinks
from tests.e2e.labs import NEW, OLD

pytestmark = pytest.mark.timeout(900)

IDLE = "heat_rolling_upgrade__idle"
PATIENCE = 300.0  # seconds for one step on a busy machine
# From writing a window into the cloud file to the task or the scheduler that waits for it.
AHEAD = timedelta(seconds=30)
LATER = timedelta(hours=22)


def write_window(lab: Lab, cloud: str, opening: datetime) -> None:
    """Give a cloud file, a copy of the lab's, one window that opens every day and has room for the sweep."""
    data = yaml.safe_load((lab.clouds_directory / f"{lab.name}.yaml").read_text(encoding="utf-8"))
    window = {"cron": f"{opening.minute} {opening.hour} * * *", "minutes": 60, "timezone": "UTC"}
    data["notifications"] = [{"kind": "webhook", "connection": "night_hook", "events": ["window"]}]
    data["windows"] = {"openings": [window]}
    partial = lab.clouds_directory / f"{cloud}.partial"
    partial.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    partial.replace(lab.clouds_directory / f"{cloud}.yaml")


def soon() -> datetime:
    return (datetime.now(UTC) + AHEAD + timedelta(minutes=1)).replace(second=0, microsecond=0)


def task(api: AirflowApi, dag: str, run: str, task_id: str) -> dict[str, Any]:
    (found,) = (instance for instance in api.task_instances(dag, run) if instance["task_id"] == task_id)
    return found


@pytest.fixture(scope="module")
def idle_opening(lab: Lab, api: AirflowApi, told: Sinks) -> datetime:
    """Let a window open soon for a cloud with nothing pending, and one much later for the lab's own."""
    opening = soon()
    write_window(lab, "idle", opening)
    write_window(lab, lab.name, opening + LATER)
    api.wait_for_dag(dag_id(lab))
    api.reparse(dag_id(lab))
    api.wait_for_dag(IDLE)
    return opening


def test_a_run_waits_for_a_window_and_goes_on_by_itself(
    lab: Lab, api: AirflowApi, told: Sinks, idle_opening: datetime
) -> None:
    dag, first = dag_id(lab), "controller_1.leave_rotation"
    run = api.trigger(dag, {"target_release": NEW})
    api.wait_for_task(dag, run, "may_switch", ["deferred"], timeout=PATIENCE)
    assert f"Waiting until {idle_opening + LATER:%Y-%m-%d %H:%M} UTC" in api.log(dag, run, "may_switch")

    opening = soon()
    write_window(lab, lab.name, opening)
    api.clear_tasks(dag, run, ["may_switch"])
    wait = f"Waiting until {opening:%Y-%m-%d %H:%M} UTC"
    wait_until(lambda: wait in api.log(dag, run, "may_switch"), what="the gate looks again", timeout=PATIENCE)
    assert task(api, dag, run, first)["state"] is None

    api.wait_for_task(dag, run, first, ["success"], timeout=PATIENCE)
    assert datetime.fromisoformat(task(api, dag, run, first)["start_date"]) >= opening
    assert "A window is open for another" in api.log(dag, run, "may_switch")
    messages = [body for body in told.bodies() if body["run_id"] == run]
    assert {(body["event"], body["task_id"]) for body in messages} == {("window", "may_switch")}
    first_told, then_told = (body["text"] for body in messages)
    assert f"Waiting until {idle_opening + LATER:%Y-%m-%d %H:%M} UTC" in first_told
    assert wait in then_told


def test_a_scheduled_run_with_nothing_pending_is_skipped(api: AirflowApi, idle_opening: datetime) -> None:
    wait_until(lambda: bool(api.runs(IDLE)), what="a run starts when the window opens", timeout=PATIENCE)
    (run,) = api.runs(IDLE)
    assert run["run_type"] == "scheduled"
    assert datetime.fromisoformat(run["run_after"]) == idle_opening
    assert api.wait_for_run(IDLE, run["dag_run_id"], timeout=PATIENCE) == "success"
    states = api.task_states(IDLE, run["dag_run_id"])
    assert states.pop("may_start") == "success"
    assert set(states.values()) == {"skipped"}
    assert "has no pending_release" in api.log(IDLE, run["dag_run_id"], "may_start")


@pytest.mark.long
def test_a_later_run_judges_its_sweep_by_how_long_hosts_took(lab: Lab, api: AirflowApi, idle_opening: datetime) -> None:
    dag, lasts = dag_id(lab), [f"{host}.rejoin_rotation" for host in ("controller_1", "controller_2")]
    *_, run = (run["dag_run_id"] for run in api.runs(dag) if run["run_type"] == "manual")
    api.wait_for_task(dag, run, lasts[-1], ["success"], timeout=PATIENCE)
    slowest = max(api.xcoms(dag, run, last)["return_value"] for last in lasts)
    api.stop_run(dag, run)

    again = api.trigger(dag, {"target_release": OLD})
    api.wait_for_task(dag, again, "may_switch", ["success"], timeout=PATIENCE)
    log = api.log(dag, again, "may_switch")
    assert f"2 hosts in 2 waves are left; a host takes {slowest:.0f} s (controller-" in log
    api.stop_run(dag, again)
