"""The drain rule over time: so many clean readings in a row open the gate, and one that isn't begins again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.readings import Database, Reading, Unavailable
from tests.unit._helpers.readings import BLOCKED, BROKER, NEW, READING, UNKNOWN, held, queue, reading, stack


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
def test_one_bad_reading_starts_the_count_again(blocked):
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
    assert set(watch.remaining) == {"s1"}
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
    assert watch.remaining == {
        "s1": "stack 'name-s1' (s1, project admin, CREATE, age 42 s)",
        "s2": "stack 'name-s2' (s2, project admin)",
    }
    watch.observe(READING)
    assert watch.remaining == {}


@pytest.mark.parametrize("part", ["broker", "database"])
def test_what_is_cut_off_cannot_be_told_from_half_a_reading(part):
    assert DrainWatch(readings=3).remaining is None
    assert watched(READING, READING, replace(READING, **{part: Unavailable("down")})).remaining is None


def test_nothing_is_drained_before_the_first_reading():
    assert not DrainWatch(readings=3).drained
