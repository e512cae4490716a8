"""A run that was stopped half-way, wherever that was, goes on to either release."""

from __future__ import annotations

import pytest

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import dag_id, finished, run_upgrade
from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.processes import wait_until
from lab.traffic import hold_old_side
from tests.e2e.labs import NEW, NEW_VHOST, OLD, OLD_VHOST, consumed_queues, explain, messages, programs, shared_lab

pytestmark = pytest.mark.timeout(1200)

VHOSTS = {OLD: OLD_VHOST, NEW: NEW_VHOST}
PATIENCE = 600.0  # seconds for the first part of a run on a busy machine
# Longer than the rest of a run takes to its drain, so that both sides have work when the course changes.
HELD_SECONDS = 20
# The last task of the part that is done, in the order of a run.
BOUNDARIES = (
    "start_new_engines",
    "controller_1.leave_rotation",
    "controller_1.switch_api",
    "controller_1.rejoin_rotation",
    "controller_2.leave_rotation",
    "controller_2.switch_api",
    "controller_2.rejoin_rotation",
    "wait_until_drained",
    "retire.controller_1",
)
# The cloud that is left half-switched; the others take their time.
SHORT = {("controller_1.rejoin_rotation", "back")}
COURSES = [
    pytest.param(boundary, course, marks=() if (boundary, course) in SHORT else pytest.mark.long)
    for boundary in BOUNDARIES
    for course in ("back", "forward")
]


lab = shared_lab("e2e-half-way", "module")


@pytest.mark.parametrize(("boundary", "course"), COURSES)
def test_it_goes_back_or_forward(lab: Lab, api: AirflowApi, boundary: str, course: str) -> None:
    (source,) = set(answering_releases(lab).values())
    target = NEW if source == OLD else OLD
    stop_after(lab, api, boundary, target)
    held = [hold(lab, f"held-{boundary.replace('.', '-')}-{course}-{number}") for number in range(2)]

    goal, left = (source, target) if course == "back" else (target, source)
    run = run_upgrade(lab, {"target_release": goal})

    assert run.state == "success", explain(api, run)
    assert set(answering_releases(lab).values()) == {goal}
    assert consumed_queues(lab, VHOSTS[goal]) >= {f"engine.{host.name}" for host in lab.hosts}
    assert programs(lab, left) == []
    assert consumed_queues(lab, VHOSTS[left]) == set()
    assert sum(messages(lab, VHOSTS[left]).values()) == 0
    for stack in held:
        wait_until(lambda stack=stack: status(lab, stack) == "COMPLETE", what=f"stack {stack} completes")  # type: ignore[misc]


def stop_after(lab: Lab, api: AirflowApi, boundary: str, target: str) -> None:
    """Start a run and stop it once a task, or all of a group, is done."""
    api.wait_for_dag(dag_id(lab))
    run = api.trigger(dag_id(lab), {"target_release": target})

    def reached(tasks: dict[str, str]) -> bool:
        states = {state for task, state in tasks.items() if task == boundary or task.startswith(f"{boundary}.")}
        return states == {"success"}

    state = api.wait_for_run(dag_id(lab), run, timeout=PATIENCE, until=reached)
    assert reached(api.task_states(dag_id(lab), run)), explain(api, finished(api, dag_id(lab), run, state))
    api.stop_run(dag_id(lab), run)


def hold(lab: Lab, name: str) -> str:
    """Begin a stack through the load balancer: on which side is the balancer's choice."""
    return hold_old_side(lab.endpoint, HELD_SECONDS, name=name)


def status(lab: Lab, stack: str) -> str:
    ((found,),) = query(lab, f"SELECT status FROM stack WHERE id = '{stack}'")
    return str(found)
