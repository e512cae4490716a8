"""The suite's plans: their tasks are the DAG's, and each fault can hit the task that it is for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from lab.cloud.model import RELEASES, Lab
from lab.faults.fault import StandingFault
from lab.faults.plans import FULL, SHORT, TASKS, Plan
from lab.faults.router import BesideKilled, HostAway, StateTorn, WorkerKilled
from tests.unit._helpers.dag_files import before, cloud_file, loader

# They wait for people, or look on; the canary's are skipped, as no run of the suite names one.
WITHOUT_WORK = {
    *("approve-wave-2", "approve_flip", "approve_retire", "show_plan", "watch_api", "report"),
    *("flip_canary", "watch_canary", "end_canary"),
}
LAB = Lab("faults-unit", "small")


def by_plan(plan: Plan) -> str:
    return plan.name


def test_the_tasks_are_the_dag_s_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = loader("heat_rolling_upgrade.py", tmp_path, monkeypatch)
    bag = load(lab=cloud_file([list(host.roles) for host in LAB.hosts]))
    assert bag.import_errors == {}
    dag = bag.dags["heat_rolling_upgrade__lab"]
    assert set(dag.task_ids) == {*TASKS, *WITHOUT_WORK}
    for number, task in enumerate(TASKS):
        assert not before(dag, task) & set(TASKS[number:])


@pytest.mark.parametrize("plan", [*FULL, *SHORT], ids=by_plan)
def test_a_plan_s_faults_can_hit_their_tasks(plan: Plan) -> None:
    tasks = {task.task_id: task for task in plan.tasks(LAB)}
    for task_id, faults in plan.faults(list(tasks.values())).items():
        assert faults
        for fault in faults:
            assert fault.applies(tasks[task_id]), f"{fault.name} at {task_id}"
        assert len([fault for fault in faults if isinstance(fault, StandingFault)]) <= 1


@pytest.mark.parametrize(("plan", "following"), [*pairwise(FULL)], ids=by_plan)
def test_a_run_begins_where_the_one_before_has_ended(plan: Plan, following: Plan) -> None:
    assert plan.target == following.source
    assert abs(list(RELEASES).index(plan.source) - list(RELEASES).index(plan.target)) == 1


def test_every_task_that_moves_users_is_struck_by_each_of_the_routers_faults() -> None:
    struck = {
        (task, type(fault))
        for plan in FULL
        for task, faults in plan.faults(plan.tasks(LAB)).items()
        for fault in faults
    }
    for kind in (StateTorn, HostAway, WorkerKilled):
        assert {("flip", kind), ("close", kind)} <= struck
    assert ("flip", BesideKilled) in struck


def test_a_task_knows_which_way_its_run_goes() -> None:
    ways = {plan.name: {task.going_back for task in plan.tasks(LAB)} for plan in FULL}
    assert ways["tasks killed"] == {False}
    assert ways["connections cut"] == {True}
