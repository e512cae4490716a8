"""The DAG of every cloud: Airflow loads it, its order is the design's, and the UI can sort and draw it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.sdk import DAG, TriggerRule
from airflow.serialization.serialized_objects import DagSerialization

from heat_upgrade.dag_factory import POLICY, RETRIES
from heat_upgrade.names import BESIDE_HOSTS
from heat_upgrade.notifications.send import UpgradeNotifier
from heat_upgrade.operators.approvals import ApproveWaveOperator
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.timetables.windows import WindowsTimetable
from tests.unit._helpers.clouds.broken import GOOD
from tests.unit._helpers.dag_files import (
    BOTH,
    PROJECT,
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

DAG_FILE = PROJECT / "dags" / "heat_rolling_upgrade.py"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadDags:
    return loader("heat_rolling_upgrade.py", tmp_path, monkeypatch)


def dag_of(bag: DagBag, cloud: str) -> DAG:
    assert bag.import_errors == {}
    return bag.dags[f"heat_rolling_upgrade__{cloud}"]


def test_every_cloud_file_gives_a_dag(load: LoadDags) -> None:
    bag = load(north=cloud_file([BOTH]), south=cloud_file([BOTH, BOTH]), east=cloud_file([["engine"], ["api"]]))
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"heat_rolling_upgrade__{name}" for name in ("north", "south", "east")}
    for name in ("north", "south", "east"):
        dag = dag_of(bag, name)
        assert {dag.get_task(task_id).cloud.name for task_id in dag.task_ids} == {name}
        assert dag.max_active_runs == 1
        assert dag.schedule is None
        assert not dag.fail_fast
        assert dag.dagrun_timeout is None  # would cut tasks off in mid-upgrade
        assert dag.doc_md


def test_the_structure_of_a_small_cloud(load: LoadDags) -> None:
    dag = dag_of(load(small=cloud_file([BOTH, ["engine"], ["api", "api-cfn"]])), "small")
    prepare = {"prepare.controller_1", "prepare.controller_2", "prepare.controller_3"}
    engines = {"start_new_engines.controller_1", "start_new_engines.controller_2"}
    assert {task_id: task.downstream_task_ids for task_id, task in dag.task_dict.items()} == {
        "preflight": prepare,
        **{task_id: {"back_up_database"} for task_id in prepare},
        "back_up_database": {"create_vhost"},
        "create_vhost": {"sync_database"},
        "sync_database": {*engines, "watch_api"},
        **{task_id: {"start_beside"} for task_id in engines},
        "start_beside": {"controller_1.leave_rotation"},
        "controller_1.leave_rotation": {"controller_1.switch_api"},
        "controller_1.switch_api": {"controller_1.rejoin_rotation"},
        "controller_1.rejoin_rotation": {"approve-wave-2", "controller_3.leave_rotation"},
        "approve-wave-2": {"controller_3.leave_rotation"},
        "controller_3.leave_rotation": {"controller_3.switch_api"},
        "controller_3.switch_api": {"controller_3.rejoin_rotation"},
        "controller_3.rejoin_rotation": {"prove_new_side"},
        "prove_new_side": {"approve_flip", "may_flip"},
        "approve_flip": {"may_flip"},
        "may_flip": {"flip_canary", "flip"},
        "flip_canary": {"watch_canary"},
        "watch_canary": {"end_canary"},
        "end_canary": {"flip"},
        "flip": {"wait_until_drained"},
        "wait_until_drained": {"approve_retire"},
        "approve_retire": {"close"},
        "close": {"retire", "watch_api"},
        "retire": {"verify_cloud"},
        "verify_cloud": {"delete_old_vhost"},
        "delete_old_vhost": {"show_plan"},
        "show_plan": {"report"},
        "watch_api": {"report"},
        "report": set(),
    }


class Task(NamedTuple):
    """A task of a run, as far as Airflow judges the run by it."""

    task_id: str
    state: str


def test_the_report_judges_the_run_however_it_ends(load: LoadDags) -> None:
    dag = stored(dag_of(load(small=cloud_file([BOTH])), "small"))
    assert dag.get_task("report").trigger_rule == TriggerRule.ALL_DONE_SETUP_SUCCESS
    # Airflow leaves such a task alone when somebody marks the run as failed.
    assert dag.get_task("report").is_teardown
    tasks = [Task(task_id, "success") for task_id in dag.task_ids]
    judging = DagRun._tis_for_dagrun_state(None, dag=dag, tis=tasks)
    assert {task.task_id for task in judging} == {"report"}


def test_whatever_touches_users_is_watched_again_when_it_is_cleared(load: LoadDags) -> None:
    dag = dag_of(load(small=cloud_file([BOTH, BOTH])), "small")
    watch = dag.get_task("watch_api")
    assert watch.trigger_rule == TriggerRule.ONE_SUCCESS
    assert before(dag, "watch_api") >= {f"controller_2.{step}" for step in ("leave_rotation", "switch_api")}
    assert "start_beside" not in watch.upstream_task_ids, "it watches before the first API moves"
    assert "watch_api" not in before(dag, "verify_cloud"), "it holds up nothing"


def test_every_task_is_tried_again_by_the_same_rules(load: LoadDags) -> None:
    dag = dag_of(load(small=cloud_file([BOTH])), "small")
    for task in dag.tasks:
        assert (task.retries, task.retry_policy) == (RETRIES["retries"], POLICY), task.task_id
    saved = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    for task in saved.tasks:
        assert task.has_retry_policy
        assert (task.retries, task.retry_delay) == (RETRIES["retries"], RETRIES["retry_delay"])
        assert (task.retry_exponential_backoff, task.max_retry_delay) == (2.0, RETRIES["max_retry_delay"])


def test_the_reserved_names_are_the_dags_own(load: LoadDags) -> None:
    windows = {**GOOD["windows"], "prepare_outside": False}
    dag = dag_of(load(lab=cloud_file([BOTH], windows=windows)), "lab")
    assert set(dag.task_group.children) - {"controller_1"} == BESIDE_HOSTS


@pytest.mark.parametrize("prepare_outside", [True, False])
def test_windows_are_the_schedule_and_the_gates(prepare_outside: bool, load: LoadDags) -> None:
    windows = {**GOOD["windows"], "prepare_outside": prepare_outside}
    dag = dag_of(load(lab=cloud_file([BOTH], windows=windows, pending_release="26.0.2")), "lab")
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    for timetable in (dag.timetable, stored.timetable):
        assert isinstance(timetable, WindowsTimetable)
        assert timetable.summary == "0 22 * * sat, 30 1 1 * *"
    assert not stored.catchup
    assert stored.max_active_runs == 1
    assert dag.roots == [dag.get_task("may_start")], "a scheduled run with nothing to do ends before it looks further"
    assert dag.get_task("may_start").downstream_task_ids == {"preflight"}
    # Preflight tells at once what is wrong, by day as well; the wait comes after it.
    gates = ["preflight"] if prepare_outside else ["preflight", "may_prepare"]
    for gate, task in pairwise([*gates, "prepare.controller_1"]):
        assert dag.get_task(gate).downstream_task_ids == {task}
    assert ("may_prepare" in dag.task_dict) is not prepare_outside


def test_the_form_of_a_cloud_with_windows(load: LoadDags) -> None:
    bag = load(
        due=cloud_file([BOTH], windows=GOOD["windows"], pending_release="26.0.2"),
        idle=cloud_file([BOTH], windows=GOOD["windows"]),
    )
    due, idle = (dag_of(bag, name).params.dump() for name in ("due", "idle"))
    assert due == {
        "target_release": None,
        "hosts": ["controller-1"],
        "canary": None,
        "approvals": "none",
        "delete_old_vhost": False,
        "ignore_windows": False,
        "dry_run": False,
    }
    assert idle == due


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


def waves_of(shape: Shape) -> Iterator[list[str]]:
    hosts = with_role(shape, "api", "api-cfn")
    for size in shape.sizes:
        yield hosts[:size]
        hosts = hosts[size:]
    assert hosts == []


def test_the_order_holds_for_every_shape(shape: Shape, load: LoadDags) -> None:
    dag = dag_of(load(lab=cloud_file(shape.roles, shape.waves)), "lab")
    engines = {f"start_new_engines.{host}" for host in with_role(shape, "engine")}
    prepared = {f"prepare.controller_{number}" for number in range(1, len(shape.roles) + 1)}
    switches = [f"{host}.rejoin_rotation" for host in with_role(shape, "api", "api-cfn")]
    earlier: set[str] = set()
    for wave in waves_of(shape):
        for host in wave:
            first = before(dag, f"{host}.leave_rotation")
            gates = {"preflight", "sync_database", "start_beside"}
            assert engines | prepared | earlier | gates <= first
            assert not first & {f"{other}.leave_rotation" for other in wave}, "the hosts of a wave move side by side"
        earlier |= {f"{host}.rejoin_rotation" for host in wave}
    assert earlier == set(switches)

    assert set(switches) <= before(dag, "flip"), "users are sent to the new side on all hosts at once"
    assert "flip" in before(dag, "wait_until_drained")
    assert "wait_until_drained" in before(dag, "close")
    assert "close" in before(dag, "retire")
    assert before(dag, "report") == set(dag.task_ids) - {"report"}
    assert before(dag, "show_plan") == set(dag.task_ids) - {"show_plan", "watch_api", "report"}
    assert before(dag, "delete_old_vhost") == before(dag, "show_plan") - {"delete_old_vhost"}


def test_between_any_two_waves_the_run_can_be_asked(shape: Shape, load: LoadDags) -> None:
    dag = dag_of(load(lab=cloud_file(shape.roles, shape.waves)), "lab")
    last: set[str] = set()
    for number, wave in enumerate(waves_of(shape), start=1):
        if last:
            approve = dag.get_task(f"approve-wave-{number}")
            assert isinstance(approve, ApproveWaveOperator)
            assert {host.task_id for host in approve.cloud.api_waves()[approve.wave - 1]} == set(wave)
            assert last <= before(dag, approve.task_id)
            assert approve.downstream_task_ids == {f"{host}.leave_rotation" for host in wave}
            for task_id in approve.downstream_task_ids:
                # It is skipped before its turn where the run doesn't ask: the wave before has to be waited for anyhow.
                (other,) = dag.get_task(task_id).upstream_task_ids - {approve.task_id}
                assert last <= before(dag, other) | {other}
        last = {f"{host}.rejoin_rotation" for host in wave}
    assert f"approve-wave-{len(shape.sizes) + 1}" not in dag.task_dict
    assert "wait_until_drained" in before(dag, "approve_retire"), "no question holds up a drain"
    drained = before(dag, "wait_until_drained")
    assert not {task for task in set(dag.task_ids) - drained if task.startswith("approve")} - {"approve_retire"}


def test_whom_the_cloud_file_names_is_told(load: LoadDags) -> None:
    entry = {"kind": "webhook", "connection": "hook"}
    errors = {**entry, "events": ["error"]}
    bag = load(all=cloud_file([BOTH], notifications=[entry]), errors=cloud_file([BOTH], notifications=[errors]))
    told = {name: dag_of(bag, name) for name in ("all", "errors")}
    for dag in told.values():
        # Of a failed run the report comes last, and another message would say nothing new.
        for task in (task for task in dag.tasks if task.task_id != "report"):
            assert [told.event for told in task.on_failure_callback if isinstance(told, UpgradeNotifier)] == ["error"]
    ends = [("preflight", "on_success_callback"), ("may_flip", "on_skipped_callback")]
    ends += [("verify_cloud", "on_success_callback"), ("approve_flip", "notifiers"), ("approve_retire", "notifiers")]
    found = [[each.event for each in getattr(told["all"].get_task(task_id), kind)] for task_id, kind in ends]
    assert found == [["started"], ["done"], ["done"], ["approval"], ["approval"]]
    assert not any(getattr(told["errors"].get_task(task_id), kind) for task_id, kind in ends)
    silent = dag_of(load(silent=cloud_file([BOTH])), "silent").tasks
    assert not any(isinstance(told, UpgradeNotifier) for task in silent for told in task.on_failure_callback)


def test_the_ui_can_sort_and_draw_every_shape(shape: Shape, load: LoadDags) -> None:
    """The grid and the graph sort groups, not tasks: groups that wait for one another make both fail."""
    dag = dag_of(load(lab=cloud_file(shape.roles, shape.waves)), "lab")
    places = drawn_order(dag)
    order = ["preflight", "prepare", "back_up_database", "create_vhost", "sync_database", "start_new_engines"]
    order += ["start_beside", "prove_new_side", "approve_flip", "may_flip", "flip_canary", "watch_canary", "end_canary"]
    order += ["flip", "wait_until_drained"]
    order += ["approve_retire", "close", "retire", "verify_cloud"]
    order += ["delete_old_vhost", "show_plan", "report"]
    assert [places[node] for node in order] == sorted(places[node] for node in order)
    for host in with_role(shape, "api", "api-cfn"):
        assert places["start_beside"] < places[host] < places["prove_new_side"]


def test_a_host_that_is_left_out_holds_nobody_up_and_a_failed_one_does(load: LoadDags) -> None:
    dag = dag_of(load(lab=cloud_file([BOTH] * 3)), "lab")
    rules = {task_id: task.trigger_rule for task_id, task in dag.task_dict.items()}
    # A skip reaches the rest of the host's own group, and passes on to the next host there.
    for number in (1, 2, 3):
        assert rules[f"prepare.controller_{number}"] == TriggerRule.NONE_FAILED
        assert rules[f"start_new_engines.controller_{number}"] == TriggerRule.NONE_FAILED
        assert rules[f"controller_{number}.leave_rotation"] == TriggerRule.NONE_FAILED
        assert rules[f"controller_{number}.switch_api"] == TriggerRule.ALL_SUCCESS
        assert rules[f"controller_{number}.rejoin_rotation"] == TriggerRule.ALL_SUCCESS
    for task_id in ("approve_flip", "approve-wave-2", "approve-wave-3"):
        assert rules[task_id] == TriggerRule.NONE_FAILED
    for task_id in ("back_up_database", "create_vhost", "sync_database", "start_beside", "prove_new_side", "may_flip"):
        assert rules[task_id] == TriggerRule.NONE_FAILED
    # The gate skips while APIs are left to move: nothing after it may run then.
    for task_id in ("wait_until_drained", "approve_retire", "close", "retire", "verify_cloud"):
        assert rules[task_id] == TriggerRule.ALL_SUCCESS
    # Without a canary its tasks are skipped, and the gate alone lets everybody's flip begin; a failed one stops it.
    for task_id in ("flip_canary", "watch_canary", "end_canary"):
        assert rules[task_id] == TriggerRule.ALL_SUCCESS
    assert rules.pop("flip") == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    assert dag.get_task("flip").upstream_task_ids == {"may_flip", "end_canary"}
    assert rules["delete_old_vhost"] == rules["show_plan"] == TriggerRule.ALL_SUCCESS
    # No other rule lets a task run after a failure: the watch only looks, the report only tells.
    assert (rules.pop("watch_api"), rules.pop("report")) == (
        TriggerRule.ONE_SUCCESS,
        TriggerRule.ALL_DONE_SETUP_SUCCESS,
    )
    assert set(rules.values()) == {TriggerRule.NONE_FAILED, TriggerRule.ALL_SUCCESS}


def test_the_trigger_form(load: LoadDags) -> None:
    dag = dag_of(load(lab=cloud_file([BOTH] * 3)), "lab")
    params = stored(dag).params
    assert params.dump() == {
        "target_release": None,
        "hosts": ["controller-1", "controller-2", "controller-3"],
        "canary": None,
        "approvals": "none",
        "delete_old_vhost": False,
        "dry_run": False,
    }
    target, hosts, canary, approvals, delete, dry_run = (params.get_param(name) for name in params)
    assert target.schema["enum"] == [None, "25.0.2", "26.0.2", "27.0.1"]
    assert target.schema["type"] == ["null", "string"]
    assert hosts.schema["examples"] == ["controller-1", "controller-2", "controller-3"]
    assert hosts.schema["type"] == "array"
    assert canary.schema["type"] == ["null", "array"]
    assert canary.schema["items"] == {"type": "string"}
    assert "Empty: none, as the cloud file names none." in canary.description
    assert approvals.schema["type"] == "string"
    assert approvals.schema["enum"] == [
        "none",
        "before the flip",
        "after the first host",
        "every host",
        "before the old engines stop",
    ]
    assert "until the flip the old release serves all of them" in approvals.description
    assert delete.schema["type"] == "boolean"
    assert dry_run.schema["type"] == "boolean"
    for param in (target, hosts, canary, approvals, delete, dry_run):
        assert param.schema["title"]
        assert param.description


def test_the_form_names_the_cloud_files_canary(load: LoadDags) -> None:
    named = {"projects": [f"p{number}" for number in range(8)], "minutes": 90}
    dag = dag_of(load(lab=cloud_file([BOTH], canary=named)), "lab")
    description = dag.params.get_param("canary").description
    assert "first, for 90 minutes, and everybody follows" in description
    assert "those of the cloud file: p0, p1, p2, p3, p4 and 3 more" in description


def test_the_checks_alone_are_a_dag_that_runs_any_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = loader("heat_preflight.py", tmp_path, monkeypatch)(lab=cloud_file([BOTH] * 3), bad="hosts: [")
    assert bag.import_errors == {}
    assert set(bag.dags) == {"heat_preflight__lab", "heat_preflight__bad"}
    dag = bag.dags["heat_preflight__lab"]
    assert list(dag.task_dict) == ["preflight"]
    assert isinstance(dag.get_task("preflight"), PreflightOperator)
    assert (dag.get_task("preflight").retries, dag.get_task("preflight").retry_policy) == (RETRIES["retries"], POLICY)
    assert dag.params.dump() == {"target_release": None}
    assert dag.schedule is None
    assert dag.doc_md


def test_the_form_stands_once_in_a_large_dag(load: LoadDags) -> None:
    """A copy of the form in each task made the stored DAG of 200 hosts 10 MB."""
    dag = dag_of(load(lab=cloud_file([BOTH] * 200)), "lab")
    assert len(json.dumps(DagSerialization.to_dict(dag))) < 2_000_000


def test_a_broken_cloud_file_shows_its_problems_and_leaves_the_others_alone(load: LoadDags) -> None:
    bad = cloud_file([BOTH, []], ["200%"])
    bag = load(good=cloud_file([BOTH]), bad=bad, worse="hosts: [", **{"odd name": cloud_file([BOTH])})
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"heat_rolling_upgrade__{name}" for name in ("good", "bad", "worse", "odd_name")}
    assert len(dag_of(bag, "good").tasks) > 10
    dag = dag_of(bag, "bad")
    (preflight,) = dag.tasks
    assert preflight.task_id == "preflight"
    with pytest.raises(Exception, match=r"the cloud file can't be used, nothing was touched") as caught:
        preflight.execute({})
    for problem in ("hosts[1].roles: got an empty list", "waves[0]: got '200%'"):
        assert problem in str(caught.value)
        assert problem in (dag.doc_md or "")
    for name in ("worse", "odd_name"):
        (preflight,) = dag_of(bag, name).tasks
        with pytest.raises(Exception, match="nothing was touched"):
            preflight.execute({})


# One process imports Airflow; each measurement is a copy of it that has not loaded the DAG file yet.
IMPORT = """
import importlib.util, json, os, sys, time
import airflow.dag_processing.dagbag
from airflow.sdk import BaseOperator, BaseSensorOperator, DAG, Param, TaskGroup, TriggerRule, chain

def load():
    before = set(sys.modules)
    began = time.process_time()
    spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    seconds = time.process_time() - began
    dag = vars(module)['heat_rolling_upgrade__lab']
    packages = sorted({name.split(".")[0] for name in set(sys.modules) - before})
    print(json.dumps({"cloud": clouds, "seconds": seconds, "tasks": len(dag.tasks), "packages": packages}), flush=True)

for clouds in sys.argv[2:] * 3:
    os.environ["HEAT_UPGRADE_CLOUDS"] = clouds
    child = os.fork()
    if not child:
        try:
            load()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""
CLOUDS = {"4": (4, [1]), "200": (200, [1]), "200-in-waves": (200, [1, "50%"])}


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Load the DAG file three times for each of some clouds, and return what each time took."""
    directory = tmp_path_factory.mktemp("imports")
    for name, (count, waves) in CLOUDS.items():
        (directory / name).mkdir()
        (directory / name / "lab.yaml").write_text(yaml.safe_dump(cloud_file([BOTH] * count, waves)))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, DAG_FILE, *(directory / name for name in CLOUDS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "plugins"), str(PROJECT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) == 3 * len(CLOUDS), done.stderr
    return {name: [r for r in results if Path(r["cloud"]).name == name] for name in CLOUDS}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_file_loads_in_less_than_a_second_beyond_airflow(
    cloud: str, imports: dict[str, list[dict[str, Any]]]
) -> None:
    """Measured in processor time, so that a busy machine doesn't count: nothing here waits."""
    assert min(result["tasks"] for result in imports[cloud]) >= 5 * CLOUDS[cloud][0] + 16
    assert median(result["seconds"] for result in imports[cloud]) < 1.0


def test_clients_of_servers_are_not_imported_with_the_dag_file(imports: dict[str, list[dict[str, Any]]]) -> None:
    packages = set(imports["4"][0]["packages"])
    assert "heat_upgrade" in packages
    assert not packages & {"MySQLdb", "openstack", "keystoneauth1", "requests", "paramiko"}
