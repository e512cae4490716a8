"""Readings of an old side for the drain: a clean one, and those with one thing in the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from heat_upgrade.drain.rule import Snapshot
from heat_upgrade.readings import Broker, ClientConnection, Database, HeldRow, Reading, Unavailable, UnfinishedStack
from rabbitmq_management.records import ExpiringPolicy, QueueReading

T0 = datetime(2026, 11, 22, 3, 12, tzinfo=UTC)
OLD, NEW, DEAD, UNKNOWN = "old-engine", "new-engine", "dead-engine", "unknown-engine"
ENGINE = ClientConnection("heat-engine", 4711, "10.0.0.11")


def queue(name: str, ready: int = 0, unacknowledged: int = 0, consumers: int = 1) -> QueueReading:
    return QueueReading(name, ready, unacknowledged, consumers)


QUEUES = (
    queue("engine"),
    queue("engine.controller-1"),
    queue("engine_worker"),
    queue(f"engine_worker.{OLD}"),
    queue("heat-engine-listener"),
    queue(f"heat-engine-listener.{OLD}"),
    queue(f"heat-engine-listener.{DEAD}", consumers=0),
    queue("engine_fanout_84ca2bc5c945451ab027882fe66b6453"),
)
BROKER = Broker(
    vhost="heat",
    exists=True,
    queues=QUEUES,
    connections=(ENGINE,),
    expiring=(),
    new_engines=frozenset({NEW}),
)
READING = Reading(began=T0, seconds=0.1, broker=BROKER, database=Database(stacks=(), held=()))
TAKEN = Snapshot(time=T0)


def stack(id_: str = "s1", *, age: int | None = 42, name: str | None = None, idle: int | None = 1) -> UnfinishedStack:
    return UnfinishedStack(
        id=id_,
        name=name or f"name-{id_}",
        project="admin",
        action="CREATE",
        status="IN_PROGRESS",
        convergence=True,
        owner_id=None,
        age=age,
        traversal="t1",
        since=T0,
        idle=idle,
        remaining=1,
    )


def held(engine_id: str = OLD, *, stack_id: str = "s1", resource: str | None = "a") -> HeldRow:
    return HeldRow(stack_id, f"name-{stack_id}", "admin", resource, engine_id)


def reading(*, after: float = 0, **parts: Any) -> Reading:
    """A clean reading but for the parts that are given, by the names of the fields of Broker and Database."""
    broker = replace(BROKER, **{k: v for k, v in parts.items() if k in Broker.__dataclass_fields__})
    database = Database(stacks=parts.get("stacks", ()), held=parts.get("held", ()))
    return replace(READING, began=T0 + timedelta(seconds=after), broker=broker, database=database)


def swap(changed: QueueReading) -> tuple[QueueReading, ...]:
    return (*(q for q in QUEUES if q.name != changed.name), changed)


BLOCKED = {
    "rule 1: an API is connected": (
        reading(connections=(ENGINE, ClientConnection("uwsgi", 12, "10.0.0.14"))),
        ["uwsgi (pid 12) at 10.0.0.14", "'heat'"],
    ),
    "rule 1: a client that doesn't tell its program": (
        reading(connections=(ENGINE, ClientConnection(None, None, "10.0.0.14"))),
        ["a program without a name at 10.0.0.14"],
    ),
    "rule 2: ready messages": (reading(queues=swap(queue("engine_worker", ready=3))), ["'engine_worker'", "3 ready"]),
    "rule 2: unacknowledged messages": (
        reading(queues=swap(queue("engine", unacknowledged=2))),
        ["'engine'", "2 unacknowledged"],
    ),
    "rule 2: a message in the hands of a consumer that doesn't show yet": (
        reading(queues=swap(queue(f"engine_worker.{DEAD}", unacknowledged=1, consumers=0))),
        [f"engine_worker.{DEAD}", "1 unacknowledged"],
    ),
    "rule 2: an engine's own queue": (
        reading(queues=swap(queue(f"engine_worker.{OLD}", ready=1))),
        [f"engine_worker.{OLD}"],
    ),
    "rule 2: a fanout queue": (
        reading(queues=swap(queue("engine_fanout_84ca2bc5c945451ab027882fe66b6453", ready=1))),
        ["engine_fanout_"],
    ),
    "rule 2: work that a connected engine isn't seen to read": (
        reading(queues=swap(queue("engine_worker", ready=1, consumers=0))),
        ["'engine_worker'", "no engine is seen to read it"],
    ),
    "rule 2: a topic is missing": (
        reading(queues=tuple(q for q in QUEUES if q.name != "engine_worker")),
        ["'engine_worker' is not listed"],
    ),
    "rule 3: a resource of a running old engine": (
        reading(held=(held(),)),
        ["resource a of stack 'name-s1'", "project admin", f"held by old engine {OLD}"],
    ),
    "rule 3: a lock": (reading(held=(held(resource=None),)), ["its lock of stack 'name-s1'", OLD]),
    "rule 3: a resource of an old engine that is gone": (
        reading(held=(held(DEAD),)),
        [DEAD, "doesn't run any more", "waiting won't help", "openstack stack update"],
    ),
    "rule 3: a resource of an engine that nobody knows": (
        reading(held=(held(UNKNOWN),)),
        [UNKNOWN, "waiting won't help"],
    ),
    "rule 5: a policy expires messages": (
        reading(expiring=(ExpiringPolicy("policy 'ttl'", "message-ttl 70000"),)),
        ["policy 'ttl'", "message-ttl 70000", "prove nothing"],
    ),
    "RabbitMQ was not read": (
        replace(READING, broker=Unavailable("401: check the password")),
        ["RabbitMQ was not read", "401: check the password"],
    ),
    "the database was not read": (
        replace(READING, database=Unavailable("no route to host")),
        ["database was not read", "no route to host"],
    ),
    "a reading that took too long": (replace(READING, seconds=21), ["took 21 s"]),
}
