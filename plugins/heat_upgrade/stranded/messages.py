"""How stranded stacks and their ends are reported: tables for the log and for the question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from heat_upgrade.formatting import Row, markdown_table
from heat_upgrade.stranded.rule import StrandedStack

STRANDED: Row = ("stack", "id", "project", "action", "since (UTC)", "remaining")
# More make no readable question; the log has them all.
_ROWS_OF_A_QUESTION = 100


def stranded_rows(stacks: Iterable[StrandedStack]) -> Iterator[Row]:
    """Give a row for each stack, and one for each nested stack below it."""
    for stack in stacks:
        action = f"{stack.action} {stack.status}"
        yield (stack.name, stack.id, stack.project, action, stack.since, str(stack.remaining))
        for nested in stack.nested:
            yield (f"  in it: {nested}",)


def question(stacks: Sequence[StrandedStack]) -> str:
    """
    Return what an operator has to know to decide, as Markdown.

    :param stacks: the stranded stacks, at least one
    """
    rows = list(stranded_rows(stacks))
    lines = [markdown_table(STRANDED, rows[:_ROWS_OF_A_QUESTION])]
    if len(rows) > _ROWS_OF_A_QUESTION:
        lines.append(f"\n... and {len(rows) - _ROWS_OF_A_QUESTION} more rows: the log of `find` has them all.")
    return "\n".join([*lines, "", _CHOICES])


_CHOICES = """\
**Update** takes each stack up again with the template and the parameters that it has: a create or an update is
finished, a delete deleted again, a suspend, resume or check begun again. A resource on which the lost engine worked
is replaced.

**Cancel without rollback** marks creates and updates FAILED and changes no resource; others stay as they are.

**Leave as they are**, also when nobody answers in time: nothing is done.
"""
