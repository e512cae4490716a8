"""From the new release back to the old one, all hosts in one wave, and with one question, answered as people do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import yaml

from lab.airflow.browser import AirflowUi
from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, dag_id, finished, run_upgrade
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.faults.sides import state_of
from tests.e2e.labs import (
    NEW,
    NEW_VHOST,
    OLD,
    OLD_VHOST,
    beside,
    consumed_queues,
    enabled,
    explain,
    messages,
    programs,
    services,
    side,
    started_since,
)
from tests.e2e.snapshot import EVERYTHING, LASTING, CloudSnapshot, changes, snapshot

Times = tuple[datetime, datetime]
PATIENCE = 600.0  # seconds for one part of a run on a busy machine
QUESTION = "approve_retire"


@dataclass(frozen=True)
class Asked:
    """What answered while the run asked whether to stop the engines, and what the UI showed of it."""

    answering: str
    listening: dict[str, set[str]]
    page: str
    complaints: list[str]


@dataclass(frozen=True)
class Story:
    """The way back, and what the cloud was like before it."""

    before: CloudSnapshot
    asked: Asked
    run: DagRun
    times: dict[str, Times]
    rehearsal: DagRun
    rehearsed: tuple[CloudSnapshot, CloudSnapshot]


@pytest.fixture(scope="module")
def one_wave(lab: Lab, api: AirflowApi) -> Iterator[None]:
    """Have the APIs of all hosts move at once, as long as this takes."""
    file = lab.clouds_directory / f"{lab.name}.yaml"
    before = file.read_text(encoding="utf-8")
    api.wait_for_dag(dag_id(lab))
    cloud = yaml.safe_load(before)
    file.write_text(yaml.safe_dump({**cloud, "waves": [len(lab.hosts)]}, sort_keys=False), encoding="utf-8")
    api.reparse(dag_id(lab))
    yield
    file.write_text(before, encoding="utf-8")
    api.reparse(dag_id(lab))


@pytest.fixture(scope="module")
def story(lab: Lab, api: AirflowApi, one_wave: None) -> Story:
    if set(answering_releases(lab).values()) != {NEW}:
        assert run_upgrade(lab, {"target_release": NEW}).state == "success"
    untouched = snapshot(lab, *EVERYTHING)
    rehearsal = run_upgrade(lab, {"target_release": OLD, "dry_run": True}, timeout=300)
    rehearsed = untouched, snapshot(lab, *EVERYTHING)
    before = snapshot(lab, *LASTING)
    asked, run = go_back(lab, api)
    times = {task["task_id"]: _times(task) for task in api.task_instances(run.dag_id, run.run_id) if task["end_date"]}
    return Story(before, asked, run, times, rehearsal, rehearsed)


def go_back(lab: Lab, api: AirflowApi) -> tuple[Asked, DagRun]:
    """Go back in a run whose one question is answered in the UI."""
    dag = dag_id(lab)
    run = api.trigger(dag, {"target_release": OLD, "approvals": "before the old engines stop"})
    api.wait_for_task(dag, run, QUESTION, ["awaiting_input"], timeout=PATIENCE)
    answering, listening = side(lab), {vhost: consumed_queues(lab, vhost) for vhost in (OLD_VHOST, NEW_VHOST)}
    with AirflowUi(lab) as ui:
        asked = Asked(answering, listening, ui.answer(dag, run, QUESTION, "Approve"), ui.complaints())
    return asked, finished(api, dag, run, api.wait_for_run(dag, run, timeout=PATIENCE))


def _times(task: dict[str, Any]) -> Times:
    return datetime.fromisoformat(task["start_date"]), datetime.fromisoformat(task["end_date"])


def test_the_run_ends_well(api: AirflowApi, story: Story) -> None:
    assert story.run.state == "success", explain(api, story.run)
    assert "GOING BACK" in api.log(story.run.dag_id, story.run.run_id, "preflight")


def test_before_the_engines_stop_it_is_asked_in_the_ui(lab: Lab, story: Story) -> None:
    assert story.asked.complaints == []
    assert f"stop the engines of {NEW}?" in story.asked.page
    assert "No stack is in progress" in story.asked.page
    # Users are back by then, and nobody waits for the engines that are left.
    assert story.asked.answering == OLD
    engines = {f"engine.{host.name}" for host in lab.hosts_with("engine")}
    assert [vhost for vhost, queues in story.asked.listening.items() if queues >= engines] == [OLD_VHOST, NEW_VHOST]


def test_what_is_not_to_be_asked_passes(api: AirflowApi, story: Story) -> None:
    states = api.task_states(story.run.dag_id, story.run.run_id)
    assert (states[QUESTION], states["approve_flip"]) == ("success", "skipped")


def test_a_dry_run_of_it_has_changed_nothing(api: AirflowApi, story: Story) -> None:
    assert story.rehearsal.state == "success", explain(api, story.rehearsal)
    assert changes(*story.rehearsed) == {}
    plan = api.xcoms(story.rehearsal.dag_id, story.rehearsal.run_id, "show_plan")["return_value"]
    assert plan.startswith("# Dry run: going back of ")
    assert " KEEP_CONFIG=yes " in plan


def test_every_api_and_engine_answers_with_the_old_release(lab: Lab, story: Story) -> None:
    assert answering_releases(lab) == {host.name: OLD for host in lab.hosts}
    assert consumed_queues(lab, OLD_VHOST) >= {f"engine.{host.name}" for host in lab.hosts}
    assert programs(lab, OLD)


def test_nothing_of_the_new_release_runs_any_more(lab: Lab, story: Story) -> None:
    assert programs(lab, NEW) == []
    assert consumed_queues(lab, NEW_VHOST) == set()
    assert sum(messages(lab, NEW_VHOST).values()) == 0


def test_each_service_of_the_old_release_was_started_once_more_and_the_new_apis_beside(lab: Lab, story: Story) -> None:
    assert started_since(story.before["starts"], lab.service_starts()) == {
        host.name: services(host, OLD) | beside(host, NEW) for host in lab.hosts
    }


def test_a_boot_starts_the_old_release_and_nothing_is_left_of_what_ran_beside(lab: Lab, story: Story) -> None:
    assert enabled(lab) == {host.name: set(services(host, OLD)) for host in lab.hosts}
    for host in lab.hosts:
        assert not list((host.root / "etc/supervisor.d").glob("*-beside*"))
        state = state_of(host, OLD)
        assert state
        assert (state.default, state.closed, state.hold, state.probe, state.stacks) == (OLD, True, None, None, {})


def test_users_were_on_the_new_release_until_one_moment(story: Story) -> None:
    moments = story.run.moments
    assert moments.flip
    assert moments.gate
    assert moments.close
    (_, last_moved), (_, proven) = (story.times[name] for name in ("controller_2.rejoin_rotation", "prove_new_side"))
    assert last_moved.timestamp() <= proven.timestamp() <= moments.flip.begin
    assert moments.flip.end <= moments.gate <= moments.close.begin
    assert moments.close.end <= story.times["retire"][0].timestamp()


def test_schema_configuration_and_backups_stay_as_they_are(lab: Lab, story: Story) -> None:
    changed = set(changes(story.before, snapshot(lab, *LASTING))) - {f"starts: {host.name}" for host in lab.hosts}
    # What comes back after a reboot, and the files of the routers that stood before the old release.
    places = {name.rpartition("/")[0] for name in changed if f"/{OLD}/router/" not in name}
    assert places == {f"configuration: hosts/{host.name}/etc/supervisor.d" for host in lab.hosts}


def test_a_dry_run_afterwards_knows_how_long_it_took_before(api: AirflowApi, lab: Lab, story: Story) -> None:
    run = run_upgrade(lab, {"target_release": NEW, "dry_run": True}, timeout=300)
    assert run.state == "success", explain(api, run)
    plan = api.xcoms(run.dag_id, run.run_id, "show_plan")["return_value"]
    runs = [each["dag_run_id"] for each in api.runs(run.dag_id)]
    upgrade = [each for each in runs if "timings" in api.xcoms(run.dag_id, each, "report")][-1]
    assert upgrade not in (run.run_id, story.run.run_id, story.rehearsal.run_id)
    assert f"as its tasks took in {upgrade}, and" in plan
    # The upgrade may have been the second part of one, without the first host.
    assert not re.search(r"^\| `controller_2\.switch_api` .*\|  \|$", plan, re.MULTILINE), "it has a time"


def test_the_hosts_of_a_wave_move_side_by_side(story: Story) -> None:
    (begun_1, ended_1), (begun_2, ended_2) = (story.times[f"controller_{number}.switch_api"] for number in (1, 2))
    assert begun_1 < ended_2
    assert begun_2 < ended_1
