"""One whole run under faults: each strikes one task at work, and what became of it is read from what was seen."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from lab.airflow.dag_run import dag_id
from lab.airflow.server import airflow_client
from lab.cloud.model import Lab
from lab.faults.causes import Causes
from lab.faults.fault import Fault, StandingFault
from lab.faults.matrix import Cell
from lab.faults.operator import reset_lost, revive_stranded
from lab.faults.services import ServiceStarts
from lab.faults.strikes import Strikes
from lab.faults.task import GATE, REPORT, Task
from lab.faults.watch import POLL, Attempt, RunWatch
from lab.processes import LabError, wait_until

# One of these is in an error that tells its reader what to do.
_NEXT_STEPS = ("clear", "check", "mend", "trigger")
# In a line of the log as the API's client writes it.
_ERROR = re.compile(r"'exc_value': (['\"])(.*?)\1, 'exc_notes'")
_LONGEST_RUN = 1500.0
_MOST_STOPS = 3


class Campaign:
    """
    A run, and the faults that strike it.

    :param lab: the lab; Airflow runs there.
    :param source: the release that the run comes from.
    :param target: the release that it brings.
    :param faults: the faults of each task, in their order: the first hits its first try, the next one a later try, or
        the same one if that goes on.
    """

    def __init__(self, lab: Lab, source: str, target: str, faults: Mapping[Task, Sequence[Fault]]) -> None:
        self.cells: list[Cell] = []
        self._lab, self._target = lab, target
        self._api, self._dag = airflow_client(lab), dag_id(lab)
        self._api.wait_for_dag(self._dag)
        self._begun, self._helped = time.monotonic(), 0.0
        self._starts = ServiceStarts(lab, source, target)
        standing = {task: f for task, those in faults.items() for f in those if isinstance(f, StandingFault)}
        passing = {task: [f for f in those if not isinstance(f, StandingFault)] for task, those in faults.items()}
        self._causes = Causes(lab, target, self._starts, standing, self.cells)
        self._run = f"faults-{time.time():.0f}"
        self._conf = {"target_release": target, "delete_old_vhost": True}
        self._watch = RunWatch(lab, self._dag, self._run)
        self.strikes = Strikes(lab, self._watch, self._starts, passing, self._tell, self.cells)

    def follow(self) -> None:
        """
        Trigger the run and follow it to its end, through all its faults.

        :raises LabError: if it stops at a task that no fault has hit, or can't be resumed.
        """
        try:
            self._causes.lay({})
            self._api.trigger(self._dag, self._conf, run_id=self._run)
            while (state := self._watch.state()) != "success":
                self._look(state)
                time.sleep(POLL)
            self.strikes.wait()
            self._close(self._watch.attempts())
        finally:
            self.strikes.end()
            self._causes.mend_all()

    def _look(self, state: str) -> None:
        attempts = self._watch.attempts()
        if time.monotonic() - self._begun > _LONGEST_RUN:
            raise LabError(f"run {self._run} isn't over after {_LONGEST_RUN:.0f} s: {attempts}")
        self._causes.lay(attempts)
        self._close(attempts)
        if state == "failed":
            # The report only fails with what it tells of, and is cleared with it.
            self._resume([task for task, attempt in attempts.items() if attempt.state == "failed" and task != REPORT])
        else:
            self.strikes.look(attempts)
            self._help_the_gate(attempts)

    def _close(self, attempts: Mapping[str, Attempt]) -> None:
        for cell in self.cells:
            attempt = attempts.get(cell.task)
            if not cell.final_tries and attempt and attempt.state == "success":
                cell.final_tries = attempt.number
                cell.flaws += self._starts.flaws()
                self._tell(cell.outcome.value, f"{cell.task} ({cell.fault}) {' '.join(cell.flaws)}")

    def _resume(self, failed: Sequence[str]) -> None:
        self.strikes.wait()
        for task_id in failed:
            self._note_stop(task_id)
            self._causes.mend(task_id)
        for task_id in failed:
            self._api.clear_tasks(self._dag, self._run, [task_id])
        self._tell("cleared", ", ".join(failed))
        wait_until(lambda: self._watch.state() != "failed", what="the run goes on")

    def _note_stop(self, task_id: str) -> None:
        error = self._error(task_id)
        self._tell("stopped", f"{task_id}: {error}")
        cells = [cell for cell in self.cells if cell.task == task_id and not cell.final_tries]
        if task_id == "verify_cloud" and self._revive():
            # The error names them; an earlier fault has cost them.
            cells = cells or self.cells[-1:]
        if not cells or len(cells[-1].errors) >= _MOST_STOPS:
            raise LabError(f"{task_id} stopped and no fault has hit it, or not for the first time: {error}")
        cells[-1].errors.append(error)
        if not any(words in error for words in _NEXT_STEPS):
            cells[-1].flaws.append(f"its error doesn't say what to do: {error}")

    def _error(self, task_id: str) -> str:
        told = _ERROR.findall(self._api.log(self._dag, self._run, task_id))
        return str(told[-1][1]) if told else "its log has no error"

    def _help_the_gate(self, attempts: Mapping[str, Attempt]) -> None:
        """Do what the gate's log asks for where a fault has stranded stacks: nobody else would end them."""
        waits = GATE in attempts and attempts[GATE].state == "deferred" and not self.strikes.expects(GATE)
        if waits and not self.strikes.lasts() and self.strikes.touched and time.monotonic() - self._helped > 15:
            self._helped = time.monotonic()
            self._revive()

    def _revive(self) -> list[str]:
        reset = reset_lost(self._lab, self._target)
        revived = revive_stranded(self._lab)
        for what, names in (("reset", reset), ("revived", revived)):
            if names:
                self._tell(what, ", ".join(names))
        return reset + revived

    def _tell(self, what: str, of: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {what:<10} {of}", flush=True)
