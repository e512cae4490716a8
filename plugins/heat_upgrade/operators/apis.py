"""A host's APIs: out of the rotation, from one release to the next, back into the rotation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from heat_upgrade import hosts
from heat_upgrade.operators.steps import HostOperator, Results
from heat_upgrade.operators.verify import check_release
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import PlacedStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from heat_upgrade.cloud.model import Deployment
    from heat_upgrade.cloud.sections import Role
    from heat_upgrade.remote.step import Step
    from heat_upgrade.run.plan import Plan


class RotationOperator(HostOperator):
    """Steps for a host's APIs, each where it leaves and rejoins the load balancer's rotation."""

    def on_balancers(
        self, plan: Plan, roles: Iterable[Role], step: Callable[[Deployment, Role], Step]
    ) -> list[PlacedStep]:
        """
        Return a step for each API.

        :param plan: the run's plan
        :param roles: the APIs
        :param step: builds the step of one
        """
        target = self.target(plan)
        return [PlacedStep(self.clients.balancer_machine(target, role), step(target, role)) for role in roles]


class LeaveRotationOperator(RotationOperator):
    """Take a host's APIs out of the load balancer's rotation, unless they are on the target already."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Inspect the host, and leave alone the APIs that are on the target alone."""
        state = hosts.states_of(self.cloud, [self.host])[self.host.name]
        remaining = [role for role in self.host.api_roles if state.releases(role) != {plan.target}]
        for role in self.host.api_roles:
            if role not in remaining:
                self.log.info("%s: heat-%s is on %s already", self.host.name, role, plan.target)
        return self.on_balancers(plan, remaining, steps.leave_rotation)

    def summary(self, plan: Plan) -> str:
        """Say that a rotation is left once no request is."""
        return f"take {service_names(self.host.api_roles)} out of the rotation, and wait until no request is left"

    def idle(self, plan: Plan) -> str:
        """Say where the APIs are."""
        return f"its APIs are on {plan.target} already"


class StartApiOperator(HostOperator):
    """Start the target's APIs on a host and see them answer with the target's release."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Start them where the source's have stopped before."""
        return self.here(steps.start_api(self.target(plan)))

    def summary(self, plan: Plan) -> str:
        """Name the APIs and the release."""
        return (
            f"start {service_names(self.host.api_roles)} {plan.target}, unless that is so, and see the release answer"
        )

    def verify(self, plan: Plan, results: Results) -> None:
        """Ask the API, past the load balancer, which release answers."""
        if "api" in self.host.api_roles:
            check_release(self.clients, self.target(plan), plan.target, nameless=plan.going_back)


class SwitchApiOperator(StartApiOperator):
    """Put the target's APIs in front of the source's on a host, and see that users notice nothing."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Stop the ones and start the others in one step, unless users are on the target's side for good."""
        state = hosts.states_of(self.cloud, [self.host])[self.host.name]
        if state.closed(plan.target):
            return []
        return self.here(steps.switch_api(self.source(plan), self.target(plan)))

    def idle(self, plan: Plan) -> str:
        """Say where the APIs are."""
        return f"its APIs are on {plan.target} alone"

    def summary(self, plan: Plan) -> str:
        """Name both releases."""
        names = service_names(self.host.api_roles)
        return (
            f"put {names} {plan.target} in front of {names} {plan.source}, which go on serving users on ports of their "
            "own, and see them answer"
        )

    def verify(self, plan: Plan, results: Results) -> None:
        """Ask the API in front which release answers users: the one whose side its router has as the default."""
        if "api" in self.host.api_roles and results:
            default = json.loads(results[0]["state"])["default"]
            check_release(self.clients, self.target(plan), default, nameless=plan.going_back or default != plan.target)


class StopApiOperator(HostOperator):
    """Stop the source's APIs on a host; the target's, where they run already, stay."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Stop them with nothing in their place yet."""
        return self.here(steps.stop_api(self.source(plan)))

    def summary(self, plan: Plan) -> str:
        """Name the APIs and the release."""
        return f"stop {service_names(self.host.api_roles)} {plan.source}, unless they have stopped"


class RejoinRotationOperator(RotationOperator):
    """Put a host's APIs back into the rotation and see them accepted."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Put back each API; the step sees it accepted."""
        return self.on_balancers(plan, self.host.api_roles, steps.rejoin_rotation)

    def summary(self, plan: Plan) -> str:
        """Name the APIs."""
        return f"put {service_names(self.host.api_roles)} back into the rotation, and see them accepted"


def service_names(roles: Iterable[Role]) -> str:
    """Return the names of services."""
    return ", ".join(f"heat-{role}" for role in roles)
