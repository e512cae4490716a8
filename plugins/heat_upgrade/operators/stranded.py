"""Find stranded stacks, and ask what is to be done with them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from heat_upgrade.drain.rule import WORK_TOPICS, carries_work
from heat_upgrade.exceptions import MayPass, UpgradeError
from heat_upgrade.problems import show, some
from heat_upgrade.stranded.messages import STRANDED, question, stranded_rows, text_table
from heat_upgrade.stranded.rule import Choice, StrandedStack, find_stranded, unchanged

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.drain.rule import QueueReading
    from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

FIND, APPROVE, END = "find", "approve", "end"
# Seconds between the two looks: an engine that has taken up a message and holds nothing yet shows in the second.
_LOOKS_APART = 10.0
# Seconds that busy queues are given to run empty.
_QUEUES_PATIENCE = 60.0
# Seconds from one reading to the next.
POLL = 5.0
_ANSWER_WITHIN = timedelta(days=1)


class StrandedOperator(BaseOperator):
    """
    A step of bringing a cloud's stranded stacks to an end.

    :param cloud: the cloud
    """

    def __init__(self, *, cloud: Cloud, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cloud = cloud

    def look(self, context: Context) -> list[StrandedStack]:
        """
        Return what is stranded now.

        :raises AirflowException: when RabbitMQ or the database can't be read, or no engine is alive
        """
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        unchanged_for = 60 * context["params"]["unchanged_minutes"]
        database = HeatDatabaseHook(self.cloud.connections.database)
        # An engine whose vhost the cloud file doesn't have is heard of in the database only.
        live = self._listening() | database.engines_heard_of(unchanged_for)
        return find_stranded(database.unfinished_stacks(), database.holds(), live, unchanged_for)

    def _listening(self) -> set[str]:
        rabbitmq = self.rabbitmq()
        vhosts = self.vhosts(rabbitmq)
        live = set[str]().union(*map(rabbitmq.live_engine_ids, vhosts))
        if not live:
            raise UpgradeError(
                f"no engine listens in vhost {some(vhosts) or 'of any release'}, expected at least one, as an engine "
                "brings stacks to an end: start the engines, or correct the releases' vhosts in the cloud file"
            )
        return live

    def rabbitmq(self) -> RabbitMQManagementHook:
        """Return the cloud's RabbitMQ."""
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        return RabbitMQManagementHook(self.cloud.connections.rabbitmq)

    def vhosts(self, rabbitmq: RabbitMQManagementHook) -> list[str]:
        """Return those of the releases' vhosts that exist."""
        names = dict.fromkeys(release.vhost for release in self.cloud.releases)
        return [name for name in names if rabbitmq.vhost_exists(name)]


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
        rabbitmq = self.rabbitmq()
        while waiting := list(self._waiting(rabbitmq)):
            if time.monotonic() > deadline:
                raise MayPass(
                    f"{', '.join(waiting)}: work waits there, so it can't be told what is stranded: where no engine of "
                    "that vhost runs, start one and let it work that off, else run this when the engines are less busy"
                )
            time.sleep(POLL)

    def _waiting(self, rabbitmq: RabbitMQManagementHook) -> Iterator[str]:
        for vhost in self.vhosts(rabbitmq):
            yield from (f"{queue} in vhost {vhost!r}" for queue in rabbitmq.queues(vhost) if _holds_work(queue))


def _holds_work(queue: QueueReading) -> bool:
    # What waits for a dead engine alone is read by nobody.
    return carries_work(queue.name) and queue.messages > 0 and (queue.consumers > 0 or queue.name in WORK_TOPICS)


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
        self.log.info("%s: %d stacks; left alone: %s", choice, len(stacks), some(sorted(alone)) or "none")
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
