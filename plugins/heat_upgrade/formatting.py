"""Times as logs and plans show them."""

from __future__ import annotations

from datetime import timedelta


def short(time: timedelta | float) -> str:
    """
    Return a time without its fractions of a second.

    :param time: the time; a number is seconds
    """
    seconds = time.total_seconds() if isinstance(time, timedelta) else time
    return str(timedelta(seconds=round(seconds)))
