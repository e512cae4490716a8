"""What connects to a cloud's hosts and servers: the one place that makes hooks of a cloud's connections."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from heat_upgrade.cloud.sections import Commands, HAProxy
from heat_upgrade.remote.step import Machine

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Cloud, Deployment
    from heat_upgrade.cloud.sections import Host, Role
    from heat_upgrade.hooks.heat_api import HeatApiHook
    from heat_upgrade.hooks.heat_database import HeatDatabaseHook
    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
    from heat_upgrade.hooks.vhosts import VhostHook
    from heat_upgrade.readings import Work


class Clients:
    """
    Make a cloud's hooks, each with its first use.

    Their modules are imported then, too: DAG files are parsed every few seconds, and need neither SSH nor HTTP.

    :param cloud: the cloud
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @cached_property
    def rabbitmq(self) -> HeatRabbitMQHook:
        """Return the hook of RabbitMQ's management API."""
        from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook

        return HeatRabbitMQHook(self._cloud.connections.rabbitmq)

    @cached_property
    def vhosts(self) -> VhostHook:
        """Return the hook that makes and deletes vhosts, through RabbitMQ's management API too."""
        from heat_upgrade.hooks.vhosts import VhostHook

        return VhostHook(self._cloud.connections.rabbitmq)

    @cached_property
    def database(self) -> HeatDatabaseHook:
        """Return the hook of Heat's database."""
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        return HeatDatabaseHook(self._cloud.connections.database)

    @cached_property
    def api(self) -> HeatApiHook:
        """Return the hook of Heat's API, in the connection's own project."""
        from heat_upgrade.hooks.heat_api import HeatApiHook

        return HeatApiHook(self._cloud.connections.api)

    def api_of_project(self, project: str) -> HeatApiHook:
        """
        Return the hook of Heat's API in any project.

        :param project: the project's id
        """
        from heat_upgrade.hooks.heat_api import HeatApiHook

        return HeatApiHook(self._cloud.connections.api, project)

    def read_work(self) -> Work:
        """Read what there is to work on, and which engines are alive on the vhosts of the cloud's releases."""
        from heat_upgrade.hooks.work import read_work

        return read_work(self.rabbitmq, self.database, [release.vhost for release in self._cloud.releases])

    def host(self, host: Host) -> HeatHostHook:
        """
        Return the SSH hook of a host.

        :param host: one of the cloud's hosts
        """
        return self.connect(self.machine(host))

    def balancer(self, deployment: Deployment, role: Role) -> HeatHostHook:
        """
        Return the SSH hook of the machine on which an API leaves and rejoins the load balancer's rotation.

        :param deployment: a release on the API's host
        :param role: the API
        """
        return self.connect(self.balancer_machine(deployment, role))

    def connect(self, machine: Machine) -> HeatHostHook:
        """
        Return the SSH hook of a machine.

        :param machine: a host of the cloud, or a load balancer
        """
        from heat_upgrade.hooks.host import HeatHostHook

        return HeatHostHook(**asdict(machine))

    def machine(self, host: Host) -> Machine:
        """
        Return where SSH reaches a host.

        :param host: one of the cloud's hosts
        """
        return Machine(host.name, self._cloud.connections.ssh, host.address, host.port, host.host_key)

    def balancer_machine(self, deployment: Deployment, role: Role) -> Machine:
        """
        Return where an API leaves and rejoins the load balancer's rotation.

        :param deployment: a release on the API's host
        :param role: the API
        """
        rotation = deployment.rotation(role)
        if not isinstance(rotation, HAProxy | Commands) or not rotation.address:
            return self.machine(deployment.host)
        name = f"{deployment.host.name}'s load balancer {rotation.address}"
        return Machine(name, self._cloud.connections.ssh, rotation.address, rotation.port, rotation.host_key)
