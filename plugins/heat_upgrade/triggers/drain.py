"""Read the old side again and again until its engines may stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import TriggerEvent

from heat_upgrade.drain.history import DrainCourse
from heat_upgrade.drain.messages import failure_message, reading_table, timeout_message
from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.notifications.send import send_packed
from heat_upgrade.readings import Broker, Database, Reading, Unavailable, read
from heat_upgrade.triggers.arguments import ArgumentsTrigger
from heat_upgrade.triggers.base import keep, kept

if TYPE_CHECKING:
    from heat_upgrade.hooks.heat_database import HeatDatabaseHook
    from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

Part = TypeVar("Part")

DRAINED, FAILED, TIMED_OUT = "drained", "failed", "timed out"
# Seconds for each of a reading's two parts; the hooks bound their single calls by themselves.
PATIENCE = 30.0
# Readings from one time that the course of the drain is stored to the next.
KEEP_EVERY = 10


def read_broker(hook: RabbitMQManagementHook, old_vhost: str, new_vhost: str) -> Broker:
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
        connections=tuple(hook.connections(old_vhost)) if exists else (),
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


class OldEnginesDrainedTrigger(ArgumentsTrigger):
    """
    Wait until the old engines may stop.

    It fires once, with a dict: ``status`` is ``drained``, ``failed`` (waiting can't help) or ``timed out``, ``message``
    says why, ``table`` is the last reading, ``stacks`` those that the old engines haven't done, by id, or None where
    the last reading doesn't tell, and ``reasons`` all that is still in the way.

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

    arguments = (
        "old_vhost",
        "new_vhost",
        "rabbitmq_conn_id",
        "database_conn_id",
        "interval",
        "readings",
        "timeout",
        "deadline",
        "stranded_stacks",
        "kept_stacks",
        "warning",
    )

    def __init__(
        self,
        *,
        old_vhost: str,
        new_vhost: str,
        rabbitmq_conn_id: str,
        database_conn_id: str,
        interval: float,
        readings: int,
        timeout: float,
        deadline: float,
        stranded_stacks: list[str],
        kept_stacks: list[str] | None = None,
        warning: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.old_vhost = old_vhost
        self.new_vhost = new_vhost
        self.rabbitmq_conn_id = rabbitmq_conn_id
        self.database_conn_id = database_conn_id
        self.interval = interval
        self.readings = readings
        self.timeout = timeout
        self.deadline = deadline
        self.stranded_stacks = stranded_stacks
        self.kept_stacks = kept_stacks
        self.warning = warning
        self._warned: asyncio.Task[None] | None = None
        self._rabbitmq: RabbitMQManagementHook | None = None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read until the old side is drained, can't be drained by waiting, or the time is up."""
        await asyncio.to_thread(_load_hooks)
        watch = DrainWatch(readings=self.readings, stranded=self.stranded_stacks, kept=self.kept_stacks)
        # For the report only: the watch itself begins anew after a restart.
        course = DrainCourse(await kept(self))
        while True:
            next_reading = time.time() + self.interval
            reading = await self.read()
            watch.observe(reading)
            course.add(reading, watch.snapshot)
            table = reading_table(reading, watch)
            self.log.info("Drain of the old engines\n%s", table)
            outcome = self._outcome(watch, next_reading)
            if outcome or watch.taken % KEEP_EVERY == 0:
                await keep(self, course.as_xcom())
            if outcome:
                status, message = outcome
                yield TriggerEvent(  # type: ignore[no-untyped-call]
                    {
                        "status": status,
                        "message": message,
                        "table": table,
                        "stacks": watch.left,
                        "reasons": [*watch.verdict.errors, *watch.verdict.blockers],
                    }
                )
                return
            self._warn_if_late(table)
            await asyncio.sleep(max(0.0, next_reading - time.time()))

    async def read(self) -> Reading:
        """Take one reading, its two parts at once."""
        began, start = datetime.now(UTC), time.monotonic()
        broker, database = await asyncio.gather(self._part(self._read_broker), self._part(self._read_database))
        if isinstance(broker, Unavailable):
            # Whoever mends the connection needn't start the wait anew.
            self._rabbitmq = None
        return Reading(began=began, seconds=time.monotonic() - start, broker=broker, database=database)

    def read_now(self) -> Reading:
        """Take one reading in a task, where it holds nobody up."""
        began, start = datetime.now(UTC), time.monotonic()
        broker, database = read(self._read_broker), read(self._read_database)
        return Reading(began=began, seconds=time.monotonic() - start, broker=broker, database=database)

    async def _part(self, ask: Callable[[], Part]) -> Part | Unavailable:
        """Read in a thread, as the triggerer's loop serves other triggers too."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(read, ask), PATIENCE)
        except TimeoutError:
            return Unavailable(f"no answer within {PATIENCE:.0f} s")

    def _warn_if_late(self, table: str) -> None:
        if self.warning and not self._warned and time.time() >= self.warning["at"]:
            # Beside the readings, which wait for no mail server.
            self._warned = asyncio.create_task(asyncio.to_thread(send_packed, self.warning, table))

    def _outcome(self, watch: DrainWatch, next_reading: float) -> tuple[str, str] | None:
        if watch.drained:
            return DRAINED, "The old engines have nothing left to do."
        if watch.verdict.errors:
            return FAILED, failure_message(watch.verdict)
        if next_reading > self.deadline:
            return TIMED_OUT, timeout_message(watch.verdict, self.timeout)
        return None

    def _read_broker(self) -> Broker:
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        self._rabbitmq = self._rabbitmq or RabbitMQManagementHook(self.rabbitmq_conn_id)
        return read_broker(self._rabbitmq, self.old_vhost, self.new_vhost)

    def _read_database(self) -> Database:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        return read_database(HeatDatabaseHook(self.database_conn_id))


def _load_hooks() -> None:
    """Import what reads: seconds on a busy machine, which shall hold up neither the loop nor a reading."""
    from heat_upgrade.hooks import heat_database, rabbitmq  # noqa: F401
