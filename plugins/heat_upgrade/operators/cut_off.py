"""The operator's word before work is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade.notifications.send import notifiers
from heat_upgrade.operators.base import DRAIN, Plan, UpgradeTask, begin
from heat_upgrade.run.approvals import block
from heat_upgrade.run.dry_run import Intent

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud

LINES = 50


def ways(cloud: Cloud, plan: Plan) -> str:
    """
    Say how a run goes on, and how back, that has stopped the APIs and waits for the engines.

    :param cloud: the cloud
    :param plan: the run's plan
    """
    return (
        f"The APIs of {cloud.name} are stopped and its old engines go on working. To go on: clear {DRAIN}, which waits "
        f"anew. To go back: trigger heat_cold_upgrade__{cloud.name} with target_release {plan.source}, which starts "
        "the APIs again"
    )


class ConfirmCutOffOperator(UpgradeTask, ApprovalOperator):
    """
    Ask whether to stop the old engines though they haven't finished; where they have, pass.

    :param cloud: the cloud
    """

    timed = False

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(
            subject=f"Heat in {cloud.name}: stop the old engines though they haven't finished?",
            fail_on_reject=True,
            notifiers=notifiers(cloud, "approval"),
            **kwargs,
        )
        self.cloud = cloud

    def execute(self, context: Context) -> Any:
        """Ask, or in a dry run ask nobody."""
        return self.perform(begin(context, self.cloud), context)

    def act(self, plan: Plan, context: Context) -> Any:
        """Show what is cut off and wait for an answer, for as long as it takes."""
        left = context["ti"].xcom_pull(task_ids=DRAIN)
        if left is None:
            self.log.info("The old engines have finished: nothing is cut off")
            return None
        self.body = question(left)
        self.log.info(self.body)
        return super().execute(context)

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Say whether it could come to a question."""
        if not plan.bounded_wait:
            return Intent("nothing: the wait has no bound, so nothing is cut off")
        return Intent(
            f"ask whether to cut off what the old engines haven't done {plan.bounded_wait:.0f} s after the APIs' end; "
            "go on by itself if they have"
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return what is cut off, stacks by id, or stop the run."""
        if event.get("chosen_options") != [self.APPROVE]:
            raise AirflowFailException(f"Rejected: nothing is cut off. {ways(self.cloud, Plan.of(context))}")
        super().execute_complete(context, event)
        return context["ti"].xcom_pull(task_ids=DRAIN)["stacks"]


def question(left: dict[str, Any]) -> str:
    """
    Return what is shown to who decides, as Markdown; names that users gave stand in a block, where they do nothing.

    :param left: what the sensor returned at the end of a bounded wait
    """
    stacks = block(left["stacks"].values(), LINES) if left["stacks"] else "No stack is in progress on them."
    reasons = left["reasons"] or ["the last readings were clean, but too few in a row"]
    return (
        "The APIs are stopped; the old engines still work. Stopping them now cuts off what is listed here: it stays in "
        f"progress with nobody working on it until it is updated after the upgrade.\n\n{stacks}\n\n"
        f"All that is in the way:\n\n{block(reasons, LINES)}\n\n"
        "**Approve** stops the old engines and goes on. **Reject** stops the run here; the engines go on working."
    )
