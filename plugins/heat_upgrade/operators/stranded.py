"""Find stranded stacks, ask what is to be done with them, bring them to an end and see how each has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.formatting import first_few, text_table
from heat_upgrade.names import APPROVE, END, FIND
from heat_upgrade.problems import show
from heat_upgrade.readings import IN_PROGRESS, WORK_TOPICS, Unavailable, carries_work
from heat_upgrade.stranded.messages import STRANDED, question, stranded_rows
from heat_upgrade.stranded.rule import Choice, StrandedStack, find_stranded, unchanged, way_out
from heat_upgrade.triggers.stacks import StacksEndedTrigger, StacksToEnd

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.hooks.heat_api import HeatApiHook
    from heat_upgrade.readings import StackState
    from rabbitmq_management.records import QueueReading

# Seconds between the two looks: an engine that has taken up a message and holds nothing yet shows in the second.
_LOOKS_APART = 10.0
# Seconds that busy queues are given to run empty.
_QUEUES_PATIENCE = 60.0
# Seconds from one reading to the next.
POLL = 5.0
_ANSWER_WITHIN = timedelta(days=1)
# Calls at once: each keeps an engine busy for a moment, and the looks between them stay fresh.
_AT_ONCE = 5

# What became of a stack.
ASKED, TAKEN_UP, LEFT, REFUSED = "asked", "taken up", "left", "refused"


class StrandedOperator(BaseOperator):
    """
    A step of bringing a cloud's stranded stacks to an end.

    :param cloud: the cloud
    """

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cloud = cloud

    @cached_property
    def clients(self) -> Clients:
        """Return the cloud's hooks."""
        return Clients(self.cloud)

    def look(self, context: Context) -> list[StrandedStack]:
        """
        Return what is stranded now.

        :raises AirflowException: when RabbitMQ or the database can't be read, or no engine is alive
        """
        work = self.clients.read_work()
        if not work.listening:
            raise UpgradeError(
                f"no engine listens on any of the vhosts {first_few(self.vhosts)}, expected at least one, as an engine "
                "brings stacks to an end: start the engines, or correct the releases' vhosts in the cloud file"
            )
        return find_stranded(work, 60 * context["params"]["unchanged_minutes"])

    @property
    def vhosts(self) -> list[str]:
        """Return the releases' vhosts, of which some may not exist."""
        return list(dict.fromkeys(release.vhost for release in self.cloud.releases))


class FindStrandedOperator(StrandedOperator):
    """Find the stacks that nobody works on, in two looks some seconds apart; skip what follows if there are none."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Look twice, show what is stranded and hand it on."""
        before = self._look(context)
        if before:
            time.sleep(_LOOKS_APART)
        stacks = unchanged(self._look(context), before) if before else []
        if not stacks:
            raise AirflowSkipException(f"no stack of {self.cloud.name} is stranded: there is nothing to do")
        self.log.info("%d stranded stacks\n%s", len(stacks), text_table(STRANDED, stranded_rows(stacks)))
        return [stack.as_xcom() for stack in stacks]

    def _look(self, context: Context) -> list[StrandedStack]:
        self._see_queues_empty()
        return self.look(context)

    def _see_queues_empty(self) -> None:
        deadline = time.monotonic() + _QUEUES_PATIENCE
        while waiting := list(self._waiting()):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{', '.join(waiting)}: work waits there, so it can't be told what is stranded: where no engine of "
                    "that vhost runs, start one and let it work that off, else run this when the engines are less busy"
                )
            time.sleep(POLL)

    def _waiting(self) -> Iterator[str]:
        rabbitmq = self.clients.rabbitmq
        for vhost in filter(rabbitmq.vhost_exists, self.vhosts):
            yield from (f"{queue} in vhost {vhost!r}" for queue in rabbitmq.queues(vhost) if _holds_work(queue))


def _holds_work(queue: QueueReading) -> bool:
    # What waits for a dead engine alone is read by nobody.
    return carries_work(queue.name) and queue.messages > 0 and (bool(queue.consumers) or queue.name in WORK_TOPICS)


class ApproveStrandedOperator(HITLOperator):
    """Ask what is to be done with the stranded stacks; skip what follows unless somebody wants something done."""

    def __init__(self, **kwargs: Any) -> None:
        leave_alone = Param(
            [],
            type="array",
            items={"type": "string"},
            title="Leave alone",
            description="Ids of stacks in the table that nothing is done to, one a line.",
        )
        super().__init__(
            subject="What is to be done with the stranded stacks?",
            options=list(map(str, Choice)),
            defaults=str(Choice.LEAVE),
            response_timeout=_ANSWER_WITHIN,
            # Not by name: Airflow hands the DAG's own parameters in as well.
            **{**kwargs, "params": {"leave_alone": leave_alone}},
        )

    def execute(self, context: Context) -> Any:
        """Ask, with the table of what was found."""
        self.body = question(found_in(context))
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand on what was chosen and for which stacks."""
        answer = super().execute_complete(context, event)
        choice = Choice(answer["chosen_options"][0])
        found = found_in(context)
        alone = _left_alone(answer["params_input"].get("leave_alone"), found)
        stacks = [stack.id for stack in found if stack.id not in alone]
        if choice is Choice.LEAVE or not stacks:
            raise AirflowSkipException("the stranded stacks stay as they are: that was the answer, or nobody answered")
        self.log.info("%s: %d stacks; left alone: %s", choice, len(stacks), first_few(sorted(alone)) or "none")
        return {"choice": str(choice), "stacks": stacks}


def found_in(context: Context) -> list[StrandedStack]:
    """Return what a run has found."""
    return [StrandedStack.from_xcom(row) for row in context["ti"].xcom_pull(task_ids=FIND)]


def _left_alone(wanted: list[str] | None, found: list[StrandedStack]) -> set[str]:
    alone = {text.strip() for text in wanted or [] if text.strip()}
    if unknown := sorted(alone - {stack.id for stack in found}):
        # What was meant to be left alone must not be touched for a slip of the pen.
        raise AirflowFailException(
            f"leave_alone: got {', '.join(map(show, unknown[:5]))}, expected ids of stacks in the table; nothing was "
            "done, clear this task to be asked again"
        )
    return alone


class EndStrandedOperator(StrandedOperator):
    """Ask Heat to bring each stack to an end, if it still is as it was found."""

    def execute(self, context: Context) -> dict[str, list[str]]:
        """Act on a few stacks at a time, each few after a fresh look; one that fails holds up no other."""
        answer = context["ti"].xcom_pull(task_ids=APPROVE)
        stacks = [stack for stack in found_in(context) if stack.id in answer["stacks"]]
        end = _Ending(self.clients, Choice(answer["choice"]))
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

    def __init__(self, clients: Clients, choice: Choice) -> None:
        self._choice = choice
        self._api: Callable[[str], HeatApiHook] = cache(clients.api_of_project)

    def __call__(self, stack: StrandedStack) -> tuple[str, str]:
        call = way_out(stack, self._choice)
        if isinstance(call, Unavailable):
            return LEFT, call.reason
        try:
            self._api(stack.project).call(call.method, call.path, call.body)
        except AirflowException as error:
            return REFUSED, str(error)
        return ASKED, f"Heat has taken up {call.method} {call.path}"


class WaitForEndsOperator(StrandedOperator):
    """Wait, in the triggerer, until each stack has ended, and report how; fail if one has not that should have."""

    def execute(self, context: Context) -> None:
        """Wait for what Heat was asked to end, and for what others have taken up."""
        minutes = context["params"]["wait_minutes"]
        self.defer(
            trigger=StacksEndedTrigger(
                StacksToEnd(
                    stacks=[id_ for id_, (outcome, _) in _outcomes(context).items() if outcome in (ASKED, TAKEN_UP)],
                    database_conn_id=self.cloud.connections.database,
                    interval=POLL,
                    deadline=time.time() + 60 * minutes,
                )
            ),
            method_name="execute_complete",
            # The trigger ends the wait by itself. This is a net.
            timeout=timedelta(minutes=minutes + 5),
        )

    def execute_complete(self, context: Context, event: bool) -> None:
        """Show how each stack has ended."""
        outcomes = _outcomes(context)
        states = self.clients.database.stack_states(outcomes)
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
