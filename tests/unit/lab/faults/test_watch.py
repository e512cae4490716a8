"""How the fault suite tells that a task is at work: Airflow's rows, and the processes of remote steps."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heat_upgrade.router.state import create, hold, probe
from lab.cloud.model import RELEASES, Lab
from lab.faults.task import CLOSE, FLIP, GATE, PROVE, Task
from lab.faults.watch import Attempt, RunWatch, in_the_middle, step_pids
from lab.processes import send_signal, wait_until


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Lab:
    # A short path: the lab refuses one in which a socket's would be too long.
    monkeypatch.setattr("lab.cloud.model.PROJECT_ROOT", tmp_path_factory.mktemp("w"))
    return Lab("faults-unit", "small")


@pytest.fixture
def step(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """Run what looks like the installation on the first host, until it reads a line."""
    script = lab.hosts[0].root / "var/lib/heat-upgrade/steps/0123/prepare"
    script.parent.mkdir(parents=True)
    script.write_text("read -r line\n", encoding="utf-8")
    with subprocess.Popen(["bash", script], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_step_is_found_by_its_command_line(lab: Lab, step: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: step_pids(Task(lab, "prepare.controller_1")) == [step.pid], what="the step is found")
    assert step_pids(Task(lab, "prepare.controller_2")) == []
    assert step_pids(Task(lab, "controller_1.switch_api")) == []


def test_a_step_that_only_looks_is_found_by_its_home(lab: Lab, tmp_path: Path) -> None:
    script = tmp_path / "heat-upgrade.abcdef/look"
    script.parent.mkdir()
    script.write_text("read -r line\n", encoding="utf-8")
    home = str(lab.hosts[0].home)
    with subprocess.Popen(["bash", script], stdin=subprocess.PIPE, env={**os.environ, "HOME": home}) as process:
        try:
            wait_until(lambda: step_pids(Task(lab, GATE)) == [process.pid], what="the step is found")
        finally:
            process.kill()


def test_a_signal_to_a_process_that_has_ended_is_none(step: subprocess.Popen[bytes]) -> None:
    send_signal([step.pid], signal.SIGKILL)
    step.wait()
    send_signal([step.pid], signal.SIGKILL)


@pytest.mark.parametrize(
    ("task_id", "state", "process", "wait", "at_work"),
    [
        ("prepare.controller_1", "running", True, True, True),
        ("prepare.controller_1", "deferred", False, True, True),
        ("prepare.controller_1", "deferred", True, True, False),
        ("prepare.controller_2", "running", False, True, False),
        ("create_vhost", "running", False, True, True),
        ("create_vhost", "queued", False, True, False),
        ("preflight", "running", False, True, True),
        ("verify_cloud", "queued", False, True, False),
        (GATE, "running", False, True, False),
        (GATE, "deferred", False, True, True),
        (GATE, "deferred", True, False, False),
    ],
)
def test_a_task_is_at_work_while_its_step_or_process_is(
    lab: Lab, step: subprocess.Popen[bytes], task_id: str, state: str, process: bool, wait: bool, at_work: bool
) -> None:
    wait_until(lambda: bool(step_pids(Task(lab, "prepare.controller_1"))), what="the step runs")
    attempt = Attempt(state, 1, pid=4711 if state == "running" else None)
    assert in_the_middle(Task(lab, task_id), attempt, process=process, wait=wait) == at_work


def router_of(lab: Lab) -> Path:
    """Return the folder of a router that the first host has in front of its APIs, all on the old side."""
    source, target, *_ = RELEASES
    directory = lab.hosts[0].router(target)
    directory.mkdir(parents=True, exist_ok=True)
    create(directory, {"sides": [source, target], "default": source, "projects": {}, "stacks": {}, "closed": False})
    return directory


@pytest.mark.parametrize(
    ("task_id", "held", "at_work"), [(FLIP, False, True), (CLOSE, True, True), (CLOSE, False, False)]
)
def test_a_flip_and_what_wants_its_hold_are_at_work_while_changes_wait(
    lab: Lab, task_id: str, held: bool, at_work: bool
) -> None:
    task, attempt = Task(lab, task_id), Attempt("running", 1, pid=4711)

    def middle() -> bool:
        return in_the_middle(task, attempt, process=False, wait=True, held=held)

    assert not middle()
    router_of(lab)
    assert not middle()
    hold(router_of(lab), "changes", 10, 1)
    assert middle() == at_work
    assert not in_the_middle(task, Attempt("queued", 1, None), process=False, wait=True, held=held)


def test_the_new_side_is_proven_while_it_is_open_to_a_token(lab: Lab) -> None:
    task, attempt = Task(lab, PROVE), Attempt("running", 1, pid=4711)
    probe(router_of(lab), "0" * 64)
    assert in_the_middle(task, attempt, process=False, wait=True)
    probe(router_of(lab), None)
    assert not in_the_middle(task, attempt, process=False, wait=True)


def test_a_run_is_read_from_airflow_s_database(lab: Lab) -> None:
    lab.airflow_home.mkdir(parents=True)
    with closing(sqlite3.connect(lab.airflow_home / "airflow.db")) as database:
        database.executescript("""
            CREATE TABLE task_instance (dag_id, run_id, task_id, state, try_number, pid);
            CREATE TABLE dag_run (dag_id, run_id, state);
            INSERT INTO dag_run VALUES ('dag', 'run', 'running'), ('dag', 'another', 'failed');
            INSERT INTO task_instance VALUES ('dag', 'run', 'preflight', 'running', 2, 4711),
                ('dag', 'run', 'verify_cloud', NULL, 0, NULL), ('dag', 'another', 'preflight', 'failed', 1, 1);
        """)
    watch = RunWatch(lab, "dag", "run")
    assert watch.state() == "running"
    assert watch.attempts() == {"preflight": Attempt("running", 2, 4711), "verify_cloud": Attempt("none", 0, None)}
