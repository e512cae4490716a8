"""Read the old side again and again until its engines may stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from heat_upgrade.drain.history import DrainHistory
from heat_upgrade.drain.messages import failure_message, reading_table, timeout_message
from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.notifications.send import send_packed
from heat_upgrade.readings import Broker, Database, Reading, Unavailable, read
from heat_upgrade.triggers.base import ArgumentsTrigger

if TYPE_CHECKING:
    from heat_upgrade.hooks.heat_database import HeatDatabaseHook
    from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook

DRAINED, FAILED, TIMED_OUT = "drained", "failed", "timed out"
# Seconds for each of a reading's two parts; the hooks bound their single calls by themselves.
TIMEOUT = 30.0
# Readings from one time that the drain's history is stored to the next.
CHECKPOINT_EVERY = 10


def read_broker(hook: HeatRabbitMQHook, old_vhost: str, new_vhost: str) -> Broker:
    """
    Read RabbitMQ's part of a reading.

    :param hook: the management API
    :param old_vhost: vhost of the old engines
    :param new_vhost: vhost of the new engines
    """
    exists = hook.vhost_exists(old_vhost)
    return Broker(
        vhost=old_vhost,
        exists=exists,
        queues=tuple(hook.queues(old_vhost)) if exists else (),
        connections=tuple(hook.clients(old_vhost)) if exists else (),
        expiring=tuple(hook.expiring_policies(old_vhost)) if exists else (),
        new_engines=hook.engine_ids(new_vhost) if hook.vhost_exists(new_vhost) else frozenset(),
    )


def read_database(hook: HeatDatabaseHook) -> Database:
    """
    Read the database's part of a reading.

    :param hook: Heat's database
    """
    # What is held comes first: what an engine lets go of meanwhile is done, or its stack still shows in progress.
    held = tuple(hook.held())
    return Database(stacks=tuple(hook.unfinished_stacks()), held=held)


@dataclass(frozen=True)
class OldSide:
    """
    The old side, and how to wait until its engines may stop.

    :param old_vhost: vhost of the old engines
    :param new_vhost: vhost of the new engines
    :param rabbitmq_conn_id: Airflow connection to RabbitMQ's management API
    :param database_conn_id: Airflow connection to Heat's database
    :param interval: seconds from one reading to the next
    :param readings: clean readings in a row that are needed
    :param timeout: seconds of the whole wait, for the message
    :param deadline: when the wait ends, in seconds since the epoch; a restart of the triggerer doesn't prolong it
    :param stranded_stacks: ids of stacks that nobody worked on before the upgrade began
    :param kept_stacks: ids of the stacks that stayed on the old side at the flip; None where there was none
    :param warning: a message, packed, and in seconds since the epoch when it is sent if the wait isn't over then
    """

    old_vhost: str
    new_vhost: str
    rabbitmq_conn_id: str
    database_conn_id: str
    interval: float
    readings: int
    timeout: float
    deadline: float
    stranded_stacks: list[str]
    kept_stacks: list[str] | None = None
    warning: dict[str, Any] | None = None


class OldEnginesDrainedTrigger(ArgumentsTrigger[OldSide]):
    """
    Wait until the old engines may stop.

    It fires once, with a dict: ``status`` is ``drained``, ``failed`` (waiting can't help) or ``timed out``, ``message``
    says why, ``table`` is the last reading, ``stacks`` those that the old engines haven't done, by id, or None where
    the last reading doesn't show it, and ``reasons`` all that is still in the way.
    """

    kind = OldSide
    # The two parts of a reading, and the warning.
    threads = 3

    def __init__(self, arguments: OldSide | None = None, **fields: Any) -> None:
        super().__init__(arguments, **fields)
        self._warned: asyncio.Task[None] | None = None
        self._rabbitmq: HeatRabbitMQHook | None = None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read until the old side is drained, can't be drained by waiting, or the time is up."""
        await self.blocking(_load_hooks)
        side = self.arguments
        watch = DrainWatch(readings=side.readings, stranded=side.stranded_stacks, kept=side.kept_stacks)
        # For the report only: the watch itself starts over after a restart.
        history = DrainHistory(await self.restore())
        while True:
            next_reading = time.time() + self.arguments.interval
            reading = await self.read()
            watch.observe(reading)
            history.add(reading, watch.snapshot)
            table = reading_table(reading, watch)
            self.log.info("Drain of the old engines\n%s", table)
            outcome = self._outcome(watch, next_reading)
            if outcome or watch.taken % CHECKPOINT_EVERY == 0:
                await self.checkpoint(history.as_xcom())
            if outcome:
                status, message = outcome
                yield TriggerEvent(  # type: ignore[no-untyped-call]
                    {
                        "status": status,
                        "message": message,
                        "table": table,
                        "stacks": watch.remaining,
                        "reasons": [*watch.verdict.errors, *watch.verdict.blockers],
                    }
                )
                return
            self._warn_if_late(table)
            await asyncio.sleep(max(0.0, next_reading - time.time()))

    async def read(self) -> Reading:
        """Take one reading, its two parts at once."""
        began, start = datetime.now(UTC), time.monotonic()
        broker, database = await asyncio.gather(
            self.answer("broker", self._read_broker, TIMEOUT), self.answer("database", self._read_database, TIMEOUT)
        )
        if isinstance(broker, Unavailable):
            # After a fix of the connection the wait needn't start over.
            self._rabbitmq = None
        return Reading(began=began, seconds=time.monotonic() - start, broker=broker, database=database)

    def read_now(self) -> Reading:
        """Take one reading in a task, where it may block."""
        began, start = datetime.now(UTC), time.monotonic()
        broker, database = read(self._read_broker), read(self._read_database)
        return Reading(began=began, seconds=time.monotonic() - start, broker=broker, database=database)

    def _warn_if_late(self, table: str) -> None:
        warning = self.arguments.warning
        if warning and not self._warned and time.time() >= warning["at"]:
            # Beside the readings, which wait for no mail server.
            self._warned = asyncio.create_task(self.blocking(partial(send_packed, warning, table)))

    def _outcome(self, watch: DrainWatch, next_reading: float) -> tuple[str, str] | None:
        if watch.drained:
            return DRAINED, "The old engines have nothing left to do."
        if watch.verdict.errors:
            return FAILED, failure_message(watch.verdict)
        if next_reading > self.arguments.deadline:
            return TIMED_OUT, timeout_message(watch.verdict, self.arguments.timeout)
        return None

    def _read_broker(self) -> Broker:
        from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook

        self._rabbitmq = self._rabbitmq or HeatRabbitMQHook(self.arguments.rabbitmq_conn_id)
        return read_broker(self._rabbitmq, self.arguments.old_vhost, self.arguments.new_vhost)

    def _read_database(self) -> Database:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        return read_database(HeatDatabaseHook(self.arguments.database_conn_id))


def _load_hooks() -> None:
    """Import what reads: seconds on a busy machine, which shall hold up neither the loop nor a reading."""
    from heat_upgrade.hooks import heat_database, rabbitmq  # noqa: F401
