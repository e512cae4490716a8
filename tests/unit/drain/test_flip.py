"""The drain after a flip: what stayed on the old side is waited for, what began later belongs to the new side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heat_upgrade.drain.messages import reading_table
from heat_upgrade.drain.rule import Snapshot, assess
from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.readings import ClientConnection, Reading, Unavailable, UnfinishedStack
from tests.unit._helpers.readings import DEAD, ENGINE, NEW, OLD, READING, held, queue, reading, stack

BESIDE = ClientConnection("heat-api-beside", 12, "10.0.0.11")
FLIPPED = Snapshot(kept=frozenset({"root"}))


def nested(id_: str, owner: str, *, status: str = "IN_PROGRESS") -> UnfinishedStack:
    return replace(stack(id_), owner_id=owner, status=status)


def waits_for(*readings: Reading, kept: tuple[str, ...] = ("root",), stranded: tuple[str, ...] = ()) -> set[str]:
    """Return the ids of the stacks that are waited for after some readings."""
    snapshot = Snapshot(stranded=frozenset(stranded), kept=frozenset(kept))
    for one in readings:
        snapshot = snapshot.after(one)
    return {waiting.id for waiting in snapshot.waiting}


def test_what_stayed_is_waited_for_and_what_began_later_is_not() -> None:
    one = reading(stacks=(stack("root"), stack("later")))
    verdict = assess(one, FLIPPED.after(one))
    assert [text.split("'")[1] for text in verdict.blockers] == ["name-root"]
    assert "stayed on the old side and is in progress" in verdict.blockers[0]


def test_once_all_that_stayed_is_done_or_gone_the_first_reading_is_clean() -> None:
    one = reading(stacks=(stack("later"),))
    assert assess(one, FLIPPED.after(one)).clean
    assert assess(READING, Snapshot(kept=frozenset()).after(READING)).clean


def test_what_old_engines_make_meanwhile_belongs_to_its_root_however_deep() -> None:
    assert waits_for(reading(stacks=(nested("grandchild", "child"), nested("child", "root"), stack("root")))) == {
        "root",
        "child",
        "grandchild",
    }


def test_a_child_that_was_done_between_two_readings_still_leads_to_its_own_children() -> None:
    below = (nested("child", "root", status="COMPLETE"), nested("grandchild", "child"))
    assert waits_for(reading(stacks=(replace(stack("root"), status="COMPLETE"), *below))) == {"grandchild"}


def test_a_child_of_what_stayed_is_still_known_once_its_root_is_gone() -> None:
    both = reading(stacks=(stack("root"), nested("child", "root")))
    assert waits_for(both, reading(stacks=(nested("grandchild", "child"),))) == {"grandchild"}


def test_a_stack_whose_user_begins_something_new_is_waited_for_again() -> None:
    assert waits_for(reading(stacks=(stack("root"),)), READING, reading(stacks=(stack("root"),))) == {"root"}


def test_what_has_ended_over_a_nested_stack_that_has_not_is_not_waited_for_itself() -> None:
    one = reading(stacks=(replace(stack("root"), status="FAILED"), nested("child", "root")))
    assert waits_for(one) == {"child"}


def test_what_was_stranded_is_named_and_blocks_nothing() -> None:
    one = reading(stacks=(stack("root"),), held=(held(DEAD, stack_id="root"),))
    verdict = assess(one, replace(FLIPPED, stranded=frozenset({"root"})).after(one))
    assert verdict.clean
    assert all("stranded before the upgrade" in note for note in verdict.notes)
    assert len(verdict.notes) == 2


def test_what_an_old_engine_works_on_is_waited_for_though_nobody_has_listed_it() -> None:
    worked_on = reading(stacks=(stack("revived"),), held=(held(OLD, stack_id="revived"),))
    between_two_resources = reading(stacks=(stack("revived"),))
    assert waits_for(worked_on, between_two_resources, stranded=("revived",)) == {"revived"}


def test_what_a_new_engine_works_on_is_its_own() -> None:
    one = reading(stacks=(stack("later"),), held=(held(NEW, stack_id="later"),))
    assert assess(one, FLIPPED.after(one)).clean


def test_the_upgrades_own_apis_beside_may_stay_and_nothing_else() -> None:
    one = reading(connections=(ENGINE, BESIDE))
    assert assess(one, FLIPPED.after(one)).clean
    other = reading(connections=(ENGINE, BESIDE, ClientConnection("uwsgi", 13, "10.0.0.14")))
    (blocker,) = assess(other, FLIPPED.after(other)).blockers
    assert blocker.startswith("uwsgi (pid 13) at 10.0.0.14")


def test_without_a_flip_no_api_may_stay() -> None:
    one = reading(connections=(ENGINE, BESIDE))
    assert not assess(one, Snapshot(time=one.began)).clean


@pytest.mark.parametrize("part", ["broker", "database"])
def test_what_was_not_read_is_not_done(part: str) -> None:
    gap = replace(READING, **{part: Unavailable("down")})
    first = assess(gap, FLIPPED.after(gap))
    assert "what stayed on the old side at the flip was not read yet" in first.blockers
    later = FLIPPED.after(reading(stacks=(stack("root"),))).after(gap)
    assert [waiting.id for waiting in later.waiting] == ["root"]


def watched(*readings: Reading, kept: tuple[str, ...] | None = ("root",)) -> DrainWatch:
    watch = DrainWatch(readings=3, kept=kept)
    for one in readings:
        watch.observe(one)
    return watch


def test_the_gate_opens_after_so_many_clean_readings_without_waiting_for_t0() -> None:
    assert not watched(READING, READING).drained
    assert watched(READING, READING, READING).drained
    assert not watched(READING, READING, READING, kept=None).drained, "without a flip the first only begins T0"


def test_old_engines_that_are_gone_leave_nothing_of_what_stayed_to_the_new_side() -> None:
    gone = reading(queues=(queue("engine", consumers=0),), connections=())
    assert watched(gone).drained
    busy = reading(queues=(queue("engine", consumers=0),), connections=(), stacks=(stack("root"), stack("later")))
    watch = watched(busy)
    assert not watch.drained
    assert set(watch.remaining or ()) == {"root"}
    assert watched(replace(gone, database=Unavailable("down")), gone).drained


def test_the_table_counts_what_stayed() -> None:
    one = reading(stacks=(stack("root"), stack("later")))
    assert "in flight  stacks 1 of 1 that stayed on the old side" in reading_table(one, watched(one))
