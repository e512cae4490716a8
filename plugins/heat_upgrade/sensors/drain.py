"""The gate in front of every old engine's shutdown."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from heat_upgrade import hosts
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.operators.base import Plan
from heat_upgrade.triggers.drain import DRAINED, PATIENCE, TIMED_OUT, OldEnginesDrainedTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud import Cloud
    from heat_upgrade.hosts import HostState


class OldEnginesDrainedSensor(BaseSensorOperator):
    """
    Wait, in the triggerer, until the old engines have nothing left to do; skip while other hosts are still to move.

    :param cloud: the cloud; its ``drain`` says how often to read, how many clean readings in a row are needed, and how
        long to wait
    """

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(poke_interval=cloud.drain.interval, timeout=cloud.drain.timeout, **kwargs)
        self.cloud = cloud

    def execute(self, context: Context) -> None:
        """See that no old API runs anywhere, then wait."""
        plan = Plan.of(context)
        self._check_moved(plan, hosts.states_of(self.cloud, self.cloud.hosts))
        self.defer(
            trigger=self.trigger(plan),
            method_name="execute_complete",
            # The trigger ends the wait by itself, as only it can name what is in the way. This is a net.
            timeout=timedelta(seconds=self.timeout + self.poke_interval + 2 * PATIENCE),
        )

    def trigger(self, plan: Plan) -> OldEnginesDrainedTrigger:
        """Return what waits for a plan's old engines, from now on."""
        return OldEnginesDrainedTrigger(
            old_vhost=self.cloud.release(plan.source).vhost,
            new_vhost=self.cloud.release(plan.target).vhost,
            rabbitmq_conn_id=self.cloud.connections.rabbitmq,
            database_conn_id=self.cloud.connections.database,
            interval=self.poke_interval,
            readings=self.cloud.drain.readings,
            timeout=self.timeout,
            deadline=time.time() + self.timeout,
            stranded_stacks=list(plan.stranded),
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Log the last reading once more, as the triggerer's log may be out of reach, and pass or fail."""
        self.log.info("The last reading\n%s", event["table"])
        if event["status"] == TIMED_OUT:
            raise AirflowSensorTimeout(event["message"])
        if event["status"] != DRAINED:
            raise AirflowFailException(event["message"])
        self.log.info(event["message"])

    def _check_moved(self, plan: Plan, states: dict[str, HostState]) -> None:
        left = [name for name, state in states.items() if not state.moved(plan.target)]
        if ours := [name for name in left if name in plan.hosts]:
            raise UpgradeError(
                f"{', '.join(ours)}: not every service of {plan.target} runs, or an API of {plan.source} still does, "
                "expected each API on the new release alone: clear these hosts' switch_api"
            )
        if left:
            raise AirflowSkipException(
                f"{', '.join(left)} are still on {plan.source}, so its engines stay: trigger a run over these hosts to "
                "finish the upgrade. Until then the two sides can take each other's engines for dead and do a "
                "stack's work twice, so don't leave it at that for long"
            )
