"""What preflight says of a run as a whole: other runs, its move, and maintenance windows at fixed moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from heat_upgrade.cloud.sections import Windows
from heat_upgrade.preflight.check import Outcome
from heat_upgrade.preflight.run import alone, move, window
from heat_upgrade.run.move import Move
from tests.unit._helpers.healthy import CLOUD, NEW, OLD

PASSED, SKIPPED, WARNED, FAILED = Outcome
# A Saturday; the window opens at 01:00 UTC for four hours.
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPEN = datetime(2026, 11, 22, 2, 30, tzinfo=UTC)
WINDOWS = Windows.model_validate({"openings": [{"cron": "0 1 * * 0", "minutes": 240, "timezone": "UTC"}]})
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("now", "needed", "ignored", "outcome", "words"),
    [
        (OPEN, HOUR, False, PASSED, "one is open for another 2 h 30 min, 1 h are needed"),
        (OPEN, 3 * HOUR, False, PASSED, "the next one opens at 2026-11-29 01:00 UTC for 4 h"),
        (NOON, HOUR, False, PASSED, "the next one opens at 2026-11-22 01:00 UTC for 4 h, 1 h are needed"),
        (NOON, HOUR, True, WARNED, "expected one, but ignore_windows asks not to wait"),
        (NOON, 5 * HOUR, False, FAILED, "the longest one to come is open for 4 h, 5 h are needed: lengthen"),
    ],
)
def test_a_window_has_room_now_or_later(
    now: datetime, needed: timedelta, ignored: bool, outcome: Outcome, words: str
) -> None:
    found = window("window", WINDOWS, needed, now, ignored=ignored)
    assert found.outcome is outcome
    assert words in found.finding


def test_a_cloud_without_windows_waits_for_none() -> None:
    assert window("window", None, HOUR, NOON, ignored=False).outcome is PASSED


def test_one_run_works_on_a_cloud_at_a_time() -> None:
    assert alone("alone", []).outcome is PASSED
    other = alone("alone", ["heat_cold_upgrade__lab"])
    assert other.outcome is FAILED
    assert other.finding.startswith("heat_cold_upgrade__lab has a run in progress")


@pytest.mark.parametrize(
    ("going_back", "cold", "finding"),
    [
        (False, False, "upgrade from 25.0.2 to 26.0.2 on a, b"),
        (False, True, "cold upgrade from 25.0.2 to 26.0.2 on a, b"),
        (True, False, "GOING BACK from 26.0.2 to 25.0.2 on a, b"),
    ],
)
def test_the_move_is_named(going_back: bool, cold: bool, finding: str) -> None:
    releases = (CLOUD.release(OLD), CLOUD.release(NEW))
    source, target = reversed(releases) if going_back else releases
    found = move("move", Move(source, target, going_back), hosts=("a", "b"), cold=cold)
    assert (found.outcome, found.finding) == (PASSED, finding)
