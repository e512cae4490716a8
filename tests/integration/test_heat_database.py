"""The database hook on a real MariaDB with Heat's real schema."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from heat_upgrade.exceptions import HeatDatabaseRefusedError, HeatDatabaseUnavailableError
from heat_upgrade.hooks import heat_database as module
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
from heat_upgrade.hooks.work import read_work
from heat_upgrade.readings import HeldRow, StackState
from heat_upgrade.stranded.rule import STRANDED_AFTER, abandoned
from tests.integration.conftest import HEAD, HeatDatabase

LIVE, DEAD = "61f3c624-32d0-439d-82a0-dbb6884d780c", "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def hook(connections: Callable[..., None]) -> HeatDatabaseHook:
    return HeatDatabaseHook("database")


def test_the_revision_is_that_of_the_release(hook):
    assert hook.revision() == HEAD


def test_the_test_button_says_what_is_there_or_wrong(hook, connections):
    assert hook.test_connection() == (True, f"Heat's schema is at revision {HEAD}")
    connections("database", password="wrong")
    works, says = HeatDatabaseHook("database").test_connection()
    assert not works
    assert "can't be read" in says
    assert "wrong" not in says


def test_an_empty_database_has_no_revision(hook, database, connections):
    database.execute("CREATE DATABASE nothing_in_it", root=True)
    database.execute("GRANT ALL ON nothing_in_it.* TO heat@'%%'", root=True)
    connections("database", schema="nothing_in_it")
    assert HeatDatabaseHook("database").revision() is None
    works, says = HeatDatabaseHook("database").test_connection()
    assert (works, says.partition(":")[0]) == (False, "The database has no schema of Heat's")
    database.execute("DROP DATABASE nothing_in_it", root=True)


@pytest.fixture(params=["SYSTEM", "+05:30", "-08:00"])
def time_zone(request: pytest.FixtureRequest, database: HeatDatabase) -> Iterator[str]:
    """New connections to the server are in this time zone."""
    database.execute("SET GLOBAL time_zone = %s", request.param, root=True)
    yield request.param
    database.execute("SET GLOBAL time_zone = 'SYSTEM'", root=True)


def test_times_are_utc_whatever_the_server_thinks(hook, database, time_zone):
    assert abs((hook.server_time() - datetime.now(UTC)).total_seconds()) < 5
    stack_id = database.add_stack(age=120)
    assert 120 <= hook.stacks_in_progress()[0].age < 125
    database.execute("UPDATE stack SET updated_at = UTC_TIMESTAMP() - INTERVAL 30 SECOND WHERE id = %s", stack_id)
    assert 30 <= hook.stacks_in_progress()[0].age < 35
    assert hook.unfinished_stacks()[0].idle < 35


def test_stacks_in_progress_are_read_whole_and_oldest_first(hook, database):
    parent = database.add_stack("parent", age=50)
    child = database.add_stack("parent-group-abc", age=40, owner_id=parent, convergence=0, action="UPDATE")
    database.add_stack("done", status="COMPLETE")
    database.add_stack("failed", status="FAILED")
    database.add_stack("deleted", deleted_at=datetime(2026, 1, 1))
    first, second = hook.stacks_in_progress()
    assert (first.id, first.name, first.project, first.action, first.status, first.convergence, first.owner_id) == (
        parent,
        "parent",
        "project-1",
        "CREATE",
        "IN_PROGRESS",
        True,
        None,
    )
    assert (second.id, second.owner_id, second.convergence, second.traversal) == (child, parent, False, "t1")


def test_what_engines_hold_is_read(hook, database):
    stack_id = database.add_stack("s", status="COMPLETE")
    database.add_resource(stack_id, LIVE, name="a")
    database.add_resource(stack_id, None, name="b")
    database.add_lock(stack_id, DEAD)
    database.execute("UPDATE resource SET nova_instance = 'nested' WHERE name = 'a'")
    assert hook.held() == [
        HeldRow(stack_id, "s", "project-1", "a", LIVE, "nested"),
        HeldRow(stack_id, "s", "project-1", None, DEAD),
    ]


def event(name: str, status: str, **columns: Any) -> dict[str, Any]:
    return {"resource_name": name, "resource_action": "CREATE", "resource_status": status, **columns}


def test_the_latest_events_of_resources_are_read_oldest_first(hook, database):
    assert hook.recent_events(100, 28) == []
    stack_id = database.add_stack("web")
    database.add_event(stack_id, age=40 * 86400, **event("long ago", "IN_PROGRESS"))
    database.add_event(stack_id, age=90, **event("web", "IN_PROGRESS", physical_resource_id=stack_id))
    database.add_event(stack_id, age=80, **event("server", "IN_PROGRESS", resource_type="OS::Nova::Server"))
    database.add_event(stack_id, age=20, **event("server", "COMPLETE", physical_resource_id="s1"))
    first, second = hook.recent_events(100, 28)
    assert first[:5] == (stack_id, "server", "OS::Nova::Server", "CREATE", "IN_PROGRESS")
    assert 59 <= (second.time - first.time).total_seconds() <= 61
    assert hook.recent_events(1, 28) == [second]


def test_the_size_is_that_of_heats_tables(hook, database):
    assert 100_000 < hook.size() < 10**9


def test_every_reading_is_a_new_one(hook, database):
    stack_id = database.add_stack()
    assert len(hook.stacks_in_progress()) == 1
    database.set_status(stack_id, "COMPLETE")
    assert hook.stacks_in_progress() == []


def stack(database: HeatDatabase, **columns: object) -> str:
    return database.add_stack(**{"age": 300, **columns})


def in_progress(database: HeatDatabase) -> str:
    return stack(database)


def held_by_the_dead(database: HeatDatabase) -> str:
    stack_id = stack(database)
    database.add_resource(stack_id, DEAD, age=300)
    return stack_id


def locked_by_the_dead(database: HeatDatabase) -> str:
    stack_id = stack(database, convergence=0)
    database.add_lock(stack_id, DEAD)
    return stack_id


def failed_but_held_by_the_dead(database: HeatDatabase) -> str:
    stack_id = stack(database, status="FAILED")
    database.add_resource(stack_id, DEAD, age=300)
    return stack_id


def quiet_for_exactly_that_long(database: HeatDatabase) -> str:
    stack_id = stack(database, age=60)
    database.add_event(stack_id, age=60)
    return stack_id


def held_by_the_living(database: HeatDatabase) -> None:
    stack_id = stack(database)
    database.add_resource(stack_id, DEAD, name="a", age=300)
    database.add_resource(stack_id, LIVE, name="b", age=300)


def locked_by_the_living(database: HeatDatabase) -> None:
    database.add_lock(stack(database), LIVE)


def young(database: HeatDatabase) -> None:
    stack(database, age=30)


def a_resource_has_changed(database: HeatDatabase) -> None:
    database.add_resource(stack(database), None, age=30)


def an_event_has_come(database: HeatDatabase) -> None:
    database.add_event(stack(database), age=30)


def complete(database: HeatDatabase) -> None:
    database.add_resource(stack(database, status="COMPLETE"), None, age=300)


def deleted(database: HeatDatabase) -> None:
    stack(database, deleted_at=datetime(2026, 1, 1))


STRANDED = [
    in_progress,
    held_by_the_dead,
    locked_by_the_dead,
    failed_but_held_by_the_dead,
    quiet_for_exactly_that_long,
]
NOT_STRANDED = [
    held_by_the_living,
    locked_by_the_living,
    young,
    a_resource_has_changed,
    an_event_has_come,
    complete,
    deleted,
]


@pytest.fixture
def abandoned_with(hook: HeatDatabaseHook) -> Callable[..., frozenset[str]]:
    """Tell what nobody has worked on for a minute while some engines listen."""

    def tell(*live: str) -> frozenset[str]:
        broker = mock.create_autospec(HeatRabbitMQHook, instance=True)
        broker.vhost_exists.return_value = True
        broker.live_engine_ids.return_value = broker.engine_ids.return_value = frozenset(live)
        return abandoned(read_work(broker, hook, ["heat"]), STRANDED_AFTER)

    return tell


@pytest.mark.parametrize("arrange", STRANDED, ids=lambda arrange: arrange.__name__)
def test_what_nobody_works_on_is_stranded(abandoned_with, database, arrange):
    stack_id = arrange(database)
    complete(database)
    assert abandoned_with(LIVE) == {stack_id}


@pytest.mark.parametrize("arrange", NOT_STRANDED, ids=lambda arrange: arrange.__name__)
def test_anything_else_is_not(abandoned_with, database, arrange):
    arrange(database)
    assert abandoned_with(LIVE, "another") == frozenset()


def test_without_a_live_engine_everything_held_is_stranded(abandoned_with, database):
    held_by_the_living(database)
    assert len(abandoned_with()) == 1


def test_a_stack_s_id_is_a_value_and_no_sql(hook, database):
    in_progress(database)
    complete(database)
    assert len(hook.unfinished_stacks(also={"x') OR 1=1 -- "})) == 1


def test_nothing_can_be_written_through_the_hook(hook, database):
    stack_id = database.add_stack()
    with pytest.raises(HeatDatabaseUnavailableError, match="READ ONLY"):
        hook._read("DELETE FROM stack WHERE id = %(id)s", {"id": stack_id})
    assert len(hook.stacks_in_progress()) == 1


@pytest.mark.parametrize(
    ("changed", "reason", "kind"),
    [
        ({"password": "wr@ng/pass"}, "Access denied", HeatDatabaseRefusedError),
        ({"login": "nobody"}, "Access denied", HeatDatabaseRefusedError),
        ({"port": 1}, "Can't connect", HeatDatabaseUnavailableError),
        ({"schema": "elsewhere"}, "denied", HeatDatabaseRefusedError),
    ],
)
def test_a_database_out_of_reach_is_an_error_with_the_next_step(connections, servers, changed, reason, kind):
    connections("database", **changed)
    with pytest.raises(kind, match=reason) as caught:
        HeatDatabaseHook("database").stacks_in_progress()
    message = str(caught.value)
    assert "of Airflow connection 'database'" in message
    assert servers.server_address in message
    assert servers.database().password not in message
    assert "wr@ng/pass" not in message


def test_a_server_that_accepts_and_says_nothing_does_not_hang_us(connections, monkeypatch):
    monkeypatch.setattr(module, "_CONNECT_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connections("database", host="127.0.0.1", port=silent.getsockname()[1])
        begun = time.monotonic()
        with pytest.raises(HeatDatabaseUnavailableError, match="handshake"):
            HeatDatabaseHook("database").stacks_in_progress()
        assert time.monotonic() - begun < 8


def test_a_query_that_hangs_does_not_hang_us(hook, database, monkeypatch):
    monkeypatch.setattr(module, "_READ_TIMEOUT", 1)
    with database.connected() as cursor:
        cursor.execute("LOCK TABLES stack WRITE")
        begun = time.monotonic()
        with pytest.raises(HeatDatabaseUnavailableError, match="during query"):
            hook.stacks_in_progress()
        assert time.monotonic() - begun < 8


def test_unfinished_stacks_come_with_all_those_above_them(hook, database):
    root = database.add_stack("root", status="COMPLETE", age=900)
    child = database.add_stack("child", status="FAILED", age=800, owner_id=root)
    grandchild = database.add_stack("grandchild", age=700, owner_id=child, action="UPDATE", current_traversal="t7")
    done = database.add_stack("done", status="COMPLETE")
    gone = database.add_stack("gone", status="COMPLETE", deleted_at=datetime(2026, 1, 1))
    orphan = database.add_stack("orphan", age=600, owner_id=gone)
    stacks = {stack.id: stack for stack in hook.unfinished_stacks()}
    assert set(stacks) == {root, child, grandchild, orphan}
    assert {stack.id for stack in hook.unfinished_stacks(also={done})} == {root, child, grandchild, orphan, done}
    found = stacks[grandchild]
    assert (found.name, found.action, found.status, found.owner_id) == ("grandchild", "UPDATE", "IN_PROGRESS", child)
    assert (found.project, found.traversal, found.convergence) == ("project-1", "t7", True)
    assert abs((datetime.now(UTC).replace(tzinfo=None) - found.since).total_seconds() - 700) < 5


def test_a_stack_is_idle_since_the_last_change_of_anything_in_it(hook, database):
    stack_id = database.add_stack(age=900)
    assert 900 <= hook.unfinished_stacks()[0].idle < 905
    database.add_event(stack_id, age=500)
    database.add_resource(stack_id, None, age=700)
    assert 500 <= hook.unfinished_stacks()[0].idle < 505
    database.execute("UPDATE resource SET updated_at = UTC_TIMESTAMP() - INTERVAL 100 SECOND")
    assert 100 <= hook.unfinished_stacks()[0].idle < 105


@pytest.mark.parametrize(
    ("action", "done"), [("CREATE", "CREATE"), ("UPDATE", "CREATE"), ("DELETE", "DELETE"), ("SUSPEND", "SUSPEND")]
)
def test_what_is_left_is_what_the_traversal_has_not_done(hook, database, action, done):
    stack_id = database.add_stack(action=action)
    for name in ("done", "not-begun", "under-way"):
        database.add_resource(stack_id, None, name=name)
    current = "(SELECT raw_template_id FROM stack)"
    database.execute(f"UPDATE resource SET status = 'COMPLETE', action = %s, current_template_id = {current}", done)
    assert hook.unfinished_stacks()[0].remaining == 0
    database.execute("UPDATE resource SET action = 'INIT', current_template_id = NULL WHERE name = 'not-begun'")
    database.execute("UPDATE resource SET status = 'IN_PROGRESS' WHERE name = 'under-way'")
    assert hook.unfinished_stacks()[0].remaining == 2


def test_engines_are_heard_of_by_their_reports(hook, database):
    for engine_id, age, deleted in ((LIVE, 30, None), (DEAD, 300, None), ("stopped", 30, datetime(2026, 1, 1))):
        database.execute(
            "INSERT INTO service (id, engine_id, host, hostname, `binary`, topic, report_interval, created_at,"
            " updated_at, deleted_at) VALUES (UUID(), %s, 'h', 'h', 'heat-engine', 'engine', 60,"
            " UTC_TIMESTAMP() - INTERVAL 1 DAY, UTC_TIMESTAMP() - INTERVAL %s SECOND, %s)",
            engine_id,
            age,
            deleted,
        )
    assert hook.engines_heard_of() == {LIVE}
    database.execute("UPDATE service SET report_interval = 300")
    assert hook.engines_heard_of() == {LIVE, DEAD}


def test_states_tell_ends_from_deletions_and_leave_out_what_is_purged(hook, database):
    failed = database.add_stack(status="FAILED", status_reason="no quota")
    deleted = database.add_stack(action="DELETE", status="COMPLETE", deleted_at=datetime(2026, 1, 1))
    states = hook.stack_states([failed, deleted, "purged"])
    assert states == {failed: StackState("CREATE", "FAILED", "no quota"), deleted: StackState("DELETE", None, "")}
    assert hook.stack_states([]) == {}


def test_what_a_canary_has_begun_is_counted_by_the_time_of_its_actions(hook, database, time_zone):
    def changed(stack_id: str, age: int) -> None:
        database.execute(
            "UPDATE stack SET updated_at = UTC_TIMESTAMP() - INTERVAL %s SECOND WHERE id = %s", age, stack_id
        )

    now = datetime.now(UTC)
    root = database.add_stack(status="FAILED", age=30, tenant="p1")
    database.add_stack(status="FAILED", age=30, tenant="p1", owner_id=root)
    database.add_stack(status="COMPLETE", age=20, tenant="p2", action="ROLLBACK")
    database.add_stack(status="IN_PROGRESS", age=10, tenant="p2")
    database.add_stack(status="FAILED", age=30, tenant="somebody else's")
    database.add_stack(status="FAILED", age=900, tenant="p1")
    changed(database.add_stack(status="FAILED", age=900, tenant="p1", action="UPDATE"), 40)
    assert hook.actions_begun(["p1", "p2"], now - timedelta(seconds=60), now + timedelta(seconds=60)) == (4, 3)
    assert hook.actions_begun(["p1", "p2"], now - timedelta(seconds=1000), now - timedelta(seconds=60)) == (1, 1)
    assert hook.actions_begun(["nobody"], now - timedelta(days=1), now) == (0, 0)
