"""The report's task: what it gathers, that it ends as its run did, and who may read the page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred
from fastapi.testclient import TestClient

from heat_upgrade import counts
from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.exceptions import HeatDatabaseUnavailableError
from heat_upgrade.hooks.heat_api import HeatApiHook
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.operators.api_watch import WatchApiOperator
from heat_upgrade.operators.report import ReportOperator, was_stopped
from heat_upgrade.readings import StackState, Unavailable
from heat_upgrade.report import notes, server
from heat_upgrade.report.facts import Report
from heat_upgrade_plugin import HeatUpgradePlugin
from tests.unit.sensors.test_drain import CLOUD, context
from tests.unit.triggers.test_api_watch import seen

DAG_ID, RUN_ID = "heat_rolling_upgrade__small", "run"
SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    path: Path = tmp_path_factory.mktemp("clouds") / "small.yaml"
    path.write_text(CLOUD)
    return load_cloud(path)


class Instance:
    """The task instance: what Airflow tells of the run, and the XComs."""

    dag_id, run_id = DAG_ID, RUN_ID

    def __init__(self, states: dict[str, str | None], xcoms: dict[tuple[str, str], Any] | None = None) -> None:
        self.states = states
        self.xcoms = dict(xcoms or {})
        self.earlier: dict[tuple[str, str], Any] = {}

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        assert (dag_id, run_ids) == (DAG_ID, [RUN_ID])
        return {RUN_ID: self.states}

    def get_task_breadcrumbs(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        assert (dag_id, run_id) == (DAG_ID, RUN_ID)
        return [{"task_id": task, "state": state, "duration": 2.5} for task, state in self.states.items() if state]

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int, include_prior_dates: bool = False) -> Any:
        found = self.xcoms.get((task_ids, key))
        return self.earlier.get((task_ids, key)) if found is None and include_prior_dates else found

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.xcoms["report", key] = value


def began(*tasks: str) -> dict[tuple[str, str], Any]:
    return {
        (task, "began"): {"time": 1000.0 + number, "try": 1, "host": "c1" if task.endswith(".c1") else None}
        | {"step": task.removesuffix(".c1")}
        for number, task in enumerate(tasks)
    }


GOOD = {"preflight": "success", "prepare.c1": "success", "wait_until_drained": "success", "report": "running"}
COURSE = {
    "readings": [[1002.0, 3, 1, 2], [1004.0, 0, 0, 0]],
    "every": 1,
    "taken": 2,
    "t0": 1002.0,
    "in_flight": 3,
    "stacks": [{"id": id_, "name": id_, "project": "p", "action": "CREATE"} for id_ in ("s1", "s2", "s3")],
}
XCOMS = began("preflight", "prepare.c1", "wait_until_drained") | {
    ("preflight", "return_value"): {"source": "25.0.2", "target": "26.0.2", "hosts": ["c1", "c2"], "stranded": []},
    ("wait_until_drained", "history"): COURSE,
    ("watch_api", "history"): seen(None, "HTTP 503", None).as_xcom(),
    ("verify_cloud", "return_value"): [{"name": "services", "found": "all of them"}],
}


@pytest.fixture
def make(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes the report of a run, and gives it back."""
    monkeypatch.setenv("HEAT_UPGRADE_REPORTS", str(tmp_path))
    ends = {"s1": StackState("CREATE", "COMPLETE", SECRET), "s2": StackState("DELETE", None, SECRET)}
    monkeypatch.setattr(HeatDatabaseHook, "stack_states", lambda _, ids: {id_: ends[id_] for id_ in ids if id_ in ends})
    monkeypatch.setattr(HeatDatabaseHook, "__init__", lambda *_: None)
    with DAG(DAG_ID):
        operator = ReportOperator(task_id="report", cloud=cloud, kind="Rolling upgrade")

    def run(instance: Instance) -> Report:
        try:
            operator.execute({"ti": instance})  # type: ignore[typeddict-item]
        except AirflowFailException as error:
            instance.xcoms["told", ""] = str(error)
        return Report.model_validate_json(instance.xcoms["report", "report"])

    return run


def test_it_gathers_what_the_run_has_left(make):
    report = make(Instance(GOOD, XCOMS))
    assert (report.outcome, report.source, report.target, report.hosts) == ("success", "25.0.2", "26.0.2", ("c1", "c2"))
    assert [(step.task, step.host, step.name) for step in report.steps] == [
        ("preflight", None, "preflight"),
        ("prepare.c1", "c1", "prepare"),
        ("wait_until_drained", None, "wait_until_drained"),
    ]
    assert [sample.messages for sample in report.drain.samples] == [3, 0]
    assert [flight.ended for flight in report.drain.stacks] == ["CREATE COMPLETE", "deleted", "purged"]
    assert (report.api.probes, report.api.failed) == (3, 1)
    assert [check.name for check in report.checks] == ["services"]


NUMBERS = dict.fromkeys(counts.NAMES, 3)
TIMES = {"began": "2026-05-01T00:00:00+00:00", "ended": "2026-05-01T00:00:09+00:00"}
AFTER_THE_SWEEP = {**GOOD, "start_beside": "success"}


def test_it_gathers_what_the_flip_and_the_close_have_left(make, monkeypatch):
    def asked(*_: Any) -> None:
        raise AssertionError("the close has it")

    monkeypatch.setattr(counts, "counts_of", asked)
    flip = {**TIMES, "moved": True, "in_flight": 4, "held": {"c1": 1.3}}
    left = {("flip", "return_value"): flip, ("close", "return_value"): {**flip, "counts": {"c1": NUMBERS}}}
    canary = {
        ("flip_canary", "return_value"): {"projects": ["shop"]},
        ("end_canary", "canary"): {"verdict": "held"},
    }
    report = make(Instance({**AFTER_THE_SWEEP, "close": "success"}, XCOMS | left | canary))
    assert report.flip == report.close
    assert (report.flip.in_flight, report.flip.held) == (4, {"c1": 1.3})
    assert [(router.host, router.beside.all, router.longest_held) for router in report.routers] == [("c1", 9, 3)]
    assert (report.canary.projects, report.canary.verdict) == (("shop",), "held")


def test_a_run_that_failed_before_its_close_asks_the_routers_as_far_as_it_can(make, monkeypatch):
    found = {"c1": NUMBERS, "c2": Unavailable("c2 is away")}
    monkeypatch.setattr(counts, "counts_of", lambda cloud, target: found if target == "26.0.2" else None)
    report = make(Instance({**AFTER_THE_SWEEP, "flip": "failed"}, XCOMS))
    assert [router.host for router in report.routers] == ["c1"]
    assert report.notes == ("What the router of c2 has done isn't known: c2 is away",)
    assert (report.flip, report.close, report.canary) == (None, None, None)


def test_routers_that_cannot_be_asked_at_all_are_no_failure(make, monkeypatch):
    def no_connection(*_: Any) -> None:
        raise AirflowException("the conn_id isn't defined")

    monkeypatch.setattr(counts, "counts_of", no_connection)
    report = make(Instance(AFTER_THE_SWEEP, XCOMS))
    assert (report.outcome, report.routers) == ("success", ())
    assert report.notes[0].startswith("What the router of every host has done isn't known")


def test_the_next_run_is_told_how_long_each_step_took(make):
    first = Instance(GOOD, XCOMS)
    assert {step.last for step in make(first).steps} == {None}
    second = Instance({**GOOD, "prepare.c1": "skipped"}, XCOMS)
    seconds = {**first.xcoms["report", "timings"]["seconds"], "prepare.c1": 40.0}
    second.earlier = {("report", "timings"): {"run": "first", "seconds": seconds}}
    assert {step.task: step.last for step in make(second).steps} == {
        "preflight": 2.5,
        "prepare.c1": 40.0,
        "wait_until_drained": 2.5,
    }
    kept = second.xcoms["report", "timings"]
    assert kept["run"] == RUN_ID
    assert kept["seconds"]["prepare.c1"] == 40.0, "a step that didn't run keeps its time"


@pytest.mark.parametrize("state", ["failed", "upstream_failed"])
def test_it_fails_with_its_run_once_it_has_written_the_report(state, make, tmp_path):
    instance = Instance({**GOOD, "prepare.c1": state}, XCOMS | {("prepare.c1", "error"): "no space left"})
    report = make(instance)
    assert report.outcome == "failed"
    assert [step.error for step in report.failed] == (["no space left"] if state == "failed" else [])
    assert "the run has failed" in instance.xcoms["told", ""]
    assert (tmp_path / DAG_ID / RUN_ID / "report.html").exists()


def test_a_watch_that_failed_fails_nothing(make):
    assert make(Instance({**GOOD, "watch_api": "failed"}, XCOMS)).outcome == "success"


def test_it_waits_while_other_tasks_are_at_work(cloud):
    operator = ReportOperator(task_id="report", cloud=cloud, kind="Rolling upgrade")
    instance = Instance({"prepare.c1": "failed", "prepare.c2": "running", "report": "running"})
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({"ti": instance})  # type: ignore[typeddict-item]
    assert deferred.value.trigger.arguments.but_for == "report"


def test_a_run_that_was_refused_has_a_report(make):
    states = {"preflight": "failed", "prepare.c1": "upstream_failed", "report": "running"}
    report = make(Instance(states, began("preflight") | {("preflight", "error"): "a jump"}))
    assert (report.outcome, report.source, report.drain, report.api) == ("failed", None, None, None)


def test_a_database_that_is_away_leaves_the_stacks_ends_unknown(make, monkeypatch):
    def away(*_: Any) -> None:
        raise HeatDatabaseUnavailableError("heat at db.example can't be read")

    monkeypatch.setattr(HeatDatabaseHook, "stack_states", away)
    report = make(Instance(GOOD, XCOMS))
    assert {flight.ended for flight in report.drain.stacks} == {"unknown"}
    assert "db.example can't be read" in report.notes[0]


def test_what_cannot_be_written_is_no_failure(make, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEAT_UPGRADE_REPORTS", str(tmp_path / "file"))
    instance = Instance(GOOD, XCOMS)
    assert make(instance).outcome == "success"
    assert ("told", "") not in instance.xcoms


def test_no_secret_of_others_gets_in(make, tmp_path):
    instance = Instance({**GOOD, "prepare.c1": "failed"}, XCOMS)

    class Task:
        def xcom_push(self, *, key: str, value: Any) -> None:
            instance.xcoms["prepare.c1", key] = value

    notes.note_error({"ti": Task(), "exception": ValueError(SECRET)})  # type: ignore[typeddict-item]
    report = make(instance)
    assert report.failed[0].error == "ValueError (text withheld: it may hold a secret)"
    assert SECRET not in report.model_dump_json()
    for file in (tmp_path / DAG_ID / RUN_ID).iterdir():
        assert SECRET not in file.read_text()


@pytest.mark.parametrize(
    ("states", "began", "stopped"),
    [
        ({"a": "success", "b": "skipped", "c": "skipped"}, {"a"}, True),
        ({"a": "success", "b": "skipped", "c": "skipped"}, {"a", "b"}, False),
        ({"a": "skipped", "b": "skipped", "c": "skipped"}, {"a"}, False),
        ({"a": "success", "b": "success", "c": "success"}, {"a", "b", "c"}, False),
    ],
)
def test_a_run_that_was_stopped_between_two_tasks_is_told_from_one_that_skips(states, began, stopped):
    rules = {"a": (TriggerRule.ALL_SUCCESS, []), "b": (TriggerRule.ALL_SUCCESS, ["a"]), "c": ("all_success", ["b"])}
    assert was_stopped(states, began, rules) is stopped


def test_a_rule_that_minds_no_skip_tells_a_stopped_run():
    rules = {"a": (TriggerRule.NONE_FAILED, []), "b": (TriggerRule.NONE_FAILED, ["a"])}
    assert was_stopped({"a": "skipped", "b": "skipped"}, {"a"}, rules)
    assert not was_stopped({"a": "skipped", "b": "success"}, {"a", "b"}, rules)


@pytest.mark.parametrize(
    ("task_id", "host", "step"),
    [
        ("prepare.controller_1_east", "controller-1.east", "prepare"),
        ("controller_1_east.switch_api", "controller-1.east", "switch_api"),
        ("verify_cloud", None, "verify_cloud"),
    ],
)
def test_a_task_notes_its_host_as_it_begins(task_id, host, step):
    noted = {}
    instance = SimpleNamespace(
        task_id=task_id,
        start_date=datetime(2026, 5, 1, tzinfo=UTC),
        try_number=2,
        xcom_push=lambda key, value: noted.update({key: value}),
    )
    task = SimpleNamespace(host=SimpleNamespace(name=host, task_id="controller_1_east")) if host else object()
    notes.note_begin({"ti": instance, "task": task})  # type: ignore[typeddict-item]
    assert noted == {"began": {"time": 1777593600.0, "try": 2, "host": host, "step": step}}


@pytest.mark.parametrize(("going_back", "key"), [(False, "timings"), (True, "timings_back")])
def test_a_host_that_had_moved_before_says_nothing_of_the_next_sweep(going_back, key, make):
    plan = XCOMS["preflight", "return_value"] | {"moved": ["c1"], "going_back": going_back}
    tasks = ("c1.leave_rotation", "c1.switch_api", "c1.rejoin_rotation", "c2.switch_api")
    instance = Instance(GOOD | dict.fromkeys(tasks, "success"), XCOMS | {("preflight", "return_value"): plan})
    instance.earlier = {("report", key): {"run": "first", "seconds": {"c1.switch_api": 40.0}}}
    make(instance)
    kept = instance.xcoms["report", key]["seconds"]
    assert kept["c1.switch_api"] == 40.0
    assert "c1.leave_rotation" not in kept
    assert kept["c2.switch_api"] == kept["prepare.c1"] == 2.5


def test_a_run_that_failed_is_no_measure(make):
    instance = Instance({**GOOD, "prepare.c1": "failed"}, XCOMS)
    make(instance)
    assert ("report", "timings") not in instance.xcoms


def test_the_watch_asks_the_version_document(cloud, monkeypatch):
    monkeypatch.setattr(HeatApiHook, "versions_url", "https://heat.example/")
    monkeypatch.setattr(HeatApiHook, "verify", "/etc/ca.pem")
    with pytest.raises(TaskDeferred) as deferred:
        WatchApiOperator(task_id="watch_api", cloud=cloud).execute(context("c1"))  # type: ignore[arg-type]
    watched = deferred.value.trigger.arguments
    assert (watched.url, watched.verify, watched.until) == ("https://heat.example/", "/etc/ca.pem", "verify_cloud")


def test_a_watch_that_finds_no_address_holds_up_nothing(cloud, monkeypatch, capsys):
    def refused(_: Any) -> None:
        raise AirflowException(SECRET)

    monkeypatch.setattr(HeatApiHook, "versions_url", property(refused))
    WatchApiOperator(task_id="watch_api", cloud=cloud).execute(context("c1"))  # type: ignore[arg-type]
    assert SECRET not in capsys.readouterr().out


def test_a_dry_run_watches_nothing_and_its_times_do_not_count(cloud, make):
    with pytest.raises(AirflowSkipException):
        WatchApiOperator(task_id="watch_api", cloud=cloud).execute(context("c1", dry_run=True))  # type: ignore[arg-type]
    dry = XCOMS | {("preflight", "return_value"): XCOMS["preflight", "return_value"] | {"dry_run": True}}
    instance = Instance(GOOD, dry)
    assert "a dry run" in make(instance).notes[0]
    assert ("report", "timings") not in instance.xcoms


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://heat.example:8004/v1/admin", "http://heat.example:8004/"),
        ("https://heat.example:8004/v1/0123/", "https://heat.example:8004/"),
        ("https://cloud.example/orchestration/v1/0123", "https://cloud.example/orchestration/"),
        ("https://cloud.example/heat-api/v1", "https://cloud.example/heat-api/"),
        ("http://me:secret@heat.example:8004/v1/admin?token=secret", "http://heat.example:8004/"),
        ("http://[2001:db8::1]:8004/v1/admin", "http://[2001:db8::1]:8004/"),
    ],
)
def test_the_version_document_stands_above_the_version(endpoint, url, monkeypatch):
    monkeypatch.setattr(HeatApiHook, "heat", SimpleNamespace(get_endpoint=lambda: endpoint))
    assert HeatApiHook("api").versions_url == url


def test_the_page_is_for_nobody_without_a_login():
    client = TestClient(server.app)
    for format_ in ("html", "md"):
        answer = client.get("/report", params={"dag_id": DAG_ID, "run_id": RUN_ID, "format": format_})
        assert answer.status_code == 401
    assert client.get("/openapi.json").status_code == 404


def test_the_tab_leads_to_the_page():
    (app,), (view,) = HeatUpgradePlugin.fastapi_apps, HeatUpgradePlugin.external_views
    assert f"/{view['href']}".startswith(f"{app['url_prefix']}/report?")
    assert view["destination"] == "dag_run"
