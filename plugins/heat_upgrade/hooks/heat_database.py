"""Heat's database: which stacks are in progress, and which engines work on what. Nothing here writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import MySQLdb  # type: ignore[import-untyped]
from airflow.providers.mysql.hooks.mysql import MySqlHook

from heat_upgrade.exceptions import HeatDatabaseRefusedError, HeatDatabaseUnavailableError
from heat_upgrade.readings import BegunActions, EventRow, HeldRow, StackInTree, StackRow, StackState, UnfinishedStack

if TYPE_CHECKING:
    from airflow.sdk import Connection

AnyStack = TypeVar("AnyStack", bound=StackRow)

# Seconds: a database that is gone must not hold a task for the hours that TCP would wait.
_CONNECT_TIMEOUT = 5
_READ_TIMEOUT = 10
_NO_SUCH_TABLE = 1146
# The server's codes for a wrong login, database or right; none of them comes while it starts or is busy.
_REFUSALS = {1044, 1045, 1049, 1142, 1143, 1698}

# Heat writes times in UTC, whatever the server's time zone is.
_STACK = """
SELECT s.id, s.name, s.tenant, s.action, s.status, s.convergence, s.owner_id,
       TIMESTAMPDIFF(SECOND, COALESCE(s.updated_at, s.created_at), UTC_TIMESTAMP()), s.current_traversal
"""
_IN_PROGRESS = """
FROM stack s
WHERE s.status = 'IN_PROGRESS' AND s.deleted_at IS NULL
ORDER BY s.created_at, s.id
"""
# Both ways from each: whoever works on one stack of a tree may go on to any other one of it.
_TREES = """
WITH RECURSIVE above AS (
    SELECT id, owner_id FROM stack WHERE deleted_at IS NULL AND (status = 'IN_PROGRESS' OR id IN %(besides)s)
    UNION SELECT s.id, s.owner_id FROM stack s JOIN above a ON s.id = a.owner_id WHERE s.deleted_at IS NULL
), tree AS (
    SELECT id FROM above
    UNION SELECT s.id FROM stack s JOIN tree t ON s.owner_id = t.id WHERE s.deleted_at IS NULL
)
SELECT s.id, s.tenant, s.owner_id, s.status = 'IN_PROGRESS' OR s.id IN %(besides)s
FROM stack s JOIN tree t ON s.id = t.id
"""
_HELD = """
SELECT r.stack_id, COALESCE(s.name, '?'), COALESCE(s.tenant, '?'), COALESCE(r.name, '?'), r.engine_id, r.nova_instance
FROM resource r LEFT JOIN stack s ON s.id = r.stack_id
WHERE r.engine_id IS NOT NULL
UNION ALL
SELECT l.stack_id, COALESCE(s.name, '?'), COALESCE(s.tenant, '?'), NULL, l.engine_id, NULL
FROM stack_lock l LEFT JOIN stack s ON s.id = l.stack_id
WHERE l.engine_id IS NOT NULL
"""
# By the primary key, which is the only index in the order of time; a stack's own events have its id as physical one.
_EVENTS = """
SELECT e.stack_id, e.resource_name, e.resource_type, e.resource_action, e.resource_status, e.created_at
FROM event e
WHERE e.id > (SELECT MAX(id) FROM event) - %(rows)s AND e.created_at > UTC_TIMESTAMP() - INTERVAL %(days)s DAY
  AND COALESCE(e.physical_resource_id, '') <> e.stack_id
ORDER BY e.id
"""
_SIZE = """
SELECT COALESCE(SUM(data_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()
"""


# Done is what this traversal has taken to the stack's template or, where an action keeps the template, that action.
_UNFINISHED = """,
       COALESCE(s.updated_at, s.created_at),
       TIMESTAMPDIFF(SECOND, GREATEST(
           COALESCE(s.updated_at, s.created_at),
           COALESCE((SELECT MAX(COALESCE(r.updated_at, r.created_at)) FROM resource r WHERE r.stack_id = s.id),
                    s.created_at),
           COALESCE((SELECT MAX(e.created_at) FROM event e WHERE e.stack_id = s.id), s.created_at)), UTC_TIMESTAMP()),
       (SELECT COUNT(*) FROM resource r WHERE r.stack_id = s.id AND NOT (
           r.status = 'COMPLETE' AND IF(s.action IN ('DELETE', 'SUSPEND', 'RESUME', 'CHECK'), r.action = s.action,
                                        r.action <> 'INIT' AND r.current_template_id <=> s.raw_template_id)))
FROM stack s
WHERE """
# Parents come before their children.
_OLDEST_FIRST = " ORDER BY s.created_at, s.id"
_WORK_LEFT = "s.status = 'IN_PROGRESS' AND s.deleted_at IS NULL"
# As long as Heat itself takes an engine for alive without its report: format_service in heat/common/service_utils.py.
_HEARD_OF = """
SELECT engine_id FROM service
WHERE deleted_at IS NULL AND COALESCE(updated_at, created_at) > UTC_TIMESTAMP() - INTERVAL 2 * report_interval SECOND
"""
_STATES = "SELECT id, action, IF(deleted_at IS NULL, status, NULL), status_reason FROM stack WHERE id IN %(ids)s"

# Heat's updated_at is when an action began (bug 1193269). A stack that fails below another one fails that too.
_BEGUN = """
SELECT COUNT(*), COALESCE(SUM(s.status = 'FAILED' OR s.action = 'ROLLBACK'), 0)
FROM stack s
WHERE s.tenant IN %(projects)s AND s.owner_id IS NULL
  AND COALESCE(s.updated_at, s.created_at) >= %(since)s AND COALESCE(s.updated_at, s.created_at) < %(until)s
"""


class HeatDatabaseHook(MySqlHook):
    """
    Read Heat's database, over a new connection each time, which can't write.

    :param mysql_conn_id: Airflow connection of type heat_database or mysql: host, port, schema, login and password as
        in Heat's own ``[database] connection``; an account that can only read is enough
    """

    conn_type = "heat_database"
    hook_name = "OpenStack Heat database"

    def __init__(self, mysql_conn_id: str = MySqlHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(mysql_conn_id=mysql_conn_id, init_command="SET SESSION TRANSACTION READ ONLY", **kwargs)

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]
        """Return whether Heat's schema can be read, and at which revision it is, or what is wrong."""
        try:
            revision = self.revision()
        except (HeatDatabaseUnavailableError, HeatDatabaseRefusedError) as error:
            return False, str(error)
        if revision is None:
            return False, "The database has no schema of Heat's: correct its name, or run heat-manage db_sync"
        return True, f"Heat's schema is at revision {revision}"

    def revision(self) -> str | None:
        """Return the schema's alembic revision; None for an empty database."""
        try:
            rows = self._read("SELECT version_num FROM alembic_version")
        except HeatDatabaseUnavailableError as error:
            if isinstance(error.__cause__, MySQLdb.ProgrammingError) and error.__cause__.args[0] == _NO_SUCH_TABLE:
                return None
            raise
        return str(rows[0][0]) if rows else None

    def server_time(self) -> datetime:
        """Return the database's time, in UTC."""
        now: datetime = self._read("SELECT UTC_TIMESTAMP(6)")[0][0]
        return now.replace(tzinfo=UTC)

    def stacks_in_progress(self) -> list[StackRow]:
        """Return the stacks in progress, nested ones too, oldest first."""
        return [_stack(StackRow, row) for row in self._read(_STACK + _IN_PROGRESS)]

    def held(self) -> list[HeldRow]:
        """Return what engines work on, or have worked on when they died; stacks have locks only without convergence."""
        return [HeldRow(*row) for row in self._read(_HELD)]

    def trees_in_flight(self, besides: Collection[str] = ()) -> list[StackInTree]:
        """
        Return the stacks in progress, with all those above and below them.

        :param besides: ids of stacks that count as in progress, whatever the database says
        """
        # No list in SQL is empty.
        rows = self._read(_TREES, {"besides": ["", *sorted(besides)]})
        return [StackInTree(id_, project, owner, bool(in_progress)) for id_, project, owner, in_progress in rows]

    def recent_events(self, rows: int, days: int) -> list[EventRow]:
        """
        Return the latest events of resources, oldest first.

        :param rows: how many of the latest events are looked at
        :param days: how old they may be
        """
        return [EventRow(*row) for row in self._read(_EVENTS, {"rows": rows, "days": days})]

    def size(self) -> int:
        """Return what the tables hold without their indices, in bytes: about what a dump takes."""
        return int(self._read(_SIZE)[0][0])

    def unfinished_stacks(self, also: Collection[str] = ()) -> list[UnfinishedStack]:
        """
        Return the stacks in progress, and all those above them.

        :param also: ids of others to return, with all those above them
        """
        # No list in SQL is empty.
        stacks = self._unfinished(f"{_WORK_LEFT} OR s.id IN %(ids)s", {"ids": ["", *sorted(also)]})
        wanted = {stack.owner_id for stack in stacks} - {None}
        while wanted := wanted - {stack.id for stack in stacks}:
            owners = self._unfinished("s.deleted_at IS NULL AND s.id IN %(ids)s", {"ids": sorted(map(str, wanted))})
            stacks += owners
            wanted = {stack.owner_id for stack in owners} - {None}
        return stacks

    def _unfinished(self, which: str, values: Mapping[str, Any] | None = None) -> list[UnfinishedStack]:
        rows = self._read(_STACK + _UNFINISHED + which + _OLDEST_FIRST, values)
        return [_stack(UnfinishedStack, row) for row in rows]

    def engines_heard_of(self) -> frozenset[str]:
        """Return the ids of the engines that report to the database, as they do once a minute."""
        return frozenset(row[0] for row in self._read(_HEARD_OF))

    def stack_states(self, ids: Collection[str]) -> dict[str, StackState]:
        """
        Return how stacks are now, by id; without those that have been purged.

        :param ids: ids of stacks
        """
        if not ids:
            return {}
        rows = self._read(_STATES, {"ids": sorted(ids)})
        return {id_: StackState(action, status, reason or "") for id_, action, status, reason in rows}

    def actions_begun(self, projects: Collection[str], since: datetime, until: datetime) -> BegunActions:
        """
        Count the stacks, nested ones apart, whose latest action has begun in a while; a rollback counts as a failure.

        :param projects: ids of the stacks' projects, at least one
        :param since: the beginning of that while
        :param until: its end
        """
        span = {key: at.astimezone(UTC).replace(tzinfo=None) for key, at in (("since", since), ("until", until))}
        total, failed = self._read(_BEGUN, {"projects": sorted(projects), **span})[0]
        return BegunActions(int(total), int(failed))

    def _read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        try:
            # A connection each time: what was read before can't be seen again, and one that broke does not matter.
            with closing(self.get_conn()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(sql, dict(parameters or {}))
                return list(cursor.fetchall())
        except MySQLdb.Error as error:
            connection = self.connection
            kind = (
                HeatDatabaseRefusedError if error.args and error.args[0] in _REFUSALS else HeatDatabaseUnavailableError
            )
            raise kind(
                f"Heat's database {connection.schema!r} at {connection.host}:{connection.port or 3306} can't be read "
                f"({type(error).__name__}: {', '.join(map(str, error.args))}): check that the server runs, and host, "
                f"port, schema, login and password of Airflow connection {self.get_conn_id()!r}"
            ) from error

    def _get_conn_config_mysql_client(self, conn: Connection) -> dict[str, Any]:
        timeouts = {"connect_timeout": _CONNECT_TIMEOUT, "read_timeout": _READ_TIMEOUT, "write_timeout": _READ_TIMEOUT}
        return {**super()._get_conn_config_mysql_client(conn), **timeouts}


def _stack(kind: type[AnyStack], row: tuple[Any, ...]) -> AnyStack:
    stack = kind(*row)
    return replace(stack, convergence=bool(stack.convergence))
