"""What RabbitMQ and Heat's database show: records, the names of Heat's queues, and why something wasn't read."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self, TypeVar

from airflow.sdk.exceptions import AirflowException

from heat_upgrade.exceptions import TransientError, UpgradeError, is_presentable, is_retryable
from heat_upgrade.formatting import duration
from rabbitmq_management.records import ExpiringPolicy, QueueReading

T = TypeVar("T")

ENGINE_PROGRAM = "heat-engine"
# What the guard in front of the old API beside the new one calls it; see router/heat_upgrade_router.py.
BESIDE_PROGRAM = "heat-api-beside"
LISTENER = "heat-engine-listener"
# An engine reads all of these, and work that waits in the first two is taken up by engines only.
TOPICS = ("engine", "engine_worker", LISTENER)
WORK_TOPICS = ("engine", "engine_worker")
IN_PROGRESS = "IN_PROGRESS"

_WORK_QUEUE = re.compile(rf"(?:{'|'.join(TOPICS)})(?:\..+)?")
_CALL_QUEUE = re.compile(r"engine(?:\..+)?")
_log = logging.getLogger(__name__)


def carries_work(queue: str) -> bool:
    """
    Return whether engines get work through a queue: a topic, or an engine's own.

    :param queue: name of the queue
    """
    return _WORK_QUEUE.fullmatch(queue) is not None


def is_notification(queue: str) -> bool:
    """
    Return whether a queue holds what Heat tells others, by the topic that Heat has unless it is told another.

    :param queue: name of the queue
    """
    return queue.startswith("notifications.")


def engine_of(queue: str) -> str | None:
    """
    Return the id of the engine whose listener queue this is; None for any other queue.

    :param queue: name of the queue
    """
    topic, _, engine_id = queue.partition(".")
    return engine_id if topic == LISTENER and engine_id else None


def engines_of(queues: Iterable[str]) -> frozenset[str]:
    """
    Return the ids of the engines whose listener queues are among some queues.

    Of queues that have a consumer these are the engines that are alive; of all queues, those that have ever been.

    :param queues: names of the queues
    """
    return frozenset(id_ for queue in queues if (id_ := engine_of(queue)))


@dataclass(frozen=True)
class Unavailable:
    """
    What stands in place of something that can't be had.

    :param reason: why, with what to do
    :param retryable: whether another try may do better without anybody's help
    :param asked: whether it was asked for at all; not so where what it depends on is unavailable itself
    """

    reason: str
    retryable: bool = False
    asked: bool = True

    @classmethod
    def not_asked(cls, reason: str) -> Self:
        """
        Return what stands in place of something that was not asked for.

        :param reason: why not
        """
        return cls(reason, asked=False)

    @property
    def error(self) -> AirflowException:
        """Return the error of a task that can't go on without it."""
        return (TransientError if self.retryable else UpgradeError)(self.reason)


def read(ask: Callable[[], T]) -> T | Unavailable:
    """
    Return what a host or server answers, or why it doesn't.

    :param ask: asks it
    """
    try:
        return ask()
    except Exception as error:
        if is_presentable(error):
            return Unavailable(str(error), retryable=is_retryable(error))
        _log.exception("A reading failed unexpectedly")
        reason = f"failed unexpectedly ({type(error).__name__}): see the traceback in the task's log, and report it"
        return Unavailable(reason, retryable=is_retryable(error))


@dataclass(frozen=True)
class ClientConnection:
    """A client of RabbitMQ; program and pid are None where they aren't known."""

    program: str | None
    pid: int | None
    peer: str

    def __str__(self) -> str:
        """Name the program, its process and where it runs."""
        process = f" (pid {self.pid})" if self.pid else ""
        return f"{self.program or 'a program without a name'}{process} at {self.peer}"


@dataclass(frozen=True)
class StackInTree:
    """A stack in flight, or one above or below it."""

    id: str
    project: str
    owner_id: str | None
    in_progress: bool


@dataclass(frozen=True)
class StackRow:
    """A stack; ``age`` is in seconds since its action began, by the database's clock."""

    id: str
    name: str
    project: str
    action: str
    status: str
    convergence: bool
    owner_id: str | None
    age: int | None
    traversal: str | None

    def __str__(self) -> str:
        """Name the stack as its owner knows it."""
        age = "unknown" if self.age is None else duration(max(self.age, 0))
        return f"stack {self.name!r} ({self.id}, project {self.project}, {self.action}, age {age})"


@dataclass(frozen=True)
class UnfinishedStack(StackRow):
    """
    A stack in progress, or one above it.

    :param since: when its action began, in UTC
    :param idle: seconds since the stack, a resource or an event of it has changed; None where no time is known
    :param remaining: resources that are not done
    """

    since: datetime | None
    idle: int | None
    remaining: int


class StackState(NamedTuple):
    """How a stack is now; one that is deleted has no status."""

    action: str
    status: str | None
    reason: str


class BegunActions(NamedTuple):
    """How many actions on some projects' stacks have begun in a while, and how many of these have failed by now."""

    total: int
    failed: int


@dataclass(frozen=True)
class HeldRow:
    """
    What an engine works on, or has worked on when it died.

    :param stack_id: the stack with the resource, or with the lock
    :param resource: the resource, None for the stack's lock
    :param works_on: the resource's physical id, which is the nested stack's where the engine waits for one
    """

    stack_id: str
    stack_name: str
    project: str
    resource: str | None
    engine_id: str
    works_on: str | None = None

    @property
    def stack(self) -> str:
        """Name the stack as its owner knows it."""
        return f"stack {self.stack_name!r} ({self.stack_id}, project {self.project})"


@dataclass(frozen=True)
class Work:
    """
    What there is to work on, and who could.

    :param stacks: every stack in progress and every one above such a stack, perhaps others that an engine holds
    :param held: what engines hold
    :param listening: ids of the engines that listen on a vhost of Heat's
    :param elsewhere: ids of the engines that report to the database and have never listened there
    """

    stacks: tuple[UnfinishedStack, ...]
    held: tuple[HeldRow, ...]
    listening: frozenset[str]
    elsewhere: frozenset[str] = frozenset()

    @property
    def live(self) -> frozenset[str]:
        """Return the ids of the engines that are alive."""
        return self.listening | self.elsewhere


class EventRow(NamedTuple):
    """What happened to a resource, and when."""

    stack_id: str
    resource: str
    type: str
    action: str
    status: str
    time: datetime


@dataclass(frozen=True)
class Broker:
    """
    What RabbitMQ shows.

    :param vhost: the old vhost
    :param exists: False once the old vhost has been deleted
    :param queues: the old vhost's queues
    :param connections: the old vhost's clients
    :param expiring: what makes messages expire in the old vhost
    :param new_engines: ids of the new vhost's engines
    """

    vhost: str
    exists: bool
    queues: tuple[QueueReading, ...]
    connections: tuple[ClientConnection, ...]
    expiring: tuple[ExpiringPolicy, ...]
    new_engines: frozenset[str]

    @property
    def running_engines(self) -> frozenset[str]:
        """Return the ids of the old engines that listen."""
        return engines_of(queue.name for queue in self.queues if queue.consumers)

    @property
    def engine_connected(self) -> bool:
        """Return whether an old engine may be there: a client whose program isn't known yet counts."""
        return any(client.program in (ENGINE_PROGRAM, None) for client in self.connections)

    @property
    def deserted(self) -> bool:
        """Return whether the old vhost has neither clients nor consumers."""
        return not self.connections and not any(queue.consumers for queue in self.queues)

    @property
    def calls_queued(self) -> int:
        """Return how many calls of the APIs wait for an engine; those in a dead engine's own queue don't count."""
        calls = (queue for queue in self.queues if _CALL_QUEUE.fullmatch(queue.name))
        return sum(queue.messages for queue in calls if queue.consumers or queue.name in WORK_TOPICS)


@dataclass(frozen=True)
class Database:
    """
    What Heat's database shows.

    :param stacks: every stack in progress, nested ones too, and every one above such a stack
    :param held: what engines hold, resources and locks
    """

    stacks: tuple[UnfinishedStack, ...]
    held: tuple[HeldRow, ...]

    @property
    def in_progress(self) -> tuple[UnfinishedStack, ...]:
        """Return the stacks in progress."""
        return tuple(stack for stack in self.stacks if stack.status == IN_PROGRESS)


@dataclass(frozen=True)
class Reading:
    """
    One reading of the old side.

    :param began: when, in UTC
    :param seconds: how long it took
    :param broker: what RabbitMQ shows
    :param database: what the database shows
    """

    began: datetime
    seconds: float
    broker: Broker | Unavailable
    database: Database | Unavailable

    @property
    def held_by_old(self) -> tuple[HeldRow, ...]:
        """Return what is held by no new engine: an unknown engine counts as old."""
        if isinstance(self.broker, Unavailable) or isinstance(self.database, Unavailable):
            return ()
        return tuple(row for row in self.database.held if row.engine_id not in self.broker.new_engines)

    @property
    def held_by_running(self) -> tuple[HeldRow, ...]:
        """Return what is held by old engines that listen."""
        running = frozenset() if isinstance(self.broker, Unavailable) else self.broker.running_engines
        return tuple(row for row in self.held_by_old if row.engine_id in running)
