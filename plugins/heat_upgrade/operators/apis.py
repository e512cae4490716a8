"""A host's APIs: out of the rotation, from one release to the next, back into the rotation."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException

from heat_upgrade import hosts
from heat_upgrade.exceptions import MayPass, UpgradeError
from heat_upgrade.operators.base import HostOperator, Plan
from heat_upgrade.operators.gates import Need, SweepGateOperator
from heat_upgrade.remote import steps
from heat_upgrade.run.dry_run import Command, Intent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud, Deployment
    from heat_upgrade.cloud.sections import Host, Role, Windows
    from heat_upgrade.hosts import HostState
    from heat_upgrade.remote.step import Step

# The sweep may take so much longer than its slowest host's earlier time says: nobody rehearses a window's end.
MARGIN = 1.5
# Seconds that a host is taken to need where nothing says so.
USUAL_HOST = 120.0


class MaySwitchOperator(SweepGateOperator):
    """The gate before users are touched: an engine of the target listens, and a window has room for the whole sweep."""

    def upgrade(self, plan: Plan) -> None:
        """
        Refuse to go on where calls to a new API would find no engine.

        :raises MayPass: when this run has started some: after a broker's restart they need a while to come back
        :raises UpgradeError: when it has none to start
        """
        vhost, listening = self._listening(plan)
        if not listening:
            found = (
                f"vhost {vhost} has no engine, expected at least one before an API moves there (its calls would time "
                "out)"
            )
            if not any("engine" in self.cloud.host(name).roles for name in plan.hosts):
                raise UpgradeError(f"{found}: trigger a run over hosts of which one has an engine")
            raise MayPass(f"{found}: see the logs of the engines that this run has started, then clear this task")
        self.log.info("%d engine processes of %s listen on vhost %s", listening, plan.target, vhost)

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Also say how many engines of the target there are; a dry run has started none."""
        vhost, listening = self._listening(plan)
        engines = f"see an engine of {plan.target} on vhost {vhost} ({listening} listen now)"
        return Intent(f"{engines}, then {super().rehearse(plan, context).says}")

    def _listening(self, plan: Plan) -> tuple[str, int]:
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        vhost = self.cloud.release(plan.target).vhost
        rabbitmq = RabbitMQManagementHook(self.cloud.connections.rabbitmq)
        if plan.dry_run and not rabbitmq.vhost_exists(vhost):
            return vhost, 0
        return vhost, rabbitmq.consumers(vhost).get("engine", 0)

    def room_for(self, left: set[str], context: Context, windows: Windows) -> Need:
        """Judge the sweep by the slowest host of earlier runs."""
        return time_of_sweep(self.cloud, left, windows, context)


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
        earlier = [
            context["ti"].xcom_pull(task_ids=f"{self.host.task_id}.{step}") for step in ("leave_rotation", "switch_api")
        ]
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


def time_of_sweep(cloud: Cloud, left: set[str], windows: Windows | None, context: Context) -> tuple[timedelta, str]:
    """
    Return how long a sweep takes at most, and what says so.

    :param cloud: the cloud
    :param left: names of the hosts whose APIs are still to move
    :param windows: the cloud's windows, None if it has none
    :param context: of any task of the DAG: earlier runs have left there how long each host took
    """
    took = {
        host.name: context["ti"].xcom_pull(
            task_ids=f"{host.task_id}.rejoin_rotation", map_indexes=-1, include_prior_dates=True
        )
        for host in cloud.hosts
        if host.api_roles
    }
    known = {name: seconds for name, seconds in took.items() if seconds}
    slowest, source = USUAL_HOST, "a guess, as no run has measured it yet"
    if windows:
        slowest, source = windows.seconds_per_host, "the cloud file's seconds_per_host, as no run has measured it yet"
    if known:
        name = max(known, key=known.__getitem__)
        slowest, source = known[name], f"{name} when it moved last, the slowest"
    waves = sum(any(host.name in left for host in wave) for wave in cloud.api_waves())
    reason = f"{len(left)} hosts in {waves} waves are left; a host takes {slowest:.0f} s ({source})"
    return timedelta(seconds=waves * slowest * MARGIN), reason


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
