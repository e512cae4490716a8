"""What a login shell writes before a command begins; a real shell runs the commands, without SSH."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hooks.ssh_command import RunningCommand
from heat_upgrade.remote.step import Step

TITLE = r'printf "\033]0;root@c1\007"'
SHELLS = {
    "nothing": ":",
    "whole lines": "echo Welcome to c1; echo 'be careful' >&2",
    "a title": TITLE,
    "a title on both": f"{TITLE}; {TITLE} >&2",
    "lines and a title": f"echo Welcome; {TITLE}; echo oh >&2; {TITLE} >&2",
    "colons": "printf '::'; printf 'error: no tty' >&2",
    "no text": r"printf '\377\000'; printf '\377' >&2",
    "much": "printf '%70000s' x",
}
WORK = (
    b'[ -z "$FAIL" ] || { echo "error: the disk is full" >&2; exit 3; }; echo "::pid=7"; echo "::role=a b"; echo done\n'
)
TALK = b'while read -r line; do echo "{\\"asked\\": $line}"; done\n'


class Shell:
    """A session in which sshd has a login shell run the command."""

    eof_received = closed = True

    def __init__(self, startup: str) -> None:
        self.startup = startup

    def exec_command(self, command: str) -> None:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(["bash", "-c", f"{self.startup}\n{command}"], **pipes)  # type: ignore[call-overload]

    def settimeout(self, _: float) -> None: ...

    def sendall(self, given: bytes) -> None:
        self.process.stdin.write(given)
        self.process.stdin.flush()

    def shutdown_write(self) -> None:
        self.output, self.errors = self.process.communicate(timeout=30)

    def makefile(self, _: str) -> Any:
        return open(self.process.stdout.fileno(), encoding="utf-8", errors="replace", closefd=False)

    def recv_ready(self) -> bool:
        return bool(self.output)

    def recv_stderr_ready(self) -> bool:
        return bool(self.errors)

    def recv(self, size: int) -> bytes:
        data, self.output = self.output[:size], self.output[size:]
        return bytes(data)

    def recv_stderr(self, size: int) -> bytes:
        data, self.errors = self.errors[:size], self.errors[size:]
        return bytes(data)

    def exit_status_ready(self) -> bool:
        return True

    def recv_exit_status(self) -> int:
        return int(self.process.returncode)


class Client:
    """A connection to a host whose login shell writes something."""

    def __init__(self, startup: str) -> None:
        self.startup = startup

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def get_transport(self) -> Client:
        return self

    def open_session(self, **_: object) -> Shell:
        return Shell(self.startup)


Connect = Callable[[str], HeatHostHook]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    monkeypatch.setenv("AIRFLOW_CONN_HOSTS", '{"conn_type": "ssh", "login": "heat"}')

    def made(startup: str) -> HeatHostHook:
        hook = HeatHostHook(ssh_conn_id="hosts", address="10.0.0.11", host_key=None, name="c1")
        monkeypatch.setattr(hook, "get_conn", lambda: Client(startup))
        return hook

    yield made


def step(tmp_path: Path, content: bytes = WORK, **changed: Any) -> Step:
    return Step("work", changed.pop("settings", {}), str(tmp_path / "state"), {"work": content}, **changed)


shells = pytest.mark.parametrize("startup", SHELLS.values(), ids=SHELLS.keys())


@shells
@pytest.mark.parametrize("read_only", [True, False])
def test_results_are_read_whatever_the_login_shell_has_written(
    connect: Connect, tmp_path: Path, startup: str, read_only: bool
) -> None:
    found = connect(startup).run_step(step(tmp_path, read_only=read_only))
    assert {name: found.get(name) for name in ("pid", "role")} == {"pid": "7", "role": "a b"}


@shells
def test_a_steps_own_error_is_told_whatever_the_login_shell_has_written(
    connect: Connect, tmp_path: Path, startup: str
) -> None:
    with pytest.raises(RemoteStepError, match=r"c1: step work ended with status 3, expected 0: the disk is full$"):
        connect(startup).run_step(step(tmp_path, settings={"FAIL": "yes"}))


@shells
def test_a_step_that_is_asked_answers_whatever_the_login_shell_has_written(
    connect: Connect, tmp_path: Path, startup: str
) -> None:
    with connect(startup).conversation(step(tmp_path, TALK)) as talk:
        assert talk.ask({"a": 1}, 30) == {"asked": {"a": 1}}
        assert talk.ask({"b": 2}, 30) == {"asked": {"b": 2}}


@shells
def test_a_job_is_logged_once_whatever_the_login_shell_has_written(
    connect: Connect, tmp_path: Path, startup: str
) -> None:
    """Who follows it later goes by the number of its lines."""
    hook, job = connect(startup), step(tmp_path, timeout=60)
    with hook.started(job) as running:
        first = said(running)
    with hook.followed(job.job, running.offset) as running:
        assert said(running) == []
    assert "done" in first
    assert {"::pid=7", "::role=a b"} <= set(running.results)


def said(running: RunningCommand) -> list[str]:
    lines: list[str] = []
    while not running.read():
        lines += [line for _, line in running.news()]
    return lines


def test_nothing_is_logged_of_a_login_shell_that_writes_nothing(connect: Connect, tmp_path: Path) -> None:
    with connect(":").started(step(tmp_path, timeout=60)) as running:
        levels: list[tuple[int, str]] = []
        while not running.read():
            levels += running.news()
    assert levels[0] == (logging.INFO, f"job {step(tmp_path, timeout=60).job.id} begins")
    assert all(line for _, line in levels)
