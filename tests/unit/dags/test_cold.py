"""The DAG of a cold upgrade: its order, and what the UI makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, TriggerRule

from heat_upgrade.names import UPGRADES
from tests.unit._helpers.clouds.broken import GOOD
from tests.unit._helpers.dag_files import (
    BOTH,
    SHAPES,
    LoadDags,
    Shape,
    before,
    cloud_file,
    drawn_order,
    loader,
    stored,
    with_role,
)

ORDER = [
    *("preflight", "prepare", "create_vhost", "approve_outage", "leave_rotation", "stop_apis", "wait_until_drained"),
    *("confirm_cut_off", "approve_retire"),
    *("stop_engines", "back_up_database", "sync_database", "start_new_engines", "start_apis", "rejoin_rotation"),
    *("verify_cloud", "delete_old_vhost", "show_plan"),
]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadDags:
    return loader("heat_cold_upgrade.py", tmp_path, monkeypatch)


# A cold upgrade knows no waves: of the shapes that differ in those only, one is enough.
@pytest.fixture(params={str(shape.roles): shape for shape in reversed(SHAPES)}.values(), ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


def dag_of(bag: DagBag, cloud: str = "lab") -> DAG:
    assert bag.import_errors == {}
    return bag.dags[f"heat_cold_upgrade__{cloud}"]


def test_every_cloud_file_gives_a_dag(load: LoadDags) -> None:
    bag = load(north=cloud_file([BOTH]), south=cloud_file([["engine"], ["api"]]), bad="hosts: [")
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"heat_cold_upgrade__{name}" for name in ("north", "south", "bad")}
    for name in ("north", "south"):
        dag = dag_of(bag, name)
        assert {dag.get_task(task_id).cloud.name for task_id in dag.task_ids} == {name}
        assert dag.max_active_runs == 1
        assert dag.schedule is None
        assert dag.doc_md
    (preflight,) = dag_of(bag, "bad").tasks
    with pytest.raises(Exception, match="nothing was touched"):
        preflight.execute({})


@pytest.mark.parametrize("prepare_outside", [True, False])
def test_the_outage_waits_for_a_window(prepare_outside: bool, load: LoadDags) -> None:
    windows = {**GOOD["windows"], "prepare_outside": prepare_outside}
    dag = dag_of(load(lab=cloud_file([BOTH], windows=windows, pending_release="26.0.2")))
    assert dag.schedule is None, "windows start rolling upgrades only"
    assert dag.params.dump()["ignore_windows"] is False
    gate = dag.get_task("may_stop")
    assert (gate.upstream_task_ids, gate.downstream_task_ids) == ({"approve_outage"}, {"leave_rotation.controller_1"})
    assert ("may_prepare" in dag.task_dict) is not prepare_outside
    if not prepare_outside:
        gate = dag.get_task("may_prepare")
        assert (gate.upstream_task_ids, gate.downstream_task_ids) == ({"preflight"}, {"prepare.controller_1"})


def test_each_step_is_over_on_every_host_before_the_next_begins(shape: Shape, load: LoadDags) -> None:
    dag = dag_of(load(lab=cloud_file(shape.roles, shape.waves)))
    everybody = [f"controller_{number}" for number in range(1, len(shape.roles) + 1)]
    engines, apis = with_role(shape, "engine"), with_role(shape, "api", "api-cfn")
    hosts = {"prepare": everybody, "stop_engines": engines, "start_new_engines": engines}
    hosts |= dict.fromkeys(("leave_rotation", "stop_apis", "start_apis", "rejoin_rotation"), apis)
    earlier: set[str] = set()
    for step in ORDER:
        tasks = {f"{step}.{host}" for host in hosts[step]} if step in hosts else {step}
        for task in tasks:
            assert before(dag, task) == earlier, "all hosts at once, and after all that comes first"
        earlier |= tasks
    assert earlier == set(dag.task_ids) - {"watch_api", "report"}
    # It watches before the outage, is there again when anything of it is cleared, and holds up nothing.
    watch = dag.get_task("watch_api")
    assert watch.upstream_task_ids == {"create_vhost", *(f"rejoin_rotation.{host}" for host in apis)}
    assert watch.downstream_task_ids == dag.get_task("show_plan").downstream_task_ids == {"report"}


def test_the_ui_can_sort_and_draw_every_shape(shape: Shape, load: LoadDags) -> None:
    places = drawn_order(dag_of(load(lab=cloud_file(shape.roles, shape.waves))))
    assert [node for node in sorted(places, key=lambda node: places[node]) if node != "watch_api"] == [*ORDER, "report"]


def test_no_task_runs_unless_all_before_it_have_succeeded(load: LoadDags) -> None:
    dag = dag_of(load(lab=cloud_file([BOTH] * 3)))
    rules = {task.trigger_rule for task in dag.tasks if task.task_id not in ("watch_api", "report")}
    assert rules == {TriggerRule.ALL_SUCCESS}


def test_the_trigger_form(load: LoadDags) -> None:
    params = stored(dag_of(load(lab=cloud_file([BOTH] * 3)))).params
    assert params.dump() == {
        "target_release": None,
        "drain": None,
        "approvals": "none",
        "delete_old_vhost": False,
        "dry_run": False,
    }
    target, drain, approvals, delete, dry_run = (params.get_param(name) for name in params)
    assert target.schema["enum"] == [None, "25.0.2", "26.0.2", "27.0.1"]
    assert drain.schema["type"] == ["null", "number"]
    assert (drain.schema["minimum"], drain.schema["maximum"]) == (0, 10080)
    assert approvals.schema["enum"] == ["none", "before the outage", "before the old engines stop"]
    assert delete.schema["type"] == "boolean"
    for param in (target, drain, approvals, delete, dry_run):
        assert param.schema["title"]
        assert param.description


def test_both_kinds_of_upgrade_know_of_each_other(
    load: LoadDags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {*load(lab=cloud_file([BOTH])).dags, *loader("heat_rolling_upgrade.py", tmp_path, monkeypatch)().dags}
    assert both == {f"{upgrade}__lab" for upgrade in UPGRADES}


def test_the_question_has_no_form_of_its_own(load: LoadDags) -> None:
    dag = dag_of(load(lab=cloud_file([BOTH])))
    assert dag.get_task("confirm_cut_off").serialized_params == {}
