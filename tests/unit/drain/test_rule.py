"""The drain rule: each condition alone holds the gate, and so does everything that could not be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from heat_upgrade.drain.rule import Snapshot, assess
from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.readings import (
    Broker,
    ClientConnection,
    Database,
    ExpiringPolicy,
    HeldRow,
    QueueReading,
    Reading,
    StackRow,
    Unavailable,
    carries_work,
    engine_of,
)

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


def stack(id_: str = "s1", *, age: int | None = 42, name: str | None = None) -> StackRow:
    return StackRow(
        id=id_,
        name=name or f"name-{id_}",
        project="admin",
        action="CREATE",
        status="IN_PROGRESS",
        convergence=True,
        owner_id=None,
        age=age,
        traversal="t1",
    )


def held(engine_id: str = OLD, *, stack_id: str = "s1", resource: str | None = "a") -> HeldRow:
    return HeldRow(stack_id, f"name-{stack_id}", "admin", resource, engine_id)


def reading(*, after: float = 0, **parts: object) -> Reading:
    """A clean reading but for the parts that are given, by the names of the fields of Broker and Database."""
    broker = replace(BROKER, **{k: v for k, v in parts.items() if k in Broker.__dataclass_fields__})
    database = Database(
        stacks=parts.get("stacks", ()), held=parts.get("held", ()), unchanged=parts.get("unchanged", frozenset())
    )
    return replace(READING, began=T0 + timedelta(seconds=after), broker=broker, database=database)


def swap(changed: QueueReading) -> tuple[QueueReading, ...]:
    return (*(q for q in QUEUES if q.name != changed.name), changed)


def test_a_complete_reading_with_nothing_in_the_way_is_clean():
    verdict = assess(READING, TAKEN)
    assert verdict.clean
    assert verdict.blockers == verdict.errors == verdict.notes == ()


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


@pytest.mark.parametrize(("blocked", "expected"), BLOCKED.values(), ids=BLOCKED.keys())
def test_each_condition_alone_holds_the_gate_and_says_why(blocked, expected):
    verdict = assess(blocked, TAKEN)
    assert not verdict.clean
    assert len(verdict.blockers) == 1
    assert verdict.errors == ()
    assert all(text in verdict.blockers[0] for text in expected), verdict.blockers


def test_rule_4_a_stack_of_t0_in_progress_holds_the_gate():
    verdict = assess(READING, replace(TAKEN, waiting=(stack(age=3723),)))
    assert verdict.blockers == (
        "stack 'name-s1' (s1, project admin, CREATE, age 1 h 2 min) has been in progress since T0",
    )


@pytest.mark.parametrize(
    ("parts", "deserted"),
    [
        ({"unchanged": frozenset({"s1"})}, True),
        ({"unchanged": frozenset({"s1"}), "held": (held(DEAD, stack_id="s1"),)}, True),
        ({"unchanged": frozenset({"s1"}), "held": (held(OLD, stack_id="s1"),)}, False),
        ({"unchanged": frozenset({"s1"}), "held": (held(NEW, stack_id="s1"),)}, False),
        ({"unchanged": frozenset({"s2"})}, False),
    ],
    ids=["nobody's", "a dead engine's", "an old engine's", "a new engine's", "another one's"],
)
def test_rule_4_a_stack_that_nobody_works_on_is_told_from_one_that_takes_its_time(parts, deserted):
    verdict = assess(reading(**parts), replace(TAKEN, waiting=(stack("s1"),)))
    (told,) = (text for text in verdict.blockers if "since T0" in text)
    assert ("nobody works on it" in told) is deserted
    assert ("openstack stack update --existing" in told) is deserted


def test_the_stack_that_waits_longest_is_named_first():
    waiting = (stack("young", age=1), stack("unknown", age=None), stack("old", age=99))
    verdict = assess(READING, replace(TAKEN, waiting=waiting))
    assert [text.split("'")[1] for text in verdict.blockers] == ["name-old", "name-young", "name-unknown"]


@pytest.mark.parametrize(("age", "expected"), [(None, "age unknown"), (-5, "age 0 s"), (90061, "age 1 d 1 h")])
def test_every_age_can_be_told(age, expected):
    assert expected in str(stack(age=age))


def test_before_t0_nothing_is_clean():
    verdict = assess(READING, Snapshot())
    assert len(verdict.blockers) == 1
    assert "T0 is not taken yet" in verdict.blockers[0]


def test_several_resources_of_one_stack_are_one_line():
    rows = tuple(held(resource=name) for name in ("b", "a", None))
    verdict = assess(reading(held=rows), TAKEN)
    assert len(verdict.blockers) == 1
    assert verdict.blockers[0].startswith("resource a, b and its lock of stack 'name-s1'")


def test_what_new_engines_hold_and_begin_is_none_of_our_business():
    assert assess(reading(held=(held(NEW),), stacks=(stack(),)), TAKEN).clean


def test_what_engines_that_do_not_run_hold_is_named_first():
    verdict = assess(reading(held=(held(OLD), held(DEAD, stack_id="s2"))), TAKEN)
    assert DEAD in verdict.blockers[0]
    assert OLD in verdict.blockers[1]


@pytest.mark.parametrize("name", ["engine", "engine_worker"])
def test_work_that_nobody_can_read_is_an_error_at_once(name):
    verdict = assess(reading(queues=(queue(name, ready=2, consumers=0),), connections=()), TAKEN)
    assert not verdict.clean
    assert verdict.blockers == ()
    assert len(verdict.errors) == 1
    for text in (f"'{name}'", "2 ready", "waiting can't help", "start an engine of the old release", "'heat'"):
        assert text in verdict.errors[0]


def test_work_that_a_client_without_a_name_may_read_is_no_error_yet():
    """RabbitMQ tells a client's program and its consumers some seconds after it has connected."""
    waiting = (queue("engine", ready=1, consumers=0),)
    verdict = assess(reading(queues=waiting, connections=(ClientConnection(None, None, "10.0.0.11"),)), TAKEN)
    assert verdict.errors == ()
    assert any("no engine is seen to read it" in text for text in verdict.blockers)


@pytest.mark.parametrize(
    "name", [f"engine_worker.{DEAD}", f"heat-engine-listener.{DEAD}", "engine.controller-9", "heat-engine-listener"]
)
def test_leftovers_of_a_dead_engine_are_reported_and_not_waited_for(name):
    left = swap(queue(name, ready=1, consumers=0))
    verdict = assess(reading(queues=left), TAKEN)
    assert verdict.clean
    assert len(verdict.notes) == 1
    assert name in verdict.notes[0]


def test_what_was_stranded_before_is_named_and_blocks_nothing():
    before = replace(TAKEN, stranded=frozenset({"s1"}))
    verdict = assess(reading(stacks=(stack(),), held=(held(DEAD), held(UNKNOWN))), before)
    assert verdict.clean
    assert len(verdict.notes) == 3
    assert all("stranded before the upgrade" in note and "name-s1" in note for note in verdict.notes)


def test_a_stranded_stack_that_an_old_engine_works_on_again_blocks():
    revived = reading(stacks=(stack(),), held=(held(OLD),))
    snapshot = replace(TAKEN, stranded=frozenset({"s1"})).after(revived)
    verdict = assess(revived, snapshot)
    assert len(verdict.blockers) == 2
    between_two_resources = reading(stacks=(stack(),))
    assert not assess(between_two_resources, snapshot.after(between_two_resources)).clean


def test_t0_waits_until_two_readings_in_a_row_show_no_call():
    calls = reading(queues=swap(queue("engine", ready=1)), stacks=(stack("s1"),))
    quiet = reading(after=5, stacks=(stack("s1"), stack("s2")))
    snapshot = Snapshot().after(quiet).after(calls).after(quiet)
    assert snapshot.time is None
    snapshot = snapshot.after(reading(after=10, stacks=(stack("s2"), stack("s3"))))
    assert snapshot.time == T0 + timedelta(seconds=10)
    assert [row.id for row in snapshot.waiting] == ["s2", "s3"]


@pytest.mark.parametrize(
    "changed",
    [
        queue("engine", unacknowledged=1),
        queue("engine", ready=1, consumers=0),
        queue("engine.controller-1", ready=1),
    ],
)
def test_every_queue_that_calls_wait_in_defers_t0(changed):
    snapshot = Snapshot().after(READING).after(reading(queues=swap(changed)))
    assert snapshot.time is None
    assert snapshot.picked_up == 0


def test_calls_to_an_engine_that_is_dead_do_not_defer_t0():
    left = reading(queues=swap(queue("engine.controller-9", ready=1, consumers=0)))
    assert Snapshot().after(left).after(left).time is not None


@pytest.mark.parametrize("part", ["broker", "database"])
def test_a_reading_with_a_gap_starts_the_way_to_t0_anew(part):
    gap = replace(READING, **{part: Unavailable("down")})
    assert Snapshot().after(READING).after(gap).after(READING).time is None


def test_a_stack_once_seen_done_is_done_for_good():
    snapshot = replace(TAKEN, waiting=(stack("s1"), stack("s2")))
    snapshot = snapshot.after(reading(stacks=(stack("s2", age=50),)))
    assert [(row.id, row.age) for row in snapshot.waiting] == [("s2", 50)]
    updated_by_the_new_side = reading(stacks=(stack("s1"), stack("s2"), stack("begun later")))
    assert [row.id for row in snapshot.after(updated_by_the_new_side).waiting] == ["s2"]


@pytest.mark.parametrize("part", ["broker", "database"])
def test_what_was_not_read_ends_no_wait(part):
    snapshot = replace(TAKEN, waiting=(stack("s1"),))
    assert snapshot.after(replace(READING, **{part: Unavailable("down")})).waiting == (stack("s1"),)


def test_a_stack_that_shows_only_after_t0_in_the_hands_of_an_old_engine_is_waited_for():
    late = reading(stacks=(stack("late"),), held=(held(OLD, stack_id="late"),))
    snapshot = TAKEN.after(late)
    between_two_resources = reading(stacks=(stack("late"),))
    snapshot = snapshot.after(between_two_resources)
    assert not assess(between_two_resources, snapshot).clean
    assert assess(READING, snapshot.after(READING)).clean


def watched(*readings: Reading, needed: int = 3, stranded: tuple[str, ...] = ()) -> DrainWatch:
    watch = DrainWatch(readings=needed, stranded=stranded)
    for one in readings:
        watch.observe(one)
    return watch


def test_the_gate_opens_after_so_many_clean_readings_in_a_row():
    readings = [reading(after=5 * n) for n in range(4)]
    # The first only shows that no call is queued, so three clean ones need four.
    assert [watched(*readings[:n]).clean for n in range(5)] == [0, 0, 1, 2, 3]
    assert [watched(*readings[:n]).drained for n in range(5)] == [False, False, False, False, True]


@pytest.mark.parametrize("blocked", [pair[0] for pair in BLOCKED.values()], ids=BLOCKED.keys())
def test_one_bad_reading_starts_the_count_anew(blocked):
    watch = watched(READING, READING, READING, blocked)
    assert watch.clean == 0
    watch.observe(READING)
    watch.observe(READING)
    assert not watch.drained
    watch.observe(READING)
    assert watch.drained


def test_a_drained_watch_closes_again_if_another_reading_is_not_clean():
    watch = watched(*[READING] * 4)
    assert watch.drained
    watch.observe(reading(held=(held(),)))
    assert not watch.drained


DESERTED = {
    "the engines were stopped": reading(queues=(queue("engine", consumers=0),), connections=()),
    "the vhost was deleted": reading(exists=False, queues=(), connections=()),
}


@pytest.mark.parametrize("deserted", DESERTED.values(), ids=DESERTED.keys())
def test_a_vhost_that_nobody_uses_any_more_is_drained_at_once(deserted):
    assert watched(deserted).drained
    assert watched(replace(deserted, database=Database(stacks=(stack(),), held=(held(NEW),)))).drained


@pytest.mark.parametrize("deserted", DESERTED.values(), ids=DESERTED.keys())
@pytest.mark.parametrize(
    "database", [Database(stacks=(), held=(held(UNKNOWN),)), Unavailable("down")], ids=["unknown engine", "unread"]
)
def test_but_only_if_the_database_agrees(deserted, database):
    watch = watched(replace(deserted, database=database))
    assert not watch.drained
    watch.observe(deserted)
    assert watch.drained


@pytest.mark.parametrize("deserted", DESERTED.values(), ids=DESERTED.keys())
def test_where_no_new_engine_is_either_nobody_works_on_what_is_in_progress(deserted):
    nobody = replace(deserted.broker, new_engines=frozenset())
    quiet = replace(deserted, broker=nobody)
    assert watched(quiet).drained
    busy = replace(quiet, database=Database(stacks=(stack("s1"), stack("s2")), held=()))
    watch = watched(busy, stranded=("s2",))
    assert not watch.drained
    assert set(watch.left) == {"s1"}
    watch.observe(quiet)
    assert watch.drained


@pytest.mark.parametrize("deserted", DESERTED.values(), ids=DESERTED.keys())
def test_the_first_look_at_rabbitmq_counts_not_the_first_try(deserted):
    assert watched(replace(deserted, broker=Unavailable("down")), deserted).drained
    assert not watched(READING, deserted).drained


def test_engines_that_vanish_while_we_wait_open_nothing():
    in_flight = reading(stacks=(stack(),))
    vanished = reading(queues=(queue("engine", consumers=0),), connections=(), stacks=(stack(),))
    watch = watched(in_flight, in_flight, *[vanished] * 5)
    assert not watch.drained
    assert "name-s1" in watch.verdict.blockers[0]


def test_work_left_behind_in_a_deserted_vhost_is_an_error():
    left = reading(queues=(queue("engine_worker", ready=1, consumers=0),), connections=())
    watch = watched(left)
    assert not watch.drained
    assert watch.verdict.errors


def test_without_a_new_side_every_engine_is_an_old_one():
    alone = replace(BROKER, new_engines=frozenset())
    unknown = replace(READING, broker=alone, database=Database(stacks=(), held=(held(UNKNOWN),)))
    assert not watched(*[unknown] * 5).drained
    assert watched(*[replace(READING, broker=alone)] * 4).drained


def test_what_is_cut_off_is_in_progress_since_t0_or_held_by_an_old_engine():
    begun = reading(stacks=(stack("s1"), stack("stranded")), held=(held(stack_id="s1"), held(stack_id="s2")))
    watch = watched(begun, begun, stranded=("stranded",))
    assert watch.left == {
        "s1": "stack 'name-s1' (s1, project admin, CREATE, age 42 s)",
        "s2": "stack 'name-s2' (s2, project admin)",
    }
    watch.observe(READING)
    assert watch.left == {}


@pytest.mark.parametrize("part", ["broker", "database"])
def test_what_is_cut_off_cannot_be_told_from_half_a_reading(part):
    assert DrainWatch(readings=3).left is None
    assert watched(READING, READING, replace(READING, **{part: Unavailable("down")})).left is None


def test_nothing_is_drained_before_the_first_reading():
    assert not DrainWatch(readings=3).drained


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("engine", True),
        ("engine.controller-1", True),
        ("engine_worker", True),
        ("engine_worker.61f3c624", True),
        ("heat-engine-listener.61f3c624", True),
        ("engine_fanout_84ca2bc5", False),
        ("engine_worker_fanout_84ca2bc5", False),
        ("reply_84ca2bc5", False),
        ("notifications.info", False),
        ("my-engine", False),
    ],
)
def test_only_topics_and_engines_own_queues_carry_work(name, expected):
    assert carries_work(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("heat-engine-listener.61f3c624-32d0", "61f3c624-32d0"),
        ("heat-engine-listener", None),
        ("heat-engine-listener.", None),
        ("heat-engine-listener_fanout_1b7c", None),
        ("engine_worker.61f3c624-32d0", None),
    ],
)
def test_listener_queues_tell_the_ids_of_the_engines(name, expected):
    assert engine_of(name) == expected
