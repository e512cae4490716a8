"""The gate in front of every old engine's shutdown."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from heat_upgrade import hosts
from heat_upgrade.drain.messages import reading_table
from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.notifications import messages
from heat_upgrade.notifications.send import notifiers, pack
from heat_upgrade.operators.base import UpgradeTask
from heat_upgrade.run.approvals import ways_out
from heat_upgrade.run.dry_run import PlannedAction
from heat_upgrade.run.plan import Plan
from heat_upgrade.triggers.drain import DRAINED, TIMED_OUT, TIMEOUT, OldEnginesDrainedTrigger, OldSide

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.hosts import HostState


class OldEnginesDrainedSensor(UpgradeTask, BaseSensorOperator):
    """
    Wait, in the triggerer, until the old engines have nothing left to do.

    :param cloud: the cloud; its ``drain`` says how often to read, how many clean readings in a row are needed, and how
        long to wait
    """

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(cloud=cloud, poke_interval=cloud.drain.interval, timeout=cloud.drain.timeout, **kwargs)

    def run(self, plan: Plan, context: Context) -> None:
        """See that no old API runs anywhere, then wait."""
        states = hosts.states_of(self.cloud, self.cloud.hosts)
        self.check_apis(plan, states)
        self.defer(
            trigger=self.trigger(plan, self._warning(plan, context), self.kept(plan, states)),
            method_name="execute_complete",
            # The trigger ends the wait by itself, as only it can name what is in the way. This is a net.
            timeout=timedelta(seconds=self.timeout_of(plan) + self.poke_interval + 2 * TIMEOUT),
        )

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Take one reading, whichever APIs still run, and show whether the old engines would stop after this run."""
        watch = DrainWatch(readings=self.cloud.drain.readings, stranded=plan.stranded)
        reading = self.trigger(plan).read_now()
        verdict = watch.observe(reading)
        number = len(verdict.errors) + len(verdict.blockers)
        return PlannedAction(
            f"wait until the old engines have nothing left to do, {self.timeout_of(plan):.0f} s at most. One reading "
            f"as it is now, with the old release at work: {number or 'nothing'} in the way",
            shows=reading_table(reading, watch),
        )

    def _warning(self, plan: Plan, context: Context) -> dict[str, Any] | None:
        """Return the message for a wait that takes long, and when to send it; None where nobody is to be notified."""
        after, timeout = self.cloud.drain.warn_after, self.timeout_of(plan)
        if after >= timeout or not notifiers(self.cloud, "drain"):
            return None
        message = pack(self.cloud, "drain", context, *messages.drain(self.cloud, plan, timeout))
        return {"at": time.time() + after, **message}

    def kept(self, plan: Plan, states: dict[str, HostState]) -> list[str] | None:
        """Return the stacks that stayed on the old side at the flip, as a router knows them."""
        for state in states.values():
            if state.router:
                return sorted(hosts.sides_of(self.cloud, state.host, plan.target).stacks)
        # Closed by an earlier try: nothing stayed.
        return []

    def trigger(
        self, plan: Plan, warning: dict[str, Any] | None = None, kept: list[str] | None = None
    ) -> OldEnginesDrainedTrigger:
        """Return what waits for a plan's old engines, from now on."""
        timeout = self.timeout_of(plan)
        return OldEnginesDrainedTrigger(
            OldSide(
                old_vhost=self.cloud.release(plan.source).vhost,
                new_vhost=self.cloud.release(plan.target).vhost,
                rabbitmq_conn_id=self.cloud.connections.rabbitmq,
                database_conn_id=self.cloud.connections.database,
                interval=self.poke_interval,
                readings=self.cloud.drain.readings,
                timeout=timeout,
                deadline=time.time() + timeout,
                stranded_stacks=list(plan.stranded),
                kept_stacks=kept,
                warning=warning,
            )
        )

    def timeout_of(self, plan: Plan) -> float:
        """Return for how many seconds to wait: as the run bounds it, else as the cloud file says."""
        return plan.bounded_wait or self.timeout

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Log the last reading once more, as the triggerer's log may be out of reach, and pass or fail."""
        self.log.info("The last reading\n%s", event["table"])
        if event["status"] == TIMED_OUT:
            raise AirflowSensorTimeout(event["message"])
        if event["status"] != DRAINED:
            raise AirflowFailException(event["message"])
        self.log.info(event["message"])

    def check_apis(self, plan: Plan, states: dict[str, HostState]) -> None:
        """See that users are on the target's side, on every host."""
        apis = {name: state for name, state in states.items() if state.host.api_roles}
        if left := [name for name, state in apis.items() if not state.users_on(plan.target)]:
            raise UpgradeError(
                f"{', '.join(left)}: users aren't on the side of {plan.target} there, expected each API to have taken "
                "the flip: clear flip, and these hosts' switch_api where an API has stopped"
            )


class AllApisStoppedSensor(OldEnginesDrainedSensor):
    """
    Wait in a cold upgrade: no API runs meanwhile, and what a bounded wait leaves undone is for an operator to confirm.

    :param cloud: the cloud; as for the rolling upgrade
    """

    def run(self, plan: Plan, context: Context) -> None:
        """Pass where an earlier run has retired the old engines, else wait."""
        if plan.retired:
            self.log.info("Every service was on the target before this run: there is nothing to wait for")
            return
        super().run(plan, context)

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Take no reading where there is nothing to read."""
        if plan.retired:
            return PlannedAction.nothing("every service is on the target already, so there is nothing to wait for")
        return super().preview(plan, context)

    def kept(self, plan: Plan, states: dict[str, HostState]) -> None:
        """Count all that is in progress: nobody sends anything meanwhile."""

    def check_apis(self, plan: Plan, states: dict[str, HostState]) -> None:
        """See that no API of the source runs on any host."""
        roles = {name: state.host.api_roles for name, state in states.items()}
        running = [n for n, state in states.items() if any(plan.source in state.releases(role) for role in roles[n])]
        if running:
            raise UpgradeError(
                f"{', '.join(running)}: an API of {plan.source} still runs, expected none: clear these hosts' stop_apis"
            )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Pass or fail; after a bounded wait return what is unfinished, unless the last reading doesn't show it."""
        plan = Plan.of(context)
        if event["status"] == DRAINED:
            return super().execute_complete(context, event)
        if not plan.bounded_wait or event["stacks"] is None:
            message = f"{event['message']}\n{ways_out(self.cloud, plan)}"
            return super().execute_complete(context, {**event, "message": message})
        self.log.warning("The bounded wait is over, so the next task asks what to do\n%s", event["table"])
        return {"stacks": event["stacks"], "reasons": event["reasons"]}
