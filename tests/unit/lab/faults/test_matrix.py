"""What a cell of the fault suite's matrix is judged to be, and which failed requests a fault explains."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from lab.cloud.model import PROJECT_ROOT, Lab
from lab.faults.matrix import Cell, Outcome, Report, as_markdown, totals, unexplained
from lab.faults.pages import page
from lab.faults.strikes import Strikes
from lab.faults.suite import against, judge
from lab.faults.task import Task
from lab.traffic.ledger import Failure
from tests.unit._helpers.accounts import account


def cell(**fields: object) -> Cell:
    return Cell(**{"task": "preflight", "fault": "a fault", "began": 100.0, "tries": 1, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (cell(final_tries=1), Outcome.UNHURT),
        (cell(final_tries=2), Outcome.RETRIED),
        (cell(tries=2, final_tries=2), Outcome.UNHURT),
        (cell(final_tries=2, errors=["mend it, clear this task"]), Outcome.RESUMED),
        (cell(), Outcome.LOST),
        (cell(errors=["mend it, clear this task"]), Outcome.LOST),
        (cell(final_tries=2, flaws=["heat-engine was started 2 times"]), Outcome.LOST),
    ],
)
def test_a_cell_is_judged_by_what_was_seen(seen: Cell, outcome: Outcome) -> None:
    assert seen.outcome == outcome


@pytest.mark.parametrize(
    ("at", "seconds", "explained"),
    [(99.0, 0.5, False), (99.0, 2.0, True), (105.0, 60.0, True), (110.5, 1.0, False)],
)
def test_a_fault_explains_what_failed_while_it_lasted(at: float, seconds: float, explained: bool) -> None:
    failure = Failure(at=at, kind="list", error="503", seconds=seconds)
    assert unexplained([failure], [(100.0, 110.0)]) == ([] if explained else [failure])


def test_the_matrix_has_a_row_for_each_task_and_a_column_for_each_fault() -> None:
    reports = [
        Report("one", [cell(final_tries=2), cell(task="verify_cloud", final_tries=1)]),
        Report("two", [cell(fault="another", final_tries=2, errors=["clear it"])]),
    ]
    shown = as_markdown(reports, ["preflight", "verify_cloud"])
    table = [[entry.strip() for entry in line.strip("|").split("|")] for line in shown.splitlines()]
    assert table[0] == ["task", "a fault", "another"]
    assert table[2:] == [["`preflight`", "retried", "resumed"], ["`verify_cloud`", "unhurt", "·"]]
    assert totals(reports) == {"unhurt": 1, "retried": 1, "resumed": 1, "lost": 0}


def test_all_that_speaks_against_a_run_is_named() -> None:
    failure = Failure(at=1.0, kind="create", error="503", seconds=0.1)
    report = Report(
        "one",
        [cell()],
        missed=["a fault at may_flip"],
        unexplained=[failure],
        stuck=["stack-7"],
        crossed=["stack-8/server"],
    )
    assert against([report]) == [
        "one: lost: a fault at preflight: lost",
        "one: missed: a fault at may_flip",
        "one: a create failed: 503",
        "one: stuck: stack-7",
        "one: worked on by two engines: stack-8/server",
    ]


def test_two_engines_are_excused_by_a_fault_that_ended_one_of_them_and_by_no_other() -> None:
    strikes = Strikes(Lab("faults-unit", "small"), Mock(), Mock(), {}, Mock(), [])
    strikes.touched, strikes.taken_up = {"r-001-nested", "r-002-wide"}, {"r-001-nested"}
    stolen = ["r-001-nested-outer-abc/0", "r-002-wide/part-1"]
    report = Report("one")
    judge(report, strikes, account(stolen=stolen, created_twice=["r-001-nested/outer", "r-003-pair/link-0"]))
    assert report.crossed == ["r-002-wide/part-1", "r-003-pair/link-0"]


def test_the_page_tells_what_tasks_said_without_the_place_of_the_checkout() -> None:
    stopped = cell(final_tries=2, errors=[f"{PROJECT_ROOT}/hosts/one is full: mend it, then clear this task", "again"])
    report = Report("one", [stopped, cell(fault="another", final_tries=1)], seconds=90, sent=700, crossed=["a/b"])
    text = page([report], ["two"])
    assert "- a fault, `preflight`: hosts/one is full: mend it, then clear this task" in text
    assert str(PROJECT_ROOT) not in text
    assert "2 cells: 1 unhurt, 0 retried, 1 resumed, 0 lost." in text
    assert "- not run yet: two" in text
    assert "- one: 90 s, 700 API requests, 0 failed" in text
    assert "; 1 resources worked on by two engines" in text


@pytest.mark.parametrize(
    ("task_id", "kind", "host", "step", "ssh_host"),
    [
        ("preflight", "preflight", "controller-1", "look", "controller-1"),
        ("prepare.controller_2", "prepare", "controller-2", "prepare", "controller-2"),
        ("controller_2.switch_api", "switch_api", "controller-2", "switch_api", "controller-2"),
        ("controller_2.leave_rotation", "leave_rotation", "controller-2", "leave_rotation", "balancer"),
        ("controller_1.leave_rotation", "leave_rotation", "controller-1", "leave_rotation", "controller-1"),
        ("create_vhost", "create_vhost", "controller-1", None, "controller-1"),
        ("flip", "flip", "controller-1", "route", "controller-1"),
        ("retire", "retire", "controller-1", "stop_engine", "controller-1"),
    ],
)
def test_a_task_s_name_tells_where_it_works(
    task_id: str, kind: str, host: str, step: str | None, ssh_host: str
) -> None:
    task = Task(Lab("faults-unit", "small"), task_id)
    assert (task.kind, task.host.name, task.step, task.ssh_host.name) == (kind, host, step, ssh_host)
