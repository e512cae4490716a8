"""When may the old engines stop? The rule, from readings to a verdict with reasons.

Nothing here reads anything. Queues alone don't tell: an engine acknowledges a message before it works on it, so a
busy one shows empty queues. What is missing, partial, old or an error counts as not drained.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

ENGINE_PROGRAM = "heat-engine"
LISTENER = "heat-engine-listener"
# An engine reads all of these, and work that waits in the first two is taken up by engines only.
TOPICS = ("engine", "engine_worker", LISTENER)
WORK_TOPICS = ("engine", "engine_worker")
# Parts that were read this many seconds apart don't tell of one moment.
STALE_AFTER = 20.0
# A call that an engine has just taken up has no stack in the database yet: T0 waits for so many readings in a row.
_PICKED_UP = 2

_WORK_QUEUE = re.compile(rf"(?:{'|'.join(TOPICS)})(?:\..+)?")
_CALL_QUEUE = re.compile(r"engine(?:\..+)?")


def carries_work(queue: str) -> bool:
    """
    Tell whether engines get work through a queue: a topic, or an engine's own.

    :param queue: name of the queue
    """
    return _WORK_QUEUE.fullmatch(queue) is not None


def engine_of(queue: str) -> str | None:
    """
    Return the id of the engine whose listener queue this is; None for any other queue.

    :param queue: name of the queue
    """
    topic, _, engine_id = queue.partition(".")
    return engine_id if topic == LISTENER and engine_id else None


@dataclass(frozen=True)
class QueueReading:
    """What one queue holds, and how many read it."""

    name: str
    ready: int
    unacknowledged: int
    consumers: int

    @property
    def messages(self) -> int:
        """Return all messages, also those that wait for their acknowledgement."""
        return self.ready + self.unacknowledged

    def __str__(self) -> str:
        """Name the queue and what it holds."""
        return f"queue {self.name!r} ({self.ready} ready, {self.unacknowledged} unacknowledged)"


@dataclass(frozen=True)
class ClientConnection:
    """A client of RabbitMQ; program and pid are None where it doesn't tell them."""

    program: str | None
    pid: int | None
    peer: str

    def __str__(self) -> str:
        """Name the program, its process and where it runs."""
        process = f" (pid {self.pid})" if self.pid else ""
        return f"{self.program or 'a program without a name'}{process} at {self.peer}"


@dataclass(frozen=True)
class ExpiringPolicy:
    """A setting that makes messages of an engine's queue vanish."""

    name: str
    setting: str


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
        age = "unknown" if self.age is None else str(timedelta(seconds=max(self.age, 0)))
        return f"stack {self.name!r} ({self.id}, project {self.project}, {self.action}, age {age})"


@dataclass(frozen=True)
class HeldRow:
    """A resource that an engine works on, or a stack's lock, where ``resource`` is None."""

    stack_id: str
    stack_name: str
    project: str
    resource: str | None
    engine_id: str

    @property
    def stack(self) -> str:
        """Name the stack as its owner knows it."""
        return f"stack {self.stack_name!r} ({self.stack_id}, project {self.project})"


@dataclass(frozen=True)
class Unread:
    """Why a part couldn't be read."""

    reason: str


@dataclass(frozen=True)
class Broker:
    """
    What RabbitMQ shows.

    :param vhost: the old vhost
    :param exists: False once the old vhost has been deleted
    :param queues: the old vhost's queues
    :param connections: the old vhost's clients
    :param expiring: what makes messages vanish in the old vhost
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
        return frozenset(id_ for queue in self.queues if queue.consumers and (id_ := engine_of(queue.name)))

    @property
    def engine_connected(self) -> bool:
        """Tell whether an old engine may be there: a client that doesn't tell its program yet counts."""
        return any(client.program in (ENGINE_PROGRAM, None) for client in self.connections)

    @property
    def deserted(self) -> bool:
        """Tell whether nobody uses the old vhost any more."""
        return not self.connections and not any(queue.consumers for queue in self.queues)

    @property
    def calls_queued(self) -> int:
        """Return how many calls of the APIs wait for an engine; those to a dead engine's own queue wait in vain."""
        calls = (queue for queue in self.queues if _CALL_QUEUE.fullmatch(queue.name))
        return sum(queue.messages for queue in calls if queue.consumers or queue.name in WORK_TOPICS)


@dataclass(frozen=True)
class Database:
    """
    What Heat's database shows.

    :param stacks: the stacks in progress, nested ones too
    :param held: what engines hold, resources and locks
    :param unchanged: ids of the stacks in progress of which nothing has changed for a while
    """

    stacks: tuple[StackRow, ...]
    held: tuple[HeldRow, ...]
    unchanged: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """
    One look at the old side.

    :param began: when, in UTC
    :param seconds: how long it took
    :param broker: what RabbitMQ shows, or why it couldn't be read
    :param database: what the database shows, or why it couldn't be read
    """

    began: datetime
    seconds: float
    broker: Broker | Unread
    database: Database | Unread

    @property
    def held_by_old(self) -> tuple[HeldRow, ...]:
        """Return what is held by no new engine: an engine that nobody knows counts as old."""
        if isinstance(self.broker, Unread) or isinstance(self.database, Unread):
            return ()
        return tuple(row for row in self.database.held if row.engine_id not in self.broker.new_engines)

    @property
    def held_by_running(self) -> tuple[HeldRow, ...]:
        """Return what is held by old engines that listen."""
        running = frozenset() if isinstance(self.broker, Unread) else self.broker.running_engines
        return tuple(row for row in self.held_by_old if row.engine_id in running)


@dataclass(frozen=True)
class Snapshot:
    """
    What the old side had begun at T0, as far as it hasn't been seen done.

    :param stranded: ids of the stacks that nobody worked on before the upgrade began
    :param time: T0, in UTC; None until the calls queued when the last old API stopped have been picked up
    :param waiting: the stacks that haven't yet been seen out of IN_PROGRESS, as they were last read
    :param picked_up: readings in a row without a queued call
    """

    stranded: frozenset[str] = frozenset()
    time: datetime | None = None
    waiting: tuple[StackRow, ...] = ()
    picked_up: int = 0

    def after(self, reading: Reading) -> Snapshot:
        """
        Return the snapshot as one more reading leaves it; a stack that was seen done never comes back by itself.

        :param reading: the reading that follows
        """
        if isinstance(reading.broker, Unread) or isinstance(reading.database, Unread):
            return self if self.time else replace(self, picked_up=0)
        # Somebody has revived what was stranded, or a call's stack showed only after T0: an old engine works on it.
        revived = {row.stack_id for row in reading.held_by_running}
        snapshot = replace(self, stranded=self.stranded - revived)
        if self.time is None:
            return snapshot._towards_t0(reading, reading.broker, reading.database)
        ids = {stack.id for stack in self.waiting} | revived
        return replace(snapshot, waiting=tuple(stack for stack in reading.database.stacks if stack.id in ids))

    def without_old_side(self, reading: Reading) -> Snapshot:
        """
        Return the snapshot of a first reading that finds no old engine: who is in progress is the new side's.

        :param reading: the reading
        """
        broker, database = reading.broker, reading.database
        if isinstance(broker, Unread) or isinstance(database, Unread) or broker.new_engines:
            return replace(self, time=reading.began)
        # Nobody's: there is no new side either.
        waiting = tuple(stack for stack in database.stacks if stack.id not in self.stranded)
        return replace(self, time=reading.began, waiting=waiting)

    def _towards_t0(self, reading: Reading, broker: Broker, database: Database) -> Snapshot:
        picked_up = 0 if broker.calls_queued else self.picked_up + 1
        waiting = tuple(stack for stack in database.stacks if stack.id not in self.stranded)
        time = reading.began if picked_up >= _PICKED_UP else None
        return replace(self, time=time, waiting=waiting, picked_up=picked_up)


@dataclass(frozen=True)
class Verdict:
    """
    What one reading says.

    :param blockers: what is still in the way
    :param errors: what no waiting can mend, with what will
    :param notes: what an operator should know and what blocks nothing
    """

    blockers: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Tell whether nothing at all is in the way."""
        return not self.blockers and not self.errors

    def __add__(self, other: Verdict) -> Verdict:
        """Join what two rules say."""
        return Verdict(self.blockers + other.blockers, self.errors + other.errors, self.notes + other.notes)


def assess(reading: Reading, snapshot: Snapshot) -> Verdict:
    """
    Say whether the old side is drained, as far as one reading can tell.

    :param reading: what was read
    :param snapshot: what the old side had begun at T0, as this reading leaves it
    """
    verdict = _complete(reading)
    if isinstance(reading.broker, Broker):
        for rule in _BROKER_RULES:
            verdict += rule(reading.broker)
    return verdict + _held(reading, snapshot) + _stacks(reading, snapshot)


def _complete(reading: Reading) -> Verdict:
    parts = (("RabbitMQ", reading.broker), ("Heat's database", reading.database))
    unread = tuple(f"{name} was not read: {part.reason}" for name, part in parts if isinstance(part, Unread))
    if reading.seconds > STALE_AFTER:
        stale = f"the reading took {reading.seconds:.0f} s, at most {STALE_AFTER:.0f} s tell of one moment"
        return Verdict(blockers=(*unread, stale))
    return Verdict(blockers=unread)


def _connections(broker: Broker) -> Verdict:
    """Rule 1: nothing but engines is connected to the old vhost."""
    reason = f"is connected to the old vhost {broker.vhost!r}, where only engines should be: stop it"
    strangers = (client for client in broker.connections if client.program != ENGINE_PROGRAM)
    return Verdict(blockers=tuple(f"{client} {reason}" for client in strangers))


def _queues(broker: Broker) -> Verdict:
    """Rule 2: what somebody reads is empty; what nobody reads won't be read."""
    verdict = Verdict(blockers=tuple(_missing_topics(broker)))
    for queue in broker.queues:
        if queue.messages:
            verdict += _filled(queue, broker)
    return verdict


def _missing_topics(broker: Broker) -> Iterator[str]:
    listed = {queue.name for queue in broker.queues}
    for topic in TOPICS:
        if broker.engine_connected and topic not in listed:
            yield f"engines are connected to the old vhost {broker.vhost!r}, but their queue {topic!r} is not listed"


def _filled(queue: QueueReading, broker: Broker) -> Verdict:
    # RabbitMQ shows a consumer up to 5 s late, but what waits for its acknowledgement has been given to one.
    if queue.consumers or queue.unacknowledged:
        return Verdict(blockers=(f"{queue} is not empty",))
    if queue.name not in WORK_TOPICS:
        return Verdict(notes=(f"{queue} is nobody's any more: what it holds stays unread",))
    if broker.engine_connected:
        # Its consumer may not show yet, and an engine that stops closes its consumers first.
        return Verdict(blockers=(f"{queue} is not empty, and no engine is seen to read it",))
    return Verdict(
        errors=(
            f"{queue} holds work and no engine reads it, so waiting can't help: start an engine of the old release "
            f"on vhost {broker.vhost!r} again, then clear this task",
        )
    )


def _expiring(broker: Broker) -> Verdict:
    """Rule 5: where messages expire, an empty queue proves nothing."""
    reason = f"makes messages of the old vhost {broker.vhost!r} vanish, so empty queues prove nothing: delete it"
    return Verdict(blockers=tuple(f"{policy.name} ({policy.setting}) {reason}" for policy in broker.expiring))


_BROKER_RULES: tuple[Callable[[Broker], Verdict], ...] = (_connections, _queues, _expiring)


def _stacks(reading: Reading, snapshot: Snapshot) -> Verdict:
    """Rule 4: every stack that the old side had begun at T0 is done or gone."""
    if snapshot.time is None:
        queued = reading.broker.calls_queued if isinstance(reading.broker, Broker) else "an unknown number of"
        return Verdict(
            blockers=(
                f"T0 is not taken yet: {queued} calls wait for an engine, two readings in a row without any are needed",
            )
        )
    deserted = _deserted(reading)
    oldest_first = sorted(snapshot.waiting, key=lambda stack: -(stack.age or 0))
    blockers = (
        f"{stack} has been in progress since T0"
        + (f", and nobody works on it, so waiting won't help: {TAKE_UP}" if stack.id in deserted else "")
        for stack in oldest_first
    )
    return Verdict(blockers=tuple(blockers), notes=tuple(_stranded(reading, snapshot)))


def _deserted(reading: Reading) -> frozenset[str]:
    """Return the stacks that no engine works on, as two sides that don't know each other can leave one behind."""
    broker, database = reading.broker, reading.database
    if isinstance(broker, Unread) or isinstance(database, Unread):
        return frozenset()
    alive = broker.running_engines | broker.new_engines
    return database.unchanged - {row.stack_id for row in database.held if row.engine_id in alive}


def _stranded(reading: Reading, snapshot: Snapshot) -> Iterator[str]:
    if isinstance(reading.database, Database):
        for stack in reading.database.stacks:
            if stack.id in snapshot.stranded:
                yield f"{stack} was stranded before the upgrade and is not waited for: {TAKE_UP}"


# What makes engines take up a stack that nobody works on. Heat refuses to update one that is being deleted.
TAKE_UP = "update it through the API (openstack stack update --existing), or delete it again if it was being deleted"


def _held(reading: Reading, snapshot: Snapshot) -> Verdict:
    """Rule 3: old engines hold nothing."""
    groups: dict[tuple[str, str], list[HeldRow]] = defaultdict(list)
    for row in reading.held_by_old:
        groups[row.stack_id, row.engine_id].append(row)
    running = {row.engine_id for row in reading.held_by_running}
    verdict = Verdict()
    # Those of engines that don't run come first: they need somebody to act.
    for (stack_id, engine_id), rows in sorted(groups.items(), key=lambda group: group[0][1] in running):
        verdict += _held_by(engine_id, rows, runs=engine_id in running, stranded=stack_id in snapshot.stranded)
    return verdict


def _held_by(engine_id: str, rows: list[HeldRow], *, runs: bool, stranded: bool) -> Verdict:
    resources = ", ".join(sorted(row.resource for row in rows if row.resource))
    lock = "its lock" if any(row.resource is None for row in rows) else ""
    what = " and ".join(filter(None, (resources and f"resource {resources}", lock)))
    of = f"{what} of {rows[0].stack}"
    if runs:
        return Verdict(blockers=(f"{of}: held by old engine {engine_id}",))
    dead = f"{of}: held by engine {engine_id}, which doesn't run any more"
    if stranded:
        return Verdict(notes=(f"{dead} (stranded before the upgrade, not waited for): {TAKE_UP}",))
    return Verdict(blockers=(f"{dead}, so waiting won't help: {TAKE_UP}",))


class DrainWatch:
    """
    Follow the readings until enough of them in a row are clean.

    A watch that begins anew, as after a restart of the triggerer, takes T0 anew: what the old side had begun and has
    not ended is in progress still, so nothing is lost; it only waits for some of the new side's stacks too.

    :param readings: clean readings in a row that are needed
    :param stranded: ids of the stacks that nobody worked on before the upgrade began
    """

    def __init__(self, *, readings: int, stranded: Iterable[str] = ()) -> None:
        self.needed = readings
        self.snapshot = Snapshot(stranded=frozenset(stranded))
        self.verdict = Verdict(blockers=("nothing was read yet",))
        self.taken = 0
        self.clean = 0
        self._broker_read = False
        self._retired = False
        self._last: Reading | None = None

    @property
    def drained(self) -> bool:
        """Tell whether the old engines may stop."""
        return self.verdict.clean and (self._retired or self.clean >= self.needed)

    def observe(self, reading: Reading) -> Verdict:
        """
        Take in one more reading, and say what it shows.

        :param reading: the reading; some seconds after the one before
        """
        self.taken += 1
        self._last = reading
        if self._finds_it_retired(reading):
            self._retired = True
            self.snapshot = self.snapshot.without_old_side(reading)
        else:
            self.snapshot = self.snapshot.after(reading)
        self.verdict = assess(reading, self.snapshot)
        self.clean = self.clean + 1 if self.verdict.clean else 0
        return self.verdict

    @property
    def left(self) -> dict[str, str] | None:
        """Return the stacks, by id, that are cut off if the old engines stop now; None where that can't be told."""
        reading = self._last
        if reading is None or isinstance(reading.broker, Unread) or isinstance(reading.database, Unread):
            return None
        waiting = {stack.id: str(stack) for stack in self.snapshot.waiting}
        held = {row.stack_id: row.stack for row in reading.held_by_old if row.stack_id not in self.snapshot.stranded}
        return held | waiting

    def _finds_it_retired(self, reading: Reading) -> bool:
        """Tell whether the old engines were stopped in an earlier run, as the first look at RabbitMQ shows."""
        if self._broker_read or isinstance(reading.broker, Unread):
            return False
        self._broker_read = True
        return reading.broker.deserted
