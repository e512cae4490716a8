"""What Airflow has to know of this project by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from heat_upgrade.timetables.windows import WindowsTimetable

Message = MutableMapping[str, Any]


async def reports(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Serve the reports. Imported with the first request: every component loads this file, only one serves."""
    from heat_upgrade.report.server import app

    await app(scope, receive, send)


class HeatUpgradePlugin(AirflowPlugin):
    """Register the schedule of the upgrade's DAGs, and the tab of a run with its report."""

    name = "heat_upgrade"
    timetables: ClassVar[list[Any]] = [WindowsTimetable]
    fastapi_apps: ClassVar[list[Any]] = [{"app": reports, "url_prefix": "/heat-upgrade", "name": "Heat upgrade"}]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Upgrade report",
            "href": "heat-upgrade/report?dag_id={DAG_ID}&run_id={RUN_ID}",
            "destination": "dag_run",
            "url_route": "upgrade-report",
        }
    ]
