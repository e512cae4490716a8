"""A host's engines: the new one started beside the old one, the old one stopped after the drain."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.operators.steps import HostOperator, Results, StepsOperator
from heat_upgrade.readings import WORK_TOPICS
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import PlacedStep

if TYPE_CHECKING:
    from heat_upgrade.clients import Clients
    from heat_upgrade.run.plan import Plan

LISTENING_TIMEOUT = 120
# Requests to RabbitMQ between two checks of the host, which cost more.
CHECK_EVERY = 10


class StartEngineOperator(HostOperator):
    """Start the target's engine beside the source's and see it listen on the target's vhost."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Start the engine; one that runs is left running."""
        return self.here(steps.start_engine(self.target(plan)))

    def summary(self, plan: Plan) -> str:
        """Name the service and the vhost."""
        target = self.target(plan)
        return f"start {target.unit('engine')}, unless it runs, and see it listen on vhost {target.vhost}"

    def verify(self, plan: Plan, results: Results) -> None:
        """Wait for the engine's queue to have a consumer."""
        (started,) = results
        target, hook = self.target(plan), self.clients.host(self.host)
        still_there = steps.check_engine(target, started["pid"])
        self._wait_until_listening(started["heat_host"], target.vhost, lambda: hook.run_step(still_there))

    def _wait_until_listening(self, heat_host: str, vhost: str, check: Callable[[], object]) -> None:
        queue = f"engine.{heat_host}"
        deadline = time.monotonic() + LISTENING_TIMEOUT
        for attempt in count(1):
            if self.clients.rabbitmq.consumers(vhost).get(queue):
                break
            if time.monotonic() > deadline:
                raise UpgradeError(
                    f"{self.host.name}: the new engine runs, but queue {queue} in vhost {vhost} has no consumer after "
                    f"{LISTENING_TIMEOUT} s: see the engine's log for its connection to RabbitMQ, then clear this task"
                )
            if attempt % CHECK_EVERY == 0:
                check()
            time.sleep(0.5)
        self.log.info("%s: the new engine listens on %s in vhost %s", self.host.name, queue, vhost)


class RetireEngineOperator(HostOperator):
    """Stop the source's engine; runs for every host of the cloud, since the last run retires them all."""

    def left_out(self, plan: Plan) -> str:
        """Leave out no host, whichever the run was for."""
        return ""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Stop the engine; one that has ended, or is about to, is left at that."""
        return self.here(steps.stop_engine(self.source(plan), outage=plan.cold))

    def summary(self, plan: Plan) -> str:
        """Name the service."""
        return f"stop {self.source(plan).unit('engine')}, which may finish what it has begun, unless it has stopped"

    def verify(self, plan: Plan, results: Results) -> None:
        """See that no message was left behind."""
        if plan.cut_off is None:
            refuse_leftovers(self.clients, self.source(plan).vhost)


class RetireEnginesOperator(StepsOperator):
    """Stop the source's engines on all hosts of the cloud at once, since the last run retires them all."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Stop each; one that has ended, or is about to, is left at that."""
        source = self.cloud.release(plan.source)
        return [
            PlacedStep(self.clients.machine(host), steps.stop_engine(self.cloud.deployment(host, source)))
            for host in self.cloud.hosts_with("engine")
        ]

    def summary(self, plan: Plan) -> str:
        """Name the release."""
        return f"stop the engines of {plan.source}, which may finish what they have begun, unless they have stopped"

    def verify(self, plan: Plan, results: Results) -> None:
        """See that no message was left for nobody."""
        refuse_leftovers(self.clients, self.cloud.release(plan.source).vhost)


def refuse_leftovers(clients: Clients, vhost: str) -> None:
    """
    Refuse messages that old engines have left for nobody.

    :param clients: what connects to the cloud
    :param vhost: the old engines'
    :raises UpgradeError: when there are some
    """
    if not clients.rabbitmq.vhost_exists(vhost):
        return
    shared = [queue for queue in clients.rabbitmq.queues(vhost) if queue.name in WORK_TOPICS]
    if found := [str(queue) for queue in shared if queue.messages and not queue.consumers]:
        raise UpgradeError(
            f"the old engines have ended and left messages in vhost {vhost} ({', '.join(found)}), expected none: start "
            "an old engine again, let it work them off, clear wait_until_drained"
        )
