"""The canary: some projects' new stacks go to the target's side before everybody else's, and come back if need be."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade import compat, hosts
from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.flip.canary import APPROVED, HELD, REJECTED
from heat_upgrade.flip.rule import Goal
from heat_upgrade.formatting import count, duration, first_few, markdown_text, one_line
from heat_upgrade.names import CANARY, FLIP_CANARY, WATCH_CANARY
from heat_upgrade.operators.base import UpgradeTask
from heat_upgrade.operators.flip import HELD_FOR, FlipTask
from heat_upgrade.run.dry_run import PlannedAction
from heat_upgrade.run.plan import Plan
from heat_upgrade.triggers.canary import GRACE, CanaryTrigger, WatchedCanary

if TYPE_CHECKING:
    from airflow.sdk import Context

APPROVE, REJECT = "Approve", "Reject"
# Characters of a user's name.
LONGEST_NAME = 100
# Projects in which a login is tried, until one lets it in.
LOGINS = 3
# Seconds for what the trigger does beyond its own times.
NET = 900


def goal_of(plan: Plan) -> Goal:
    """
    Return where a canary goes.

    :param plan: the run's plan
    """
    return Goal(plan.source, dict.fromkeys(plan.canary, plan.target))


class CanaryTask(UpgradeTask):
    """A task of a canary; skipped where no project goes ahead, or everybody has followed."""

    def left_out(self, plan: Plan) -> str:
        """Leave out a run without a canary."""
        if plan.canary:
            return ""
        return "no project goes ahead in this run: it goes back, or neither its form nor the cloud file names one"

    def skip_if_over(self, plan: Plan) -> None:
        """Look whether everybody is on the target's side: a canary would take them back."""
        if reason := self._over(plan):
            raise AirflowSkipException(reason)

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Say what would be done, if there is a canary left to have."""
        if reason := self._over(plan):
            return PlannedAction.nothing(reason)
        return PlannedAction(self.summary(plan))

    @abstractmethod
    def summary(self, plan: Plan) -> str:
        """Return what would be done, in a sentence that begins with a verb."""

    def _over(self, plan: Plan) -> str:
        states = hosts.states_of(self.cloud, self.cloud.api_hosts)
        if all(state.users_on(plan.target) for state in states.values()):
            return f"users are on the side of {plan.target} already: nobody is left to go ahead of"
        return ""


class FlipCanaryOperator(CanaryTask, FlipTask):
    """Send what is new of some projects to the target's side; all else stays, and so does what they have in flight."""

    def goal(self, plan: Plan) -> Goal:
        """Leave everybody else where they are."""
        return goal_of(plan)

    def is_needed(self, plan: Plan) -> bool:
        """Say whether projects go ahead; without it the canary's other tasks are skipped as well."""
        return bool(plan.canary)

    def run(self, plan: Plan, context: Context) -> dict[str, Any]:
        """Count what fails without a canary, then flip, unless that is done."""
        self.skip_if_over(plan)
        now = datetime.now(UTC)
        before = now - timedelta(minutes=self.cloud.canary.minutes)
        usual = self.clients.database.actions_begun(plan.canary, before, now)
        self.log.info(
            "Ahead of all others: %s. In the %s before, %d actions on their stacks began and %d of them failed",
            *(", ".join(plan.canary), duration(now - before), usual.total, usual.failed),
        )
        return {**self.flip(plan), "projects": list(plan.canary), "usual": usual.failed}

    def summary(self, plan: Plan) -> str:
        """Name the projects, and what stays as it is now."""
        stacks = self.clients.database.stacks_in_progress()
        in_flight = sum(stack.project in plan.canary for stack in stacks)
        return (
            f"hold what changes a stack for a second or two, {HELD_FOR} s at most; then send what is new of "
            f"{first_few(plan.canary)} to {plan.target}, keep their stacks in flight, {in_flight} as it is now, and "
            f"everybody else's on {plan.source}"
        )


class WatchCanaryOperator(CanaryTask):
    """Wait, in the triggerer, for the canary's minutes, for what takes it back, or for a person's answer."""

    timed = False

    def run(self, plan: Plan, context: Context) -> None:
        """See that the canary is under way, offer to end it early, and watch."""
        self.skip_if_over(plan)
        self._see_under_way(plan)
        watched = self.watched(plan, context["ti"].xcom_pull(task_ids=FLIP_CANARY))
        compat.ask_while_deferred(context["ti"].id, [APPROVE, REJECT], *self._question(plan))
        self.defer(
            trigger=CanaryTrigger(watched),
            method_name="execute_complete",
            # The trigger ends the wait by itself. This is a net.
            timeout=timedelta(minutes=self.cloud.canary.minutes, seconds=GRACE + NET),
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return how it has ended; what follows from that is the next task's."""
        outcome = _answered(event) if "chosen_options" in event else event
        self.log.info("The canary's watch has ended: %s. %s", outcome["verdict"], "; ".join(outcome["errors"]))
        return outcome

    def summary(self, plan: Plan) -> str:
        """Say for how long, and what ends it."""
        canary = self.cloud.canary
        return (
            f"watch the API and the stacks of {first_few(plan.canary)} for {canary.minutes} min, and end that early "
            f"where a request fails or takes longer than {canary.slowest:g} s, where more stacks fail than in as long "
            "a time before, or where somebody approves or rejects it"
        )

    def watched(self, plan: Plan, flipped: dict[str, Any] | None) -> WatchedCanary:
        """
        Return what the trigger watches, from now on.

        :param plan: the run's plan
        :param flipped: what the canary's flip has returned; None where it was marked as done by hand
        """
        canary, now = self.cloud.canary, time.time()
        return WatchedCanary(
            projects=list(plan.canary),
            release=plan.target,
            api_conn_id=self.cloud.connections.api,
            database_conn_id=self.cloud.connections.database,
            asked_in=self._asked_in(plan),
            since=datetime.fromisoformat(flipped["began"]).timestamp() if flipped else now,
            deadline=now + 60 * canary.minutes,
            usual=flipped["usual"] if flipped else 0,
            slowest=canary.slowest,
        )

    def _see_under_way(self, plan: Plan) -> None:
        host = self.cloud.api_hosts[0]
        sides = hosts.sides_of(self.cloud, host, plan.target)
        if not goal_of(plan).reached_by(sides):
            raise UpgradeError(
                f"{host.name}: the router decides by {sides}, expected {plan.source} with "
                f"{count(len(plan.canary), 'project')} apart, this run's canary: clear flip_canary with all that "
                "follows it, and the canary begins again"
            )

    def _asked_in(self, plan: Plan) -> str:
        """Return a project of the canary in which the API can be asked; empty where the login is let into none."""
        for project in plan.canary[:LOGINS]:
            try:
                self.clients.api_of_project(project).build_info()
            except TransientError:
                return project  # an API that doesn't answer is for the watch to judge
            except UpgradeError:
                continue
            return project
        self.log.warning(
            "The user of Airflow connection %r is let into none of %s: the API is asked in the connection's own "
            "project, which another release may answer; the canary's stacks count all the same",
            *(self.cloud.connections.api, first_few(plan.canary[:LOGINS])),
        )
        return ""

    def _question(self, plan: Plan) -> tuple[str, str]:
        minutes = self.cloud.canary.minutes
        return (
            f"Heat in {self.cloud.name}: end the canary early?",
            f"New stacks of {markdown_text(first_few(plan.canary))} go to {plan.target}, everybody else's to "
            f"{plan.source}. Nobody has to answer: after {minutes} min everybody follows if all goes well.\n\n"
            f"**Approve**: everybody follows now.\n\n**Reject**: the canary is taken back and the run stops here. "
            f"What it has in flight ends on {plan.target}.",
        )


class EndCanaryOperator(CanaryTask, FlipTask):
    """Let everybody follow, or take the canary back; either way keep how it went for the report."""

    def goal(self, plan: Plan) -> Goal:
        """Go back to before the canary."""
        return Goal(plan.source)

    def run(self, plan: Plan, context: Context) -> None:
        """Act by how the watch has ended; whoever marked it as done by hand has approved."""
        watched = context["ti"].xcom_pull(task_ids=WATCH_CANARY) or {"verdict": APPROVED, "errors": []}
        context["ti"].xcom_push(key=CANARY, value=self._account(plan, watched, context))
        self.skip_if_over(plan)
        if watched["verdict"] in (HELD, APPROVED):
            self.log.info("The canary is over (%s): everybody follows", watched["verdict"])
            return
        self.flip(plan)
        raise UpgradeError(
            f"the canary of {first_few(plan.canary)} was taken back: {'; '.join(watched['errors'])}. New stacks of all "
            f"projects go to {plan.source}, and what the canary has in flight ends on {plan.target}: fix what is "
            "named, then clear flip_canary with all that follows it, and the canary begins again; or go back with a "
            f"run to {plan.source}"
        )

    def summary(self, plan: Plan) -> str:
        """Name both ways."""
        return (
            f"let everybody follow if all has held; else send the new stacks of {first_few(plan.canary)} to "
            f"{plan.source} again and end the run here"
        )

    def _account(self, plan: Plan, watched: dict[str, Any], context: Context) -> dict[str, Any]:
        flipped = context["ti"].xcom_pull(task_ids=FLIP_CANARY) or {}
        return {
            **watched,
            "projects": list(plan.canary),
            "began": flipped.get("began"),
            "ended": datetime.now(UTC).isoformat(),
            "usual": flipped.get("usual"),
        }


def _answered(event: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome of a person's answer, which Airflow gives in place of the trigger's event."""
    who = (event.get("responded_by_user") or {}).get("name") or "somebody"
    if event["chosen_options"] == [APPROVE]:
        return {"verdict": APPROVED, "errors": []}
    return {"verdict": REJECTED, "errors": [f"rejected by {one_line(who)[:LONGEST_NAME]}"]}
