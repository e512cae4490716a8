"""The drain rule: each condition alone holds the gate, and so does everything that could not be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from heat_upgrade.drain.rule import Snapshot, assess
from heat_upgrade.readings import ClientConnection, Unavailable
from tests.unit._helpers.readings import (
    BLOCKED,
    DEAD,
    NEW,
    OLD,
    READING,
    T0,
    TAKEN,
    UNKNOWN,
    held,
    queue,
    reading,
    stack,
    swap,
)


def test_a_complete_reading_with_nothing_in_the_way_is_clean():
    verdict = assess(READING, TAKEN)
    assert verdict.clean
    assert verdict.blockers == verdict.errors == verdict.notes == ()


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


QUIET, BUSY = stack("s1", idle=60), stack("s1", idle=59)


@pytest.mark.parametrize(
    ("parts", "abandoned"),
    [
        ({"stacks": (QUIET,)}, True),
        ({"stacks": (QUIET,), "held": (held(DEAD, stack_id="s1"),)}, True),
        ({"stacks": (QUIET,), "held": (held(OLD, stack_id="s1"),)}, False),
        ({"stacks": (QUIET,), "held": (held(NEW, stack_id="s1"),)}, False),
        ({"stacks": (BUSY,)}, False),
        ({"stacks": (BUSY, stack("s2", idle=60))}, False),
    ],
    ids=["nobody's", "a dead engine's", "an old engine's", "a new engine's", "one that has changed", "another one's"],
)
def test_rule_4_a_stack_that_nobody_works_on_is_told_from_one_that_takes_its_time(parts, abandoned):
    verdict = assess(reading(**parts), replace(TAKEN, waiting=(stack("s1"),)))
    (told,) = (text for text in verdict.blockers if "since T0" in text)
    assert ("nobody works on it" in told) is abandoned
    assert ("openstack stack update --existing" in told) is abandoned


def test_the_stack_that_waits_longest_is_named_first():
    waiting = (stack("young", age=1), stack("unknown", age=None), stack("old", age=99))
    verdict = assess(READING, replace(TAKEN, waiting=waiting))
    assert [text.split("'")[1] for text in verdict.blockers] == ["name-old", "name-young", "name-unknown"]


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
def test_a_reading_with_a_gap_starts_the_way_to_t0_again(part):
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
