"""A probe of the API that the run keeps up while its users are touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade.names import VERIFY
from heat_upgrade.operators.base import CloudOperator
from heat_upgrade.report.availability import Availability
from heat_upgrade.run.plan import Plan
from heat_upgrade.triggers.api_watch import ApiWatchTrigger, WatchedApi

if TYPE_CHECKING:
    from airflow.sdk import Context


class WatchApiOperator(CloudOperator):
    """Ask the API through the load balancer once a second, in the triggerer, until the run verifies the cloud."""

    def execute(self, context: Context) -> None:
        """Find the API's address, then wait. The report can do without: nothing here fails."""
        if Plan.of(context).dry_run:
            raise AirflowSkipException("a dry run moves no API: there is nothing to watch")
        try:
            url, verify = self.clients.api.versions_url, self.clients.api.verify
        except Exception as error:
            # Not its text, which may hold a secret; preflight and verify_cloud report such trouble.
            self.log.warning("The API isn't watched in this run: no address was found (%s)", type(error).__name__)
            return
        self.log.info("Asking %s once a second until %s begins", url, VERIFY)
        self.defer(trigger=ApiWatchTrigger(WatchedApi(url, verify, until=VERIFY)), method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Log the account; the report has it from the trigger."""
        seen = Availability.of(event)
        longest = f", the longest outage took {seen.longest.seconds:.1f} s" if seen.longest else ""
        self.log.info("%d probes of %s, %d failed%s", seen.probes, seen.url, seen.failed, longest)
