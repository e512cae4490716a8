"""Maintenance windows as the schedule of a DAG."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from heat_upgrade.cloud.sections import Windows

# A DAG that has never run is asked for its first run again and again: the scheduler has so long to start it.
GRACE = timedelta(minutes=2)


class WindowsTimetable(Timetable):
    """
    Start a run whenever a maintenance window opens.

    Airflow's own cron timetables know one time zone and no blackout.

    :param windows: the windows of the cloud file
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self.description = "When a maintenance window opens: " + "; ".join(map(str, windows.openings))

    @property
    def summary(self) -> str:
        """Return what the UI shows in a narrow column."""
        return ", ".join(opening.cron for opening in self._windows.openings)

    def serialize(self) -> dict[str, Any]:
        """Return what recreates this timetable in the scheduler, which reads no cloud file."""
        return {"windows": self._windows.model_dump(mode="json")}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> WindowsTimetable:
        """Return the timetable that was stored with a DAG."""
        return cls(Windows.model_validate(data["windows"]))

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """Return the moment of a manual run."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """
        Return when the next run starts.

        An opening that was missed is made up for as long as windows are open, and forgotten after that.

        :param last_automated_data_interval: the moment of the last scheduled run, if there was one
        :param restriction: of the DAG; past openings are never caught up with
        """
        now = _now()
        since = last_automated_data_interval.end if last_automated_data_interval else now - GRACE
        if restriction.earliest:
            since = max(since, restriction.earliest - timedelta.resolution)
        moment = self._missed(since, now) or self._windows.calendar.next_opening(max(since, now))
        if moment is None or (restriction.latest and moment > restriction.latest):
            return None
        return DagRunInfo.exact(pendulum.instance(moment))

    def _missed(self, since: datetime, now: datetime) -> datetime | None:
        calendar = self._windows.calendar
        # None of those before this period counts: their window has closed since.
        period = calendar.open_at(now)
        missed = list(calendar.openings(max(since, period.start - timedelta.resolution), now)) if period else []
        return missed[-1] if missed else None


def _now() -> datetime:
    return datetime.now(UTC)
