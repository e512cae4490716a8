"""What Airflow has to know of this project by name."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from heat_upgrade.timetable import WindowsTimetable


class HeatUpgradePlugin(AirflowPlugin):
    """Register the schedule of the upgrade's DAGs."""

    name = "heat_upgrade"
    timetables: ClassVar[list[Any]] = [WindowsTimetable]
