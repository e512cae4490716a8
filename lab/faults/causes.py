"""Causes that are there before their task begins, until somebody takes them away."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.cloud.model import Lab
from lab.faults.fault import StandingFault
from lab.faults.matrix import Cell
from lab.faults.services import ServiceStarts
from lab.faults.task import Task
from lab.faults.watch import Attempt


@dataclass
class Causes:
    """
    Lays causes before their tasks begin.

    :param lab: the lab.
    :param target: the release that the run brings.
    :param starts: counts the starts of services.
    :param faults: the cause of each task.
    :param cells: where each is noted.
    """

    lab: Lab
    target: str
    starts: ServiceStarts
    faults: Mapping[Task, StandingFault]
    cells: list[Cell]
    _there: dict[Task, StandingFault] = field(default_factory=dict)
    _laid: set[Task] = field(default_factory=set)

    def lay(self, attempts: Mapping[str, Attempt]) -> None:
        """
        Lay those whose time has come.

        :param attempts: the latest try of each task; none before the run.
        """
        for task, fault in self.faults.items():
            if task not in self._laid and _is_time(attempts, fault.after, task):
                self._laid.add(task)
                self._there[task] = fault
                fault.lay(self.lab, task, self.target)
                self.cells.append(Cell(task.task_id, fault.name, time.time(), tries=1))

    def mend(self, task_id: str) -> None:
        """Take a task's cause away, if it has one."""
        for task, fault in list(self._there.items()):
            if task.task_id == task_id:
                del self._there[task]
                fault.mend(self.lab, task, self.target)
                if fault.starts_again:
                    self.starts.forgive(task.host, fault.starts_again)

    def mend_all(self) -> None:
        """Take all of them away."""
        for task in list(self._there):
            self.mend(task.task_id)


def _is_time(attempts: Mapping[str, Attempt], after: str | None, task: Task) -> bool:
    if after is None:
        return True
    before = attempts.get(f"{after}.{task.host.name.replace('-', '_')}")
    return before is not None and before.state == "success"
