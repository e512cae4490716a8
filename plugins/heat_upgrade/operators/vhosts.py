"""The RabbitMQ vhost of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade.clients import Clients
from heat_upgrade.operators.base import CloudOperator
from heat_upgrade.run.dry_run import Command, Intent

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.run.plan import Plan


class CreateVhostOperator(CloudOperator):
    """Give the target a vhost with the source's permissions, policies and default queue type."""

    def upgrade(self, plan: Plan) -> None:
        """Create what is missing."""
        source, target = self.cloud.release(plan.source).vhost, self.cloud.release(plan.target).vhost
        if not Clients(self.cloud).vhosts.create_like(source, target):
            self.log.info("Vhost %s has all that it needs", target)

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Ask what is missing."""
        source, target = self.cloud.release(plan.source).vhost, self.cloud.release(plan.target).vhost
        changes = Clients(self.cloud).vhosts.changes(source, target)
        if not changes:
            return Intent(f"nothing: vhost {target} has all that it needs")
        return Intent(
            f"give vhost {target} what {source} has: {', '.join(change.text for change in changes)}",
            tuple(Command("RabbitMQ", change.request) for change in changes),
        )


class DeleteVhostOperator(CloudOperator):
    """Delete the source's vhost, where the run asks for it and nobody is connected to it."""

    def upgrade(self, plan: Plan) -> None:
        """Delete the vhost and see it gone."""
        if not plan.delete_old_vhost:
            raise AirflowSkipException("delete_old_vhost is off: the old vhost stays")
        vhosts = Clients(self.cloud).vhosts
        vhost = self.cloud.release(plan.source).vhost
        gone = vhosts.delete(vhost)
        self.log.info("Vhost %s %s", vhost, "is deleted" if gone else "was gone already")

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Ask whether there is a vhost to delete."""
        vhosts = Clients(self.cloud).vhosts
        vhost = self.cloud.release(plan.source).vhost
        if not plan.delete_old_vhost:
            return Intent(f"nothing: delete_old_vhost is off, so vhost {vhost} stays")
        if not vhosts.vhost_exists(vhost):
            return Intent(f"nothing: vhost {vhost} is gone already")
        command = Command("RabbitMQ", vhosts.deletion(vhost).request)
        return Intent(f"delete vhost {vhost}, with its queues, once nobody is connected to it", (command,))
