"""A host's engines: the new one started beside the old one, the old one stopped after the drain."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from heat_upgrade import hosts
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.operators.base import HostOperator, begin
from heat_upgrade.operators.job import JobOperator
from heat_upgrade.readings import WORK_TOPICS
from heat_upgrade.remote import steps
from heat_upgrade.run.dry_run import Command, Intent

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.remote.step import Step
    from heat_upgrade.run.plan import Plan

LISTENING_TIMEOUT = 120
# Looks at RabbitMQ between two looks at the host, which cost more.
LOOKS = 10


class StartEngineOperator(HostOperator):
    """Start the target's engine beside the source's and see it listen on the target's vhost."""

    def upgrade(self, plan: Plan) -> None:
        """Run the step and wait for the engine's queue to have a consumer."""
        target = self.target(plan)
        hook = hosts.hook_for(self.cloud, self.host)
        started = hook.run_step(steps.start_engine(target))
        still_there = steps.check_engine(target, started["pid"])
        self._wait_until_listening(started["heat_host"], target.vhost, lambda: hook.run_step(still_there))

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Look whether the engine runs already."""
        target = self.target(plan)
        state = hosts.states_of(self.cloud, [self.host])[self.host.name]
        runs = plan.target in state.releases("engine")
        what = f"leave {target.unit('engine')} running" if runs else f"start {target.unit('engine')}"
        command = Command.of(self.host.name, steps.start_engine(target))
        return Intent(f"{what}, and see it listen on vhost {target.vhost}", (command,))

    def _wait_until_listening(self, heat_host: str, vhost: str, check: Callable[[], object]) -> None:
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        rabbitmq = RabbitMQManagementHook(self.cloud.connections.rabbitmq)
        queue = f"engine.{heat_host}"
        deadline = time.monotonic() + LISTENING_TIMEOUT
        for look in count(1):
            if rabbitmq.consumers(vhost).get(queue):
                break
            if time.monotonic() > deadline:
                raise UpgradeError(
                    f"{self.host.name}: the new engine runs, but queue {queue} in vhost {vhost} has no consumer after "
                    f"{LISTENING_TIMEOUT} s: see the engine's log for its connection to RabbitMQ, then clear this task"
                )
            if look % LOOKS == 0:
                check()
            time.sleep(0.5)
        self.log.info("%s: the new engine listens on %s in vhost %s", self.host.name, queue, vhost)


class RetireEngineOperator(JobOperator, HostOperator):
    """Stop the source's engine; runs for every host of the cloud, since the last run retires them all."""

    def execute(self, context: Context) -> None:
        """Stop the engine, whichever hosts the run was for."""
        self.perform(begin(context, self.cloud), context)

    def does(self, plan: Plan) -> str:
        """Say which engine would stop."""
        return f"stop {self.source(plan).unit('engine')}, which may finish what it has begun, unless it has stopped"

    def work(self, plan: Plan) -> tuple[Host, Step]:
        """Return the step; an engine that has ended, or is about to, is left at that."""
        return self.host, steps.stop_engine(self.source(plan), outage=plan.cold)

    def finish(self, plan: Plan, results: dict[str, str]) -> None:
        """See that no message was left for nobody."""
        if plan.cut_off is None:
            self._refuse_leftovers(self.source(plan).vhost)

    def _refuse_leftovers(self, vhost: str) -> None:
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        rabbitmq = RabbitMQManagementHook(self.cloud.connections.rabbitmq)
        if not rabbitmq.vhost_exists(vhost):
            return
        shared = [queue for queue in rabbitmq.queues(vhost) if queue.name in WORK_TOPICS]
        if left := [str(queue) for queue in shared if queue.messages and not queue.consumers]:
            raise UpgradeError(
                f"{self.host.name}: the old engine has ended and left messages in vhost {vhost} ({', '.join(left)}), "
                "expected none: start an old engine again, let it work them off, clear wait_until_drained"
            )
