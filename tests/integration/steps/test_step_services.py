"""look, start_engine, switch_api and stop_engine, under a real supervisord."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path

import pytest

from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.hosts import HostState
from heat_upgrade.remote import steps
from lab.http import local_session
from lab.processes import wait_until
from tests.integration.steps.conftest import NEW, OLD, Machine


@pytest.fixture
def prepared(machine: Machine) -> Machine:
    """A host with the old release's services running and the new one beside it."""
    machine.serve("engine", "api")
    machine.run(steps.prepare(machine.source, machine.target))
    return machine


def look(machine: Machine) -> HostState:
    host = machine.cloud.host(machine.name)
    return HostState.parse(host, machine.run(steps.look(machine.cloud, host)))


def starts(machine: Machine) -> dict[str, int]:
    return machine.lab_host.service_starts()


def started_since(machine: Machine, before: dict[str, int]) -> dict[str, int]:
    return {
        unit: count - before.get(unit, 0) for unit, count in starts(machine).items() if count != before.get(unit, 0)
    }


def test_the_way_of_a_host_through_an_upgrade(prepared: Machine) -> None:
    assert look(prepared).running == {OLD}
    before = starts(prepared)

    assert prepared.run(steps.start_engine(prepared.target))["heat_host"] == "controller-1"
    assert look(prepared).releases("engine") == {OLD, NEW}
    assert look(prepared).releases("api") == {OLD}

    prepared.run(steps.switch_api(prepared.source, prepared.target))
    assert prepared.answer("api") == (300, NEW)
    assert look(prepared).releases("api") == {NEW}
    assert look(prepared).moved(NEW)

    prepared.run(steps.stop_engine(prepared.source))
    state = look(prepared)
    assert state.running == {NEW}
    assert state.installed == {OLD: OLD, NEW: NEW, "27.0.1": ""}
    assert state.vhosts == {OLD: "heat_25", NEW: "heat_26"}
    assert state.heat_host == "controller-1"

    # Once more, and nothing is started, stopped or written.
    again = starts(prepared)
    files = {path: path.read_text() for path in (prepared.root / "etc").rglob("*") if path.is_file()}
    prepared.run(steps.start_engine(prepared.target))
    prepared.run(steps.switch_api(prepared.source, prepared.target))
    prepared.run(steps.stop_engine(prepared.source))
    assert started_since(prepared, before) == {f"heat-engine-{NEW}": 1, f"heat-api-{NEW}": 1}
    assert starts(prepared) == again
    assert {path: path.read_text() for path in (prepared.root / "etc").rglob("*") if path.is_file()} == files


@pytest.fixture
def bare(prepared: Machine, tmp_path: Path) -> Path:
    """The programs of a release that has no uWSGI: its own one is all there is."""
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    (programs / "heat-api").symlink_to(f"{prepared.source.venv}/bin/heat-api")
    return programs


def beside(machine: Machine) -> tuple[int, str, str]:
    """Ask the old API beside, and return its service's command as well."""
    file = machine.root / f"etc/supervisor.d/{machine.source.unit_beside('api')}.conf"
    (command,) = re.findall(r"^command=(.*)$", file.read_text(), re.MULTILINE)
    listen = machine.source.beside("api")
    got = local_session().get(f"http://{listen.address}:{listen.port}/", timeout=5)
    return got.status_code, got.text, command


def written(machine: Machine) -> dict[Path, bytes]:
    """Return the host's files; the router's bytecode is Python's own."""
    files = [path for path in (machine.root / "etc").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path: path.read_bytes() for path in files}


def test_an_old_api_runs_beside_under_uwsgi(prepared: Machine) -> None:
    prepared.run(steps.start_beside(prepared.source, prepared.target))
    assert beside(prepared)[:2] == (300, OLD)
    assert beside(prepared)[2].startswith(
        f"{prepared.source.venv}/bin/uwsgi --http-socket {prepared.lab_host.address}:"
    )


@pytest.mark.parametrize("uwsgi", ["", "-h, --http-socket", "-h, --http-socket, -w|--module"])
def test_an_old_api_without_a_uwsgi_that_can_run_it_runs_beside_by_its_own_program(
    prepared: Machine, bare: Path, uwsgi: str
) -> None:
    if uwsgi:  # without Python, and for a release without heat.wsgi
        (bare / "uwsgi").write_text(f"#!/bin/sh\necho '{uwsgi}'\n")
        (bare / "uwsgi").chmod(0o755)
    step = steps.start_beside(prepared.source, prepared.target)
    prepared.run(step, VENV=str(bare.parent))
    (status, release, command), router = beside(prepared), prepared.target.router
    assert (status, release) == (300, OLD)
    assert command == f"{bare}/heat-api --config-file {prepared.source.config} --config-file {router}/beside-{OLD}.conf"
    assert look(prepared).beside["api", OLD] == "active"
    assert prepared.answer("api") == (300, OLD), "what users reach goes on"

    before = starts(prepared)
    files = written(prepared)
    prepared.run(step, VENV=str(bare.parent))
    assert starts(prepared) == before
    assert written(prepared) == files


def test_an_old_api_that_nothing_can_run_is_told_before_anything_is_done(prepared: Machine, bare: Path) -> None:
    (bare / "heat-api").unlink()
    before = written(prepared)
    expected = rf"{bare} has neither a uWSGI with Python nor heat-api, expected one of them .* of {OLD} beside: install"
    with pytest.raises(RemoteStepError, match=expected):
        prepared.run(steps.start_beside(prepared.source, prepared.target), VENV=str(bare.parent))
    assert written(prepared) == before
    told = prepared.run(steps.check_host(prepared.target), VENVS=f"{OLD}={bare.parent} {NEW}={prepared.target.venv}")
    assert (told[f"server/{OLD}/api"], told[f"server/{NEW}/api"]) == ("", "uwsgi")


def test_services_that_were_never_started_are_stopped_all_the_same(prepared: Machine) -> None:
    before = starts(prepared)
    prepared.run(steps.switch_api(prepared.target, prepared.source))  # back, before the new API came
    prepared.run(steps.stop_engine(prepared.target))
    assert look(prepared).running == {OLD}
    assert prepared.answer("api") == (300, OLD)
    assert starts(prepared) == before


def test_the_way_of_a_host_through_an_outage(prepared: Machine) -> None:
    before = starts(prepared)
    prepared.run(steps.stop_api(prepared.source))
    state = look(prepared)
    assert (state.releases("api"), state.releases("engine"), state.stopped) == (set(), {OLD}, OLD)
    prepared.run(steps.stop_engine(prepared.source, outage=True))
    state = look(prepared)
    assert (state.running, state.stopped) == (set(), OLD)

    prepared.run(steps.start_engine(prepared.target))
    prepared.run(steps.start_api(prepared.target))
    assert prepared.answer("api") == (300, NEW)
    for _ in range(2):  # the second time nothing is left to do
        state = look(prepared)
        assert (state.running, state.stopped) == ({NEW}, "")
        assert started_since(prepared, before) == {f"heat-engine-{NEW}": 1, f"heat-api-{NEW}": 1}
        prepared.run(steps.stop_api(prepared.source))
        prepared.run(steps.stop_engine(prepared.source, outage=True))
        assert look(prepared).stopped == ""
        prepared.run(steps.start_engine(prepared.target))
        prepared.run(steps.start_api(prepared.target))


def test_what_was_retired_stays_away_when_the_host_comes_back(prepared: Machine) -> None:
    prepared.run(steps.start_engine(prepared.target))
    prepared.run(steps.switch_api(prepared.source, prepared.target))
    prepared.run(steps.stop_engine(prepared.source))
    before = starts(prepared)
    prepared.ctl("reload")  # supervisord starts anew, as after a reboot
    for role in ("engine", "api"):
        prepared.await_state(role, NEW, "RUNNING")
    assert look(prepared).running == {NEW}
    assert started_since(prepared, before) == {f"heat-engine-{NEW}": 1, f"heat-api-{NEW}": 1}


def test_other_programs_of_the_supervisord_are_left_alone(prepared: Machine) -> None:
    """An operator's half-edited file must not be taken in with the upgrade's own."""
    file = prepared.unit_file("engine", OLD)
    file.write_text(file.read_text() + "stopsignal = INT\n")
    pid = prepared.pid("engine", OLD)
    prepared.run(steps.start_engine(prepared.target))
    assert prepared.pid("engine", OLD) == pid


def test_an_engine_that_dies_shows_why_without_passwords(prepared: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    words = "no broker at rabbit://heat:S3cret%40one@h1:1,heat:S3cret@two ' \" x@h2:2/heat_26, giving up"
    prepared.configure(NEW, dies_with=words)
    with pytest.raises(RemoteStepError) as caught:
        prepared.run(steps.start_engine(prepared.target))
    assert f"heat-engine-{NEW} is 'failed' after its start, expected active" in str(caught.value)
    assert "the lines above are the end of its log; mend the cause, then clear this task" in str(caught.value)
    log = capsys.readouterr().out
    assert "no broker at rabbit://heat:***@h2:2/heat_26, giving up" in log
    assert "S3cret" not in log + str(caught.value)

    # The cause is mended, and the task cleared.
    prepared.configure(NEW)
    prepared.run(steps.start_engine(prepared.target))
    assert look(prepared).releases("engine") == {OLD, NEW}


def test_an_api_that_dies_or_does_not_answer_is_told(prepared: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    step = steps.switch_api(prepared.source, prepared.target)
    prepared.configure(NEW, dies_with="cannot bind")
    with pytest.raises(RemoteStepError, match=f"heat-api-{NEW} is 'failed' after its start"):
        prepared.run(step)
    assert "cannot bind" in capsys.readouterr().out

    prepared.configure(NEW, is_silent="yes")
    with pytest.raises(
        RemoteStepError, match=r"does not answer at http://\S+/ within 1 s, expected status 300, got 000"
    ):
        prepared.run(step, ANSWER_TIMEOUT="1")
    assert prepared.service("api", OLD) == "STOPPED"

    prepared.configure(NEW)
    prepared.ctl("stop", f"heat-api-{NEW}")
    prepared.run(step)
    assert prepared.answer("api") == (300, NEW)


def test_no_answer_of_the_service_manager_stops_every_step(prepared: Machine) -> None:
    before = starts(prepared)
    silent = {"SUPERVISORCTL": "/bin/false"}
    host = prepared.cloud.host(prepared.name)
    for step in (
        steps.look(prepared.cloud, host),
        steps.start_engine(prepared.target),
        steps.switch_api(prepared.source, prepared.target),
        steps.stop_engine(prepared.source),
        steps.prepare(prepared.source, prepared.target),
    ):
        with pytest.raises(RemoteStepError, match="see that supervisord runs on this host, then clear this task"):
            prepared.run(step, **silent)
    assert starts(prepared) == before
    assert prepared.service("engine", OLD) == prepared.service("api", OLD) == "RUNNING"


def test_a_service_without_a_file_of_its_own_is_told_before_it_is_touched(prepared: Machine) -> None:
    file = prepared.unit_file("engine", OLD)
    file.rename(file.with_name("all-of-heat.conf"))
    pid = prepared.pid("engine", OLD)
    with pytest.raises(RemoteStepError, match=rf"heat-engine-{re.escape(OLD)} has no file .*{file.name}, expected"):
        prepared.run(steps.stop_engine(prepared.source))
    assert prepared.pid("engine", OLD) == pid


def test_two_steps_never_overlap_on_a_host(prepared: Machine, tmp_path: Path) -> None:
    done = tmp_path / "work-is-done"
    prepared.configure(OLD, ends_with=str(done))
    prepared.ctl("restart", f"heat-engine-{OLD}")
    before = starts(prepared)
    stop = prepared.start(steps.stop_engine(prepared.source))
    prepared.await_state("engine", OLD, "STOPPING")
    start = prepared.start(steps.start_engine(prepared.target))
    assert start.stdout
    assert start.stdout.readline() == b"another step runs on this host: waiting until it ends\n"
    with pytest.raises(RemoteStepError, match=r"another step has held \S+/lock for 1 s: wait until it ends"):
        prepared.run(steps.start_engine(prepared.target), LOCK_TIMEOUT="1")
    assert started_since(prepared, before) == {}
    assert look(prepared).services["engine", OLD] == "stopping", "looking needs no lock"

    done.touch()
    assert stop.wait(30) == 0
    assert start.wait(30) == 0
    assert started_since(prepared, before) == {f"heat-engine-{NEW}": 1}


def test_a_stop_that_was_cut_off_is_waited_for_by_the_next_try(prepared: Machine, tmp_path: Path) -> None:
    done = tmp_path / "work-is-done"
    prepared.configure(OLD, ends_with=str(done))
    prepared.ctl("restart", f"heat-engine-{OLD}")
    first = prepared.start(steps.stop_engine(prepared.source))
    prepared.await_state("engine", OLD, "STOPPING")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    calls = tmp_path / "calls"
    supervisorctl = tmp_path / "supervisorctl"
    supervisorctl.write_text(f'#!/bin/sh\necho "$1" >>{calls}\nexec {shlex.join(prepared.supervisorctl)} "$@"\n')
    supervisorctl.chmod(0o755)
    second = prepared.start(steps.stop_engine(prepared.source), SUPERVISORCTL=str(supervisorctl))
    # It asks again and again, since supervisord doesn't wait for what it is stopping already.
    wait_until(lambda: calls.exists() and "stop\nstatus\nstatus\n" in calls.read_text(), what="the second one waits")
    assert second.poll() is None, "the engine still works"
    done.touch()
    assert second.wait(30) == 0
    assert prepared.service("engine", OLD) == "STOPPED"


def test_an_engine_that_outstays_its_time_is_ended_with_its_workers(machine: Machine, tmp_path: Path) -> None:
    worker = tmp_path / "worker"
    machine.run(steps.prepare(machine.source, machine.target), STOP_TIMEOUT="1")
    machine.configure(NEW, worker=str(worker), ends_with=str(tmp_path / "never"))
    machine.run(steps.start_engine(machine.target))
    wait_until(lambda: worker.exists() and worker.read_text() != "", what="the engine has a worker")
    assert is_alive(int(worker.read_text()))
    machine.run(steps.stop_engine(machine.target))
    wait_until(lambda: not is_alive(int(worker.read_text())), what="the worker is gone")


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that nobody has asked for its end status doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_step_that_was_cut_off_leaves_no_secrets_for_long(prepared: Machine) -> None:
    for name in ("install.Ab1Cd2", "mysql.Ab1Cd2"):
        (prepared.state / name).write_text("password")
    prepared.run(steps.start_engine(prepared.target))
    assert sorted(path.name for path in prepared.state.iterdir()) == ["lock", "log", "steps"]
