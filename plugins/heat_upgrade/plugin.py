"""What Airflow loads: the schedule of the upgrade's DAGs, and the tab of a run with its report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from heat_upgrade.timetables.windows import WindowsTimetable

Message = MutableMapping[str, Any]


async def reports(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Serve the reports. Imported with the first request: every component loads this file, only one serves."""
    from heat_upgrade.report.server import app

    await app(scope, receive, send)


_TAB = {
    "name": "Upgrade report",
    "href": "heat-upgrade/report?dag_id={DAG_ID}&run_id={RUN_ID}",
    "destination": "dag_run",
    "url_route": "upgrade-report",
}


class HeatUpgradePlugin(AirflowPlugin):
    """Register the schedule of the upgrade's DAGs, and the tab of a run with its report."""

    name = "heat_upgrade"
    # Airflow declares them without ClassVar.
    timetables: list[Any] = [WindowsTimetable]  # noqa: RUF012
    fastapi_apps: list[Any] = [{"app": reports, "url_prefix": "/heat-upgrade", "name": "Heat upgrade"}]  # noqa: RUF012
    external_views: list[Any] = [_TAB]  # noqa: RUF012
