"""Wait until queues of RabbitMQ are drained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from rabbitmq_management.connection import DEFAULT_CONN_ID
from rabbitmq_management.triggers.queues import DRAINED, PATIENCE, QueuesDrainedTrigger, Wait, read_queues
from rabbitmq_management.watch import QueuesWatch, Unread

if TYPE_CHECKING:
    from airflow.sdk import Context


class QueuesDrainedSensor(BaseSensorOperator):
    """
    Wait until queues hold no message, ready or unacknowledged, in several readings in a row.

    It fails closed: what is missing, partial, of a queue without a running process, leader or majority, or an error
    is not "empty". When the time is up, the error names what is still in the way.

    .. note::
        Whoever still publishes to the queues has to be stopped before: no reading proves what comes after it.

    :param vhost: vhost of the queues
    :param queues: a regular expression that whole names match, or a list of names
    :param rabbitmq_conn_id: Airflow connection of type ``rabbitmq_management``
    :param clean_readings: clean readings in a row that are needed
    :param missing_ok: whether a queue that isn't there counts as empty; else all named ones have to be there, or one
        that the expression matches
    :param deferrable: whether to wait in the triggerer; else the task keeps its worker
    :param poke_interval: seconds from one reading to the next
    :param timeout: seconds of the whole wait
    """

    template_fields: Sequence[str] = ("vhost", "queues", "rabbitmq_conn_id")

    def __init__(
        self,
        *,
        queues: str | Sequence[str],
        vhost: str = "/",
        rabbitmq_conn_id: str = DEFAULT_CONN_ID,
        clean_readings: int = 3,
        missing_ok: bool = False,
        deferrable: bool = True,
        poke_interval: timedelta | float = 10,
        timeout: timedelta | float = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        if self.mode != "poke":
            raise ValueError(
                f"mode is {self.mode!r}, expected 'poke': each try of another would begin to count the clean readings "
                "again; to free the worker, set deferrable"
            )
        if clean_readings < 1:
            raise ValueError(f"clean_readings is {clean_readings}, expected at least 1")
        self.queues = queues
        self.vhost = vhost
        self.rabbitmq_conn_id = rabbitmq_conn_id
        self.clean_readings = clean_readings
        self.missing_ok = missing_ok
        self.deferrable = deferrable
        self._watch: QueuesWatch | None = None

    def execute(self, context: Context) -> Any:
        """Take a reading here, where a wrong connection, vhost or selection shows at once; then wait."""
        if not self.deferrable:
            return self._poke_until_drained(context)
        if self._first_look(context):
            return None
        return self.defer(
            trigger=QueuesDrainedTrigger(**self.wait().arguments()),
            method_name="execute_complete",
            # The trigger ends the wait by itself, as only it can name what is in the way. This is a net.
            timeout=timedelta(seconds=self.timeout + self.poke_interval + 2 * PATIENCE),
        )

    def poke(self, context: Context) -> bool:
        """
        Take one reading and return whether the queues are drained.

        :raises AirflowFailException: when the first reading shows that no other would do better
        """
        watch = self._watch = self._watch or self._start()
        reading = read_queues(self.wait(), watch.selection)
        if isinstance(reading, Unread) and reading.final and not watch.taken:
            raise AirflowFailException(reading.reason)
        watch.observe(reading, time.monotonic())
        self.log.info("Queues of vhost %r, %s", self.vhost, watch)
        return watch.drained

    def wait(self) -> Wait:
        """Return what is waited for, from now on."""
        return Wait(
            vhost=self.vhost,
            queues=self.queues if isinstance(self.queues, str) else list(self.queues),
            rabbitmq_conn_id=self.rabbitmq_conn_id,
            clean_readings=self.clean_readings,
            interval=self.poke_interval,
            timeout=self.timeout,
            deadline=time.time() + self.timeout,
            missing_ok=self.missing_ok,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Pass, or fail with what is still in the way."""
        if event["status"] != DRAINED:
            raise AirflowSensorTimeout(event["message"])
        self.log.info("Queues of vhost %r are drained: %s", self.vhost, event["message"])

    def _start(self) -> QueuesWatch:
        # Not in the constructor: Airflow fills in templates after it.
        try:
            return self.wait().watch()
        except ValueError as error:
            raise AirflowFailException(f"{error}: correct task {self.task_id!r} in its Dag file") from None

    def _first_look(self, context: Context) -> bool:
        try:
            return self.poke(context)
        except AirflowFailException as error:
            # As the base class does around its own pokes.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise

    def _poke_until_drained(self, context: Context) -> Any:
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            raise AirflowSensorTimeout(self.wait().overdue(self._watch or self._start())) from error
