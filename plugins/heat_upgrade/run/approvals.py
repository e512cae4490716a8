"""Where a run asks for approval before it goes on, and what the question shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from heat_upgrade.formatting import Row, duration, first_lines, markdown_block, markdown_table
from heat_upgrade.names import DRAIN

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.hosts import HostState
    from heat_upgrade.readings import StackRow
    from heat_upgrade.run.plan import Plan

# More make no readable question.
HOSTS, STACKS, CUT_OFF = 50, 20, 50


class Approvals(StrEnum):
    """Where a run asks; the run's parameter."""

    NONE = "none"
    FLIP = "before the flip"
    FIRST_HOST = "after the first host"
    EVERY_HOST = "every host"
    OUTAGE = "before the outage"
    OLD_ENGINES = "before the old engines stop"


OF_ROLLING = (
    Approvals.NONE,
    Approvals.FLIP,
    Approvals.FIRST_HOST,
    Approvals.EVERY_HOST,
    Approvals.OLD_ENGINES,
)
OF_COLD = (Approvals.NONE, Approvals.OUTAGE, Approvals.OLD_ENGINES)


def waves_to_move(cloud: Cloud, plan: Plan) -> list[int]:
    """
    Return the numbers of the waves, from 1, in which a run has an API to move.

    :param cloud: the cloud
    :param plan: the run's plan
    """
    to_move = set(plan.hosts) - set(plan.moved)
    return [number for number, wave in enumerate(cloud.api_waves(), 1) if any(host.name in to_move for host in wave)]


def later_waves_to_ask_before(cloud: Cloud, plan: Plan) -> list[int]:
    """Return the numbers of the waves before which a run asks once more, after the first of its APIs has moved."""
    later = waves_to_move(cloud, plan)[1:]
    return {Approvals.FIRST_HOST: later[:1], Approvals.EVERY_HOST: later}.get(Approvals(plan.approvals), [])


def question(
    plan: Plan,
    states: Mapping[str, HostState],
    stacks: Sequence[StackRow],
    *,
    then: str,
    reject: str,
    now: datetime,
    timeout: timedelta,
) -> str:
    """
    Return what is shown to who decides, as Markdown.

    :param plan: the run's plan
    :param states: what each host of the cloud runs, by name
    :param stacks: those in progress
    :param then: what comes after an approval, and what waiting costs
    :param reject: how the cloud is left by a rejection
    :param now: when all this was found
    :param timeout: how long an answer is waited for
    """
    direction = "back from" if plan.going_back else "from"
    return "\n\n".join(
        [
            f"**So far** ({now:%Y-%m-%d %H:%M} UTC): {direction} {plan.source} to {plan.target}.",
            _hosts(plan, states),
            _in_flight(stacks),
            f"**Approve**: {then}",
            f"**Reject**: the run stops here. {reject} No answer within {duration(timeout)} counts as *Reject*.",
        ]
    )


def cut_off_question(unfinished: dict[str, Any]) -> str:
    """
    Return what is shown to who decides, as Markdown; names that users gave stand in a block, where they do nothing.

    :param unfinished: what the sensor returned at the end of a bounded wait
    """
    stacks = (
        _block(unfinished["stacks"].values(), CUT_OFF) if unfinished["stacks"] else "No stack is in progress there."
    )
    reasons = unfinished["reasons"] or ["the last readings were clean, but too few in a row"]
    return (
        "The APIs are stopped; the old engines still work. Stopping them now cuts off what is listed here: it stays in "
        f"progress with nobody working on it until it is updated after the upgrade.\n\n{stacks}\n\n"
        f"All that is in the way:\n\n{_block(reasons, CUT_OFF)}\n\n"
        "**Approve** stops the old engines and goes on. **Reject** stops the run here; the engines go on working."
    )


def ways_out(cloud: Cloud, plan: Plan) -> str:
    """
    Say how a run goes on, and how back, that has stopped the APIs and waits for the engines.

    :param cloud: the cloud
    :param plan: the run's plan
    """
    return (
        f"The APIs of {cloud.name} are stopped and its old engines go on working. To go on: clear {DRAIN}, which waits "
        f"again. To go back: trigger heat_cold_upgrade__{cloud.name} with target_release {plan.source}, which starts "
        "the APIs again"
    )


def _hosts(plan: Plan, states: Mapping[str, HostState]) -> str:
    head = ("host", f"{plan.target} prepared", "engine runs", "APIs run", "this run")
    rows = [_row(plan, state) for state in states.values()]
    more = [f"\n... and {len(rows) - HOSTS} more hosts."] if len(rows) > HOSTS else []
    return "\n".join([markdown_table(head, rows[:HOSTS]), *more])


def _row(plan: Plan, state: HostState) -> Row:
    apis = set[str]().union(*(state.releases(role) for role in state.host.api_roles))
    return (
        state.host.name,
        "yes" if state.installed.get(plan.target) else "no",
        _releases(state.releases("engine")) if "engine" in state.host.roles else "",
        _releases(apis) if state.host.api_roles else "",
        _progress(plan, state),
    )


def _releases(releases: Iterable[str]) -> str:
    return ", ".join(sorted(releases)) or "none"


def _progress(plan: Plan, state: HostState) -> str:
    if state.host.name not in plan.hosts:
        return "left out"
    if not state.host.api_roles:
        return ""
    return "moved" if state.apis_moved(plan.target) else "to move"


def _in_flight(stacks: Sequence[StackRow]) -> str:
    if not stacks:
        return "No stack is in progress."
    return f"Stacks in progress: {len(stacks)}\n\n{_block(stacks, STACKS)}"


def _block(lines: Iterable[object], most: int) -> str:
    return markdown_block("\n".join(first_lines(lines, most)))
