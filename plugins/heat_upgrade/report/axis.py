"""The axes of the report's drawings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
DAY = 86400
MOST_TICKS = 8


@dataclass(frozen=True)
class TimeAxis:
    """
    Times from left to right.

    :param begin: at the left end
    :param end: at the right end
    :param left: where the left end is drawn
    :param width: how wide it is drawn
    """

    begin: datetime
    end: datetime
    left: float
    width: float

    @property
    def seconds(self) -> float:
        """Return the time between the ends; never none."""
        return max((self.end - self.begin).total_seconds(), 1.0)

    def at(self, time: datetime) -> float:
        """Return where a time is drawn; one outside at the nearer end."""
        share = (time - self.begin).total_seconds() / self.seconds
        return self.left + self.width * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round times, each with its place."""
        days = DAY * ceil(self.seconds / (DAY * MOST_TICKS))
        step = next((step for step in _STEPS if self.seconds / step <= MOST_TICKS), days)
        first = ceil(self.begin.timestamp() / step) * step
        times = [datetime.fromtimestamp(first + number * step, UTC) for number in range(MOST_TICKS + 1)]
        form = "%H:%M:%S" if step < 60 else "%H:%M" if self.seconds < DAY else "%d.%m. %H:%M"
        return [(self.at(time), time.strftime(form)) for time in times if time <= self.begin + self.span]

    @property
    def span(self) -> timedelta:
        """Return what the axis covers."""
        return timedelta(seconds=self.seconds)


def top_of(values: list[int]) -> int:
    """Return a round number that none of the values exceeds, at least 1."""
    most, power = max([1, *values]), 1
    while power * 10 < most:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= most)
