"""
Maintenance windows as pure arithmetic: when they open, and how long they stay open.

A window is defined in local time (cron, time zone, days on which it stays shut) and queried with aware UTC datetimes.
Its length is real time, so a change of the clocks moves neither its opening nor its length.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, CroniterError, croniter  # type: ignore[import-untyped]

ONE_DAY = timedelta(days=1)
# A yearly window is found even if it is shut for a year.
LOOK_AHEAD = timedelta(days=2 * 366)


class Period(NamedTuple):
    """A time from its start, inclusive, to its end, exclusive; both in UTC."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """Return the time from start to end."""
        return self.end - self.start


@dataclass(frozen=True)
class Days:
    """Whole days, from the first to the last, both included."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        """Return whether a day is one of them."""
        return self.first <= day <= self.last

    def __str__(self) -> str:
        """Return the days as a cloud file has them."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def period(self, zone: ZoneInfo) -> Period:
        """Return the days as they are in a time zone."""
        midnights = (datetime(day.year, day.month, day.day) for day in (self.first, self.last + ONE_DAY))
        start, end = (_moment(midnight, zone) for midnight in midnights)
        return Period(start, end)


@dataclass(frozen=True)
class Window:
    """
    One window.

    :param cron: when it opens, in five fields: minute, hour, day of month, month, day of week
    :param length: how long it stays open
    :param zone: the time zone of ``cron`` and ``blackouts``
    :param blackouts: days on which it neither opens nor is open
    """

    cron: str
    length: timedelta
    zone: ZoneInfo
    blackouts: tuple[Days, ...] = ()

    def openings(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """
        Yield when it opens, in order.

        A time that the clocks skip in spring comes as much later as they jump; one that they show twice in autumn
        counts the first time.

        :param after: exclusive
        :param until: inclusive
        """
        for day, ticks in groupby(self._ticks(after), key=datetime.date):
            # By the day, since a skipped time may come after its successor.
            for moment in sorted({_moment(tick, self.zone) for tick in ticks}):
                if moment > until:
                    return
                if moment > after and not any(day in days for days in self.blackouts):
                    yield moment

    def periods(self, after: datetime, until: datetime) -> Iterator[Period]:
        """
        Yield when it is open, in order and without overlaps.

        :param after: the first period is the first one that ends after this
        :param until: the last period is the last one that begins by then
        """
        openings = self.openings(after - self.length, until)
        shut = [days.period(self.zone) for days in self.blackouts]
        for period in union(Period(opening, opening + self.length) for opening in openings):
            yield from (piece for piece in _without(period, shut) if piece.end > after)

    def _ticks(self, after: datetime) -> Iterator[datetime]:
        """Yield what the clock on the wall shows when it opens: the change of the clocks is no matter of cron's."""
        local = after.astimezone(self.zone).replace(tzinfo=None)
        # A day earlier: whole days are sorted, and a skipped time is later than it reads.
        ticks = croniter(self.cron, local - ONE_DAY, ret_type=datetime)
        while True:
            try:
                yield ticks.get_next()
            except CroniterBadDateError:
                return


@dataclass(frozen=True)
class Calendar:
    """All windows of a cloud: open as long as any of them is."""

    windows: tuple[Window, ...]

    def open_at(self, moment: datetime) -> Period | None:
        """Return the time for which the windows are open at a moment, if they are."""
        period = next(self._periods(moment), None)
        return period if period and period.start <= moment else None

    def room(self, moment: datetime) -> timedelta:
        """Return how long the windows stay open from a moment on; nothing if they are closed."""
        period = self.open_at(moment)
        return period.end - moment if period else timedelta()

    def next_with_room(self, moment: datetime, room: timedelta) -> Period | None:
        """Return the first time after a moment for which the windows open and stay open for long enough, if any."""
        later = (period for period in self._periods(moment) if period.start > moment)
        return next((period for period in later if period.length >= room), None)

    def next_opening(self, moment: datetime) -> datetime | None:
        """Return when the next of the windows opens after a moment, though another one may be open still."""
        return next(self.openings(moment, moment + LOOK_AHEAD), None)

    def openings(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield when any of the windows opens, in order and each moment once; ``after`` is exclusive."""
        merged = heapq.merge(*(window.openings(after, until) for window in self.windows))
        return (moment for moment, _ in groupby(merged))

    def longest(self, moment: datetime) -> timedelta:
        """Return the longest time for which the windows are open, among all that begin after a moment."""
        return max((period.length for period in self._periods(moment)), default=timedelta())

    def _periods(self, moment: datetime) -> Iterator[Period]:
        return union(heapq.merge(*(window.periods(moment, moment + LOOK_AHEAD) for window in self.windows)))


def ever_comes(cron: str) -> bool:
    """Return whether a cron expression can be read and ever comes true: 30 February doesn't."""
    try:
        croniter(cron, datetime(2000, 1, 1)).get_next()
    except CroniterError:
        return False
    return True


def union(periods: Iterable[Period]) -> Iterator[Period]:
    """Yield periods, ordered by their start, with those joined that overlap or touch."""
    joined: Period | None = None
    for period in periods:
        if joined is None:
            joined = period
        elif period.start <= joined.end:
            joined = Period(joined.start, max(joined.end, period.end))
        else:
            yield joined
            joined = period
    if joined:
        yield joined


def _without(period: Period, others: Iterable[Period]) -> Iterator[Period]:
    """Yield what is left of a period, in order."""
    start = period.start
    for other in sorted(others):
        if other.end > start and other.start < period.end:
            if other.start > start:
                yield Period(start, other.start)
            start = other.end
    if start < period.end:
        yield Period(start, period.end)


def _moment(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)
