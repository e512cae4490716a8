"""A host's APIs: out of the rotation, from one release to the next, back into the rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException

from heat_upgrade import hosts, steps
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.operators.base import CloudOperator, HostOperator, Plan

if TYPE_CHECKING:
    from heat_upgrade.cloud import Cloud, Host
    from heat_upgrade.remote import Step


class MaySwitchOperator(CloudOperator):
    """The gate before users are touched: an engine of the target listens, to which the APIs can move."""

    def upgrade(self, plan: Plan) -> None:
        """Refuse to go on where calls to a new API would find no engine."""
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        vhost = self.cloud.release(plan.target).vhost
        listening = RabbitMQManagementHook(self.cloud.connections.rabbitmq).consumers(vhost)
        if not listening.get("engine"):
            raise UpgradeError(
                f"vhost {vhost} has no engine, expected at least one before an API moves there (its calls would time "
                "out): add a host with an engine to this run's hosts"
            )
        self.log.info("%d engine processes of %s listen on vhost %s", listening["engine"], plan.target, vhost)


class LeaveRotationOperator(HostOperator):
    """Take a host's APIs out of the load balancer's rotation, unless they are on the target already."""

    def upgrade(self, plan: Plan) -> None:
        """Look at the host, then run the step for each API."""
        state = hosts.states_of(self.cloud, [self.host])[self.host.name]
        target = self.target(plan)
        for role in self.host.api_roles:
            if state.releases(role) == {plan.target}:
                self.log.info("%s: heat-%s is on %s already", self.host.name, role, plan.target)
                continue
            hosts.rotation_hook(target, role).run_step(steps.leave_rotation(target, role))


class SwitchApiOperator(HostOperator):
    """Stop the source's APIs on a host, start the target's and see them answer with the target's release."""

    def upgrade(self, plan: Plan) -> None:
        """Run the step and ask the API, past the load balancer, which release answers."""
        hosts.hook_for(self.cloud, self.host).run_step(self.step(plan))
        if "api" in self.host.api_roles:
            check_release(self.cloud, self.host, plan)

    def step(self, plan: Plan) -> Step:
        """Return the step that brings the target's APIs."""
        return steps.switch_api(self.source(plan), self.target(plan))


class StopApiOperator(HostOperator):
    """Stop the source's APIs on a host; the target's, where they run already, stay."""

    def upgrade(self, plan: Plan) -> None:
        """Run the step."""
        hosts.hook_for(self.cloud, self.host).run_step(steps.stop_api(self.source(plan)))


class StartApiOperator(SwitchApiOperator):
    """Start the target's APIs on a host and see them answer with the target's release."""

    def step(self, plan: Plan) -> Step:
        """Return the step that starts the target's APIs, where the source's have stopped before."""
        return steps.start_api(self.target(plan))


class RejoinRotationOperator(HostOperator):
    """Put a host's APIs back into the rotation and see them accepted."""

    def upgrade(self, plan: Plan) -> None:
        """Run the step for each API."""
        target = self.target(plan)
        for role in self.host.api_roles:
            hosts.rotation_hook(target, role).run_step(steps.rejoin_rotation(target, role))


def check_release(cloud: Cloud, host: Host, plan: Plan) -> None:
    """
    Ask a host's heat-api, past the load balancer, which release it is and which release's engine answers it.

    :param cloud: the cloud
    :param host: one of its hosts with a heat-api
    :param plan: the run's plan
    :raises UpgradeError: when another release than the plan's target answers, or the login is refused
    :raises MayPass: when nothing answers
    """
    from heat_upgrade.hooks.heat_api import HeatApiHook

    target = cloud.deployment(host, cloud.release(plan.target))
    listen, hook = target.listen("api"), hosts.hook_for(cloud, host)
    with hook.local_url(listen.address, listen.port) as url:
        try:
            found = HeatApiHook(cloud.connections.api).build_info(url)
        except AirflowException as error:
            raise type(error)(f"{host.name}: {error}") from error
    # A release that somebody else configured may not tell its name; the upgrade's own configuration always does.
    nameless = plan.going_back and found == ("unknown", "unknown")
    if found != (plan.target, plan.target) and not nameless:
        raise UpgradeError(
            f"{host.name}: build_info names API {found.api} and engine {found.engine}, expected {plan.target} for "
            f"both: check [revision] heat_revision and transport_url in {target.config}, then clear this task"
        )
    hook.log.info("%s: API and engine answer with %s", host.name, found.api)
