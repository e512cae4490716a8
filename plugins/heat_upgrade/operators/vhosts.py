"""The RabbitMQ vhost of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade.operators.base import UpgradeTask
from heat_upgrade.run.dry_run import PlannedAction, PlannedCommand

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.run.plan import Plan


class CreateVhostOperator(UpgradeTask):
    """Give the target a vhost with the source's permissions, policies and default queue type."""

    def run(self, plan: Plan, context: Context) -> None:
        """Create what is missing."""
        source, target = self.cloud.release(plan.source).vhost, self.cloud.release(plan.target).vhost
        if not self.clients.vhosts.create_like(source, target):
            self.log.info("Vhost %s has all that it needs", target)

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Ask what is missing."""
        source, target = self.cloud.release(plan.source).vhost, self.cloud.release(plan.target).vhost
        changes = self.clients.vhosts.changes(source, target)
        if not changes:
            return PlannedAction.nothing(f"vhost {target} has all that it needs")
        return PlannedAction(
            f"give vhost {target} what {source} has: {', '.join(change.text for change in changes)}",
            tuple(PlannedCommand("RabbitMQ", change.request) for change in changes),
        )


class DeleteVhostOperator(UpgradeTask):
    """Delete the source's vhost, where the run asks for it and nobody is connected to it."""

    def run(self, plan: Plan, context: Context) -> None:
        """Delete the vhost and see it gone."""
        if not plan.delete_old_vhost:
            raise AirflowSkipException("delete_old_vhost is off: the old vhost stays")
        vhost = self.cloud.release(plan.source).vhost
        gone = self.clients.vhosts.delete(vhost)
        self.log.info("Vhost %s %s", vhost, "is deleted" if gone else "was gone already")

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Ask whether there is a vhost to delete."""
        vhost = self.cloud.release(plan.source).vhost
        if not plan.delete_old_vhost:
            return PlannedAction.nothing(f"delete_old_vhost is off, so vhost {vhost} stays")
        if not self.clients.vhosts.vhost_exists(vhost):
            return PlannedAction.nothing(f"vhost {vhost} is gone already")
        command = PlannedCommand("RabbitMQ", self.clients.vhosts.deletion(vhost).request)
        return PlannedAction(f"delete vhost {vhost}, with its queues, once nobody is connected to it", (command,))
