"""What became of each task under each fault, and the table of it. Nothing here touches a lab."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tabulate import tabulate  # type: ignore[import-untyped]

from lab.traffic.ledger import Failure


class Outcome(StrEnum):
    """What became of a task that a fault has hit."""

    UNHURT = "unhurt"  # its try went on to its end
    RETRIED = "retried"  # by Airflow, without anybody's help
    RESUMED = "resumed"  # it stopped with an error, the cause was taken away, the task alone was cleared
    LOST = "lost"


@dataclass
class Cell:
    """
    One fault at one task.

    :param task: the task's id.
    :param fault: the fault's name.
    :param began: when the fault began, in seconds since the epoch.
    :param tries: the number of the try that it hit.
    :param ended: when all that it hit was well again.
    :param final_tries: the number of the try that succeeded, 0 as long as none has.
    :param errors: with which the task has stopped, each time.
    :param flaws: what speaks against it: a service started twice, an error that doesn't say what to do.
    """

    task: str
    fault: str
    began: float
    tries: int
    ended: float = 0.0
    final_tries: int = 0
    errors: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Say what it is and what speaks against it."""
        return f"{self.fault} at {self.task}: {'; '.join(self.flaws) or self.outcome}"

    @property
    def outcome(self) -> Outcome:
        """What became of the task."""
        if not self.final_tries or self.flaws:
            return Outcome.LOST
        if self.errors:
            return Outcome.RESUMED
        return Outcome.RETRIED if self.final_tries > self.tries else Outcome.UNHURT


@dataclass
class Report:
    """
    What one run under faults came to.

    :param title: from which release to which.
    :param cells: one for each fault that has struck.
    :param broken: why the run was given up; empty where it came to its end.
    :param missed: tasks whose try was over before the fault could strike, with its name.
    :param seconds: how long the run took.
    :param sent: requests that the cloud's users have sent.
    :param failed: requests that failed.
    :param unexplained: requests that failed while no fault lasted that costs requests.
    :param stuck: stacks that nobody works on any more, though they were not in progress while a fault lasted that
        costs requests.
    :param stranded: stacks that were.
    :param crossed: resources whose lock was stolen from an engine, or that were created twice, but for those of stacks
        in progress while a fault lasted that ends engines.
    """

    title: str
    cells: list[Cell] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    broken: str = ""
    seconds: float = 0.0
    sent: int = 0
    failed: int = 0
    unexplained: list[Failure] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    stranded: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)

    @property
    def lost(self) -> list[Cell]:
        """Return the cells that must not be."""
        return [cell for cell in self.cells if cell.outcome == Outcome.LOST]


def unexplained(failures: Iterable[Failure], windows: Iterable[tuple[float, float]]) -> list[Failure]:
    """
    Return the failures that no window has a part in.

    :param failures: requests that failed.
    :param windows: begin and end of each fault that costs requests.
    """
    known = list(windows)
    return [
        failure
        for failure in failures
        if not any(failure.at <= end and failure.at + failure.seconds >= begin for begin, end in known)
    ]


def beyond(resources: Iterable[str], touched: Iterable[str]) -> list[str]:
    """
    Return the resources of stacks that no fault has touched.

    :param resources: as STACK/RESOURCE; the name of a nested stack begins with that of the stack that it is nested in.
    :param touched: names of the stacks that were in progress while a fault lasted that ends engines.
    """
    known = tuple(touched)
    return sorted(resource for resource in resources if not resource.startswith(known))


def as_markdown(reports: Sequence[Report], tasks: Sequence[str]) -> str:
    """
    Show all cells: a row for each task, a column for each fault.

    :param reports: of all runs.
    :param tasks: the tasks in the order of a run.
    """
    cells = [cell for report in reports for cell in report.cells]
    faults = list(dict.fromkeys(cell.fault for cell in cells))
    rows = [[f"`{task}`", *(_entry(cells, task, fault) for fault in faults)] for task in tasks]
    return str(tabulate(rows, headers=["task", *faults], tablefmt="github", disable_numparse=True))


def _entry(cells: Iterable[Cell], task: str, fault: str) -> str:
    return ", ".join(cell.outcome for cell in cells if (cell.task, cell.fault) == (task, fault)) or "·"


def totals(reports: Sequence[Report]) -> dict[str, int]:
    """Return how many cells ended in each way."""
    outcomes = [cell.outcome for report in reports for cell in report.cells]
    return {outcome.value: outcomes.count(outcome) for outcome in Outcome}
