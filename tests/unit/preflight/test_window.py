"""What preflight says of maintenance windows, at fixed moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from heat_upgrade.cloud.sections import Windows
from heat_upgrade.preflight.check import Outcome
from heat_upgrade.preflight.window import window

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
