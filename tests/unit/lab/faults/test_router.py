"""The routers' own faults: a state file torn and put back, the APIs beside and workers killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from heat_upgrade.router.state import StateError, create, hold, prepare, read, release
from lab.cloud.model import RELEASES, Lab, LabHost
from lab.faults import router
from lab.faults.fault import Scene
from lab.faults.router import BesideKilled, HostAway, StateTorn, WorkerKilled, put_back, tear
from lab.faults.sides import holds, state_of
from lab.faults.task import Task
from lab.faults.watch import Attempt
from lab.processes import children, wait_until

SOURCE, TARGET, _ = RELEASES
STATE = {"sides": [SOURCE, TARGET], "default": SOURCE, "projects": {}, "stacks": {}, "closed": False}
# Two processes in a group of their own, as uWSGI's master and its worker are.
SERVICE = "import subprocess, sys; subprocess.run(['sleep', '60'])"


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> LabHost:
    # A short path: the lab refuses one in which a socket's would be too long.
    monkeypatch.setattr("lab.cloud.model.PROJECT_ROOT", tmp_path_factory.mktemp("w"))
    return Lab("faults-unit", "small").hosts[0]


@pytest.fixture
def directory(host: LabHost) -> Path:
    directory = host.router(TARGET)
    directory.mkdir(parents=True)
    create(directory, STATE)
    return directory


@pytest.fixture
def service() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", SERVICE], start_new_session=True) as process:
        wait_until(lambda: bool(children(process.pid)), what="it has a worker")
        yield process
        process.kill()


def scene(task_id: str) -> Scene:
    lab = Lab("faults-unit", "small")
    return Scene(lab, Mock(), Task(lab, task_id), Attempt("running", 1, os.getpid()))


def test_a_torn_state_can_be_read_and_written_by_nobody_until_it_is_put_back(host: LabHost, directory: Path) -> None:
    held = hold(directory, "changes", 10, 1)
    whole = tear(host, TARGET)
    assert whole
    assert state_of(host, TARGET) is None
    assert not holds(host, TARGET)
    with pytest.raises(StateError, match="expected version"):
        prepare(directory, held.sequence, STATE)
    put_back(host, TARGET, whole)
    assert read(directory) == held
    assert holds(host, TARGET)
    assert (directory / "state.json").stat().st_mode & 0o777 == 0o640
    release(directory, prepare(directory, held.sequence, STATE).sequence)
    assert not holds(host, TARGET)


def test_a_state_that_nobody_reads_any_more_is_left_alone(host: LabHost, directory: Path) -> None:
    held = hold(directory, "listed", 10, 1)
    closed = prepare(directory, held.sequence, STATE | {"closed": True})
    closed = release(directory, closed.sequence)
    assert tear(host, TARGET) is None
    assert read(directory) == closed


def test_the_router_has_to_refuse_while_its_state_is_torn(
    host: LabHost, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def status(*place: object) -> int:
        asked.append(state_of(host, TARGET))
        return 503

    monkeypatch.setattr(router, "_status", status)
    at_the_flip = scene("flip")
    before = read(directory)
    StateTorn().strike(at_the_flip)
    assert asked == [None]
    at_the_flip.watch.await_end_of_try.assert_called_once()  # type: ignore[attr-defined]
    assert read(directory) == before


def test_the_apis_beside_are_killed_with_their_workers(
    host: LabHost, service: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = children(service.pid)
    monkeypatch.setattr(router, "program_pids", lambda host: {f"heat-api-{SOURCE}-beside": service.pid})
    fault, struck = BesideKilled(), scene("flip")
    assert fault.restarts(struck.task) == [f"heat-api-{SOURCE}-beside", f"heat-api-cfn-{SOURCE}-beside"]
    fault.strike(struck)
    assert service.wait() < 0
    wait_until(lambda: not _runs(worker), what="its worker has ended")


@pytest.mark.parametrize(
    ("state", "answer", "healthy"),
    [("RUNNING", 300, True), ("RUNNING", 0, False), ("BACKOFF", 300, False), ("STOPPED", 0, True), (None, 0, True)],
)
def test_the_apis_beside_are_well_when_they_answer_or_the_run_has_stopped_them(
    state: str | None, answer: int, healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = scene("flip").task
    states = {program: state for program in router.besides(task) if state}
    pids = {program: number for number, program in enumerate(states) if state == "RUNNING"}
    monkeypatch.setattr(router, "programs", lambda host: states)
    monkeypatch.setattr(router, "program_pids", lambda host: pids)
    monkeypatch.setattr(router, "_address", str)
    monkeypatch.setattr(router, "_status", lambda address: answer)
    assert BesideKilled().healthy(task.lab, task) == healthy


def test_an_api_tells_by_its_command_line_where_it_listens() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "--http-socket", "127.0.0.1:28104", "--master"]
    with subprocess.Popen(command) as process:
        wait_until(lambda: router._address(process.pid) == "127.0.0.1:28104", what="its address is told", timeout=10)
        process.kill()
    assert router._address(process.pid) == ""


def test_a_worker_that_is_killed_has_to_be_followed_by_another(
    service: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = {service.pid: children(service.pid)}
    monkeypatch.setattr(router, "program_pids", lambda host: {f"heat-api-{TARGET}": service.pid})
    monkeypatch.setattr(router, "children", lambda pid: workers.get(pid, []))
    monkeypatch.setattr(router, "build_info", lambda host: (SOURCE, SOURCE))
    fault, struck = WorkerKilled(), scene("flip")
    fault.strike(struck)
    service.wait()
    assert not fault.healthy(struck.lab, struck.task)
    workers[service.pid] = [os.getpid()]
    assert fault.healthy(struck.lab, struck.task)


def test_a_router_s_faults_hit_what_users_reach_through_it() -> None:
    def hit(fault: StateTorn | BesideKilled | WorkerKilled | HostAway) -> set[str]:
        ids = ("prepare.controller_1", "start_beside", "controller_1.switch_api", "flip", "close", "retire")
        return {task for task in ids if fault.applies(scene(task).task)}

    assert hit(StateTorn()) == hit(WorkerKilled()) == hit(HostAway()) == {"flip", "close"}
    assert hit(BesideKilled()) == {"start_beside", "controller_1.switch_api", "flip"}


def _runs(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].strip().startswith("Z")
    except OSError:
        return False
