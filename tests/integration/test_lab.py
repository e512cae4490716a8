"""A lab whose start was aborted comes up all the same, and leaves nothing behind when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.cloud.bring_up import take_down
from lab.cloud.model import FIRST_RELEASE, PROJECT_ROOT, Lab
from lab.cloud.status import answering_releases
from lab.processes import wait_until

NAME = "aborted"


@pytest.fixture
def lab() -> Iterator[Lab]:
    take_down(Lab(NAME), wipe=True)
    yield Lab(NAME, "small")
    take_down(Lab(NAME), wipe=True)


def run_lab(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "lab", *arguments, "--name", NAME], cwd=PROJECT_ROOT)


def abort(lab: Lab, reached: Callable[[], bool], what: str) -> None:
    """Begin to bring the lab up, and kill that as soon as it has got so far."""
    with run_lab("up", "--size", "small") as up:
        wait_until(reached, what=what, given_up=lambda: None if up.poll() is None else "the lab came up before")
        up.kill()
    assert up.returncode == -signal.SIGKILL


def processes_of(lab: Lab) -> list[str]:
    """Return the command lines in which the lab's state directory occurs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{lab.state}/" in words:
                found.append(words)
    return found


def test_an_aborted_start_is_made_good_by_the_next(lab: Lab) -> None:
    host = lab.hosts[0]
    abort(lab, (lab.state / "mariadb/data.partial").exists, "MariaDB's data directory is half-made")
    abort(lab, (host.venv(FIRST_RELEASE) / "bin").exists, "a virtual environment is half-made")
    abort(lab, host.supervisord.running, "a host's services are being started")
    with run_lab("up") as up:
        assert up.wait(300) == 0
    assert answering_releases(lab) == {one.name: FIRST_RELEASE for one in lab.hosts}
    # The services that the third attempt had begun to start run on; none was started beside them.
    assert set(host.service_starts().values()) == {1}

    with run_lab("down") as down:
        assert down.wait(60) == 0
    assert processes_of(lab) == []
