"""
Where a run is, often enough to catch a task at work.

Airflow's metadata database is read directly: many times a second, and while the API server is down. A row of a running
task holds the pid of the process that runs it: LocalExecutor's worker forks a supervisor of the task, which forks that
process and sees its end. A remote step is told by its command line, ``bash <layout.state>/steps/<digest>/<name>``; one
that only looks runs in a temporary folder, ``bash <folder>/heat-upgrade.<random>/<name>``, so its home tells its host.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cloud.model import Lab, LabHost
from lab.faults.sides import holds, is_open
from lab.faults.task import CLOSE, FLIP, GATE, PROVE, Task

POLL = 0.03
# A task that has come to its end, whichever.
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "up_for_retry", "removed"})


@dataclass(frozen=True)
class Attempt:
    """
    A task's try, as Airflow books it now.

    :param state: Airflow's word for it; ``none`` before its turn.
    :param number: counted from 1.
    :param pid: the task's process, where one runs.
    """

    state: str
    number: int
    pid: int | None


class RunWatch:
    """
    Looks at one run.

    :param lab: the lab.
    :param dag_id: its DAG.
    :param run_id: the run.
    """

    def __init__(self, lab: Lab, dag_id: str, run_id: str) -> None:
        self._database = f"file:{lab.airflow_home / 'airflow.db'}?mode=ro"
        self._run = (dag_id, run_id)

    def attempts(self) -> dict[str, Attempt]:
        """Return the latest try of each task."""
        rows = self._read("SELECT task_id, state, try_number, pid FROM task_instance WHERE dag_id = ? AND run_id = ?")
        return {task: Attempt(state or "none", number, pid) for task, state, number, pid in rows}

    def attempt(self, task: Task) -> Attempt:
        """Return the latest try of a task."""
        return self.attempts()[task.task_id]

    def state(self) -> str:
        """Return the run's state."""
        (row,) = self._read("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?")
        return str(row[0])

    def await_moment(self, task: Task, *, process: bool, wait: bool, held: bool = False) -> Attempt | None:
        """
        Wait until a task is in the middle of its work; None where its try ended before that was seen.

        :param task: the task; it runs.
        :param process: its process has to run, too: it may have left a long step to the triggerer.
        :param wait: the gate's middle is its wait in the triggerer, not its step.
        :param held: the close's middle is its hold, not its step.
        """
        first = self.attempt(task)
        while (attempt := self.attempt(task)).number == first.number and attempt.state not in ENDED:
            if in_the_middle(task, attempt, process=process, wait=wait, held=held):
                return attempt
            time.sleep(POLL)
        return None

    def await_end_of_try(self, task: Task, attempt: Attempt, patience: float) -> None:
        """
        Wait until a try is over, or for as long as an outage shall last.

        :param task: the task.
        :param attempt: its try.
        :param patience: seconds to wait at most.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            now = self.attempt(task)
            if now.number != attempt.number or now.state in ENDED:
                return
            time.sleep(POLL)

    def _read(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._database, uri=True, timeout=30)) as connection:
            return connection.execute(statement, self._run).fetchall()


def in_the_middle(task: Task, attempt: Attempt, *, process: bool, wait: bool, held: bool = False) -> bool:
    """
    Tell whether a try is at work.

    Its step runs on its host; its process, where there is none or it's too short. A flip is while changes are held, and
    the proof of the new side while that is open to it.
    """
    if wait and task.task_id == GATE:
        return attempt.state == "deferred"
    runs = attempt.state == "running" and bool(attempt.pid)
    if task.task_id == FLIP or (held and task.task_id == CLOSE):
        return runs and holds(task.host, task.target)
    if task.task_id == PROVE:
        return runs and is_open(task.host, task.target)
    if task.step is None or task.only_looks or (process and not runs):
        return runs
    return (runs or attempt.state == "deferred") and bool(step_pids(task))


def step_pids(task: Task) -> list[int]:
    """Return the shells that run the task's step on its host."""
    name = f"/{task.step}".encode()
    return [
        pid
        for pid, words in _command_lines()
        if len(words) > 1
        and words[0].endswith(b"bash")
        and words[1].endswith(name)
        and _is_at(task.host, pid, words[1])
    ]


def _is_at(host: LabHost, pid: int, path: bytes) -> bool:
    if b"/heat-upgrade." not in path:
        return path.startswith(str(host.root / "var/lib/heat-upgrade/steps").encode())
    with suppress(OSError):  # it has ended
        return f"HOME={host.home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _command_lines() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended
                yield int(entry.name), (entry / "cmdline").read_bytes().split(b"\0")
