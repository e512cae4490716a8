"""The flip waits for a maintenance window, nothing else does; a scheduled run with nothing pending is skipped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, dag_id, run_upgrade
from lab.cloud.model import Lab
from lab.processes import wait_until
from tests.e2e.labs import explain, in_front, programs, side, there_or_back
from tests.e2e.lifecycle.sinks import Sinks

pytestmark = pytest.mark.timeout(1200)

GATE, IDLE = "may_flip", "heat_rolling_upgrade__idle"
PATIENCE = 600.0  # seconds for the first part of a run on a busy machine
# From writing a window into the cloud file to the task or the scheduler that waits for it.
AHEAD = timedelta(seconds=30)
LATER = timedelta(hours=22)


def write_window(lab: Lab, cloud: str, opening: datetime) -> None:
    """Give a cloud file, a copy of the lab's, one window that opens every day."""
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


@dataclass(frozen=True)
class Story:
    """A run that waits for a window, flips in it and is stopped; and another one that finishes outside of any."""

    source: str
    target: str
    run: str
    opening: datetime
    waited: dict[str, str]
    answering: str
    in_front: dict[str, str]
    flip_began: datetime
    logs: dict[str, str]
    after_flip: str
    finish: DagRun
    finish_log: str


@pytest.fixture(scope="module")
def story(lab: Lab, api: AirflowApi, idle_opening: datetime) -> Story:
    dag, logs = dag_id(lab), {}
    source, target = there_or_back(lab)
    run = api.trigger(dag, {"target_release": target})
    api.wait_for_task(dag, run, GATE, ["deferred"], timeout=PATIENCE)
    waited, answering, front = api.task_states(dag, run), side(lab), in_front(lab)
    logs["preflight"], logs["later"] = api.log(dag, run, "preflight"), api.log(dag, run, GATE)

    opening = soon()
    write_window(lab, lab.name, opening)
    api.clear_tasks(dag, run, [GATE])
    wait = f"Waiting until {opening:%Y-%m-%d %H:%M} UTC"
    wait_until(lambda: wait in api.log(dag, run, GATE), what="the gate looks again", timeout=PATIENCE)
    assert task(api, dag, run, "flip")["state"] is None
    api.wait_for_task(dag, run, "flip", ["success"], timeout=PATIENCE)
    logs["opened"] = api.log(dag, run, GATE)
    api.stop_run(dag, run)
    after_flip = side(lab)

    write_window(lab, lab.name, idle_opening + LATER)
    finish = run_upgrade(lab, {"target_release": target})
    return Story(
        source=source,
        target=target,
        run=run,
        opening=opening,
        waited=waited,
        answering=answering,
        in_front=front,
        flip_began=datetime.fromisoformat(task(api, dag, run, "flip")["start_date"]),
        logs=logs,
        after_flip=after_flip,
        finish=finish,
        finish_log=api.log(dag, finish.run_id, GATE),
    )


def test_all_before_the_flip_needs_no_window(lab: Lab, story: Story) -> None:
    assert "the run waits for it before users are touched" in " ".join(story.logs["preflight"].split())
    done = ("start_new_engines.controller_1", "start_beside", "controller_2.rejoin_rotation", "prove_new_side")
    assert {story.waited[name] for name in done} == {"success"}
    assert story.in_front == dict.fromkeys(story.in_front, story.target)
    assert len(story.in_front) == len(lab.hosts_with("api"))


def test_the_flip_waits_for_one_and_goes_on_by_itself(
    lab: Lab, told: Sinks, story: Story, idle_opening: datetime
) -> None:
    assert story.waited["flip"] == "none"
    assert story.answering == story.source
    later = f"Waiting until {idle_opening + LATER:%Y-%m-%d %H:%M} UTC"
    assert later in story.logs["later"]
    assert story.flip_began >= story.opening
    assert "A window is open for another" in story.logs["opened"]
    assert story.after_flip == story.target
    messages = [body for body in told.bodies() if body["run_id"] == story.run]
    assert {(body["event"], body["task_id"]) for body in messages} == {("window", GATE)}
    first_told, then_told = (body["text"] for body in messages)
    assert later in first_told
    assert f"Waiting until {story.opening:%Y-%m-%d %H:%M} UTC" in then_told


def test_what_follows_a_flip_waits_for_no_window_also_in_another_run(
    lab: Lab, api: AirflowApi, told: Sinks, story: Story
) -> None:
    assert story.finish.state == "success", explain(api, story.finish)
    assert f"Users are on the side of {story.target} already: no window is needed" in story.finish_log
    assert [body for body in told.bodies() if body["run_id"] == story.finish.run_id] == []
    assert programs(lab, story.source) == []


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
def test_a_run_that_ignores_the_windows_flips_outside_of_them(
    lab: Lab, api: AirflowApi, told: Sinks, story: Story, idle_opening: datetime
) -> None:
    run = run_upgrade(lab, {"target_release": story.source, "ignore_windows": True})
    assert run.state == "success", explain(api, run)
    ignored = "Maintenance windows are ignored, as this run's ignore_windows asks for it"
    assert ignored in api.log(run.dag_id, run.run_id, GATE)
    assert [body for body in told.bodies() if body["run_id"] == run.run_id] == []
    assert side(lab) == story.source
