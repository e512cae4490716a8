"""Faults that strike a task at work and pass: one at a time, while what comes next is held."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.cloud.model import Lab
from lab.faults.fault import Fault, Scene
from lab.faults.matrix import Cell
from lab.faults.operator import in_progress
from lab.faults.services import ServiceStarts
from lab.faults.task import CLOSE, FLIP, GATE, Task
from lab.faults.watch import Attempt, RunWatch, step_pids
from lab.processes import send_signal, wait_until

_AT_WORK = frozenset({"running", "deferred"})
_HEALTHY = 240.0

Tell = Callable[[str, str], None]


@dataclass
class Strikes:
    """
    Strikes the tasks of a run.

    :param lab: the lab.
    :param watch: looks at the run.
    :param starts: counts the starts of services.
    :param faults: of each task, in their order.
    :param tell: called with what happens.
    :param cells: where what was struck is noted.
    :param missed: tasks whose try was over before the fault could strike.
    :param windows: begin and end of each fault that costs the cloud's users something.
    :param touched: names of the stacks that were in progress meanwhile.
    :param taken_up: names of those that were while a fault lasted that ends engines or their messages.
    """

    lab: Lab
    watch: RunWatch
    starts: ServiceStarts
    faults: Mapping[Task, list[Fault]]
    tell: Tell
    cells: list[Cell]
    missed: list[str] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    taken_up: set[str] = field(default_factory=set)
    _held: dict[Task, list[int]] = field(default_factory=dict)
    _open: dict[Task, float] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _under_way: Future[None] | None = None
    _struck: Task | None = None
    _struck_try: int = 0

    def look(self, attempts: Mapping[str, Attempt]) -> None:
        """
        Strike the next task that is at work, or hold it while the fault before lasts.

        :param attempts: the latest try of each task.
        """
        for task in [task for task in list(self._open) if attempts[task.task_id].state == "success"]:
            self.windows.append((self._open.pop(task), time.time()))
        due = [task for task, faults in self.faults.items() if faults and self._is_due(task, faults[0], attempts)]
        if self.lasts():
            # The next try of the task that was struck is for the next fault.
            self._hold([t for t in due if t != self._struck or attempts[t.task_id].number > self._struck_try], attempts)
            return
        self.wait()
        if due:
            self._struck, self._struck_try = due[0], attempts[due[0].task_id].number
            self._let_go(self._struck)
            self._hold(due[1:], attempts)
            self._under_way = self._pool.submit(self._strike, self._struck)

    def lasts(self) -> bool:
        """Tell whether a fault strikes, or what it hit isn't well again."""
        return self._under_way is not None and not self._under_way.done()

    def wait(self) -> None:
        """Wait until no fault lasts; raise what has gone wrong with the last one."""
        if self._under_way:
            self._under_way.result()
            self._under_way = None

    def end(self) -> None:
        """Let go of what is held, and note what was never struck."""
        for task in list(self._held):
            self._let_go(task)
        self._pool.shutdown()
        self.windows += [(began, time.time()) for began in self._open.values()]
        for task, faults in self.faults.items():
            for fault in faults:
                self._miss(task, fault)

    def expects(self, task_id: str) -> bool:
        """Tell whether a task has still to be struck."""
        return any(task.task_id == task_id and faults for task, faults in self.faults.items())

    def _is_due(self, task: Task, fault: Fault, attempts: Mapping[str, Attempt]) -> bool:
        attempt = attempts.get(task.task_id)
        if attempt is None or attempt.state not in _AT_WORK:
            return False
        # The gate's process runs for a moment before it waits; what strikes the wait has to wait for it.
        return task.task_id != GATE or not fault.wait or attempt.state == "deferred"

    def _strike(self, task: Task) -> None:
        fault = self.faults[task][0]
        attempt = self.watch.await_moment(task, process=fault.process, wait=fault.wait, held=fault.held)
        if attempt is None and self.watch.attempt(task).state != "success":
            return  # what struck another task has ended this try, too: the next one is struck
        self.faults[task].pop(0)
        if attempt is None:
            self._miss(task, fault)
            return
        cell = Cell(task.task_id, fault.name, time.time(), attempt.number)
        self.cells.append(cell)
        self.tell("strikes", f"{fault.name} at {task.task_id}, try {attempt.number}")
        before = in_progress(self.lab) if fault.costs else set()
        self.starts.restarts(task.host, fault.restarts(task))
        fault.strike(Scene(self.lab, self.watch, task, attempt))
        wait_until(lambda: fault.healthy(self.lab, task), what=f"all is well after {fault.name}", timeout=_HEALTHY)
        cell.ended = time.time()
        self.tell("healthy", f"after {cell.ended - cell.began:.1f} s")
        if fault.costs:
            self._note_costs(task, fault, cell, before | in_progress(self.lab))

    def _note_costs(self, task: Task, fault: Fault, cell: Cell, touched: set[str]) -> None:
        self.windows.append((cell.began, cell.ended))
        self.touched |= touched
        if fault.ends_engines:
            self.taken_up |= touched
        if task.task_id in (FLIP, CLOSE):
            # A host that waits to be released does so until the task's next good try, and refuses changes in time.
            self._open.setdefault(task, cell.began)

    def _hold(self, tasks: Sequence[Task], attempts: Mapping[str, Attempt]) -> None:
        """Hold tasks that begin while another one's fault lasts, so that each meets its own at work."""
        for task in tasks:
            attempt = attempts[task.task_id]
            if task not in self._held and attempt.state == "running" and attempt.pid:
                self._held[task] = [attempt.pid, *(step_pids(task) if task.step else [])]
                send_signal(self._held[task], signal.SIGSTOP)

    def _let_go(self, task: Task) -> None:
        send_signal(self._held.pop(task, []), signal.SIGCONT)

    def _miss(self, task: Task, fault: Fault) -> None:
        self.tell("MISSED", f"{fault.name} at {task.task_id}")
        self.missed.append(f"{fault.name} at {task.task_id}")
