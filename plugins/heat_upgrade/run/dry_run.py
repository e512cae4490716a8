"""A dry run as data: what each of its tasks would do, and the plan that they make together, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from heat_upgrade.formatting import duration, markdown_block, markdown_text

if TYPE_CHECKING:
    from heat_upgrade.remote.step import Step


class Command(NamedTuple):
    """One command, and the host or server that a real run sends it to."""

    where: str
    line: str

    @classmethod
    def of(cls, where: str, step: Step) -> Command:
        """
        Return the command of a step.

        :param where: the host
        :param step: what a real run has done there
        """
        return cls(where, step.last_line)


@dataclass(frozen=True)
class Intent:
    """
    What a task would do.

    :param says: in a sentence, beginning with a verb; ``nothing: ...`` with the reason where it would do nothing
    :param commands: what a real run sends, to the letter
    :param diff: how a file would change, secrets masked
    :param shows: what was read for it, as a table
    :param ends_run: whether a real run would end well here, and skip all that follows
    """

    says: str
    commands: tuple[Command, ...] = ()
    diff: tuple[str, ...] = ()
    shows: str = ""
    ends_run: bool = False

    @property
    def idle(self) -> bool:
        """Tell whether nothing would be done."""
        return self.says.startswith("nothing: ")

    def as_xcom(self) -> dict[str, Any]:
        """Return it as an XCom holds it."""
        return asdict(self) | {"commands": [list(each) for each in self.commands], "diff": list(self.diff)}

    @classmethod
    def of_xcom(cls, saved: Mapping[str, Any]) -> Intent:
        """Return what an XCom held."""
        commands = tuple(Command(*each) for each in saved["commands"])
        return cls(**{**saved, "commands": commands, "diff": tuple(saved["diff"])})


@dataclass(frozen=True)
class PlannedTask:
    """
    One task of the plan.

    :param task: its id
    :param host: the host that it is for; empty for the whole cloud
    :param intent: what it would do
    :param seconds: how long it took in an earlier run; None where none has measured it
    """

    task: str
    host: str
    intent: Intent
    seconds: float | None = None


@dataclass(frozen=True)
class Rehearsal:
    """
    A dry run that is over.

    :param title: what was rehearsed
    :param tasks: in the order of the run; those that it skips are left out
    :param estimate: how long a real run would take, and what says so
    :param unpacking: what a real run's commands on a host begin with
    """

    title: str
    tasks: Sequence[PlannedTask]
    estimate: Sequence[str]
    unpacking: str = ""


def markdown(rehearsal: Rehearsal) -> str:
    """Render a dry run's plan."""
    hosts = dict.fromkeys(task.host for task in rehearsal.tasks if task.host)
    lines = [
        f"# Dry run: {rehearsal.title}",
        "",
        "Nothing was changed. This is what a real run would do, as the cloud is now.",
        "",
        *_order(rehearsal.tasks),
        "## Time",
        "",
        *(f"- {line}" for line in rehearsal.estimate),
        "",
    ]
    for host, heading in (("", "The whole cloud"), *((host, host) for host in hosts)):
        lines += _section(heading, [task for task in rehearsal.tasks if task.host == host])
    if rehearsal.unpacking:
        lines += [
            "## What every command on a host begins with",
            "",
            "Over SSH, with the scripts on standard input:",
            "",
            markdown_block(rehearsal.unpacking, "sh"),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _order(tasks: Iterable[PlannedTask]) -> Iterator[str]:
    yield from ("## In order", "", "| task | what a real run would do | took last time |", "|---|---|---|")
    for task in tasks:
        took = "" if task.seconds is None else duration(task.seconds)
        yield f"| `{task.task}` | {markdown_text(task.intent.says)} | {took} |"
    yield ""


def _section(heading: str, tasks: Iterable[PlannedTask]) -> Iterator[str]:
    told = [task for task in tasks if task.intent.commands or task.intent.diff or task.intent.shows]
    if not told:
        return
    yield from (f"## {heading}", "")
    for task in told:
        yield from (f"### {task.task}", "", markdown_text(task.intent.says), "")
        if task.intent.shows:
            yield from (markdown_block(task.intent.shows, "text"), "")
        for where, lines in _by_place(task.intent.commands).items():
            yield from (f"To {where}:", "", markdown_block("\n".join(lines), "sh"), "")
        if task.intent.diff:
            yield from (markdown_block("\n".join(task.intent.diff), "diff"), "")


def _by_place(commands: Iterable[Command]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for command in commands:
        places.setdefault(command.where, []).append(command.line)
    return places
