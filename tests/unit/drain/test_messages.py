"""What an operator reads at 3 a.m.: one short table a reading, and who is in the way when the time is up."""

from __future__ import annotations

from dataclasses import replace

from heat_upgrade.drain.messages import failure_message, reading_table, timeout_message
from heat_upgrade.drain.rule import Verdict
from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.readings import Database, Reading, Unavailable
from tests.unit._helpers.readings import DEAD, OLD, READING, held, queue, reading, stack, swap


def table(*readings: Reading, stranded: tuple[str, ...] = ()) -> list[str]:
    watch = DrainWatch(readings=3, stranded=stranded)
    for one in readings:
        watch.observe(one)
    return reading_table(readings[-1], watch).splitlines()


def test_a_table_tells_what_was_read_and_what_it_waits_for():
    busy = reading(
        after=83,
        queues=swap(queue("engine_worker", ready=2, unacknowledged=1)),
        stacks=(stack("s1", age=42), stack("s2", age=3600)),
        held=(held(OLD, resource="a"), held(OLD, resource=None), held("new-engine", stack_id="s9")),
    )
    assert table(busy, busy) == [
        "reading 2  03:13:23 UTC, clean 0/3",
        "old vhost  'heat'",
        "queues     2 ready, 1 unacknowledged in 8 queues, 7 of them with a consumer",
        "engines    old: 1 listening; new: 1 known",
        "held       by old engines: resources 1, stack locks 1",
        "in flight  stacks 2 of those at T0 (03:13:23 UTC)",
        "waits for  queue 'engine_worker' (2 ready, 1 unacknowledged) is not empty",
        f"           resource a and its lock of stack 'name-s1' (s1, project admin): held by old engine {OLD}",
        "           stack 'name-s2' (s2, project admin, CREATE, age 1 h) has been in progress since T0",
        "           stack 'name-s1' (s1, project admin, CREATE, age 42 s) has been in progress since T0",
    ]


def test_before_t0_the_table_says_so():
    lines = table(reading(stacks=(stack(),)))
    assert "in flight  stacks 1, T0 not taken yet" in lines
    assert any(line.startswith("waits for  T0 is not taken yet: 0 calls wait") for line in lines)


def test_clean_readings_are_counted_down():
    assert table(READING, READING)[-1] == "waits for  2 more clean readings in a row"
    assert table(*[READING] * 4)[-1] == "waits for  nothing: drained"


def test_what_was_not_read_is_unknown_and_never_zero():
    lines = table(replace(READING, broker=Unavailable("refused"), database=Unavailable("refused")))
    assert "old vhost  unknown" in lines
    assert "held       unknown" in lines
    assert not any(line.startswith("queues") for line in lines)
    assert sum("refused" in line for line in lines) == 2
    assert "held       unknown" in table(replace(READING, database=Unavailable("refused")))


def test_a_deleted_vhost_is_told():
    gone = reading(exists=False, queues=(), connections=())
    assert "old vhost  'heat' does not exist any more" in table(gone)


def test_errors_and_notes_are_told():
    left = reading(
        queues=(queue("engine_worker", ready=1, consumers=0), queue(f"engine_worker.{DEAD}", ready=1, consumers=0)),
        connections=(),
    )
    lines = table(left)
    assert any(line.startswith("failed     queue 'engine_worker'") for line in lines)
    assert any(line.startswith(f"note       queue 'engine_worker.{DEAD}'") for line in lines)


def test_a_table_stays_short():
    crowd = replace(READING, database=Database(stacks=tuple(stack(f"s{n}") for n in range(500)), held=()))
    lines = table(crowd, crowd)
    assert len(lines) < 20
    assert lines[-1].strip() == "... and 490 more"


def test_a_timeout_names_what_is_in_the_way():
    busy = reading(
        queues=swap(queue("engine_worker", ready=2)),
        stacks=(stack("s1", age=42),),
        held=(held(DEAD, stack_id="s2"),),
    )
    watch = DrainWatch(readings=3)
    watch.observe(busy)
    watch.observe(busy)
    message = timeout_message(watch.verdict, 7200)
    for text in (
        "within 7200 s",
        "'engine_worker'",
        "'name-s1' (s1, project admin, CREATE, age 42 s)",
        DEAD,
        "clear the task to wait again",
    ):
        assert text in message


def test_a_timeout_between_clean_readings_says_so():
    assert "too few clean readings in a row" in timeout_message(Verdict(), 60)


def test_a_failure_says_what_to_do():
    message = failure_message(Verdict(errors=("start an engine",)))
    assert message.splitlines()[1:] == ["  start an engine"]
