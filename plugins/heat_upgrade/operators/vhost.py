"""The RabbitMQ vhost of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.operators.base import CloudOperator

if TYPE_CHECKING:
    from heat_upgrade.operators.base import Plan


class CreateVhostOperator(CloudOperator):
    """Give the target a vhost with the source's permissions, policies and default queue type."""

    def upgrade(self, plan: Plan) -> None:
        """Create what is missing."""
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        rabbitmq = RabbitMQManagementHook(self.cloud.connections.rabbitmq)
        source, target = self.cloud.release(plan.source).vhost, self.cloud.release(plan.target).vhost
        if not rabbitmq.vhost_exists(source) and rabbitmq.vhost_exists(target):
            self.log.info("Vhost %s is gone since an earlier run; %s is there", source, target)
            return
        for change in rabbitmq.create_vhost_like(source, target):
            self.log.info("%s", change)


class DeleteVhostOperator(CloudOperator):
    """Delete the source's vhost, where the run asks for it and nobody is connected to it."""

    def upgrade(self, plan: Plan) -> None:
        """Delete the vhost and see it gone."""
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        if not plan.delete_old_vhost:
            raise AirflowSkipException("delete_old_vhost is off: the old vhost stays")
        rabbitmq = RabbitMQManagementHook(self.cloud.connections.rabbitmq)
        vhost = self.cloud.release(plan.source).vhost
        if not rabbitmq.vhost_exists(vhost):
            self.log.info("Vhost %s is gone already", vhost)
            return
        if connected := rabbitmq.connections(vhost):
            raise UpgradeError(
                f"vhost {vhost} has {len(connected)} connections, expected none: "
                "stop what uses it (RabbitMQ's management page lists it), then clear this task"
            )
        rabbitmq.delete_vhost(vhost)
