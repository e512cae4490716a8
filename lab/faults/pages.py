"""The page of the documentation that shows what became of each task under each fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from lab.cloud.model import PROJECT_ROOT
from lab.faults.matrix import Report, as_markdown, totals
from lab.faults.plans import FULL, TASKS, Plan

PAGE = PROJECT_ROOT / "docs/faults.md"
_REPORTS = PROJECT_ROOT / ".state/reports"
_ADAPTER = TypeAdapter(Report)
_HEAD = """\
# What faults do to a run

Written by the fault suite (`make faults`): whole runs of `heat_rolling_upgrade` in the lab, under traffic, with a real
fault at each task while it works. Each cell is what was seen, from the task's tries, its states and the starts of
services:

- **unhurt**: the task's try went on to its end;
- **retried**: Airflow tried it again by itself, and that was enough;
- **resumed**: it stopped with an error that says what to do; the cause was taken away, the task cleared, the run ended;
- **lost**: none of these, or a service was started twice;
- `·`: not tried, most often because the task has nothing to do with what is broken.

"""


def save(report: Report, plan: Plan) -> None:
    """
    Keep a report, so that runs of different days make one page.

    :param report: the report.
    :param plan: what it is of.
    """
    _REPORTS.mkdir(parents=True, exist_ok=True)
    _file(plan).write_bytes(_ADAPTER.dump_json(report, indent=1))


def write_page() -> None:
    """Write the page from the reports that there are."""
    reports = [_ADAPTER.validate_json(_file(plan).read_bytes()) for plan in FULL if _file(plan).exists()]
    left = [plan.name for plan in FULL if not _file(plan).exists()]
    PAGE.write_text(page(reports, left), encoding="utf-8")


def page(reports: list[Report], left: Sequence[str] = ()) -> str:
    """
    Return the page.

    :param reports: of all runs.
    :param left: the runs that there are no reports of.
    """
    counted = ", ".join(f"{count} {outcome}" for outcome, count in totals(reports).items())
    cells = sum(len(report.cells) for report in reports)
    lines = [_HEAD + as_markdown(reports, TASKS), "", f"{cells} cells: {counted}.", "", *_runs(reports)]
    if left:
        lines += [f"- not run yet: {', '.join(left)}"]
    if errors := list(_errors(reports)):
        lines += ["", "What the tasks said that stopped, the first of each kind:", "", *errors]
    return "\n".join([*lines, ""])


def _runs(reports: list[Report]) -> list[str]:
    return [
        f"- {report.title}: {report.seconds:.0f} s, {report.sent} API requests, {report.failed} failed, "
        f"{len(report.unexplained)} of them beyond what a fault cost; {len(report.stuck)} stacks stuck, "
        f"{len(report.stranded)} more that were in progress while a fault lasted that costs requests; "
        f"{len(report.crossed)} resources worked on by two engines, but for those that a fault took from the first one"
        for report in reports
    ]


def _errors(reports: list[Report]) -> Iterator[str]:
    told = set[str]()
    for cell in (cell for report in reports for cell in report.cells):
        if cell.errors and cell.fault not in told:
            told.add(cell.fault)
            said = cell.errors[0].replace(f"{PROJECT_ROOT}/", "").replace("\\n", " ")
            yield f"- {cell.fault}, `{cell.task}`: {said}"


def _file(plan: Plan) -> Path:
    return _REPORTS / f"{plan.name.replace(' ', '-')}.json"
