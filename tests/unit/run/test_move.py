"""From what runs on the hosts to the move: which one it is, and which ones are refused."""

from __future__ import annotations

import pytest

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.run.move import Move, MoveError, next_release, plan_move
from tests.unit._helpers.clouds.broken import edited

CLOUD = Cloud.model_validate({**edited({}), "name": "lab"})
OLD, NEW, NEWEST = "25.0.2", "26.0.2", "27.0.1"


def running(*releases: str) -> dict[str, frozenset[str]]:
    """Return what runs on each host, given as one text a host."""
    return {host.name: frozenset(text.split()) for host, text in zip(CLOUD.hosts, releases, strict=False)}


MOVES = [
    ("nothing has begun", NEW, (OLD, OLD, OLD), OLD),
    ("going back", NEW, (NEWEST, NEWEST, NEWEST), NEWEST),
    ("going back before the old engines are retired", OLD, (f"{OLD} {NEW}", f"{OLD} {NEW}", OLD), NEW),
    ("going back is done", OLD, (OLD, OLD, OLD), NEW),
    ("new engines run beside old ones", NEW, (f"{OLD} {NEW}", f"{OLD} {NEW}", OLD), OLD),
    ("some hosts are done", NEW, (NEW, f"{OLD} {NEW}", OLD), OLD),
    ("all is done", NEW, (NEW, NEW, NEW), OLD),
    ("nothing runs", NEW, ("", "", ""), OLD),
    ("one host is down", NEW, (OLD, "", NEW), OLD),
    ("the next one", NEWEST, (NEW, NEW, NEW), NEW),
    ("the next one is done", NEWEST, (NEWEST, NEWEST, NEWEST), NEW),
    ("the last host is left", NEWEST, (NEWEST, NEWEST, f"{NEW} {NEWEST}"), NEW),
]


@pytest.mark.parametrize(("target", "releases", "source"), [m[1:] for m in MOVES], ids=[m[0] for m in MOVES])
def test_what_runs_decides_the_source(target: str, releases: tuple[str, ...], source: str) -> None:
    move = plan_move(CLOUD, target, running(*releases))
    back = source > target
    assert move == Move(source=CLOUD.release(source), target=CLOUD.release(target), going_back=back)


@pytest.mark.parametrize(("target", "source"), [(OLD, NEW), (NEW, NEWEST), (NEWEST, NEW)])
def test_what_a_cold_upgrade_has_stopped_comes_back_from_what_was_to_follow_it(target: str, source: str) -> None:
    move = plan_move(CLOUD, target, running(target, target, target), stopped=True)
    assert move == Move(CLOUD.release(source), CLOUD.release(target), going_back=True)


def test_what_a_cold_upgrade_has_stopped_is_gone_on_from() -> None:
    assert plan_move(CLOUD, NEW, running(OLD, OLD, OLD), stopped=False) == Move(CLOUD.release(OLD), CLOUD.release(NEW))


@pytest.mark.parametrize(
    ("releases", "following"),
    [
        ((OLD, OLD, OLD), NEW),
        ((NEW, NEW, NEW), NEWEST),
        ((NEW, f"{OLD} {NEW}", OLD), NEW),
        (("", f"{NEW} {NEWEST}", NEWEST), NEWEST),
        ((NEWEST, NEWEST, NEWEST), NEWEST),
        (("24.0.0", OLD, OLD), NEW),
        (("", "", ""), NEWEST),
        ((), NEWEST),
    ],
)
def test_the_next_release_is_told_by_the_oldest_that_runs(releases: tuple[str, ...], following: str) -> None:
    assert next_release(CLOUD, running(*releases)).version == following


REFUSED = [
    # id, target, what runs; value, expectation, next step
    (
        "a jump",
        NEWEST,
        (OLD, OLD, OLD),
        "'27.0.1'",
        "the release next to 25.0.2, which runs (Heat's upgrade guide: upgrades are tested only between sequential",
        "choose 26.0.2",
    ),
    (
        "a jump in mid-air",
        NEWEST,
        (f"{OLD} {NEWEST}", NEWEST, NEWEST),
        "'27.0.1'",
        "the release next to 25.0.2",
        "stop what should not run there",
    ),
    (
        "two releases beside the target",
        NEWEST,
        (OLD, f"{OLD} {NEW}", NEW),
        "25.0.2 on controller-1, controller-2; 26.0.2 on controller-2, edge.example",
        "one release beside 27.0.1 at most",
        "choose 26.0.2 to finish that upgrade first",
    ),
    (
        "two releases that are no upgrade",
        NEW,
        (OLD, NEWEST, NEW),
        "25.0.2 on controller-1; 27.0.1 on controller-2",
        "one release beside 26.0.2 at most",
        "stop what should not run",
    ),
    ("going back two", OLD, (NEWEST, NEWEST, ""), "'25.0.2'", "next to 27.0.1", "add the release after 27.0.1"),
    (
        "a release that the cloud file does not have",
        NEW,
        (OLD, "24.0.0", "24.0.0"),
        "24.0.0 on controller-2, edge.example",
        "only releases of the cloud file (25.0.2, 26.0.2, 27.0.1)",
        "add the release that runs",
    ),
]


@pytest.mark.parametrize(
    ("target", "releases", "value", "expected", "todo"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_other_moves_are_refused_with_the_reason_and_the_next_step(
    target: str, releases: tuple[str, ...], value: str, expected: str, todo: str
) -> None:
    with pytest.raises(MoveError) as caught:
        plan_move(CLOUD, target, running(*releases))
    (problem,) = caught.value.problems
    assert problem.value == value
    assert expected in problem.expected
    assert todo in problem.todo
    assert str(caught.value) == f"upgrade of lab: 1 problem\n  - {problem}"


def test_a_target_that_the_cloud_does_not_have_is_the_callers_mistake() -> None:
    with pytest.raises(LookupError, match=r"'28\.0\.0' is no release of lab"):
        plan_move(CLOUD, "28.0.0", running(OLD))
