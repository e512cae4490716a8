"""What every upgrade under traffic has to keep at its particular moments, wherever its hosts run."""

from __future__ import annotations

from lab.traffic import Account, judge_moments, moments_table, table, verdict
from lab.traffic.moments import Moments


def assert_unnoticed(traffic: Account, control: Account, moments: Moments) -> None:
    """See that the run flipped, drained and closed in this order, and that no user felt it; other labs are at work."""
    assert moments.flip
    assert moments.gate
    assert moments.close
    assert moments.flip.end <= moments.gate <= moments.close.begin
    assert judge_moments(traffic, control, moments, alone=False) == [], moments_table(traffic, control, moments)


def assert_holds(traffic: Account, control: Account, moments: Moments) -> None:
    """See that the upgrade holds, and that nothing was made twice, whatever the control run had of it."""
    shown = f"{table(control, traffic)}\n\n{moments_table(traffic, control, moments)}"
    print(shown)
    assert verdict(traffic, control) == [], shown
    assert judge_moments(traffic, control, moments, alone=False) == [], shown
    assert traffic.requests.failed == 0, shown
    assert traffic.created_twice == traffic.stolen == [], shown
    assert traffic.stuck == traffic.unsettled == [], shown
