"""A dry run reads everything, changes nothing, and ends with the plan of the run that it isn't."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import pytest

from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.remote.steps import (
    close_router,
    leave_rotation,
    prepare,
    start_beside,
    start_engine,
    stop_engine,
    switch_api,
)
from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, run_upgrade
from lab.cloud.model import Lab
from tests.e2e.labs import NEW, NEW_VHOST, OLD, explain
from tests.e2e.snapshot import EVERYTHING, CloudSnapshot, changes, snapshot

pytestmark = pytest.mark.timeout(900)

FIRST, SECOND = "controller-1", "controller-2"


@dataclass(frozen=True)
class Story:
    """The cloud before and after a dry run, and what it told."""

    before: CloudSnapshot
    after: CloudSnapshot
    run: DagRun
    states: dict[str, str]
    plan: str


@pytest.fixture(scope="module")
def story(lab: Lab, api: AirflowApi) -> Story:
    before = snapshot(lab, *EVERYTHING)
    run = run_upgrade(lab, {"target_release": NEW, "delete_old_vhost": True, "dry_run": True}, timeout=300)
    after = snapshot(lab, *EVERYTHING)
    assert run.state == "success", explain(api, run)
    plan = api.xcoms(run.dag_id, run.run_id, "show_plan")["return_value"]
    print(plan)
    return Story(before, after, run, api.task_states(run.dag_id, run.run_id), plan)


def test_nothing_has_changed(story: Story) -> None:
    assert all(story.before.parts.values()), "there is something to compare"
    assert changes(story.before, story.after) == {}


def test_every_task_has_run(story: Story) -> None:
    canary = {"flip_canary", "watch_canary", "end_canary"}
    left_out = {task for task, state in story.states.items() if state != "success"}
    assert left_out == {"watch_api", *canary}, "none to watch, and none to go ahead"


def test_the_plan_has_the_commands_of_a_real_run(lab: Lab, story: Story) -> None:
    cloud = load_cloud(lab.clouds_directory / f"{lab.name}.yaml")
    source, target = (cloud.deployment(cloud.host(SECOND), cloud.release(release)) for release in (OLD, NEW))
    for step in (
        prepare(source, target),
        start_engine(target),
        start_beside(source, target),
        leave_rotation(target, "api"),
        switch_api(source, target),
        close_router(source, target),
        stop_engine(source),
    ):
        assert f"\n{step.last_line}\n" in story.plan, step.name
        command = step.start_command if step.timeout else step.command
        assert command == f"{step.unpacking}{step.last_line}\n"
    assert "\nDELETE /api/vhosts/heat_25\n" in story.plan
    assert f"\nPUT /api/vhosts/{NEW_VHOST}\n" in story.plan


# As a real run has them; each has a row in the plan.
IN_ORDER = (
    *("prepare.controller_2", "start_new_engines.controller_2", "start_beside"),
    *("controller_1.switch_api", "controller_2.switch_api", "prove_new_side", "approve_flip", "may_flip", "flip"),
    *("wait_until_drained", "approve_retire", "close", "retire", "verify_cloud", "delete_old_vhost"),
)


def test_the_plan_has_every_step_in_the_order_of_a_real_run(story: Story) -> None:
    rows = [line.split("`")[1] for line in story.plan.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row in IN_ORDER] == list(IN_ORDER)


def test_the_plan_says_when_users_are_touched_and_how(story: Story) -> None:
    plan = story.plan.replace("\\", "")
    assert (
        "- Users: the old release serves them until the flip, which holds what changes a stack for a second or" in plan
    )
    assert f"create, update and delete a small stack through {NEW} alone on {FIRST}, {SECOND}" in plan
    assert "hold what changes a stack for a second or two, 10 s at most" in plan
    assert f"send what is new to {NEW}, and keep the stacks in flight, 0 as it is now, on {OLD}" in plan
    assert "The cloud file has no windows: nothing to wait for" in plan


def test_the_plan_shows_how_heat_conf_would_change_without_its_secrets(lab: Lab, story: Story) -> None:
    first = lab.host(FIRST)
    for line in (
        f"--- {first.config(OLD)}",
        f"+++ {first.config(NEW)}",
        f"-heat_revision = {OLD}",
        f"+heat_revision = {NEW}",
    ):
        assert f"\n{line}\n" in story.plan
    assert f"\n+transport_url = rabbit://***@{lab.server_address}:26672/{NEW_VHOST}\n" in story.plan


def test_no_secret_is_in_any_log_or_xcom(lab: Lab, api: AirflowApi, story: Story) -> None:
    told = story.plan + "\n".join(api.logs(story.run.dag_id, story.run.run_id).values())
    for task in story.states:
        told += str(api.xcoms(story.run.dag_id, story.run.run_id, task))
    for name, secret in lab.secrets.items():
        assert secret not in told, name
        assert quote(secret, safe="") not in told, name


def test_the_plan_tells_the_drain_as_it_is_now(story: Story) -> None:
    assert "reading 1 " in story.plan
    assert "is connected to the old vhost 'heat_25', where only engines should be" in story.plan
    assert "heat-api" in story.plan


def test_nothing_of_it_counts_for_a_later_run(api: AirflowApi, story: Story) -> None:
    results = {task: api.xcoms(story.run.dag_id, story.run.run_id, task) for task in story.states}
    returned = {task for task, xcoms in results.items() if "return_value" in xcoms}
    assert returned == {"preflight", "show_plan"}
    assert "timings" not in results["report"]
    assert "no such run has got through yet" in story.plan
