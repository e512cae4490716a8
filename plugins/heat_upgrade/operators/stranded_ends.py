"""Bring stranded stacks to an end, and see how each has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from heat_upgrade.operators.stranded import APPROVE, END, POLL, StrandedOperator, found_in
from heat_upgrade.stranded.messages import text_table
from heat_upgrade.stranded.rule import IN_PROGRESS, Choice, StrandedStack, unchanged, way_out
from heat_upgrade.triggers.stacks import StacksEndedTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.hooks.heat_api import HeatApiHook
    from heat_upgrade.hooks.heat_database import StackState

# Calls at once: each keeps an engine busy for a moment, and the looks between them stay fresh.
_AT_ONCE = 5

# What became of a stack.
ASKED, TAKEN_UP, LEFT, REFUSED = "asked", "taken up", "left", "refused"


class EndStrandedOperator(StrandedOperator):
    """Ask Heat to bring each stack to an end, if it still is as it was found."""

    def execute(self, context: Context) -> dict[str, list[str]]:
        """Act on a few stacks at a time, each few after a fresh look; one that fails holds up no other."""
        answer = context["ti"].xcom_pull(task_ids=APPROVE)
        stacks = [stack for stack in found_in(context) if stack.id in answer["stacks"]]
        end = _Ending(self.cloud, Choice(answer["choice"]))
        outcomes: dict[str, list[str]] = {}
        for first in range(0, len(stacks), _AT_ONCE):
            few = stacks[first : first + _AT_ONCE]
            still = unchanged(few, self.look(context))
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                done = pool.map(lambda stack, still=still: end(stack) if stack in still else _TAKEN_UP, few)
            for stack, (outcome, text) in zip(few, done, strict=True):
                outcomes[stack.id] = [outcome, text]
                self.log.info("%s: %s", stack, text)
        return outcomes


_TAKEN_UP = (TAKEN_UP, "it has been taken up since it was found, so it is left to whoever did")


class _Ending:
    """Brings stacks to an end through Heat's API, each in its own project."""

    def __init__(self, cloud: Cloud, choice: Choice) -> None:
        self._choice = choice
        self._conn_id = cloud.connections.api
        self._api: Callable[[str], HeatApiHook] = cache(self._connect)

    def __call__(self, stack: StrandedStack) -> tuple[str, str]:
        call = way_out(stack, self._choice)
        if isinstance(call, str):
            return LEFT, call
        try:
            self._api(stack.project).call(call.method, call.path, call.body)
        except AirflowException as error:
            return REFUSED, str(error)
        return ASKED, f"Heat has taken up {call.method} {call.path}"

    def _connect(self, project: str) -> HeatApiHook:
        from heat_upgrade.hooks.heat_api import HeatApiHook

        return HeatApiHook(self._conn_id, project)


class WaitForEndsOperator(StrandedOperator):
    """Wait, in the triggerer, until each stack has ended, and report how; fail if one has not that should have."""

    def execute(self, context: Context) -> None:
        """Wait for what Heat was asked to end, and for what others have taken up."""
        minutes = context["params"]["wait_minutes"]
        self.defer(
            trigger=StacksEndedTrigger(
                stacks=[id_ for id_, (outcome, _) in _outcomes(context).items() if outcome in (ASKED, TAKEN_UP)],
                database_conn_id=self.cloud.connections.database,
                interval=POLL,
                deadline=time.time() + 60 * minutes,
            ),
            method_name="execute_complete",
            # The trigger ends the wait by itself. This is a net.
            timeout=timedelta(minutes=minutes + 5),
        )

    def execute_complete(self, context: Context, event: bool) -> None:
        """Show how each stack has ended."""
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        outcomes = _outcomes(context)
        states = HeatDatabaseHook(self.cloud.connections.database).stack_states(outcomes)
        stacks = [stack for stack in found_in(context) if stack.id in outcomes]
        ends = {stack.id: _end(outcomes[stack.id], states.get(stack.id)) for stack in stacks}
        rows = [(stack.name, stack.id, stack.project, ends[stack.id]) for stack in stacks]
        self.log.info("How they ended\n%s", text_table(("stack", "id", "project", "end"), rows))
        if missed := [stack for stack in stacks if _missed(outcomes[stack.id][0], states.get(stack.id))]:
            reasons = "\n".join(f"{stack}: {ends[stack.id]}" for stack in missed)
            raise AirflowFailException(
                f"{len(missed)} of {len(stacks)} stacks have not ended, expected all: see the engines' logs, and run "
                f"this again once what is below is mended; it takes up only what is left then\n{reasons}"
            )


def _outcomes(context: Context) -> dict[str, list[str]]:
    outcomes: dict[str, list[str]] = context["ti"].xcom_pull(task_ids=END)
    return outcomes


def _end(outcome: list[str], state: StackState | None) -> str:
    what, text = outcome
    if what in (LEFT, REFUSED):
        return f"{what}: {text}"
    note = f" ({text})" if what == TAKEN_UP else ""
    if state is None or state.status is None:
        return f"deleted{note}"
    if state.status == IN_PROGRESS:
        return f"still in progress: {state.action}{note}"
    reason = f": {state.reason[:200]}" if state.status == "FAILED" else ""
    return f"{state.action}_{state.status}{reason}{note}"


def _missed(outcome: str, state: StackState | None) -> bool:
    return outcome == REFUSED or (outcome != LEFT and state is not None and state.status == IN_PROGRESS)
