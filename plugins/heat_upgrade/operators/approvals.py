"""Approval tasks: the user's decision before a run goes on, where the run asks for it."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade import hosts
from heat_upgrade.formatting import duration, first_few, markdown_text
from heat_upgrade.names import DRAIN
from heat_upgrade.notifications.send import notifiers
from heat_upgrade.operators.base import UpgradeTask
from heat_upgrade.run.approvals import (
    Approvals,
    cut_off_question,
    later_waves_to_ask_before,
    question,
    ways_out,
)
from heat_upgrade.run.dry_run import PlannedAction
from heat_upgrade.run.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.hosts import HostState


class ApproveOperator(UpgradeTask, ApprovalOperator):
    """
    Ask whether a run goes on, and stop it unless somebody approves in time; pass where the run doesn't ask here.

    Subclasses implement ``asks`` (which runs ask), ``remains`` (whether the cloud leaves anything to ask about),
    ``then`` and ``reject`` (what each answer does).

    :param cloud: the cloud; its ``approvals`` say how long an answer is waited for
    """

    timed = False

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        self.timeout_of_answer = timedelta(seconds=cloud.approvals.timeout)
        super().__init__(
            cloud=cloud,
            subject=f"Heat in {cloud.name}: go on?",
            defaults=self.REJECT,
            fail_on_reject=True,
            response_timeout=self.timeout_of_answer,
            notifiers=notifiers(cloud, "approval"),
            **kwargs,
        )

    def run(self, plan: Plan, context: Context) -> Any:
        """Show what was done so far and what comes next, and wait for the answer."""
        if not self.asks(plan):
            self.log.info("This run doesn't ask here, its approvals are: %s", plan.approvals)
            return None
        states = hosts.states_of(self.cloud, self.cloud.hosts)
        if not self.remains(plan, states):
            self.log.info("The cloud is beyond this step already: there is nothing to ask")
            return None
        self.subject = f"Heat in {self.cloud.name}: {self.ask(plan)}?"
        self.body = self._body(plan, states)
        # Airflow shows the first question's text when it is asked again; this is how things are now.
        self.log.info("%s\n%s", self.subject, self.body)
        return ApprovalOperator.execute(self, context)

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Say whether it would ask."""
        if not self.asks(plan):
            return PlannedAction.nothing("the run doesn't ask here")
        return PlannedAction(f"ask whether to {self.ask(plan)}, for {duration(self.timeout_of_answer)} at most")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on, or stop the run."""
        plan = Plan.of(context)
        if event.get("chosen_options") != [self.APPROVE]:
            raise AirflowFailException(
                f"{self._who_rejected(event)}: the run stops here. {self.reject(plan)} To be asked again: clear this "
                "task with all that follows it"
            )
        return super().execute_complete(context, event)

    def _body(self, plan: Plan, states: Mapping[str, HostState]) -> str:
        return question(
            plan,
            states,
            self.clients.database.stacks_in_progress(),
            then=self.then(plan),
            reject=self.reject(plan),
            now=datetime.now(UTC),
            timeout=self.timeout_of_answer,
        )

    def _who_rejected(self, event: dict[str, Any]) -> str:
        if event.get("error") or event.get("timedout"):
            return f"Nobody answered within {duration(self.timeout_of_answer)}, which counts as {self.REJECT}"
        user = event.get("responded_by_user") or {}
        return f"Rejected by {user.get('name') or 'somebody'}"

    @abstractmethod
    def asks(self, plan: Plan) -> bool:
        """Say whether the run wants to be asked here."""

    @abstractmethod
    def remains(self, plan: Plan, states: Mapping[str, HostState]) -> bool:
        """Say whether what is asked about is still to be done."""

    @abstractmethod
    def ask(self, plan: Plan) -> str:
        """Return the question, as a part of a sentence."""

    @abstractmethod
    def then(self, plan: Plan) -> str:
        """Say what an approval does."""

    @abstractmethod
    def reject(self, plan: Plan) -> str:
        """Say how a rejection leaves the cloud."""


class ApproveFlipOperator(ApproveOperator):
    """Ask before users are sent to the target."""

    def asks(self, plan: Plan) -> bool:
        """Ask where the run does so."""
        return plan.approvals in (Approvals.FLIP, Approvals.EVERY_HOST)

    is_needed = asks

    def remains(self, plan: Plan, states: Mapping[str, HostState]) -> bool:
        """Look whether users are still on the source's side, and every API is ready to send them on."""
        apis = [state for state in states.values() if state.host.api_roles]
        return all(state.apis_moved(plan.target) for state in apis) and not all(
            state.users_on(plan.target) for state in apis
        )

    def ask(self, plan: Plan) -> str:
        """Ask for the flip."""
        return f"send users to {plan.target}"

    def then(self, plan: Plan) -> str:
        """Tell of the flip."""
        return _ahead(plan) + (
            f"what is new goes to {plan.target} from one moment on, in a window if the cloud file has some; what is in "
            f"flight ends on {plan.source}. Then the run waits for the drain and stops the old engines."
        )

    def reject(self, plan: Plan) -> str:
        """Tell that no user has noticed anything."""
        return (
            f"Every request is served by {plan.source}, as before: the APIs of {plan.target} hand it over. It can stay "
            f"so for days. A run with {plan.source} as its target goes back."
        )


def _ahead(plan: Plan) -> str:
    """Tell of the canary, if the run has one."""
    if not plan.canary:
        return ""
    return (
        f"first new stacks of {markdown_text(first_few(plan.canary))} go to {plan.target}, everybody else's stay. If "
        "all goes well, "
    )


class ApproveWaveOperator(ApproveOperator):
    """
    Ask before further APIs move.

    :param wave: number of the wave that comes next, from 1
    """

    def __init__(self, *, wave: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wave = wave

    def asks(self, plan: Plan) -> bool:
        """Ask where the run does so between hosts."""
        return self.wave in later_waves_to_ask_before(self.cloud, plan)

    is_needed = asks

    def remains(self, plan: Plan, states: Mapping[str, HostState]) -> bool:
        """Look whether an API of the next hosts hasn't moved."""
        return any(not states[host.name].apis_moved(plan.target) for host in self._next(plan))

    def ask(self, plan: Plan) -> str:
        """Ask for the next hosts."""
        return f"switch the APIs of {first_few(host.name for host in self._next(plan))} to {plan.target}"

    def then(self, plan: Plan) -> str:
        """Tell of the next hosts, and that the wait costs nothing."""
        last = plan.approvals == Approvals.FIRST_HOST
        others = "and those of the others after them, without another question" if last else "and no others yet"
        return (
            f"the APIs of {plan.target} get in front on {first_few(host.name for host in self._next(plan))}, {others}. "
            f"Users stay with {plan.source}, however long the answer takes."
        )

    def reject(self, plan: Plan) -> str:
        """Tell that the cloud is half-swept, which harms nothing."""
        return (
            f"The cloud stays half-swept, and every request is served by {plan.source} as before: go on with another "
            f"run when you like, or go back with one that has {plan.source} as its target."
        )

    def _next(self, plan: Plan) -> list[Host]:
        return [host for host in self.cloud.api_waves()[self.wave - 1] if host.name in plan.hosts]


class ApproveOutageOperator(ApproveOperator):
    """Ask before a cold upgrade's outage."""

    def asks(self, plan: Plan) -> bool:
        """Ask where the run does so."""
        return plan.approvals == Approvals.OUTAGE

    def remains(self, plan: Plan, states: Mapping[str, HostState]) -> bool:
        """Look whether an old API still serves."""
        return any(plan.source in state.releases(role) for state in states.values() for role in state.host.api_roles)

    def ask(self, plan: Plan) -> str:
        """Ask for the outage."""
        return "begin the outage"

    def then(self, plan: Plan) -> str:
        """Tell of the outage."""
        return (
            f"the APIs stop on all hosts, in a window if the cloud file has some, and none answers until {plan.target} "
            "has started."
        )

    def reject(self, plan: Plan) -> str:
        """Tell that no user has noticed anything."""
        return f"Every API still serves as before; what is prepared of {plan.target} stays and harms nothing."


class ApproveRetireOperator(ApproveOperator):
    """Ask before the old engines stop, once they have nothing left to do."""

    def asks(self, plan: Plan) -> bool:
        """Ask where the run does so, unless an operator has just decided what is cut off."""
        return plan.approvals == Approvals.OLD_ENGINES and plan.cut_off is None

    def remains(self, plan: Plan, states: Mapping[str, HostState]) -> bool:
        """Look whether an old engine runs."""
        return any(plan.source in state.releases("engine") for state in states.values())

    def ask(self, plan: Plan) -> str:
        """Ask for the old engines' end."""
        return f"stop the engines of {plan.source}"

    def then(self, plan: Plan) -> str:
        """Tell of the old engines' end."""
        old = f"The drain is over: the engines of {plan.source} have nothing left to do. They stop"
        if plan.cold:
            return f"{old}, the database is migrated and {plan.target} starts. Until then no API answers."
        return f"{old}, all at once; after that, going back means starting them again."

    def reject(self, plan: Plan) -> str:
        """Tell what goes on running."""
        engines = f"The engines of {plan.source} go on running, with nothing to do"
        if plan.cold:
            return f"{engines}, and the APIs stay stopped: a run with {plan.source} as its target starts them again."
        return f"{engines}; a run with {plan.source} as its target moves the APIs back to them."


class ConfirmCutOffOperator(UpgradeTask, ApprovalOperator):
    """
    Ask whether to stop the old engines though they haven't finished; where they have, pass.

    :param cloud: the cloud
    """

    timed = False

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(
            cloud=cloud,
            subject=f"Heat in {cloud.name}: stop the old engines though they haven't finished?",
            fail_on_reject=True,
            notifiers=notifiers(cloud, "approval"),
            **kwargs,
        )

    def run(self, plan: Plan, context: Context) -> Any:
        """Show what is cut off and wait for an answer, for as long as it takes."""
        unfinished = context["ti"].xcom_pull(task_ids=DRAIN)
        if unfinished is None:
            self.log.info("The old engines have finished: nothing is cut off")
            return None
        self.body = cut_off_question(unfinished)
        self.log.info(self.body)
        return ApprovalOperator.execute(self, context)

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Say whether it could come to a question."""
        if not plan.bounded_wait:
            return PlannedAction.nothing("the wait has no bound, so nothing is cut off")
        return PlannedAction(
            f"ask whether to cut off what the old engines haven't done {plan.bounded_wait:.0f} s after the APIs' end; "
            "go on by itself if they have"
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return what is cut off, stacks by id, or stop the run."""
        if event.get("chosen_options") != [self.APPROVE]:
            raise AirflowFailException(f"Rejected: nothing is cut off. {ways_out(self.cloud, Plan.of(context))}")
        super().execute_complete(context, event)
        return context["ti"].xcom_pull(task_ids=DRAIN)["stacks"]
