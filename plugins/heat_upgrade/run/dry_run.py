"""A dry run as data: what each of its tasks would do, and the plan that they make together, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from heat_upgrade.formatting import duration, markdown_block, markdown_text

if TYPE_CHECKING:
    from heat_upgrade.remote.step import PlacedStep


class PlannedCommand(NamedTuple):
    """One command, and the host or server that a real run sends it to."""

    where: str
    line: str

    @classmethod
    def of(cls, placed: PlacedStep) -> PlannedCommand:
        """
        Return the command of a step.

        :param placed: what a real run has done, and where
        """
        return cls(placed.machine.name, placed.step.last_line)


@dataclass(frozen=True)
class PlannedAction:
    """
    What a task would do.

    :param summary: in a sentence that begins with a verb; where nothing would be done, the reason
    :param commands: what a real run sends, verbatim
    :param diff: how a file would change, secrets masked
    :param shows: what was read for it, as a table
    :param ends_run: whether a real run would end well here, and skip all that follows
    :param idle: whether nothing would be done
    """

    summary: str
    commands: tuple[PlannedCommand, ...] = ()
    diff: tuple[str, ...] = ()
    shows: str = ""
    ends_run: bool = False
    idle: bool = False

    @classmethod
    def nothing(cls, reason: str) -> PlannedAction:
        """
        Return that nothing would be done.

        :param reason: why
        """
        return cls(reason, idle=True)

    @property
    def text(self) -> str:
        """Return the sentence for people."""
        return f"nothing: {self.summary}" if self.idle else self.summary

    def as_xcom(self) -> dict[str, Any]:
        """Return it as an XCom holds it."""
        return asdict(self) | {"commands": [list(each) for each in self.commands], "diff": list(self.diff)}

    @classmethod
    def of_xcom(cls, saved: Mapping[str, Any]) -> PlannedAction:
        """Return what an XCom held."""
        commands = tuple(PlannedCommand(*each) for each in saved["commands"])
        return cls(**{**saved, "commands": commands, "diff": tuple(saved["diff"])})


@dataclass(frozen=True)
class PlannedTask:
    """
    One task of the plan.

    :param task: its id
    :param host: the host that it is for; empty for the whole cloud
    :param action: what it would do
    :param seconds: how long it took in an earlier run; None where none has measured it
    """

    task: str
    host: str
    action: PlannedAction
    seconds: float | None = None


@dataclass(frozen=True)
class DryRun:
    """
    A dry run that is over.

    :param title: what a real run would be
    :param tasks: in the order of the run; those that it skips are left out
    :param estimate: how long a real run would take, and what says so
    :param unpacking: what a real run's commands on a host begin with
    """

    title: str
    tasks: Sequence[PlannedTask]
    estimate: Sequence[str]
    unpacking: str = ""


def markdown(dry_run: DryRun) -> str:
    """Render a dry run's plan."""
    hosts = dict.fromkeys(task.host for task in dry_run.tasks if task.host)
    lines = [
        f"# Dry run: {dry_run.title}",
        "",
        "Nothing was changed. This is what a real run would do, as the cloud is now.",
        "",
        *_order(dry_run.tasks),
        "## Time",
        "",
        *(f"- {line}" for line in dry_run.estimate),
        "",
    ]
    for host, heading in (("", "The whole cloud"), *((host, host) for host in hosts)):
        lines += _section(heading, [task for task in dry_run.tasks if task.host == host])
    if dry_run.unpacking:
        lines += [
            "## What every command on a host begins with",
            "",
            "Over SSH, with the scripts on standard input:",
            "",
            markdown_block(dry_run.unpacking, "sh"),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _order(tasks: Iterable[PlannedTask]) -> Iterator[str]:
    yield from ("## In order", "", "| task | what a real run would do | took last time |", "|---|---|---|")
    for task in tasks:
        took = "" if task.seconds is None else duration(task.seconds)
        yield f"| `{task.task}` | {markdown_text(task.action.text)} | {took} |"
    yield ""


def _section(heading: str, tasks: Iterable[PlannedTask]) -> Iterator[str]:
    shown = [task for task in tasks if task.action.commands or task.action.diff or task.action.shows]
    if not shown:
        return
    yield from (f"## {heading}", "")
    for task in shown:
        yield from (f"### {task.task}", "", markdown_text(task.action.text), "")
        if task.action.shows:
            yield from (markdown_block(task.action.shows, "text"), "")
        for where, lines in _by_place(task.action.commands).items():
            yield from (f"To {where}:", "", markdown_block("\n".join(lines), "sh"), "")
        if task.action.diff:
            yield from (markdown_block("\n".join(task.action.diff), "diff"), "")


def _by_place(commands: Iterable[PlannedCommand]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for command in commands:
        places.setdefault(command.where, []).append(command.line)
    return places
