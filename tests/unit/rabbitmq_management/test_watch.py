"""The rule: which readings add up to "drained"."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rabbitmq_management.records import QueueReading
from rabbitmq_management.watch import SETTLING, LeaderWatch, QueuesWatch, Selection, Unread

EMPTY, FULL = QueueReading("a", 0, 0), QueueReading("a", 1, 0)
Taken = Sequence[QueueReading] | Unread


def led_by(leader: str, ready: int = 0, name: str = "q") -> QueueReading:
    return QueueReading(name, ready, 0, type="quorum", leader=leader)


def watch(queues: str | Sequence[str] = ".*", clean_readings: int = 2, *, missing_ok: bool = False) -> QueuesWatch:
    return QueuesWatch(Selection(queues, missing_ok=missing_ok), clean_readings)


def verdicts(following: QueuesWatch, readings: Sequence[Taken], *, apart: float = 10) -> list[bool]:
    """Return after each reading whether the queues are drained."""
    found = []
    for number, reading in enumerate(readings):
        following.observe(reading, number * apart)
        found.append(following.drained)
    return found


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([[EMPTY], [EMPTY]], [False, True]),
        ([[FULL], [EMPTY], [EMPTY]], [False, False, True]),
        ([[EMPTY], [FULL], [EMPTY], [EMPTY]], [False, False, False, True]),
        ([[EMPTY], Unread("503"), [EMPTY], [EMPTY]], [False, False, False, True]),
        ([[EMPTY], [], [EMPTY], [EMPTY]], [False, False, False, True]),
    ],
    ids=["clean", "filled at first", "filled once", "unread once", "gone once"],
)
def test_only_clean_readings_in_a_row_count(readings, expected):
    assert verdicts(watch(), readings) == expected


@pytest.mark.parametrize(
    "queue", [QueueReading("a", 1, 0), QueueReading("a", 0, 1), QueueReading("a", 0, 0, other=1)], ids=str
)
def test_a_message_in_any_state_is_in_the_way(queue):
    following = watch()
    assert verdicts(following, [[queue]] * 5) == [False] * 5
    assert following.blockers == [f"{queue} is not empty"]


def test_the_fullest_queues_come_first_and_the_rest_is_counted():
    following = watch()
    following.observe([QueueReading(f"q{n:02}", n, 0) for n in range(30)], 0)
    lines = str(following).splitlines()
    assert lines[0] == "reading 1: 0 of 2 clean readings in a row"
    assert lines[1] == "  queue 'q29' (29 ready, 0 unacknowledged) is not empty"
    assert lines[-1] == "  and 9 more"
    assert len(lines) == 22


def test_names_of_queues_are_shown_escaped():
    following = watch()
    following.observe([QueueReading("a\nreading 2: 2 of 2 clean\x1b[2J", 1, 0)], 0)
    assert len(str(following).splitlines()) == 2
    assert "\x1b" not in str(following)


@pytest.mark.parametrize(
    ("queues", "there", "blockers"),
    [
        (["a", "b"], ["a"], ["queue 'b' isn't there"]),
        (["a", "b"], ["a", "b"], []),
        ("a|b", ["a"], []),
        ("a|b", [], ["no queue matches 'a|b'"]),
    ],
)
def test_a_queue_that_is_missing_is_not_empty(queues, there, blockers):
    readings = [[QueueReading(name, 0, 0) for name in there]] * 2
    following = watch(queues)
    assert verdicts(following, readings)[-1] == (not blockers)
    assert following.blockers == blockers
    assert verdicts(watch(queues, missing_ok=True), readings)[-1]


@pytest.mark.parametrize(
    ("queues", "inside", "outside"),
    [
        ("orders", ["orders"], ["orders.1", "my.orders", "Orders"]),
        (r"orders(\..+)?", ["orders", "orders.1"], ["orders.", "orders.\n"]),
        ("(?!.*_fanout$).*", ["orders", ""], ["orders_fanout"]),
        (["a.b"], ["a.b"], ["axb", "a"]),
    ],
)
def test_expressions_match_whole_names_and_lists_are_taken_as_they_are(queues, inside, outside):
    selection = Selection(queues)
    assert all(name in selection for name in inside)
    assert not any(name in selection for name in outside)


@pytest.mark.parametrize(
    ("queues", "expected"), [("", "queues is ''"), ([], r"queues is \[\]"), ("a(", "expected a regular expression")]
)
def test_what_selects_nothing_is_refused(queues, expected):
    with pytest.raises(ValueError, match=expected):
        Selection(queues)


@pytest.mark.parametrize("apart", [1.0, 4.0, 5.0])
def test_what_a_new_leader_shows_is_not_believed_at_first(apart):
    """RabbitMQ shows a queue of any length empty for 5 s after its leader has changed."""
    following, at = watch(), 0.0
    while at < SETTLING:
        following.observe([led_by("b")], at)
        assert not following.drained, at
        at += apart
    assert "quorum queue 'q' has been seen led by 'b' for" in following.blockers[0] if following.blockers else True
    following.observe([led_by("b")], at)
    following.observe([led_by("b")], at + apart)
    assert following.drained


def test_a_leader_that_changes_starts_the_count_again():
    following = watch()
    assert verdicts(following, [[led_by("b")]] * 2 + [[led_by("c")]] + [[led_by("c", 3)]] * 2) == [False] * 5
    assert following.blockers == ["queue 'q' (3 ready, 0 unacknowledged) is not empty"]


def test_a_gap_in_the_readings_leaves_the_leader_unknown():
    following = watch(clean_readings=1)
    assert verdicts(following, [[led_by("b")], [led_by("b")], Unread("503"), [led_by("b")]]) == [
        False,
        True,
        False,
        False,
    ]


def test_each_quorum_queue_has_a_leader_of_its_own():
    leaders = LeaderWatch()
    leaders.unsettled([led_by("b"), led_by("c", name="r")], 0)
    (left,) = leaders.unsettled([led_by("b"), led_by("b", name="r"), EMPTY], SETTLING)
    assert left.startswith("quorum queue 'r' has been seen led by 'b' for 0 s, expected 10 s")
    assert leaders.unsettled([led_by("b"), led_by("b", name="r")], 2 * SETTLING) == []
    assert len(leaders.unsettled([led_by("b"), led_by("b", name="s")], 3 * SETTLING)) == 1
