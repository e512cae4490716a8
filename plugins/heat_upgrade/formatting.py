"""Durations, lists, tables and Markdown as logs, questions and reports show them: one form of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

Row = tuple[str, ...]

UNKNOWN = "\N{EN DASH}"
MINUTE, HOUR, DAY = 60, 3600, 86400
# What Markdown takes for markup: anywhere in a line, at the ends of words, and at the line's beginning.
_MARKUP = re.compile(r"[\\`*\[\]<>&|~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[+=-]")
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")


def duration(time: timedelta | float | None) -> str:
    """
    Return a time with no more detail than anybody needs.

    :param time: the time, a number is seconds; None for one that nobody knows
    """
    if time is None:
        return UNKNOWN
    seconds = time.total_seconds() if isinstance(time, timedelta) else time
    if seconds < 9.95 and seconds != round(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _two(whole, MINUTE, "min", 1, "s")
    return _two(whole, HOUR, "h", MINUTE, "min") if whole < DAY else _two(whole, DAY, "d", HOUR, "h")


def _two(seconds: int, unit: int, name: str, smaller: int, smaller_name: str) -> str:
    rest = seconds % unit // smaller
    return f"{seconds // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")


def change(seconds: float | None, last: float | None) -> str:
    """
    Return how much longer something took than last time, or shorter.

    :param seconds: this time
    :param last: last time
    """
    if seconds is None or last is None:
        return ""
    difference = seconds - last
    sign = "+" if difference >= 0 else "\N{MINUS SIGN}"
    return f"{sign}{duration(abs(difference))}"


def clock(time: datetime | None) -> str:
    """Return the time of a day; with the day where it isn't clear, use ``day``."""
    return f"{time:%H:%M:%S}" if time else UNKNOWN


def day(time: datetime) -> str:
    """Return a time with its day."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def count(number: int, thing: str) -> str:
    """
    Return a number of things.

    :param number: how many
    :param thing: one of them
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def one_line(text: object) -> str:
    """
    Return a text on one line: a log, a table and a mail's subject have no place for more.

    :param text: anything, as users may have given it
    """
    return " ".join(str(text).split())


def first_few(items: Iterable[object], most: int = 5) -> str:
    """
    Return a list for a sentence, that may be long.

    :param items: what is listed
    :param most: how many to show
    """
    texts = list(map(str, items))
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def first_lines(items: Iterable[object], most: int, *, more: str = "more") -> list[str]:
    """
    Return a line for each item of a list that may be long, and one for what isn't shown.

    :param items: what is listed
    :param most: how many to show
    :param more: what the others are, with where to find them
    """
    texts = list(map(one_line, items))
    return texts[:most] + ([f"... and {len(texts) - most} {more}"] if len(texts) > most else [])


def text_table(head: Row, rows: Iterable[Row]) -> str:
    """
    Return a table for a log.

    :param head: the names of the columns
    :param rows: the rows; one that is shorter than the head runs on
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines if len(line) == len(head)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip() for line in lines
    )


def markdown_text(text: object) -> str:
    """
    Return any text as Markdown that shows it as it is, on one line: in a paragraph, a heading or a table's cell.

    :param text: what users may have given
    """
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", one_line(text)))


def markdown_block(text: str, kind: str = "") -> str:
    """
    Return a text with lines as a block of Markdown that it can't end by itself; nothing for an empty text.

    :param text: what users may have given
    :param kind: the language, as ``sh``
    """
    if not text.strip():
        return ""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{kind}", text.rstrip("\n"), fence])


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """
    Return a table as Markdown.

    :param head: the names of the columns, as Markdown
    :param rows: what users may have given; one that is shorter than the head is filled up
    """
    filled = ([markdown_text(cell) for cell in row] + [""] * (len(head) - len(row)) for row in rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *filled])
