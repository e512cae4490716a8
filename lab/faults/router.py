"""What happens to the router on a host: its state file torn, the API beside it or its own worker killed, SSH away."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from heat_upgrade.router.state import STATE, WRITERS
from lab.cloud.bring_up import build_info
from lab.cloud.host import program_pids, programs
from lab.cloud.model import API_PORT, Lab, LabHost
from lab.faults.fault import Fault, Scene
from lab.faults.host import ConnectionCut
from lab.faults.sides import state_of
from lab.faults.task import CLOSE, FLIP, GATE, PROVE, Task
from lab.http import local_session
from lab.processes import children, send_signal, wait_until

# A task that hasn't met the torn file by then doesn't read it.
TORN_SECONDS = 8.0
# Longer than changes wait for a host that is left alone with its hold.
AWAY_SECONDS = 15.0
_REFUSES = "the router answers 503 while its state file is torn"
_GARBAGE = b'{"version": 1, "sequence": '
# Every API of the run's hosts is the new release's by then.
_IN_FRONT = frozenset({PROVE, "may_flip", FLIP, GATE, CLOSE})
_SWEEP = frozenset({"leave_rotation", "switch_api", "rejoin_rotation"})


class StateTorn(Fault):
    """
    A host's state file is written over with garbage, and put back after a while.

    Nobody else can mend it: the upgrade refuses to write over what it can't read. The router has to answer 503 until
    then, rather than guess.
    """

    name = "router's state file torn"
    costs = True
    held = True

    def applies(self, task: Task) -> bool:
        """Only while users reach the routers."""
        return task.kind in _IN_FRONT

    def strike(self, scene: Scene) -> None:
        """Tear it, see the router refuse what it can't place, let the task run into it, put the file back."""
        task = scene.task
        whole = tear(task.host, task.target)
        if whole is None:
            return
        address = f"{task.host.address}:{API_PORT}"
        try:
            wait_until(lambda: _status(address, "/v1/admin/stacks") == 503, what=_REFUSES, timeout=20)
            scene.watch.await_end_of_try(task, scene.attempt, TORN_SECONDS)
        finally:
            put_back(task.host, task.target, whole)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether the host answers again."""
        return state_of(task.host, task.target) is not None and build_info(task.host) is not None


class BesideKilled(Fault):
    """The old APIs beside the new ones get SIGKILL on a host, with their workers; supervisord starts them again."""

    name = "API beside killed"
    costs = True

    def applies(self, task: Task) -> bool:
        """Only while they run, and not when the upgrade itself stops them."""
        return task.kind in {"start_beside", *_SWEEP, *_IN_FRONT} - {CLOSE}

    def restarts(self, task: Task) -> list[str]:
        """Return those that come back."""
        return besides(task)

    def strike(self, scene: Scene) -> None:
        """Kill each with all that it has started: workers that are left would keep its port."""
        task = scene.task
        wait_until(lambda: bool(_pids_beside(task)), what=f"an API runs beside on {task.host.name}", timeout=30)
        for pid in _pids_beside(task).values():
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(pid, signal.SIGKILL)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether they answer again, unless the run has come to where it stops them."""
        states, pids = programs(task.host), _pids_beside(task)
        there = [program for program in besides(task) if states.get(program, "STOPPED") != "STOPPED"]
        return all(program in pids and _status(_address(pids[program])) == 300 for program in there)


class WorkerKilled(Fault):
    """The new API's workers get SIGKILL on a host, with the requests that they hold; uWSGI starts others."""

    name = "API's workers killed"
    costs = True
    held = True

    def __init__(self) -> None:
        self._killed = set[int]()

    def applies(self, task: Task) -> bool:
        """Only where the new API is in front."""
        return task.kind in _IN_FRONT

    def strike(self, scene: Scene) -> None:
        """Kill them; the kernel takes the locks of their requests away with them."""
        self._killed = set(_workers(scene.task))
        send_signal(sorted(self._killed), signal.SIGKILL)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether others answer in their place."""
        return not self._killed & set(_workers(task)) and build_info(task.host) is not None


class HostAway(ConnectionCut):
    """SSH to one host breaks off while all of them hold changes, and stays away for longer than a hold lasts."""

    name = "SSH away beyond the hold"
    # A host that waits to be released refuses changes after a while, rather than guess.
    costs = True
    held = True

    def __init__(self) -> None:
        super().__init__(AWAY_SECONDS)

    def applies(self, task: Task) -> bool:
        """Only where changes are held."""
        return task.kind in (FLIP, CLOSE)


def besides(task: Task) -> list[str]:
    """Return the programs of the old APIs beside the new ones on a task's host."""
    return [f"heat-{role}-{task.source}-beside" for role in task.host.apis]


def tear(host: LabHost, release: str) -> bytes | None:
    """
    Write garbage over a host's state file while no step is about to replace it.

    :param host: the host.
    :param release: whose APIs the router is in front of.
    :return: what was there; None where nobody reads it any more, or nobody could
    """
    with _alone(host.router(release)) as file:
        state = state_of(host, release)
        if state is None or (state.closed and not state.hold):
            return None
        whole = file.read_bytes()
        file.write_bytes(_GARBAGE)
        return whole


def put_back(host: LabHost, release: str, whole: bytes) -> None:
    """
    Put a state file back that was torn, in one piece, as the upgrade replaces it.

    :param host: the host.
    :param release: whose APIs the router is in front of.
    :param whole: what was there.
    """
    with _alone(host.router(release)) as file:
        fresh = file.with_name(f"{file.name}.mended")
        fresh.write_bytes(whole)
        shutil.copymode(file, fresh)
        fresh.replace(file)


@contextmanager
def _alone(directory: Path) -> Iterator[Path]:
    """Keep the lock of those who write the state, and give its file."""
    with (directory / WRITERS).open("a") as writers:
        fcntl.flock(writers, fcntl.LOCK_EX)
        yield directory / STATE


def _workers(task: Task) -> list[int]:
    pids = program_pids(task.host)
    return [worker for role in task.host.apis for worker in children(pids.get(f"heat-{role}-{task.target}", 0))]


def _pids_beside(task: Task) -> dict[str, int]:
    return {program: pid for program, pid in program_pids(task.host).items() if program in besides(task)}


def _address(pid: int) -> str:
    """Return where an uWSGI listens; nowhere once it has ended."""
    with suppress(OSError, ValueError):
        words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
        return words[words.index("--http-socket") + 1]
    return ""


def _status(address: str, path: str = "/") -> int:
    try:
        return local_session().get(f"http://{address}{path}", timeout=5).status_code
    except requests.RequestException:
        return 0
