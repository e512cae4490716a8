"""How stranded stacks and their ends are told to an operator: tables for the log and for the question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from heat_upgrade.stranded.rule import StrandedStack

Row = tuple[str, ...]

STRANDED: Row = ("stack", "id", "project", "action", "since (UTC)", "left")
# More make no readable question; the log has them all.
_ROWS_OF_A_QUESTION = 100


def stranded_rows(stacks: Iterable[StrandedStack]) -> Iterator[Row]:
    """Give a row for each stack, and one for each nested stack below it."""
    for stack in stacks:
        action = f"{stack.action} {stack.status}"
        yield (stack.name, stack.id, stack.project, action, stack.since, str(stack.left))
        for nested in stack.nested:
            yield (f"  in it: {nested}", "", "", "", "", "")


def text_table(head: Row, rows: Iterable[Row]) -> str:
    """
    Render a table for a log.

    :param head: the names of the columns
    :param rows: the rows, as wide as the head
    """
    lines = [head, *rows]
    # The rows of nested stacks have one cell, which may run on.
    widths = [max(len(line[column]) for line in lines if line[-1]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def question(stacks: Sequence[StrandedStack]) -> str:
    """
    Return what an operator has to know to decide, as Markdown.

    :param stacks: the stranded stacks, at least one
    """
    rows = list(stranded_rows(stacks))
    table = [STRANDED, tuple("---" for _ in STRANDED), *(map(_escaped, row) for row in rows[:_ROWS_OF_A_QUESTION])]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    if len(rows) > _ROWS_OF_A_QUESTION:
        lines.append(f"\n... and {len(rows) - _ROWS_OF_A_QUESTION} more rows: the log of `find` has them all.")
    return "\n".join([*lines, "", _CHOICES])


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("`", "'")


_CHOICES = """\
**Update** takes each stack up again with the template and the parameters that it has: a create or an update is
finished, a delete deleted again, a suspend, resume or check begun again. A resource on which the lost engine worked
is replaced.

**Cancel without rollback** marks creates and updates FAILED and changes no resource; others stay as they are.

**Leave as they are**, also when nobody answers in time: nothing is done.
"""
