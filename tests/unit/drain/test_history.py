"""What is kept of a drain for the report: bounded, even, and never in the gate's way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from heat_upgrade.drain.history import MOST_READINGS, MOST_STACKS, DrainHistory
from heat_upgrade.drain.rule import Snapshot
from heat_upgrade.readings import Unavailable
from tests.unit._helpers.readings import held, queue, reading, stack

ONE = reading(queues=(queue("engine", ready=3, unacknowledged=1),), stacks=(stack(),), held=(held(),))


def after(seconds: float):
    return replace(ONE, began=ONE.began + timedelta(seconds=seconds))


def test_a_reading_is_kept_as_a_few_numbers():
    course = DrainHistory()
    course.add(ONE, Snapshot(waiting=(stack(), stack())))
    assert course.as_xcom()["readings"] == [[ONE.began.timestamp(), 4, 1, 2, None]]


def test_after_a_flip_the_new_sides_stacks_are_counted_apart():
    kept, begun, stranded = (replace(stack(), id=id_) for id_ in ("kept", "begun", "stranded"))
    snapshot = Snapshot(kept=frozenset({"kept"}), waiting=(kept,), stranded=frozenset({"stranded"}))
    course = DrainHistory()
    course.add(replace(ONE, database=replace(ONE.database, stacks=(kept, begun, stranded))), snapshot)
    course.add(replace(after(5), database=Unavailable("away")), snapshot)
    assert [kept[3:] for kept in course.as_xcom()["readings"]] == [[1, 1], [None, None]]


@pytest.mark.parametrize("part", ["broker", "database"])
def test_what_was_not_read_is_not_made_up(part):
    course = DrainHistory()
    course.add(replace(ONE, **{part: Unavailable("away")}), Snapshot(waiting=(stack(),)))
    (kept,) = course.as_xcom()["readings"]
    assert kept[1:] == ([None] * 4 if part == "broker" else [4, None, None, None])


@pytest.mark.parametrize("many", [MOST_READINGS, 1000, 10_007])
def test_a_long_drain_is_thinned_out_evenly_and_keeps_its_ends(many: int):
    course = DrainHistory()
    for number in range(many):
        course.add(after(number), Snapshot())
    times = [kept[0] - ONE.began.timestamp() for kept in course.as_xcom()["readings"]]
    assert MOST_READINGS / 2 <= len(times) <= MOST_READINGS + 1
    assert (times[0], times[-1]) == (0, many - 1)
    assert len({second - first for first, second in pairwise(times[:-1])}) == 1


def test_the_stacks_of_t0_are_kept_as_they_were_then():
    course = DrainHistory()
    course.add(ONE, Snapshot(waiting=(stack(),)))
    assert course.as_xcom()["t0"] is None
    course.add(after(1), Snapshot(time=after(1).began, waiting=(stack(), stack())))
    course.add(after(2), Snapshot(time=after(1).began))
    kept = course.as_xcom()
    assert (kept["t0"], kept["in_flight"], len(kept["stacks"])) == (after(1).began.timestamp(), 2, 2)
    assert set(kept["stacks"][0]) == {"id", "name", "project", "action"}


def test_thousands_of_stacks_are_counted_and_the_first_of_them_named():
    course = DrainHistory()
    course.add(ONE, Snapshot(time=ONE.began, waiting=(stack(),) * 5000))
    assert (course.in_flight, len(course.stacks)) == (5000, MOST_STACKS)


def test_a_restart_of_the_triggerer_goes_on_with_it():
    course = DrainHistory()
    for number in range(300):
        course.add(after(number), Snapshot(time=ONE.began, waiting=(stack(),)))
    again = DrainHistory(json.loads(json.dumps(course.as_xcom())))
    again.add(after(400), Snapshot(time=after(400).began))
    assert again.as_xcom()["t0"] == ONE.began.timestamp()
    assert again.in_flight == 1
    assert again.as_xcom()["readings"][-1][0] == after(400).began.timestamp()
