"""Read queues again and again until they are drained."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from rabbitmq_management.records import QueueReading
from rabbitmq_management.watch import QueuesWatch, Selection, Unread

DRAINED, TIMED_OUT = "drained", "timed out"
# Seconds for one reading; the hook bounds each of its requests by itself.
PATIENCE = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wait:
    """
    What is waited for, and for how long.

    :param vhost: vhost of the queues
    :param queues: a regular expression that whole names match, or the names
    :param rabbitmq_conn_id: Airflow connection to the management API
    :param clean_readings: clean readings in a row that are needed
    :param interval: seconds from one reading to the next
    :param timeout: seconds of the whole wait, for the message
    :param deadline: when the wait ends, in seconds since the epoch; a restart of the triggerer doesn't prolong it
    :param missing_ok: whether a queue that isn't there counts as empty
    """

    vhost: str
    queues: str | Sequence[str]
    rabbitmq_conn_id: str
    clean_readings: int
    interval: float
    timeout: float
    deadline: float
    missing_ok: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return what a trigger is made of, in types that Airflow stores."""
        return asdict(self)

    def watch(self) -> QueuesWatch:
        """Return what follows the readings, from none on."""
        return QueuesWatch(Selection(self.queues, missing_ok=self.missing_ok), self.clean_readings)

    def overdue(self, watch: QueuesWatch) -> str:
        """
        Return what is said when the time is up.

        :param watch: what has followed the readings
        """
        return (
            f"the queues of vhost {self.vhost!r} were not drained within {self.timeout:.0f} s, expected "
            f"{self.clean_readings} clean readings in a row: see to what is in the way, then clear this task\n{watch}"
        )


class QueuesDrainedTrigger(BaseTrigger):
    """
    Wait in the triggerer until queues are drained or the time is up.

    :param wait: the fields of ``Wait``
    """

    def __init__(self, **wait: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wait = Wait(**wait)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.wait.arguments()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read until the queues are drained or the time is up."""
        watch = self.wait.watch()
        # A thread of its own: a server that stalls holds up no other trigger of this triggerer.
        with_own_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="queues")
        try:
            while True:
                next_reading = time.time() + self.wait.interval
                watch.observe(await self._read(with_own_thread, watch.selection), time.monotonic())
                self.log.info("Queues of vhost %r, %s", self.wait.vhost, watch)
                if watch.drained or next_reading > self.wait.deadline:
                    yield self._event(watch)
                    return
                await asyncio.sleep(max(0.0, next_reading - time.time()))
        finally:
            with_own_thread.shutdown(wait=False, cancel_futures=True)

    async def _read(self, thread: ThreadPoolExecutor, selection: Selection) -> list[QueueReading] | Unread:
        reading = asyncio.get_running_loop().run_in_executor(thread, read_queues, self.wait, selection)
        try:
            return await asyncio.wait_for(reading, PATIENCE)
        except TimeoutError:
            return Unread(f"no answer within {PATIENCE:.0f} s")

    def _event(self, watch: QueuesWatch) -> TriggerEvent:
        status = DRAINED if watch.drained else TIMED_OUT
        message = str(watch) if watch.drained else self.wait.overdue(watch)
        return TriggerEvent({"status": status, "message": message})  # type: ignore[no-untyped-call]


def read_queues(wait: Wait, selection: Selection) -> list[QueueReading] | Unread:
    """
    Take one reading; an error is a reading as well.

    :param wait: where to read
    :param selection: which queues
    """
    # Here, as importing it takes a busy triggerer seconds, in which its loop would stand still.
    from rabbitmq_management.hooks.management import RabbitMQManagementHook

    try:
        # Made again each time: whoever corrects the connection needn't start the wait again.
        hook = RabbitMQManagementHook(wait.rabbitmq_conn_id)
        return hook.queues(wait.vhost, selection.__contains__, consumers=False)
    except AirflowException as error:
        return Unread(str(error), final=isinstance(error, AirflowFailException))
    except Exception as error:
        _log.exception("A reading of queues failed unexpectedly")
        # Not its text, which nobody has checked for secrets.
        return Unread(f"unexpected {type(error).__name__}, see the log")
