"""Maintenance windows, asked at fixed dates: the clocks' changes, midnights, overlaps and blackouts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from heat_upgrade.windows import LOOK_AHEAD, Calendar, Days, Period, Window, ever_comes, union

BERLIN, NEW_YORK, HAVANA = "Europe/Berlin", "America/New_York", "America/Havana"


def window(cron: str, hours: float, zone: str = "UTC", *blackouts: str) -> Window:
    days = [tuple(map(date.fromisoformat, text.split(" to "))) for text in blackouts]
    return Window(cron, timedelta(hours=hours), ZoneInfo(zone), tuple(Days(day[0], day[-1]) for day in days))


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


class Case(NamedTuple):
    """Windows, a moment before them, and the first times for which they are open after it; all times in UTC."""

    id: str
    windows: list[Window]
    after: str
    open: list[str]


SATURDAY = window("0 22 * * sat", 4, BERLIN)
CASES = [
    Case(
        "in summer and in winter, by the clock on the wall",
        [window("0 1 * * *", 2, BERLIN)],
        "2026-10-23 20:00",
        # CEST until the 25th, 03:00 CEST = 02:00 CET; that night's window ends an hour earlier by the clock.
        ["10-23 23:00 10-24 01:00", "10-24 23:00 10-25 01:00", "10-26 00:00 10-26 02:00"],
    ),
    Case("over midnight", [SATURDAY], "2026-11-21 12:00", ["11-21 21:00 11-22 01:00", "11-28 21:00 11-29 01:00"]),
    Case(
        "over the change in spring it lasts as long, so it ends an hour later by the clock",
        [SATURDAY],
        "2026-03-28 00:00",
        ["03-28 21:00 03-29 01:00", "04-04 20:00 04-05 00:00"],
    ),
    Case(
        "over the change in autumn it ends an hour earlier by the clock",
        [SATURDAY],
        "2026-10-24 00:00",
        ["10-24 20:00 10-25 00:00", "10-31 21:00 11-01 01:00"],
    ),
    Case(
        "an opening that the clocks skip comes as much later as they jump",
        [window("30 2 * * *", 1, BERLIN)],
        "2026-03-28 00:00",
        ["03-28 01:30 03-28 02:30", "03-29 01:30 03-29 02:30", "03-30 00:30 03-30 01:30"],
    ),
    Case(
        "skipped and not, on one day: still in order",
        [window("45 2 * * *", 0.1, BERLIN), window("0 3 * * *", 0.1, BERLIN), window("30 2,3 29 3 *", 0.1, BERLIN)],
        "2026-03-29 00:00",
        ["03-29 01:00 03-29 01:06", "03-29 01:30 03-29 01:36", "03-29 01:45 03-29 01:51"],
    ),
    Case(
        "an opening that the clocks show twice counts the first time",
        [window("30 2 * * *", 0.5, BERLIN)],
        "2026-10-25 00:00",
        ["10-25 00:30 10-25 01:00", "10-26 01:30 10-26 02:00"],
    ),
    Case(
        "the change in New York in spring",
        [window("30 1 * * sun", 2, NEW_YORK)],
        "2026-03-07 00:00",
        ["03-08 06:30 03-08 08:30", "03-15 05:30 03-15 07:30"],
    ),
    Case(
        "the change in New York in autumn: 01:30 comes twice",
        [window("30 1 * * sun", 2, NEW_YORK)],
        "2026-10-31 00:00",
        ["11-01 05:30 11-01 07:30", "11-08 06:30 11-08 08:30"],
    ),
    Case(
        "a midnight that the clocks skip",
        [window("0 0 * * *", 1, HAVANA)],
        "2026-03-07 12:00",
        ["03-08 05:00 03-08 06:00", "03-09 04:00 03-09 05:00"],
    ),
    Case(
        "half of an hour from UTC",
        [window("0 0 * * *", 1, "Asia/Kolkata")],
        "2026-11-21 12:00",
        ["11-21 18:30 11-21 19:30"],
    ),
    Case("begun before", [SATURDAY], "2026-11-21 23:00", ["11-21 21:00 11-22 01:00"]),
    Case("just closed", [SATURDAY], "2026-11-22 01:00", ["11-28 21:00 11-29 01:00"]),
    Case(
        "two that overlap are one",
        [window("0 20 * * *", 3), window("0 22 * * *", 4)],
        "2026-11-21 12:00",
        ["11-21 20:00 11-22 02:00", "11-22 20:00 11-23 02:00"],
    ),
    Case(
        "one within another is that other one",
        [window("0 20 * * *", 6), window("0 22 * * *", 1)],
        "2026-11-21 12:00",
        ["11-21 20:00 11-22 02:00"],
    ),
    Case(
        "two that touch are one",
        [window("0 20 * * *", 2), window("0 22 * * *", 2)],
        "2026-11-21 12:00",
        ["11-21 20:00 11-22 00:00"],
    ),
    Case(
        "two that overlap in two time zones",
        [window("0 22 * * sat", 4, BERLIN), window("0 17 * * sat", 6, NEW_YORK)],
        "2026-11-21 12:00",
        ["11-21 21:00 11-22 04:00"],
    ),
    Case(
        "no opening on a day of a blackout, nor what would be left of it on the next day",
        [window("0 22 * * *", 4, BERLIN, "2026-12-24")],
        "2026-12-23 12:00",
        ["12-23 21:00 12-23 23:00", "12-25 21:00 12-26 01:00"],
    ),
    Case(
        "a range of days, in the window's time zone",
        [window("0 22 * * *", 1, NEW_YORK, "2026-12-24 to 2027-01-02")],
        "2026-12-23 12:00",
        ["12-24 03:00 12-24 04:00", "2027-01-04 03:00 2027-01-04 04:00"],
    ),
    Case(
        "a blackout in the middle",
        [window("0 20 * * fri", 60, BERLIN, "2026-11-21")],
        "2026-11-20 12:00",
        ["11-20 19:00 11-20 23:00", "11-21 23:00 11-23 07:00"],
    ),
    Case(
        "a blackout on the day of the change has 25 hours",
        [window("0 20 * * sat", 60, BERLIN, "2026-10-25")],
        "2026-10-24 12:00",
        ["10-24 18:00 10-24 22:00", "10-25 23:00 10-27 06:00"],
    ),
    Case(
        "a blackout of one window doesn't shut the other",
        [window("0 20 * * *", 2, "UTC", "2026-11-21"), window("0 21 * * *", 2)],
        "2026-11-21 12:00",
        ["11-21 21:00 11-21 23:00", "11-22 20:00 11-22 23:00"],
    ),
    Case(
        "two blackouts that overlap",
        [window("0 0 * * mon", 120, "UTC", "2026-11-24 to 2026-11-25", "2026-11-25 to 2026-11-26")],
        "2026-11-22 12:00",
        ["11-23 00:00 11-24 00:00", "11-27 00:00 11-28 00:00"],
    ),
    Case(
        "one blackout within another, and in any order",
        [window("0 0 16 11 *", 14 * 24, "UTC", "2026-11-27", "2026-11-20 to 2026-11-24", "2026-11-21")],
        "2026-11-15 12:00",
        ["11-16 00:00 11-20 00:00", "11-25 00:00 11-27 00:00", "11-28 00:00 11-30 00:00"],
    ),
    Case(
        "the first Saturday of a month",
        [window("0 22 * * sat#1", 4)],
        "2026-11-21 12:00",
        ["12-05 22:00 12-06 02:00", "2027-01-02 22:00 2027-01-03 02:00"],
    ),
    Case("once in four years", [window("0 0 29 2 *", 1)], "2026-11-21 12:00", ["2028-02-29 00:00 2028-02-29 01:00"]),
]


def periods_of(case: Case) -> list[Period]:
    """Return the periods as they are written in a case: with the year where it isn't 2026."""

    def moment(day: str, clock: str) -> datetime:
        return at(f"{day if len(day) > 5 else f'2026-{day}'} {clock}")

    words = [text.split() for text in case.open]
    return [Period(moment(*text[:2]), moment(*text[2:])) for text in words]


def first_periods(calendar: Calendar, moment: datetime, count: int) -> list[Period]:
    found = [period] if (period := calendar.open_at(moment)) else []
    while len(found) < count:
        period = calendar.next_with_room(found[-1].end if found else moment, timedelta())
        assert period
        found.append(period)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_when_windows_are_open(case: Case) -> None:
    expected = periods_of(case)
    calendar = Calendar(tuple(case.windows))
    assert first_periods(calendar, at(case.after), len(expected)) == expected
    assert first_periods(Calendar(tuple(reversed(case.windows))), at(case.after), len(expected)) == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_answers_agree_with_each_other_around_each_edge(case: Case) -> None:
    calendar, second = Calendar(tuple(case.windows)), timedelta(seconds=1)
    for period in periods_of(case):
        if period.start > at(case.after):
            assert calendar.open_at(period.start - second) is None
            assert calendar.room(period.start - second) == timedelta()
            assert calendar.next_with_room(period.start - second, second) == period
            assert calendar.next_opening(period.start - second) is not None
        assert calendar.room(period.start) >= second
        assert calendar.room(period.end - second) == second
        assert calendar.open_at(period.end) is None
        assert calendar.room(period.end) == timedelta()


def test_room_counts_to_the_end_of_all_that_is_open_without_a_break() -> None:
    calendar = Calendar((window("0 20 * * *", 3), window("0 22 * * *", 4), window("0 3 * * *", 1)))
    assert calendar.room(at("2026-11-21 19:59:59")) == timedelta()
    assert calendar.room(at("2026-11-21 20:00")) == timedelta(hours=6)
    assert calendar.room(at("2026-11-21 23:30")) == timedelta(hours=2, minutes=30)
    assert calendar.room(at("2026-11-22 02:30")) == timedelta()


def test_a_window_that_is_too_short_is_passed_over() -> None:
    calendar = Calendar((window("0 22 * * mon-fri", 2), window("0 22 * * sat", 6)))
    moment = at("2026-11-18 22:30")
    period = calendar.next_with_room(moment, timedelta(hours=2))
    assert period and period.start == at("2026-11-19 22:00")
    period = calendar.next_with_room(moment, timedelta(hours=2, seconds=1))
    assert period == Period(at("2026-11-21 22:00"), at("2026-11-22 04:00"))
    assert calendar.next_with_room(moment, timedelta(hours=6, seconds=1)) is None
    assert calendar.longest(moment) == timedelta(hours=6)


def test_the_window_that_is_open_is_not_the_next_one() -> None:
    calendar = Calendar((window("0 22 * * *", 4),))
    assert calendar.next_with_room(at("2026-11-21 22:00"), timedelta()) == Period(
        at("2026-11-22 22:00"), at("2026-11-23 02:00")
    )


def test_each_opening_counts_also_while_another_window_is_open() -> None:
    calendar = Calendar((window("0 20 * * *", 6), window("0 22 * * *", 1), window("0 21 * * *", 1, "Etc/GMT+1")))
    assert list(calendar.openings(at("2026-11-21 12:00"), at("2026-11-22 20:00"))) == [
        at("2026-11-21 20:00"),
        at("2026-11-21 22:00"),
        at("2026-11-22 20:00"),
    ]
    assert calendar.next_opening(at("2026-11-21 20:00")) == at("2026-11-21 22:00")


def test_openings_that_the_clocks_skip_stay_in_order_among_the_others() -> None:
    often = window("15,45 2,3 * * *", 1, BERLIN)
    assert list(often.openings(at("2026-03-29 00:00"), at("2026-03-29 12:00"))) == [
        at("2026-03-29 01:15"),
        at("2026-03-29 01:45"),
    ]


def test_windows_that_never_open_are_closed() -> None:
    for never in (
        window("0 22 * * *", 4, BERLIN, "2026-01-01 to 2036-01-01"),
        window("0 22 * * *", 4, BERLIN, "1970-01-01 to 9999-12-30"),
    ):
        calendar, moment = Calendar((never,)), at("2026-11-21 22:00")
        assert calendar.open_at(moment) is None
        assert calendar.next_opening(moment) is None
        assert calendar.next_with_room(moment, timedelta()) is None
        assert calendar.longest(moment) == timedelta()


def test_any_time_zone_may_ask() -> None:
    calendar = Calendar((SATURDAY,))
    for zone in ("UTC", BERLIN, NEW_YORK, "Pacific/Auckland"):
        moment = at("2026-11-21 21:30").astimezone(ZoneInfo(zone))
        assert calendar.room(moment) == timedelta(hours=3, minutes=30)
        assert calendar.next_opening(moment) == at("2026-11-28 21:00")


@pytest.mark.parametrize("zone", ["UTC", BERLIN, NEW_YORK, HAVANA, "Australia/Lord_Howe", "Africa/Casablanca"])
def test_through_years_of_changing_clocks_openings_stay_in_order_one_a_day(zone: str) -> None:
    for hour in (0, 1, 2, 3, 23):
        openings = list(window(f"30 {hour} * * *", 1, zone).openings(at("2026-01-01 12:00"), at("2028-01-01 12:00")))
        assert len(openings) == 730
        assert all(timedelta(hours=22) < after - before < timedelta(hours=26) for before, after in pairwise(openings))
        assert all(moment.tzinfo is UTC for moment in openings)


@pytest.mark.parametrize("hours", [24, 30])
def test_windows_as_long_as_the_time_to_the_next_one_never_close(hours: int) -> None:
    calendar, moment = Calendar((window("0 22 * * *", hours),)), at("2026-11-21 12:00")
    assert calendar.room(moment) > LOOK_AHEAD - timedelta(days=2)
    assert calendar.next_opening(moment) == at("2026-11-21 22:00"), "each opening still starts a run"
    shut = Calendar((window("0 22 * * *", hours, "UTC", "2026-11-23"),))
    assert shut.room(moment) == timedelta(hours=36)


def test_every_hour_is_still_quick_to_ask() -> None:
    calendar = Calendar((window("0 * * * *", 1, BERLIN), window("30 * * * *", 1, NEW_YORK)))
    period = calendar.open_at(at("2026-11-21 12:00"))
    assert period and period.length > LOOK_AHEAD


@pytest.mark.parametrize(("cron", "comes"), [("0 0 29 2 *", True), ("0 0 30 2 *", False), ("61 0 * * *", False)])
def test_a_cron_that_never_comes(cron: str, comes: bool) -> None:
    assert ever_comes(cron) is comes


def test_no_periods_have_no_union() -> None:
    assert list(union([])) == []
