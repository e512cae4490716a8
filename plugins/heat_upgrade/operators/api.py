"""A host's APIs: out of the rotation, from one release to the next, back into the rotation."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException

from heat_upgrade import hosts, steps
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.operators.base import HostOperator, Plan
from heat_upgrade.operators.window import SweepGateOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud import Cloud, Host, Windows
    from heat_upgrade.remote import Step

# The sweep may take so much longer than its slowest host's earlier time says: nobody rehearses a window's end.
MARGIN = 1.5


class MaySwitchOperator(SweepGateOperator):
    """The gate before users are touched: an engine of the target listens, and a window has room for the whole sweep."""

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

    def room_for(self, left: set[str], context: Context, windows: Windows) -> timedelta:
        """Judge the sweep by the slowest host of earlier runs."""
        needed, reason = time_of_sweep(self.cloud, left, windows, context)
        self.log.info(reason)
        return needed


class LeaveRotationOperator(HostOperator):
    """Take a host's APIs out of the load balancer's rotation, unless they are on the target already."""

    def upgrade(self, plan: Plan) -> float | None:
        """Look at the host, then run the step for each API; return the seconds that it took, None if it had moved."""
        began = time.monotonic()
        state = hosts.states_of(self.cloud, [self.host])[self.host.name]
        target = self.target(plan)
        for role in self.host.api_roles:
            if state.releases(role) == {plan.target}:
                self.log.info("%s: heat-%s is on %s already", self.host.name, role, plan.target)
                continue
            hosts.rotation_hook(target, role).run_step(steps.leave_rotation(target, role))
        return None if state.apis_moved(plan.target) else time.monotonic() - began


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

    def execute(self, context: Context) -> float | None:
        """Also return how long the host took, by which the next run judges its sweep; None if it had moved before."""
        began = time.monotonic()
        super().execute(context)
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


def time_of_sweep(cloud: Cloud, left: set[str], windows: Windows, context: Context) -> tuple[timedelta, str]:
    """
    Return how long a sweep takes at most, and what says so.

    :param cloud: the cloud
    :param left: names of the hosts whose APIs are still to move
    :param windows: the cloud's windows
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
