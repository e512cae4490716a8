"""The lab stops what it has started, all of it, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.processes import LabError, Server, exclusive, run, stop_marked, wait_until

SLEEP = ["sleep", "300"]
# A server whose child outlives it.
LEADER = ["bash", "-c", "sleep 300 & echo child $!; wait"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server("sleeper", tmp_path / "run/sleeper.pid", tmp_path / "log/sleeper.log")
    yield server
    server.stop(grace=0)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def pid_of(server: Server) -> int:
    return int(server.record.read_text().split()[0])


def child_of(server: Server) -> int:
    wait_until(lambda: "child" in server.log.read_text(), what="the child has started", timeout=10)
    return int(server.log.read_text().split()[-1])


def test_a_server_runs_once_and_stops(server: Server) -> None:
    assert not server.running()
    server.start(SLEEP)
    pid = pid_of(server)
    server.start(SLEEP)
    assert pid_of(server) == pid and server.running()
    server.stop()
    assert not alive(pid) and not server.running() and not server.record.exists()


def test_the_children_of_a_killed_server_are_found_and_stopped(server: Server) -> None:
    server.start(LEADER)
    child = child_of(server)
    os.kill(pid_of(server), signal.SIGKILL)
    wait_until(lambda: not server.running(), what="the leader is gone", timeout=10)
    assert alive(child)
    server.start(SLEEP)
    assert not alive(child) and server.running()


def test_a_pid_that_belongs_to_somebody_else_is_left_alone(server: Server) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        server.record.parent.mkdir(parents=True)
        server.record.write_text(f"{stranger.pid} 12345\n")
        assert not server.running()
        server.stop()
        assert alive(stranger.pid)
        stranger.kill()


@pytest.mark.parametrize("text", ["", "12", "no pid at all"])
def test_a_pid_file_that_was_cut_off_is_no_obstacle(server: Server, text: str) -> None:
    server.record.parent.mkdir(parents=True)
    server.record.write_text(text)
    assert not server.running()
    server.start(SLEEP)
    assert server.running()


def test_a_server_that_ignores_sigterm_is_killed(server: Server) -> None:
    server.start(["bash", "-c", "trap '' TERM; echo child $$; while :; do sleep 1; done"])
    pid = child_of(server)
    server.stop(grace=0.3)
    assert not alive(pid)


def test_a_server_that_fails_says_why(server: Server) -> None:
    server.start(["bash", "-c", "echo the port is taken; exit 1"])
    with pytest.raises(LabError, match=r"sleeper has ended(.|\n)*the port is taken"):
        wait_until(lambda: False, what="it answers", timeout=10, given_up=server.failure)


def test_a_wait_ends_with_what_it_waited_for() -> None:
    with pytest.raises(LabError, match="the moon is blue: not so after 0 s"):
        wait_until(lambda: False, what="the moon is blue", timeout=0.1)


def test_a_failed_command_says_what_it_was_for() -> None:
    with pytest.raises(LabError, match="make a wish: bash exited 3\nno luck"):
        run(["bash", "-c", "echo no luck >&2; exit 3"], what="make a wish")


def test_secrets_of_the_caller_reach_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter2")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    seen = run(["env"], what="show the environment")
    assert "hunter2" not in seen and "https_proxy=http://proxy:3128" in seen


def test_a_detached_process_is_found_by_its_mark(tmp_path: Path) -> None:
    mark = {"HEAT_LAB": str(tmp_path)}
    marked = subprocess.Popen(SLEEP, env=mark, start_new_session=True)
    longer = {"HEAT_LAB": f"{tmp_path}2"}
    other = subprocess.Popen(SLEEP, env=longer, start_new_session=True)
    try:
        stop_marked(f"HEAT_LAB={tmp_path}")
        assert marked.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        marked.kill()
        other.kill()
        other.wait(10)


def test_what_an_aborted_run_has_started_is_waited_for(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from lab.processes import exclusive, run\n"
        f"with exclusive(Path({str(tmp_path / 'lock')!r})):\n"
        f"    run(['bash', '-c', 'touch {tmp_path}/begun; sleep 2; touch {tmp_path}/done'], what='work')\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as aborted:
        wait_until((tmp_path / "begun").exists, what="its command has begun", timeout=30)
        aborted.kill()
    with exclusive(tmp_path / "lock"):
        assert (tmp_path / "done").exists()


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def second() -> None:
        with exclusive(tmp_path / "lock"):
            order.append("second")

    with exclusive(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        wait_until(lambda: "waiting for another run" in capsys.readouterr().out, what="the second waits", timeout=30)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
