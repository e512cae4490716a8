"""
When may the old engines stop? The rule, from readings to a verdict with reasons. Nothing here connects to anything.

The invariant: while any work of the old side's is unfinished, no reading is clean. Old work can only descend from old
work: no API of the old side is left to begin any, or, after a flip, only those beside the new ones, which are handed
requests for the stacks that stayed and no others (rule 1). And it is always in one of three places: in a message (rule
2), in the hands of an engine, which writes its id beside a resource or into a stack's lock (rule 3), or in a stack that
is IN_PROGRESS (rule 4). No two of them are enough: an engine acknowledges a message before it works on it, so a busy
one shows empty queues; between two resources it holds neither; and what an API has just asked for is in a message
alone. Work that changes its place in that moment can escape one reading, not several in a row. Where messages may
expire, an empty queue proves nothing (rule 5), and what is missing, partial, stale or an error counts as not drained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from heat_upgrade.readings import (
    BESIDE_PROGRAM,
    ENGINE_PROGRAM,
    TOPICS,
    WORK_TOPICS,
    Broker,
    Database,
    HeldRow,
    Reading,
    StackRow,
    Unavailable,
    Work,
)
from heat_upgrade.stranded.rule import STRANDED_AFTER, TAKE_UP, abandoned
from rabbitmq_management.records import QueueReading

# Parts that were read this many seconds apart don't show the same moment.
STALE_AFTER = 20.0
# A call that an engine has just taken up has no stack in the database yet: T0 waits for so many readings in a row.
_PICKED_UP = 2


@dataclass(frozen=True)
class Snapshot:
    """
    What the old side has to do yet: what it had begun at T0, or what stayed there at the flip.

    :param stranded: ids of the stacks that nobody worked on before the upgrade began
    :param time: T0, in UTC; None until the calls queued when the last old API stopped have been picked up
    :param waiting: the stacks that haven't yet been seen out of IN_PROGRESS, as they were last read
    :param picked_up: readings in a row without a queued call
    :param kept: ids of the stacks that stayed on the old side at the flip, and of what its engines have made in them
        since; None where there was no flip, so that all that is in progress at T0 counts
    """

    stranded: frozenset[str] = frozenset()
    time: datetime | None = None
    waiting: tuple[StackRow, ...] = ()
    picked_up: int = 0
    kept: frozenset[str] | None = None

    def after(self, reading: Reading) -> Snapshot:
        """
        Return the snapshot as one more reading leaves it.

        Of what was in progress at T0, a stack that was seen done never comes back by itself: its users are on the new
        side. Those of a stack that stayed at the flip are not, until the close.

        :param reading: the reading that follows
        """
        if isinstance(reading.broker, Unavailable) or isinstance(reading.database, Unavailable):
            return self if self.time else replace(self, picked_up=0)
        # Somebody has revived what was stranded, or a call's stack showed only after T0: an old engine works on it.
        revived = {row.stack_id for row in reading.held_by_running}
        snapshot = replace(self, stranded=self.stranded - revived)
        if self.kept is not None:
            return snapshot._of_kept(self.kept | revived, reading, reading.database)
        if self.time is None:
            return snapshot._towards_t0(reading, reading.broker, reading.database)
        ids = {stack.id for stack in self.waiting} | revived
        return replace(snapshot, waiting=tuple(stack for stack in reading.database.in_progress if stack.id in ids))

    def without_old_side(self, reading: Reading) -> Snapshot:
        """
        Return the snapshot of a first reading that finds no old engine: who is in progress is the new side's.

        :param reading: the reading
        """
        broker, database = reading.broker, reading.database
        if self.kept is not None:
            return self.after(reading)
        if isinstance(broker, Unavailable) or isinstance(database, Unavailable) or broker.new_engines:
            return replace(self, time=reading.began)
        # Nobody's: there is no new side either.
        waiting = tuple(stack for stack in database.in_progress if stack.id not in self.stranded)
        return replace(self, time=reading.began, waiting=waiting)

    def _of_kept(self, kept: frozenset[str], reading: Reading, database: Database) -> Snapshot:
        while made := {stack.id for stack in database.stacks if stack.owner_id in kept} - kept:
            kept |= made
        waiting = tuple(stack for stack in database.in_progress if stack.id in kept - self.stranded)
        return replace(self, time=self.time or reading.began, waiting=waiting, kept=kept)

    def _towards_t0(self, reading: Reading, broker: Broker, database: Database) -> Snapshot:
        picked_up = 0 if broker.calls_queued else self.picked_up + 1
        waiting = tuple(stack for stack in database.in_progress if stack.id not in self.stranded)
        time = reading.began if picked_up >= _PICKED_UP else None
        return replace(self, time=time, waiting=waiting, picked_up=picked_up)


@dataclass(frozen=True)
class Verdict:
    """
    What one reading means.

    :param blockers: what is still in the way
    :param errors: what no waiting can fix, with what will
    :param notes: what an operator should know and what blocks nothing
    """

    blockers: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Return whether nothing at all is in the way."""
        return not self.blockers and not self.errors

    def __add__(self, other: Verdict) -> Verdict:
        """Join the verdicts of two rules."""
        return Verdict(self.blockers + other.blockers, self.errors + other.errors, self.notes + other.notes)


def assess(reading: Reading, snapshot: Snapshot) -> Verdict:
    """
    Return whether the old side is drained, as far as one reading shows.

    :param reading: what was read
    :param snapshot: what the old side has to do yet, as this reading leaves it
    """
    verdict = _complete(reading)
    if isinstance(reading.broker, Broker):
        verdict += _connections(reading.broker, snapshot)
        for rule in _BROKER_RULES:
            verdict += rule(reading.broker)
    return verdict + _held(reading, snapshot) + _stacks(reading, snapshot)


def _complete(reading: Reading) -> Verdict:
    parts = (("RabbitMQ", reading.broker), ("Heat's database", reading.database))
    unread = tuple(f"{name} was not read: {part.reason}" for name, part in parts if isinstance(part, Unavailable))
    if reading.seconds > STALE_AFTER:
        stale = f"the reading took {reading.seconds:.0f} s, at most {STALE_AFTER:.0f} s show the same moment"
        return Verdict(blockers=(*unread, stale))
    return Verdict(blockers=unread)


def _connections(broker: Broker, snapshot: Snapshot) -> Verdict:
    """Rule 1: nothing but engines, and after a flip the old APIs beside the new ones, is connected to the old vhost."""
    reason = f"is connected to the old vhost {broker.vhost!r}, where only engines should be: stop it"
    allowed = {ENGINE_PROGRAM} if snapshot.kept is None else {ENGINE_PROGRAM, BESIDE_PROGRAM}
    strangers = (client for client in broker.connections if client.program not in allowed)
    return Verdict(blockers=tuple(f"{client} {reason}" for client in strangers))


def _queues(broker: Broker) -> Verdict:
    """Rule 2: queues with a consumer are empty; what has none will never be read."""
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
        return Verdict(notes=(f"{queue} has no consumer left; its messages will never be read",))
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
    reason = f"makes messages of the old vhost {broker.vhost!r} expire, so empty queues prove nothing: delete it"
    return Verdict(blockers=tuple(f"{policy.name} ({policy.setting}) {reason}" for policy in broker.expiring))


_BROKER_RULES: tuple[Callable[[Broker], Verdict], ...] = (_queues, _expiring)


def _stacks(reading: Reading, snapshot: Snapshot) -> Verdict:
    """Rule 4: every stack that the old side had begun at T0, or that stayed there at the flip, is done or gone."""
    if snapshot.time is None and snapshot.kept is not None:
        return Verdict(blockers=("what stayed on the old side at the flip was not read yet",))
    if snapshot.time is None:
        queued = reading.broker.calls_queued if isinstance(reading.broker, Broker) else "an unknown number of"
        return Verdict(
            blockers=(
                f"T0 is not taken yet: {queued} calls wait for an engine, two readings in a row without any are needed",
            )
        )
    deserted = _deserted(reading)
    oldest_first = sorted(snapshot.waiting, key=lambda stack: -(stack.age or 0))
    why = "has been in progress since T0" if snapshot.kept is None else "stayed on the old side and is in progress"
    blockers = (
        f"{stack} {why}"
        + (f", and nobody works on it, so waiting won't help: {TAKE_UP}" if stack.id in deserted else "")
        for stack in oldest_first
    )
    return Verdict(blockers=tuple(blockers), notes=tuple(_stranded(reading, snapshot)))


def _deserted(reading: Reading) -> frozenset[str]:
    """Return the stacks that no engine works on, as two sides that don't know each other can leave one behind."""
    broker, database = reading.broker, reading.database
    if isinstance(broker, Unavailable) or isinstance(database, Unavailable):
        return frozenset()
    listening = broker.running_engines | broker.new_engines
    return abandoned(Work(database.stacks, database.held, listening), STRANDED_AFTER)


def _stranded(reading: Reading, snapshot: Snapshot) -> Iterator[str]:
    if isinstance(reading.database, Database):
        for stack in reading.database.in_progress:
            if stack.id in snapshot.stranded:
                yield f"{stack} was stranded before the upgrade and is not waited for: {TAKE_UP}"


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
