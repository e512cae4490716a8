"""A run that was stopped half-way, wherever that was, goes on to either release."""

from __future__ import annotations

import os
import signal

import pytest

from heat_upgrade.router.state import hold as hold_changes
from heat_upgrade.router.state import prepare, release
from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import dag_id, finished, run_upgrade
from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.faults.sides import state_of
from lab.faults.task import FLIP, Task
from lab.faults.watch import RunWatch
from lab.processes import wait_until
from lab.traffic import hold_old_side
from tests.e2e.labs import (
    NEW,
    NEW_VHOST,
    OLD,
    OLD_VHOST,
    consumed_queues,
    explain,
    messages,
    programs,
    shared_lab,
    there_or_back,
)

pytestmark = pytest.mark.timeout(1200)

IN_PROGRESS = "SELECT id FROM stack WHERE status = 'IN_PROGRESS' AND deleted_at IS NULL"
DASHES = str.maketrans(". ", "--")
VHOSTS = {OLD: OLD_VHOST, NEW: NEW_VHOST}
PATIENCE = 600.0  # seconds for the first part of a run on a busy machine
# Longer than a run that finds its hosts prepared takes to its flip, so that both sides have work there.
HELD_SECONDS = 90
# Inside of a flip: its task killed while changes are held, or when it had released one host and not yet the other.
HELD, HALF_RELEASED = "changes held", "one host released"
# The last task of the part that is done, in the order of a run.
BOUNDARIES = (
    "start_new_engines",
    "start_beside",
    "controller_1.leave_rotation",
    "controller_1.switch_api",
    "controller_1.rejoin_rotation",
    "controller_2.leave_rotation",
    "controller_2.switch_api",
    "controller_2.rejoin_rotation",
    "prove_new_side",
    "may_flip",
    HELD,
    HALF_RELEASED,
    "flip",
    "wait_until_drained",
    "close",
    "retire",
)
# A cloud that is left half-swept, half-flipped or wholly; the others take their time.
SHORT = {("controller_1.rejoin_rotation", "back"), (HALF_RELEASED, "forward"), ("flip", "back")}
COURSES = [
    pytest.param(boundary, course, marks=() if (boundary, course) in SHORT else pytest.mark.long)
    for boundary in BOUNDARIES
    for course in ("back", "forward")
]


lab = shared_lab("e2e-half-way", "module")


@pytest.mark.parametrize(("boundary", "course"), COURSES)
def test_it_goes_back_or_forward(lab: Lab, api: AirflowApi, boundary: str, course: str) -> None:
    source, target = there_or_back(lab)
    stop_at(lab, api, boundary, Task(lab, FLIP, source, target))
    held = [hold(lab, f"held-{boundary.translate(DASHES)}-{course}-{number}") for number in range(2)]
    if boundary == HALF_RELEASED:
        release_one_host(lab, source, target)

    goal, left = (source, target) if course == "back" else (target, source)
    run = run_upgrade(lab, {"target_release": goal})

    assert run.state == "success", explain(api, run)
    assert set(answering_releases(lab).values()) == {goal}
    assert consumed_queues(lab, VHOSTS[goal]) >= {f"engine.{host.name}" for host in lab.hosts}
    assert programs(lab, left) == beside(lab) == []
    assert all(state.closed for host in lab.hosts_with("api") if (state := state_of(host, goal)))
    assert consumed_queues(lab, VHOSTS[left]) == set()
    assert sum(messages(lab, VHOSTS[left]).values()) == 0
    for stack in held:
        wait_until(lambda stack=stack: status(lab, stack) == "COMPLETE", what=f"stack {stack} completes")  # type: ignore[misc]


def stop_at(lab: Lab, api: AirflowApi, boundary: str, flip: Task) -> None:
    """Start a run and stop it at a boundary; for one host released, when all is ready for the flip."""
    api.wait_for_dag(dag_id(lab))
    run = api.trigger(dag_id(lab), {"target_release": flip.target})
    if boundary == HELD:
        kill_in_hold(lab, run, flip)
    else:
        wait_for_end(lab, api, run, "prove_new_side" if boundary == HALF_RELEASED else boundary)
    api.stop_run(dag_id(lab), run)


def kill_in_hold(lab: Lab, run: str, flip: Task) -> None:
    """Kill a run's flip while the hosts hold changes."""
    watch = RunWatch(lab, dag_id(lab), run)
    wait_until(lambda: watch.attempt(flip).state == "running", what="the flip begins", timeout=PATIENCE)
    attempt = watch.await_moment(flip, process=True, wait=False)
    assert attempt, "the flip was over before its hold was seen"
    assert attempt.pid
    os.kill(attempt.pid, signal.SIGKILL)


def release_one_host(lab: Lab, source: str, target: str) -> None:
    """Do what a flip does until it has released the first host, and end there as if it were killed."""
    stacks = [str(stack) for (stack,) in query(lab, IN_PROGRESS)]
    assert stacks, "nothing is in flight"
    after = {"default": target, "projects": {}, "stacks": dict.fromkeys(stacks, source), "closed": False}
    routers = [host.router(target) for host in lab.hosts_with("api")]
    held = [hold_changes(router, "changes", 10, 6) for router in routers]
    prepared = [
        prepare(router, state.sequence, {"sides": [source, target], **after})
        for router, state in zip(routers, held, strict=True)
    ]
    release(routers[0], prepared[0].sequence)


def wait_for_end(lab: Lab, api: AirflowApi, run: str, boundary: str) -> None:
    """Wait until a task, or all of a group, is done."""

    def reached(tasks: dict[str, str]) -> bool:
        states = {state for task, state in tasks.items() if task == boundary or task.startswith(f"{boundary}.")}
        return states == {"success"}

    state = api.wait_for_run(dag_id(lab), run, timeout=PATIENCE, until=reached)
    assert reached(api.task_states(dag_id(lab), run)), explain(api, finished(api, dag_id(lab), run, state))


def hold(lab: Lab, name: str) -> str:
    """Begin a stack through the load balancer, as a user: on which side is for the routers to say."""
    return hold_old_side(lab.endpoint, HELD_SECONDS, name=name)


def beside(lab: Lab) -> list[str]:
    """Return the command lines of the APIs that run beside others."""
    return [line for release in (OLD, NEW) for line in programs(lab, release) if "/router/beside-" in line]


def status(lab: Lab, stack: str) -> str:
    ((found,),) = query(lab, f"SELECT status FROM stack WHERE id = '{stack}'")
    return str(found)
