"""Times and numbers as the report writes them."""

from __future__ import annotations

from datetime import datetime

UNKNOWN = "\N{EN DASH}"
MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float | None) -> str:
    """
    Return a time with no more detail than anybody needs.

    :param seconds: the time; None for one that nobody knows
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


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
