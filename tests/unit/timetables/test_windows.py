"""The schedule of a cloud with maintenance windows: exact runs at fixed dates, and what the scheduler stores of it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction

from heat_upgrade.cloud.sections import Windows
from heat_upgrade.timetables import windows as module
from heat_upgrade.timetables.windows import WindowsTimetable

WINDOWS: dict[str, Any] = {
    "openings": [
        {"cron": "0 22 * * sat", "minutes": 240, "timezone": "Europe/Berlin"},
        {"cron": "0 20 * * wed", "minutes": 120, "timezone": "America/New_York"},
    ],
    "blackouts": ["2026-12-24 to 2027-01-03"],
}


def timetable(**edits: Any) -> WindowsTimetable:
    return WindowsTimetable(Windows.model_validate({**WINDOWS, **edits}))


def utc(text: str) -> pendulum.DateTime:
    return pendulum.instance(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("UTC")), tz="UTC")


@pytest.fixture
def next_run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask for the next run at a moment, after the last scheduled one if there was one."""

    def ask(now: str, last: str | None = None, *, asked: WindowsTimetable | None = None, **limits: Any) -> Any:
        monkeypatch.setattr(module, "_now", lambda: utc(now))
        return (asked or timetable()).next_dagrun_info(
            last_automated_data_interval=DataInterval.exact(utc(last)) if last else None,
            restriction=TimeRestriction(**{"earliest": None, "latest": None, "catchup": False, **limits}),
        )

    return ask


def run_at(text: str) -> DagRunInfo:
    moment = utc(text)
    return DagRunInfo(run_after=moment, data_interval=DataInterval(start=moment, end=moment))


@pytest.mark.parametrize(
    ("now", "last", "expected"),
    [
        # Each window in its own time zone, in winter and in summer.
        ("2026-11-20 12:00", "2026-11-19 01:00", "2026-11-21 21:00"),
        ("2026-11-22 12:00", "2026-11-21 21:00", "2026-11-26 01:00"),
        ("2026-07-10 12:00", "2026-07-09 00:00", "2026-07-11 20:00"),
        ("2026-07-12 12:00", "2026-07-11 20:00", "2026-07-16 00:00"),
        # The clocks change between two openings: Berlin's a week before New York's in autumn.
        ("2026-10-24 21:00", "2026-10-24 20:00", "2026-10-29 00:00"),
        ("2026-10-31 20:00", "2026-10-29 00:00", "2026-10-31 21:00"),
        ("2026-11-01 12:00", "2026-10-31 21:00", "2026-11-05 01:00"),
        # No run on days of a blackout.
        ("2026-12-24 02:00", "2026-12-24 01:00", "2027-01-07 01:00"),
        # Never before.
        ("2026-11-20 12:00", None, "2026-11-21 21:00"),
        # A new DAG that is seen first in an open window waits for the next opening.
        ("2026-11-21 22:00", None, "2026-11-26 01:00"),
        # But an opening isn't lost while the scheduler takes its time.
        ("2026-11-21 21:00", None, "2026-11-21 21:00"),
        ("2026-11-21 21:01:59", None, "2026-11-21 21:00"),
        # The next run is known before it is due.
        ("2026-11-21 21:00:01", "2026-11-21 21:00", "2026-11-26 01:00"),
        ("2026-11-21 20:59", "2026-11-21 21:00", "2026-11-26 01:00"),
        # The scheduler was down when a window opened: made up for while it is open, forgotten after that.
        ("2026-11-21 22:30", "2026-11-19 01:00", "2026-11-21 21:00"),
        ("2026-11-22 00:59:59", "2026-11-05 01:00", "2026-11-21 21:00"),
        ("2026-11-22 01:00", "2026-11-19 01:00", "2026-11-26 01:00"),
        ("2026-11-23 12:00", "2026-10-01 01:00", "2026-11-26 01:00"),
    ],
)
def test_the_next_run(now: str, last: str | None, expected: str, next_run: Any) -> None:
    assert next_run(now, last) == run_at(expected)


def test_of_openings_that_were_missed_only_the_last_counts(next_run: Any) -> None:
    overlapping = timetable(
        openings=[
            {"cron": "0 20 * * *", "minutes": 300, "timezone": "UTC"},
            {"cron": "0 22 * * *", "minutes": 60, "timezone": "UTC"},
        ]
    )
    assert next_run("2026-11-21 22:30", "2026-11-20 22:00", asked=overlapping) == run_at("2026-11-21 22:00")
    assert next_run("2026-11-21 23:30", "2026-11-21 20:00", asked=overlapping) == run_at("2026-11-21 22:00")
    assert next_run("2026-11-21 22:30", "2026-11-21 22:00", asked=overlapping) == run_at("2026-11-22 20:00")


def test_windows_that_never_open_again_start_nothing(next_run: Any) -> None:
    shut = timetable(blackouts=["2026-01-01 to 2040-01-01"])
    assert next_run("2026-11-20 12:00", asked=shut) is None


def test_the_dags_own_dates_hold(next_run: Any) -> None:
    assert next_run("2026-11-20 12:00", earliest=utc("2026-12-01 00:00")) == run_at("2026-12-03 01:00")
    assert next_run("2026-11-20 12:00", earliest=utc("2026-11-21 21:00")) == run_at("2026-11-21 21:00")
    assert next_run("2026-11-20 12:00", latest=utc("2026-11-21 21:00")) == run_at("2026-11-21 21:00")
    assert next_run("2026-11-20 12:00", latest=utc("2026-11-21 20:59")) is None


def test_a_manual_run_is_a_moment() -> None:
    moment = utc("2026-11-20 12:34")
    assert timetable().infer_manual_data_interval(run_after=moment) == DataInterval(moment, moment)


def test_the_scheduler_makes_it_anew_from_what_is_stored(next_run: Any) -> None:
    stored = json.loads(json.dumps(encode_timetable(timetable())))
    assert stored["__type"] == "heat_upgrade.timetables.windows.WindowsTimetable"
    again = decode_timetable(stored)
    assert isinstance(again, WindowsTimetable)
    assert again.serialize() == timetable().serialize()
    assert again.description == timetable().description
    assert next_run("2026-12-24 02:00", "2026-12-24 01:00", asked=again) == run_at("2027-01-07 01:00")


def test_the_ui_says_when_runs_start() -> None:
    assert timetable().summary == "0 22 * * sat, 0 20 * * wed"
    assert timetable().description == (
        "When a maintenance window opens: 0 22 * * sat Europe/Berlin, 240 min; 0 20 * * wed America/New_York, 120 min"
    )
