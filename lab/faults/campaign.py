"""One whole run under faults: each strikes one task at work, and what became of it is read from what was seen."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.airflow import airflow_client
from lab.cloud_lab import Lab
from lab.dag_run import dag_id
from lab.faults.fault import Fault, Scene, StandingFault
from lab.faults.host import Reboot
from lab.faults.matrix import Cell
from lab.faults.operator import in_progress, revive_stranded
from lab.faults.services import ServiceStarts
from lab.faults.task import GATE, Task
from lab.faults.watch import ENDED, POLL, Attempt, RunWatch, step_pids
from lab.processes import LabError, send_signal, wait_until

_AT_WORK = frozenset({"running", "deferred"})
# What an error has to hold to be of use: a next step.
_NEXT_STEPS = ("clear this task", "then clear", "check ", "mend ", "clear it", "clear wait_until_drained", "expected ")
# In a line of the log as the API's client writes it.
_ERROR = re.compile(r"'exc_value': (['\"])(.*?)\1, 'exc_notes'")
_HEALTHY = 240.0
# A stack that nobody has touched for so long is stranded: the lab's resources take 30 s at most.
_STRANDED_AFTER = 45
_LONGEST_RUN = 1500.0


@dataclass
class Campaign:
    """
    A run, and the faults that strike it.

    :param lab: the lab; Airflow runs there.
    :param target: the release that the run brings.
    :param faults: the faults of each task, in their order: the first hits its first try, the next one a later try, or
        the same one if that goes on.
    """

    lab: Lab
    target: str
    faults: Mapping[Task, Sequence[Fault]]
    cells: list[Cell] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)

    def run(self) -> None:
        """
        Drive the run to its end, through all its faults.

        :raises LabError: if it stops at a task that no fault has hit, or can't be resumed.
        """
        faults = {task.task_id: those for task, those in self.faults.items()}
        self._tasks = {task.task_id: task for task in self.faults}
        self._passing = {t: [f for f in those if not isinstance(f, StandingFault)] for t, those in faults.items()}
        self._standing = {t: f for t, those in faults.items() for f in those if isinstance(f, StandingFault)}
        self._laid: set[str] = set()
        self._held: dict[str, list[int]] = {}
        self._striking: Future[None] | None = None
        self._struck = ""
        self._starts = ServiceStarts(self.lab, self.target)
        self._api, self._dag = airflow_client(self.lab), dag_id(self.lab)
        try:
            self._lay({})
            self._api.wait_for_dag(self._dag)
            self._run = self._api.trigger(self._dag, {"target_release": self.target, "delete_old_vhost": True})
            self._watch = RunWatch(self.lab, self._dag, self._run)
            with ThreadPoolExecutor(1) as self._pool:
                self._follow()
        finally:
            for task_id in list(self._held):
                self._let_go(task_id)
            for task, fault in self._standing.items():
                fault.mend(self.lab, self._task(task), self.target)

    def _follow(self) -> None:
        deadline = time.monotonic() + _LONGEST_RUN
        self._tell("triggered", self._run)
        while True:
            if time.monotonic() > deadline:
                raise LabError(f"run {self._run} isn't over after {_LONGEST_RUN:.0f} s: {self._watch.attempts()}")
            state = self._watch.state()
            attempts = self._watch.attempts()
            self._lay(attempts)
            self._close(attempts)
            if state == "success" and not (self._striking and not self._striking.done()):
                return self._end()
            if state == "failed":
                self._resume(attempts)
                continue
            self._strike_next(attempts)
            self._help_the_gate(attempts)
            time.sleep(POLL)

    def _end(self) -> None:
        if self._striking:
            self._striking.result()
        self._close(self._watch.attempts())
        for task_id, faults in self._passing.items():
            for fault in faults:
                self._miss(task_id, fault)

    def _task(self, task_id: str) -> Task:
        return self._tasks[task_id]

    # Causes that are there before their task.

    def _lay(self, attempts: Mapping[str, Attempt]) -> None:
        for task_id, fault in self._standing.items():
            task = self._task(task_id)
            if task_id in self._laid or not _is_over(attempts, fault.after, task):
                continue
            self._laid.add(task_id)
            self._tell("lays", f"{fault.name} for {task_id}")
            fault.lay(self.lab, task, self.target)
            self.cells.append(Cell(task_id, fault.name, time.time(), tries=1))

    # Faults that strike and pass: one at a time.

    def _strike_next(self, attempts: Mapping[str, Attempt]) -> None:
        due = [task for task, faults in self._passing.items() if faults and self._is_due(task, attempts)]
        if self._striking and not self._striking.done():
            self._hold([task for task in due if task != self._struck], attempts)
            return
        if self._striking:
            self._striking.result()
            self._striking = None
        if due:
            self._struck = due[0]
            self._let_go(self._struck)
            self._hold(due[1:], attempts)
            self._striking = self._pool.submit(self._strike, self._task(self._struck))

    def _is_due(self, task_id: str, attempts: Mapping[str, Attempt]) -> bool:
        attempt = attempts.get(task_id)
        if attempt is None or attempt.state not in _AT_WORK:
            return False
        # The gate's process runs for a moment before it waits; what strikes the wait has to wait for it.
        return task_id != GATE or not self._passing[task_id][0].wait or attempt.state == "deferred"

    def _strike(self, task: Task) -> None:
        fault = self._passing[task.task_id].pop(0)
        attempt = self._watch.await_moment(task, process=fault.process, wait=fault.wait)
        if attempt is None:
            self._miss(task.task_id, fault)
            return
        cell = Cell(task.task_id, fault.name, time.time(), attempt.number)
        self.cells.append(cell)
        self._tell("strikes", f"{fault.name} at {task.task_id}, try {attempt.number}")
        before = in_progress(self.lab) if fault.costs else set()
        if isinstance(fault, Reboot):
            self._starts.reboots(task.host)
        fault.strike(Scene(self.lab, self._watch, task, attempt))
        wait_until(lambda: fault.healthy(self.lab, task), what=f"all is well after {fault.name}", timeout=_HEALTHY)
        cell.ended = time.time()
        self._tell("healthy", f"after {cell.ended - cell.began:.1f} s")
        if fault.costs:
            self.windows.append((cell.began, cell.ended))
            self.touched |= before | in_progress(self.lab)

    def _hold(self, task_ids: Sequence[str], attempts: Mapping[str, Attempt]) -> None:
        """Hold tasks that begin while another one's fault lasts, so that each meets its own fault at work."""
        for task_id in task_ids:
            task, attempt = self._task(task_id), attempts[task_id]
            if task_id not in self._held and attempt.state == "running" and attempt.pid:
                self._held[task_id] = [attempt.pid, *(step_pids(task) if task.step else [])]
                send_signal(self._held[task_id], signal.SIGSTOP)

    def _let_go(self, task_id: str) -> None:
        send_signal(self._held.pop(task_id, []), signal.SIGCONT)

    def _miss(self, task_id: str, fault: Fault) -> None:
        self._tell("MISSED", f"{fault.name} at {task_id}")
        self.missed.append(f"{fault.name} at {task_id}")

    # What became of them.

    def _close(self, attempts: Mapping[str, Attempt]) -> None:
        for cell in self.cells:
            attempt = attempts.get(cell.task)
            if not cell.final_tries and attempt and attempt.state == "success":
                cell.final_tries = attempt.number
                cell.ended = cell.ended or time.time()
                cell.flaws += self._starts.flaws()
                self._tell(cell.outcome.value, f"{cell.task} ({cell.fault}), {' '.join(cell.flaws)}")

    def _resume(self, attempts: Mapping[str, Attempt]) -> None:
        if self._striking:
            self._striking.result()
        failed = [task for task, attempt in attempts.items() if attempt.state == "failed"]
        for task_id in failed:
            self._stopped(task_id)
        for task_id in failed:
            self._api.clear_tasks(self._dag, self._run, [task_id])
        self._tell("cleared", ", ".join(failed))
        wait_until(lambda: self._watch.state() in ("queued", "running"), what="the run goes on")

    def _stopped(self, task_id: str) -> None:
        error = self._error(task_id)
        self._tell("stopped", f"{task_id}: {error}")
        cells = [cell for cell in self.cells if cell.task == task_id and not cell.final_tries]
        if task_id == "verify_cloud" and (names := revive_stranded(self.lab, _STRANDED_AFTER)):
            self._tell("revived", ", ".join(names))
            cells = cells or self.cells[-1:]
        if not cells or len(cells[-1].errors) > 2:
            raise LabError(f"{task_id} stopped and no fault has hit it, or not for the first time: {error}")
        cells[-1].errors.append(error)
        if not any(words in error for words in _NEXT_STEPS):
            cells[-1].flaws.append(f"its error doesn't say what to do: {error}")
        if fault := self._standing.pop(task_id, None):
            fault.mend(self.lab, self._task(task_id), self.target)
            if fault.starts_again:
                self._starts.forgive(self._task(task_id).host, fault.starts_again)

    def _error(self, task_id: str) -> str:
        told = _ERROR.findall(self._api.log(self._dag, self._run, task_id))
        return str(told[-1][1]) if told else "its log has no error"

    def _help_the_gate(self, attempts: Mapping[str, Attempt]) -> None:
        """Do what the gate's log asks for where a fault has stranded stacks: nobody else would end them."""
        gate = attempts.get(GATE)
        if not self.touched or gate is None or gate.state != "deferred" or self._passing.get(GATE):
            return
        now = time.monotonic()
        if now - getattr(self, "_helped", 0.0) < 15:
            return
        self._helped = now
        if names := revive_stranded(self.lab, _STRANDED_AFTER):
            self._tell("revived", ", ".join(names))

    def _tell(self, what: str, of: str) -> None:
        self._began = getattr(self, "_began", time.monotonic())
        print(f"{time.monotonic() - self._began:7.1f} s  {what:<10} {of}", flush=True)


def _is_over(attempts: Mapping[str, Attempt], after: str | None, task: Task) -> bool:
    if after is None:
        return True
    before = attempts.get(f"{after}.{task.host.name.replace('-', '_')}")
    return before is not None and before.state in ENDED and before.state != "up_for_retry"
