"""A host's APIs: out of the rotation, from one release to the next, back into the rotation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from heat_upgrade import hosts
from heat_upgrade.names import LEAVE, SWITCH, of_host
from heat_upgrade.operators.base import HostOperator
from heat_upgrade.operators.verify import check_release
from heat_upgrade.remote import steps
from heat_upgrade.run.dry_run import Command, Intent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Deployment
    from heat_upgrade.cloud.sections import Role
    from heat_upgrade.hosts import HostState
    from heat_upgrade.remote.step import Step
    from heat_upgrade.run.plan import Plan


class LeaveRotationOperator(HostOperator):
    """Take a host's APIs out of the load balancer's rotation, unless they are on the target already."""

    def upgrade(self, plan: Plan) -> float | None:
        """Look at the host, then run the step for each API; return the seconds that it took, None if it had moved."""
        began = time.monotonic()
        state, left = self._left(plan)
        target = self.target(plan)
        for role in left:
            hosts.rotation_hook(target, role).run_step(steps.leave_rotation(target, role))
        return None if state.apis_moved(plan.target) else time.monotonic() - began

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Look at the host, and say which of its APIs would leave."""
        _, left = self._left(plan)
        if not left:
            return Intent(f"nothing: its APIs are on {plan.target} already")
        target = self.target(plan)
        commands = on_balancers(target, ((role, steps.leave_rotation(target, role)) for role in left))
        return Intent(f"take {named(left)} out of the rotation, and wait until no request is left", commands)

    def _left(self, plan: Plan) -> tuple[HostState, list[Role]]:
        """Return what the host runs, and its APIs that aren't on the target alone."""
        state = hosts.states_of(self.cloud, [self.host])[self.host.name]
        left = [role for role in self.host.api_roles if state.releases(role) != {plan.target}]
        for role in self.host.api_roles:
            if role not in left:
                self.log.info("%s: heat-%s is on %s already", self.host.name, role, plan.target)
        return state, left


class SwitchApiOperator(HostOperator):
    """Stop the source's APIs on a host, start the target's and see them answer with the target's release."""

    def upgrade(self, plan: Plan) -> float:
        """Run the step and ask the API, past the load balancer, which release answers; return the seconds it took."""
        began = time.monotonic()
        hosts.hook_for(self.cloud, self.host).run_step(self.step(plan))
        if "api" in self.host.api_roles:
            check_release(self.cloud, self.host, plan)
        return time.monotonic() - began

    def step(self, plan: Plan) -> Step:
        """Return the step that brings the target's APIs."""
        return steps.switch_api(self.source(plan), self.target(plan))

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Say which APIs would stop and start."""
        return self._intent_to(f"stop {named(self.host.api_roles)} {plan.source}, then start", plan)

    def _intent_to(self, start: str, plan: Plan) -> Intent:
        says = f"{start} {named(self.host.api_roles)} {plan.target}, unless that is so, and see the release answer"
        return Intent(says, (Command.of(self.host.name, self.step(plan)),))


class StopApiOperator(HostOperator):
    """Stop the source's APIs on a host; the target's, where they run already, stay."""

    def upgrade(self, plan: Plan) -> None:
        """Run the step."""
        hosts.hook_for(self.cloud, self.host).run_step(steps.stop_api(self.source(plan)))

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Say which APIs would stop."""
        command = Command.of(self.host.name, steps.stop_api(self.source(plan)))
        return Intent(f"stop {named(self.host.api_roles)} {plan.source}, unless they have stopped", (command,))


class StartApiOperator(SwitchApiOperator):
    """Start the target's APIs on a host and see them answer with the target's release."""

    def step(self, plan: Plan) -> Step:
        """Return the step that starts the target's APIs, where the source's have stopped before."""
        return steps.start_api(self.target(plan))

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Say which APIs would start."""
        return self._intent_to("start", plan)


class RejoinRotationOperator(HostOperator):
    """Put a host's APIs back into the rotation and see them accepted."""

    def act(self, plan: Plan, context: Context) -> float | None:
        """Also return how long the host took, by which the next run judges its sweep; None if it had moved before."""
        began = time.monotonic()
        super().act(plan, context)
        # The steps' own times: hours in which somebody mended one of them say nothing about the next sweep.
        earlier = [context["ti"].xcom_pull(task_ids=of_host(self.host.task_id, step)) for step in (LEAVE, SWITCH)]
        return None if None in earlier else sum(earlier) + time.monotonic() - began

    def upgrade(self, plan: Plan) -> None:
        """Run the step for each API."""
        target = self.target(plan)
        for role in self.host.api_roles:
            hosts.rotation_hook(target, role).run_step(steps.rejoin_rotation(target, role))

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Say which APIs would come back."""
        target, roles = self.target(plan), self.host.api_roles
        commands = on_balancers(target, ((role, steps.rejoin_rotation(target, role)) for role in roles))
        return Intent(f"put {named(roles)} back into the rotation, and see them accepted", commands)


def named(roles: Iterable[Role]) -> str:
    """Return the names of services."""
    return ", ".join(f"heat-{role}" for role in roles)


def on_balancers(target: Deployment, asked: Iterable[tuple[Role, Step]]) -> tuple[Command, ...]:
    """Return the commands of steps, each to where its API leaves and rejoins the rotation."""
    return tuple(Command.of(hosts.rotation_hook(target, role).name, step) for role, step in asked)
