"""Whether users may be touched now, or when: judged by the windows of the cloud file and by the clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from heat_upgrade.formatting import duration
from heat_upgrade.preflight.check import Check, failed, passed, warned

if TYPE_CHECKING:
    from heat_upgrade.cloud.sections import Windows


def window(name: str, windows: Windows | None, needed: timedelta, now: datetime, *, ignored: bool) -> Check:
    """
    Check that a maintenance window has room for what users notice; a run waits for one by itself.

    :param name: what is checked
    :param windows: the cloud's windows, None if it has none
    :param needed: how long one has to stay open
    :param now: the moment
    :param ignored: whether the run doesn't wait for one
    """
    if windows is None:
        return passed(name, "the cloud file has none, so a run waits for none")
    calendar = windows.calendar
    room = calendar.room(now)
    told = f"{duration(needed)} are needed"
    if room >= needed:
        return passed(name, f"one is open for another {duration(room)}, {told}")
    if ignored:
        return warned(name, f"none is open for long enough, {told}; expected one, but ignore_windows asks not to wait")
    if period := calendar.next_with_room(now, needed):
        opens = f"{period.start:%Y-%m-%d %H:%M} UTC for {duration(period.length)}"
        return passed(name, f"the next one opens at {opens}, {told}; the run waits for it before users are touched")
    return failed(
        name,
        f"the longest one to come is open for {duration(calendar.longest(now))}, {told}: lengthen a window in the "
        "cloud file, move more hosts at once (`waves`), or trigger the run with ignore_windows",
    )
