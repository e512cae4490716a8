"""Reads Heat's database: what became of the stacks of a run, which no API tells in full."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from lab.traffic.history import Event, Resource
from lab.traffic.stuck import Reading, Underway

_UNDERWAY = """
    SELECT s.id, s.name, s.owner_id, s.action, s.current_traversal,
           GROUP_CONCAT(CONCAT_WS(' ', r.id, r.action, r.status, r.atomic_key) ORDER BY r.id) AS resources,
           GROUP_CONCAT(r.engine_id) AS holders, MAX(l.engine_id) AS locker
    FROM stack s LEFT JOIN resource r ON r.stack_id = s.id LEFT JOIN stack_lock l ON l.stack_id = s.id
    WHERE s.name LIKE :prefix AND s.status = 'IN_PROGRESS' AND s.deleted_at IS NULL
    GROUP BY s.id"""
# as Heat's own `service list` tells up from down
_LIVE_ENGINES = """
    SELECT engine_id FROM service WHERE deleted_at IS NULL
    AND COALESCE(updated_at, created_at) >= UTC_TIMESTAMP() - INTERVAL 2 * report_interval SECOND"""
_STACKS = """
    SELECT id, name, status FROM stack WHERE name LIKE :prefix AND owner_id IS NULL"""
_EVENTS = """
    SELECT s.id, e.resource_action, e.resource_status, e.resource_status_reason AS reason
    FROM event e JOIN stack s ON s.id = e.stack_id
    WHERE s.name LIKE :prefix AND s.owner_id IS NULL AND e.resource_name = s.name
    AND e.resource_type = 'OS::Heat::Stack' ORDER BY e.id"""
_RESOURCE_EVENTS = """
    SELECT s.id, s.name, e.resource_name, e.resource_type, e.resource_action, e.resource_status,
           e.resource_status_reason AS reason
    FROM event e JOIN stack s ON s.id = e.stack_id
    WHERE s.name LIKE :prefix AND e.resource_type <> 'OS::Heat::Stack' ORDER BY e.id"""
# A stack's name begins with that of the stack that it is nested in.
_HELD = """
    SELECT DISTINCT t.name, r.engine_id FROM resource r JOIN stack s ON s.id = r.stack_id
    JOIN stack t ON t.id = COALESCE(r.root_stack_id, s.id)
    WHERE s.name LIKE :prefix AND r.engine_id IS NOT NULL"""
_SYNC_POINTS = """
    SELECT COUNT(*) FROM sync_point p JOIN stack s ON s.id = p.stack_id WHERE s.name LIKE :prefix"""


class HeatDatabase:
    """Heat's database, seen by one run of the traffic.

    :param url: an SQLAlchemy URL.
    :param prefix: what the names of the run's stacks begin with; nested stacks inherit it.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._names = {"prefix": f"{prefix}-%"}

    def reading(self) -> Reading:
        """Return what is in progress, and which engines are alive."""
        with self._connect() as connection:
            # long lists of resources must not be cut off, a change in the part that is lost would go unseen
            connection.execute(text("SET SESSION group_concat_max_len = 1000000"))
            rows = connection.execute(text(_UNDERWAY), self._names).mappings().all()
            live = connection.execute(text(_LIVE_ENGINES)).scalars().all()
        return Reading(tuple(_underway(dict(row)) for row in rows), frozenset(live))

    def stacks(self) -> dict[str, tuple[str, str]]:
        """Return name and status of each stack that a user has, or had, by its id."""
        with self._connect() as connection:
            rows = connection.execute(text(_STACKS), self._names)
            return {row.id: (row.name, row.status) for row in rows}

    def events(self) -> dict[str, list[Event]]:
        """Return each of these stacks' own events, in order, by its id."""
        events: dict[str, list[Event]] = defaultdict(list)
        with self._connect() as connection:
            for row in connection.execute(text(_EVENTS), self._names):
                events[row.id].append(Event(row.resource_action, row.resource_status, row.reason or ""))
        return events

    def resources(self) -> list[Resource]:
        """Return each resource that ever was, nested ones too, with its events in order."""
        events: dict[tuple[str, str, str, str], list[Event]] = defaultdict(list)
        with self._connect() as connection:
            for row in connection.execute(text(_RESOURCE_EVENTS), self._names):
                event = Event(row.resource_action, row.resource_status, row.reason or "")
                events[row.id, row.name, row.resource_name, row.resource_type].append(event)
        return [Resource(f"{name}/{own}", kind, tuple(told)) for (_, name, own, kind), told in events.items()]

    def work(self) -> tuple[frozenset[str], list[tuple[str, str]]]:
        """Return the ids of the engines that live; and each stack of a user that an engine is at, with that engine."""
        with self._connect() as connection:
            live = connection.execute(text(_LIVE_ENGINES)).scalars().all()
            held = connection.execute(text(_HELD), self._names)
            return frozenset(live), [(row.name, row.engine_id) for row in held]

    def sync_points(self) -> int:
        """Return how many sync points there are; once no stack is worked on any more, all are orphans."""
        with self._connect() as connection:
            return int(connection.execute(text(_SYNC_POINTS), self._names).scalar_one())

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection


def _underway(row: dict[str, Any]) -> Underway:
    holders = (row["holders"] or "").split(",")
    return Underway(
        stack_id=row["id"],
        name=row["name"],
        owner_id=row["owner_id"],
        state=f"{row['action']} {row['current_traversal']} {row['resources']}",
        engines=frozenset(engine for engine in (*holders, row["locker"]) if engine),
    )
