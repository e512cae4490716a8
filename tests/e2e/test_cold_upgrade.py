"""A cold upgrade: rehearsed, approved; what can end ends, what is cut off was confirmed; a second one is idle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from heat_upgrade.stranded.rule import STRANDED_AFTER
from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, dag_id, finished
from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.processes import wait_until
from lab.traffic import hold_old_side
from tests.e2e.labs import (
    NEW,
    NEW_VHOST,
    OLD,
    OLD_VHOST,
    consumed_queues,
    enabled,
    explain,
    programs,
    services,
    shared_lab,
)
from tests.e2e.snapshot import EVERYTHING, LASTING, CloudSnapshot, changes, snapshot

pytestmark = pytest.mark.timeout(900)

GATE, QUESTION, OUTAGE = "wait_until_drained", "confirm_cut_off", "approve_outage"
BOUND = 0.2  # minutes
PATIENCE = 300.0  # seconds for one step on a busy machine
SHORT_SECONDS = 10
CUT_OFF_SECONDS = 8
ENDLESS = 60  # resources, one after the other
AFTER_THE_QUESTION = ("stop_engines.controller_1", "back_up_database", "start_apis.controller_1", "verify_cloud")


@dataclass(frozen=True)
class Asked:
    """A question, and what the cloud was like while it stood open."""

    body: str
    listening: set[str]
    answering: set[str]


@dataclass(frozen=True)
class Story:
    """The upgrade, as it went."""

    rehearsal: DagRun
    plan: str
    changed: dict[str, tuple[Any, Any]]
    run_id: str
    short: str
    cut_off: str
    outage: Asked
    first: Asked
    other: dict[str, str]
    other_log: str
    rejected: dict[str, str]
    rejection: str
    second: Asked
    run: DagRun
    after: CloudSnapshot


lab = shared_lab("cold", "module")


def cold(lab: Lab) -> str:
    return f"heat_cold_upgrade__{lab.name}"


@pytest.fixture(scope="module")
def story(lab: Lab, api: AirflowApi) -> Story:
    """Rehearse, then upgrade under two stacks: one ends in time, the other wouldn't for minutes."""
    dag = cold(lab)
    api.wait_for_dag(dag)
    before = snapshot(lab, *EVERYTHING)
    rehearsed = api.trigger(dag, {"target_release": NEW, "drain": BOUND, "dry_run": True})
    rehearsal = finished(api, dag, rehearsed, api.wait_for_run(dag, rehearsed, timeout=PATIENCE))
    changed = changes(before, snapshot(lab, *EVERYTHING))

    cut_off = hold_old_side(lab.endpoint, CUT_OFF_SECONDS, name="endless", followers=ENDLESS)
    short = hold_old_side(lab.endpoint, SHORT_SECONDS, name="short", followers=3)
    run_id = api.trigger(dag, {"target_release": NEW, "drain": BOUND, "approvals": "before the outage"})

    outage = _asked(lab, api, run_id, OUTAGE)
    api.answer(dag, run_id, OUTAGE, "Approve")
    first = _asked(lab, api, run_id, QUESTION)
    other = api.trigger(dag_id(lab), {"target_release": NEW})
    api.wait_for_run(dag_id(lab), other, timeout=PATIENCE)
    api.answer(dag, run_id, QUESTION, "Reject")
    assert api.wait_for_run(dag, run_id, timeout=PATIENCE) == "failed"
    rejected, rejection = api.task_states(dag, run_id), api.log(dag, run_id, QUESTION)

    api.clear_tasks(dag, run_id, [GATE])
    second = _asked(lab, api, run_id, QUESTION)
    _wait_until_complete(lab, short)
    api.answer(dag, run_id, QUESTION, "Approve")
    state = api.wait_for_run(dag, run_id, timeout=PATIENCE)
    return Story(
        rehearsal=rehearsal,
        plan=api.xcoms(dag, rehearsed, "show_plan").get("return_value", ""),
        changed=changed,
        run_id=run_id,
        short=short,
        cut_off=cut_off,
        outage=outage,
        first=first,
        other=api.task_states(dag_id(lab), other),
        other_log=api.log(dag_id(lab), other, "preflight"),
        rejected=rejected,
        rejection=rejection,
        second=second,
        run=finished(api, dag, run_id, state),
        after=snapshot(lab, *LASTING),
    )


def _asked(lab: Lab, api: AirflowApi, run_id: str, task_id: str) -> Asked:
    api.wait_for_task(cold(lab), run_id, task_id, ["awaiting_input"], timeout=PATIENCE)
    return Asked(
        body=api.question(cold(lab), run_id, task_id)["body"],
        listening=consumed_queues(lab, OLD_VHOST),
        answering=set(answering_releases(lab).values()),
    )


def _wait_until_complete(lab: Lab, stack: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while status(lab, stack) != "COMPLETE":
        assert time.monotonic() < deadline, f"stack {stack} is {status(lab, stack)} after {PATIENCE:.0f} s"
        time.sleep(0.5)


def status(lab: Lab, stack: str) -> str:
    ((found,),) = query(lab, f"SELECT status FROM stack WHERE id = '{stack}'")
    return str(found)


def test_a_dry_run_changes_nothing_and_tells_of_every_task(lab: Lab, api: AirflowApi, story: Story) -> None:
    assert story.rehearsal.state == "success", explain(api, story.rehearsal)
    assert story.changed == {}
    states = api.task_states(cold(lab), story.rehearsal.run_id)
    assert {task for task, state in states.items() if state != "success"} == {"watch_api"}, "none to watch"
    for task in states.keys() - {"preflight", "watch_api", "show_plan", "report"}:
        assert task in story.plan


def test_before_the_outage_it_is_asked_and_every_api_answers(story: Story) -> None:
    assert "the APIs stop on all hosts" in story.outage.body
    assert "none answers until" in story.outage.body
    assert story.outage.answering == {OLD}


def test_the_question_names_what_is_cut_off(story: Story) -> None:
    for asked in (story.first, story.second):
        assert f"stack 'endless' ({story.cut_off}, project admin" in asked.body


def test_while_it_is_asked_no_api_answers_and_the_engines_work(lab: Lab, story: Story) -> None:
    for asked in (story.first, story.second):
        assert asked.answering == {"none"}
        assert asked.listening >= {f"engine.{host.name}" for host in lab.hosts if "engine" in host.roles}


def test_a_rolling_upgrade_is_refused_meanwhile(lab: Lab, story: Story) -> None:
    assert {story.other.pop(task) for task in ("preflight", "report")} == {"failed"}
    assert set(story.other.values()) == {"upstream_failed"}
    assert f"{cold(lab)} has a run in progress, expected one run over a cloud at a time" in story.other_log


def test_a_rejection_stops_the_run_there_and_says_how_to_go_on_or_back(lab: Lab, story: Story) -> None:
    assert story.rejected[QUESTION] == "failed"
    assert {story.rejected[task] for task in AFTER_THE_QUESTION} == {"upstream_failed"}
    assert "Rejected: nothing is cut off" in story.rejection
    assert f"clear {GATE}" in story.rejection
    assert f"trigger {cold(lab)} with target_release {OLD}" in story.rejection


def test_the_run_goes_on_once_it_is_approved(api: AirflowApi, story: Story) -> None:
    assert story.run.state == "success", explain(api, story.run)


def test_what_could_end_has_ended_and_the_rest_is_named(lab: Lab, api: AirflowApi, story: Story) -> None:
    assert status(lab, story.short) == "COMPLETE"
    assert status(lab, story.cut_off) == "IN_PROGRESS"
    log = api.log(cold(lab), story.run_id, "verify_cloud")
    assert f"stack 'endless' ({story.cut_off}, project admin" in log
    assert "update it through the API" in log


def test_everything_is_on_the_new_release_each_service_started_once(lab: Lab, story: Story) -> None:
    assert answering_releases(lab) == {host.name: NEW for host in lab.hosts}
    assert consumed_queues(lab, OLD_VHOST) == set()
    assert consumed_queues(lab, NEW_VHOST) >= {f"engine.{host.name}" for host in lab.hosts if "engine" in host.roles}
    assert programs(lab, OLD) == []
    assert enabled(lab) == {host.name: set(services(host, NEW)) for host in lab.hosts}
    assert story.after["starts"] == {host.name: services(host, OLD, NEW) for host in lab.hosts}
    assert not list((lab.state / "hosts").glob("*/var/lib/heat-upgrade/stopped"))


def idle(lab: Lab, stack: str) -> float:
    """Return the seconds since anything of a stack has changed."""
    times = (
        f"SELECT COALESCE(updated_at, created_at) AS time FROM stack WHERE id = '{stack}'",
        f"SELECT COALESCE(updated_at, created_at) FROM resource WHERE stack_id = '{stack}'",
        f"SELECT created_at FROM event WHERE stack_id = '{stack}'",
    )
    changes = " UNION ALL ".join(times)
    ((seconds,),) = query(lab, f"SELECT TIMESTAMPDIFF(SECOND, MAX(time), UTC_TIMESTAMP()) FROM ({changes}) changes")
    return float(seconds)


def test_a_second_run_changes_nothing(lab: Lab, api: AirflowApi, story: Story) -> None:
    # Until then its preflight can't tell the stack that was cut off from one that somebody works on.
    wait_until(
        lambda: idle(lab, story.cut_off) > STRANDED_AFTER, what="the stack cut off counts as stranded", timeout=90
    )
    run_id = api.trigger(cold(lab), {"target_release": NEW})
    run = finished(api, cold(lab), run_id, api.wait_for_run(cold(lab), run_id, timeout=PATIENCE))
    assert run.state == "success", explain(api, run)
    assert changes(story.after, snapshot(lab, *LASTING)) == {}
    print(f"the upgrade took {story.run.seconds:.0f} s, the second run {run.seconds:.0f} s")
