"""What is sent of a run: a subject and a text for each event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heat_upgrade.compat import redacted
from heat_upgrade.exceptions import error_text
from heat_upgrade.formatting import duration
from heat_upgrade.names import MAY_FLIP
from heat_upgrade.run.plan import Plan

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.notifications import Event

# A message is read on a phone; the log has it all.
LONGEST = 3000
Composed = tuple[str, str]


def started(cloud: Cloud, context: Context) -> Composed:
    """Return what the run is about to do."""
    plan = Plan.of(context)
    return (
        f"Heat in {cloud.name}: upgrade to {plan.target} has started",
        f"{_course(plan)} on {', '.join(plan.hosts)}. Preflight has passed. Approvals: {plan.approvals}.",
    )


def approval(cloud: Cloud, context: Context) -> Composed:
    """Return what is asked, with all that the question shows."""
    task: Any = context["task"]
    return f"Approval wanted. {task.subject}", task.body


def error(cloud: Cloud, context: Context) -> Composed:
    """Return which task failed, why, and how the run goes on."""
    task_id, reason = context["ti"].task_id, error_text(context.get("exception"))
    return (
        f"Heat in {cloud.name}: upgrade has stopped at {task_id}",
        f"{reason}\n\nNothing runs after {task_id} until this is fixed: follow the advice, clear the task with all "
        "that follows it, and the run continues from there.",
    )


def done(cloud: Cloud, context: Context) -> Composed:
    """Return how the run has ended: all is upgraded, or hosts remain."""
    plan = Plan.of(context)
    if context["ti"].task_id == MAY_FLIP:
        return (
            f"Heat in {cloud.name}: this run is done, hosts remain",
            f"{_course(plan)} is ready on {', '.join(plan.hosts)}. Until the other hosts are ready as well, "
            f"{plan.source} serves all users, for as long as you like. Run over the rest to finish.",
        )
    return (
        f"Heat in {cloud.name}: upgrade to {plan.target} is done",
        f"{_course(plan)} is done: every service runs on {plan.target}, nothing is stranded, and a smoke stack was "
        "complete.",
    )


def window(cloud: Cloud, wait: str) -> Composed:
    """
    Return that a run waits for a maintenance window.

    :param cloud: the cloud
    :param wait: until when and why
    """
    return f"Heat in {cloud.name}: upgrade waits for a maintenance window", wait


def drain(cloud: Cloud, plan: Plan, timeout: float) -> Composed:
    """
    Return that the drain takes long; the reading that says why comes after it.

    :param cloud: the cloud
    :param plan: the run's plan
    :param timeout: seconds for which the run waits in all
    """
    return (
        f"Heat in {cloud.name}: the drain takes longer than {duration(cloud.drain.warn_after)}",
        f"The engines of {plan.source} haven't finished. The run goes on waiting, for {duration(timeout)} in "
        "all, and nothing is lost meanwhile. The last reading:",
    )


COMPOSERS: dict[Event, Callable[[Cloud, Context], Composed]] = {
    "started": started,
    "approval": approval,
    "error": error,
    "done": done,
}


def without_secrets(text: str) -> str:
    """Return a text, cut to a length to read, without what Airflow knows for a secret."""
    text = redacted(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n... (the task's log has the rest)"


def answer_link(context: Context) -> str:
    """Return where in Airflow's UI a task's question is answered."""
    task: Any = context["task"]
    link: str = task.generate_link_to_ui_from_context(context=context)
    return link


def _course(plan: Plan) -> str:
    kind = "Going back" if plan.going_back else "The cold upgrade" if plan.cold else "The upgrade"
    return f"{kind} from {plan.source} to {plan.target}"
