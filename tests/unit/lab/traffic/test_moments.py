"""What users felt of a flip and a close, and how soon the drain's gate opened."""

from typing import Any

import pytest

from lab.traffic.account import Account
from lab.traffic.ledger import Requests
from lab.traffic.moments import Moments, Window, crossed, gate_delay, judge_moments, longest, mixed, parted
from lab.traffic.tables import moments_table
from lab.traffic.work import Span, Work
from tests.unit._helpers.accounts import account, answered

FLIP, CLOSE = Window(1050, 1053), Window(1080, 1082)
MOMENTS = Moments(began=1010, flip=FLIP, gate=1075, close=CLOSE)
USUAL = {"create": {1005: 0.6}, "show": {1005: 0.5}, "build_info": {1005: 0.7}}


def spans(**seconds: tuple[float, float]) -> dict[str, Span]:
    return {engine: Span(first=first, last=last) for engine, (first, last) in seconds.items()}


def upgrade(longest: dict[str, dict[int, float]] | None = None, **changes: Any) -> Account:
    """Return an upgrade that holds: the old engine was done 10 s before the gate opened."""
    work = Work(
        engines=spans(old=(1000, 1100), new=(1030, 1140)),
        stacks={"a": spans(old=(1040, 1065)), "b": spans(old=(1012, 1020), new=(1060, 1062))},
    )
    requests = Requests(sent=1500, probes_per_second=12, longest=longest or {"create": {1051: 2.0}})
    return account("upgrade", **{"work": work, "requests": requests, "touched": {"a": [1049.5, 1052.1]}, **changes})


def control() -> Account:
    return account("control", requests=Requests(probes_per_second=12, longest=USUAL, medians={"create": 0.5}))


def judge(judged: Account, moments: Moments = MOMENTS) -> list[str]:
    return judge_moments(judged, control(), moments)


def test_an_upgrade_that_nobody_noticed_holds() -> None:
    assert judge(upgrade()) == []


@pytest.mark.parametrize(
    ("sent", "took", "counts"),
    [(1051, 0.1, True), (1048, 0.5, False), (1048, 1.5, True), (1053, 9.0, False), (1052, 9.0, True)],
)
def test_what_was_under_way_in_a_window_counts_wherever_it_began(sent: int, took: float, counts: bool) -> None:
    judged = upgrade({"create": {sent: took, 1010: 20.0, 1090: 20.0}})
    assert longest(judged, "create", FLIP) == (took if counts else None)


@pytest.mark.parametrize(("second", "name"), [(1051, "flip"), (1081, "close")])
def test_a_change_may_wait_two_seconds_longer_than_usual(second: int, name: str) -> None:
    assert judge(upgrade({"create": {second: 2.59}})) == []
    assert judge(upgrade({"create": {second: 2.7}})) == [
        f"a create took 2.7 s at the {name}, expected at most 2.6 s: 2 s more than the longest without an upgrade"
    ]
    assert judge(upgrade({"create": {1065: 9.0}})) == [], "at no particular moment"


def test_beside_other_work_seconds_are_not_judged() -> None:
    slow = upgrade({"create": {1051: 9.0}, "show": {1051: 9.0}})
    assert len(judge(slow)) == 2
    assert judge_moments(slow, control(), MOMENTS, alone=False) == []


def test_a_read_may_not_wait() -> None:
    (reason,) = judge(upgrade({"show": {1051: 1.6}}))
    assert reason == (
        "a show took 1.6 s at the flip, expected at most 1.5 s: 1 s more than the longest without an upgrade"
    )


@pytest.mark.parametrize(
    ("last", "reasons"),
    [
        (1060.5, []),
        (1059.0, ["the drain's gate opened 16 s after the old side's last work, expected at most 15 s"]),
        (1075.5, []),  # a look a second can't tell
        (1078.0, ["the old side was at work for 3 s after the drain's gate had opened"]),
    ],
)
def test_the_gate_opens_soon_after_the_old_sides_last_work_and_not_before(last: float, reasons: list[str]) -> None:
    engines = spans(old=(1000, 1100), new=(1030, 1140))
    judged = upgrade(work=Work(engines=engines, stacks={"a": spans(old=(1040, last)), "b": spans(new=(1090, 1139))}))
    assert gate_delay(judged, MOMENTS) == 1075 - last
    assert judge(judged) == reasons


def test_the_gate_has_nothing_to_open_for_before_the_flip() -> None:
    engines = spans(old=(1000, 1100), new=(1030, 1140))
    judged = upgrade(work=Work(engines=engines, stacks={"a": spans(old=(1001, 1005))}))
    assert gate_delay(judged, MOMENTS) == 1075 - FLIP.end
    assert gate_delay(judged, Moments(began=1010, gate=1075)) == 70
    assert gate_delay(judged, Moments(began=1010)) is None


def test_a_stack_that_both_sides_were_at_at_once_has_crossed_and_one_after_the_other_has_not() -> None:
    work = Work(
        engines=spans(old=(1000, 1100), older=(1000, 1100), new=(1030, 1140)),
        stacks={
            "begun again at rest": spans(old=(1012, 1020), new=(1060, 1062)),
            "crossed": spans(old=(1050, 1062), new=(1055, 1058)),
            "of two old engines": spans(old=(1050, 1062), older=(1055, 1058)),
        },
    )
    judged = upgrade(work=work)
    assert crossed(judged, MOMENTS) == ["crossed"]
    assert "1 stacks were worked on by both sides: crossed" in judge(judged)


def test_without_a_user_on_both_sides_of_the_flip_nothing_is_proven() -> None:
    touched = {"before": [1040.0, 1049.0], "after": [1054.5, 1056.0], "much later": [1049.0, 1056.0]}
    judged = upgrade(touched=touched)
    assert [parted(judged, Window(at, at + 2)) for at in (1045, 1050, 1054)] == [0, 0, 1]
    assert judge(judged) == ["no user changed a stack just before the flip and again just after it: it proves nothing"]


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [
        (1020, 1023, [1020, 1021, 1022]),  # in the sweep
        (1047, 1056, [1047, 1055]),
        (1048, 1055, []),
        (1000, 1009, []),  # an upgrade before this one
        (1090, 1095, []),  # one after it
    ],
)
def test_users_meet_both_releases_at_once_at_the_flip_alone(begin: int, end: int, seconds: list[int]) -> None:
    judged = upgrade(sides=[answered("25", "25", 1000, 1120), answered("26", "25", begin, end)])
    assert mixed(judged, MOMENTS) == seconds
    if seconds:
        told = f"both releases answered in {len(seconds)} seconds apart from the flip, the first at {seconds[0]}"
        assert judge(judged) == [told]


def test_without_a_flip_users_never_meet_both_releases_at_once() -> None:
    judged = upgrade(sides=[answered("25", "25", 1000, 1120), answered("25", "26", 1110, 1111)])
    assert mixed(judged, Moments(began=1010)) == [1110]


def test_a_run_that_has_not_come_that_far_is_judged_by_what_it_has() -> None:
    assert judge(upgrade({"create": {1051: 30.0}}), Moments(began=1010)) == []


def test_the_table_shows_the_moments_beside_the_control_run() -> None:
    sides = [answered("25", "25", 1000, 1052), answered("26", "26", 1052, 1120)]
    shown = moments_table(upgrade({"create": {1051: 1.9, 1081: 0.8}}, sides=sides), control(), MOMENTS)
    (create,) = [line.split() for line in shown.splitlines() if line.startswith("create")]
    assert create == ["create", "0.50", "0.60", "1.90", "0.80"]
    assert "probes answered before the upgrade: 120 by API 25 and engine 25\n" in shown
    assert "probes answered until the close: 24 by API 25 and engine 25, 336 by API 26 and engine 26\n" in shown
    assert "from the old side's last work to the gate's opening: 10 s" in shown
    assert "stacks changed just before the flip and again just after it: 1" in shown
    assert "stacks that both sides worked on: 0" in shown
