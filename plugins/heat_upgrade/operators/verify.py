"""The guide's last step: double check the database and the services, as users see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException

from heat_upgrade import hosts
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.operators.base import UpgradeTask
from heat_upgrade.readings import WORK_TOPICS
from heat_upgrade.run.dry_run import PlannedAction
from heat_upgrade.stranded.rule import STRANDED_AFTER, TAKE_UP, find_stranded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from heat_upgrade.clients import Clients
    from heat_upgrade.cloud.model import Deployment
    from heat_upgrade.hosts import HostState
    from heat_upgrade.run.plan import Plan


class VerifyCloudOperator(UpgradeTask):
    """See every service on the target, every engine listening, no stack stranded, and a new stack complete."""

    def run(self, plan: Plan, context: Context) -> list[dict[str, str]]:
        """Check all of it and name everything that isn't as it should be; return what was found, for the report."""
        states = hosts.states_of(self.cloud, self.cloud.hosts)
        problems = [
            *self._services(plan, states),
            *self._engines(plan, states),
            *self._left_behind(plan),
            *self._stranded(plan),
        ]
        if problems:
            raise UpgradeError("the cloud isn't as it should be after the upgrade:\n" + "\n".join(problems))
        for host in self.cloud.hosts_with("api"):
            front = self.cloud.deployment(host, self.cloud.release(plan.target))
            check_release(self.clients, front, plan.target, nameless=plan.going_back)
        name = self.clients.api.run_smoke_stack()
        self._name_cut_off(plan)
        self.log.info("%s: every service on %s; the smoke stack %s was complete", self.cloud.name, plan.target, name)
        return [
            {"name": check, "found": found}
            for check, found in (
                ("services", f"each one of {', '.join(states)} runs on {plan.target} alone"),
                ("engines", f"each host's engine listens on vhost {self.cloud.release(plan.target).vhost}"),
                ("old vhost", "no engine's work is left there, but for what was cut off"),
                ("stranded stacks", "none, but for those from before the run and those that were cut off"),
                ("APIs", f"each answers as {plan.target}, and so does an engine behind it"),
                ("smoke stack", f"{name} was created and deleted through the load balancer"),
            )
        ]

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Look at what would be checked, and say how it is now."""
        states = hosts.states_of(self.cloud, self.cloud.hosts)
        running = sorted(set[str]().union(*(state.running for state in states.values())))
        return PlannedAction(
            f"see every service on {plan.target} alone (now {', '.join(running)}), every engine listening, no work "
            "left and no stack stranded; then create and delete a stack of one small resource through the API"
        )

    def _services(self, plan: Plan, states: dict[str, HostState]) -> Iterator[str]:
        for name, state in states.items():
            for role in state.host.roles:
                if (found := state.releases(role)) != {plan.target}:
                    yield (
                        f"{name}: heat-{role} runs on {', '.join(sorted(found)) or 'no release'}, expected "
                        f"{plan.target} alone: see the service's log on the host, then clear this task"
                    )

    def _engines(self, plan: Plan, states: dict[str, HostState]) -> Iterator[str]:
        vhost = self.cloud.release(plan.target).vhost
        consumers = self.clients.rabbitmq.consumers(vhost)
        for host in self.cloud.hosts_with("engine"):
            queue = f"engine.{states[host.name].heat_host}"
            if not consumers.get(queue):
                yield (
                    f"{host.name}: queue {queue} in vhost {vhost} has no consumer, expected the host's engine: "
                    "see the engine's log for its connection to RabbitMQ, then clear this task"
                )

    def _left_behind(self, plan: Plan) -> Iterator[str]:
        rabbitmq = self.clients.rabbitmq
        vhost = self.cloud.release(plan.source).vhost
        for queue in rabbitmq.queues(vhost) if rabbitmq.vhost_exists(vhost) else []:
            if queue.name in WORK_TOPICS and queue.messages:
                if plan.retired or plan.cut_off is not None:
                    self.log.warning("%s in the old vhost %s is cut off: nobody reads it any more", queue, vhost)
                    continue
                yield (
                    f"{queue} is left in the old vhost {vhost}, expected no message: start an old engine again, "
                    "let it work them off, then clear wait_until_drained"
                )

    def _stranded(self, plan: Plan) -> Iterator[str]:
        for stack in find_stranded(self.clients.read_work(), STRANDED_AFTER):
            ids = set(stack.ids)
            if not (ids & set(plan.cut_off or ()) or ids <= set(plan.stranded)):
                yield (
                    f"{stack} is stranded: nobody works on it and it isn't done, expected none: {TAKE_UP}; then clear "
                    "this task"
                )

    def _name_cut_off(self, plan: Plan) -> None:
        if not plan.cut_off:
            return
        found = self.clients.database.stacks_in_progress()
        if left := [str(stack) for stack in found if stack.id in plan.cut_off or stack.owner_id in plan.cut_off]:
            self.log.warning(
                "Cut off, as was confirmed, and in progress with nobody working on it:\n%s\n"
                "For each: %s. Or run heat_stranded_stacks__%s",
                "\n".join(left),
                TAKE_UP,
                self.cloud.name,
            )


def check_release(clients: Clients, front: Deployment, expected: str, *, nameless: bool) -> None:
    """
    Ask a host's heat-api, past the load balancer, which release answers, and which release's engine behind it.

    :param clients: what connects to the cloud
    :param front: the release in front on a host with a heat-api
    :param expected: the release that has to answer
    :param nameless: whether it may have been configured by somebody who hasn't given it its name
    :raises UpgradeError: when another release answers, or the login is refused
    :raises TransientError: when nothing answers
    """
    listen, hook, name = front.listen("api"), clients.host(front.host), front.host.name
    with hook.local_url(listen.address, listen.port) as url:
        try:
            found = clients.api.past_the_balancer(url).build_info()
        except AirflowException as error:
            raise type(error)(f"{name}: {error}") from error
    if found != (expected, expected) and not (nameless and found == ("unknown", "unknown")):
        raise UpgradeError(
            f"{name}: build_info names API {found.api} and engine {found.engine}, expected {expected} for "
            f"both: check [revision] heat_revision and transport_url in {front.config}, then clear this task"
        )
    hook.log.info("%s: API and engine answer with %s", name, found.api)
