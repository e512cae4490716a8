"""Which stacks are stranded, what brings each to an end, and how both are told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from heat_upgrade.formatting import text_table
from heat_upgrade.readings import HeldRow, UnfinishedStack, Work
from heat_upgrade.stranded.messages import STRANDED, question, stranded_rows
from heat_upgrade.stranded.rule import (
    END_AFTER,
    STRANDED_AFTER,
    Call,
    Choice,
    StrandedStack,
    abandoned,
    find_stranded,
    unchanged,
    way_out,
)

LIVE, ELSEWHERE, DEAD = "live-engine", "engine-of-another-vhost", "dead-engine"
AGO = datetime(2026, 11, 1, 12, 30)


def stack(id_: str = "root", **changes: object) -> UnfinishedStack:
    whole = UnfinishedStack(id_, f"{id_}-name", "project", "CREATE", "IN_PROGRESS", True, None, 700, "t1", AGO, 700, 3)
    return replace(whole, **changes)


CHILD = stack("child", owner_id="root", remaining=2)
GRANDCHILD = stack("grandchild", owner_id="child", remaining=1)


def hold(stack_id: str, engine_id: str, works_on: str | None = None) -> HeldRow:
    return HeldRow(stack_id, f"{stack_id}-name", "project", "a", engine_id, works_on)


def work(*stacks: UnfinishedStack, held: tuple[HeldRow, ...] = ()) -> Work:
    return Work(stacks, held, frozenset({LIVE}), frozenset({ELSEWHERE}))


def found(*stacks: UnfinishedStack, held: tuple[HeldRow, ...] = ()) -> list[StrandedStack]:
    return find_stranded(work(*stacks, held=held), 600)


def test_a_stack_in_progress_that_only_a_dead_engine_holds_is_stranded() -> None:
    (stranded,) = found(stack(), held=(hold("root", DEAD),))
    assert (stranded.id, stranded.since, stranded.remaining) == ("root", "2026-11-01 12:30:00", 3)


@pytest.mark.parametrize("works_on", [None, "a-server", "other-stack"])
@pytest.mark.parametrize("engine", [LIVE, ELSEWHERE])
def test_what_a_live_engine_holds_is_not(works_on: str | None, engine: str) -> None:
    assert found(stack(), stack("other-stack", idle=1), held=(hold("root", engine, works_on),)) == []


@pytest.mark.parametrize("idle", [0, 599, None])
def test_what_has_changed_lately_or_nobody_knows_when_is_not(idle: int | None) -> None:
    assert found(stack(idle=idle)) == []
    assert found(stack(), replace(CHILD, idle=idle)) == []


def test_nested_stacks_are_shown_under_their_root_alone() -> None:
    (stranded,) = found(GRANDCHILD, stack(), CHILD)
    assert stranded.id == "root"
    assert set(stranded.nested) == {"child-name (CREATE)", "grandchild-name (CREATE)"}
    assert set(stranded.ids) == {"root", "child", "grandchild"}
    assert stranded.remaining == 6


def test_a_live_engine_that_only_waits_for_a_stranded_nested_stack_works_on_nothing() -> None:
    polls = (hold("root", LIVE, "child"), hold("child", LIVE, "grandchild"), hold("grandchild", DEAD))
    assert [tree.id for tree in found(stack(), CHILD, GRANDCHILD, held=polls)] == ["root"]


def test_work_deep_in_a_tree_keeps_its_root_out() -> None:
    polls = (hold("root", LIVE, "child"), hold("child", DEAD, "grandchild"), hold("grandchild", LIVE, "a-server"))
    assert found(stack(), CHILD, GRANDCHILD, held=polls) == []


def test_an_engine_that_is_about_to_see_its_nested_stack_complete_is_at_work() -> None:
    assert found(stack(), replace(CHILD, status="COMPLETE"), held=(hold("root", LIVE, "child"),)) == []


def test_a_root_that_has_ended_over_a_nested_stack_that_has_not_is_stranded() -> None:
    (stranded,) = found(stack(status="FAILED", remaining=9), replace(CHILD, since=datetime(2026, 11, 2)))
    assert (stranded.id, stranded.status, stranded.since, stranded.remaining) == (
        "root",
        "FAILED",
        "2026-11-02 00:00:00",
        2,
    )
    assert found(stack(status="FAILED")) == []


def test_abandoned_is_what_is_stranded_and_what_only_a_dead_engine_holds() -> None:
    done, held_and_done = stack("done", status="COMPLETE"), stack("held", status="COMPLETE")
    above = stack("above", status="FAILED")
    stacks = (stack(), CHILD, done, held_and_done, above, stack("below", owner_id="above"), stack("young", idle=5))
    held = (hold("held", DEAD), hold("young", DEAD))
    assert abandoned(work(*stacks, held=held), 600) == {"root", "child", "held", "below"}
    assert [tree.id for tree in found(*stacks, held=held)] == ["above", "root"]
    assert abandoned(work(held_and_done, held=(hold("held", LIVE),)), 600) == frozenset()


def test_the_same_stacks_are_stranded_early_and_late_but_for_the_time() -> None:
    both = (stack("old"), stack("new", idle=60))
    assert [tree.id for tree in find_stranded(work(*both), STRANDED_AFTER)] == ["new", "old"]
    assert [tree.id for tree in find_stranded(work(*both), END_AFTER)] == ["old"]


def test_a_nested_stack_whose_parent_is_gone_stands_for_itself() -> None:
    assert [tree.id for tree in found(CHILD, GRANDCHILD)] == ["child"]


CHANGES = (
    {"traversal": "t2"},
    {"since": datetime(2026, 11, 3)},
    {"action": "UPDATE"},
    {"remaining": 1},
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("nested", [False, True])
def test_any_change_in_the_tree_tells_two_looks_apart(change: dict[str, object], nested: bool) -> None:
    first = found(stack(), CHILD)
    later = found(stack(), replace(CHILD, **change)) if nested else found(replace(stack(), **change), CHILD)
    assert unchanged(found(stack(idle=800), CHILD), first) == first
    assert unchanged(later, first) == []


def test_a_lock_that_comes_or_goes_tells_two_looks_apart() -> None:
    assert unchanged(found(stack(), held=(hold("root", DEAD),)), found(stack())) == []


def test_what_is_new_in_the_second_look_was_not_seen_twice() -> None:
    first = found(stack())
    assert unchanged(found(stack(), stack("new")), first) == first


def stranded(action: str, status: str = "IN_PROGRESS", *, convergence: bool = True) -> StrandedStack:
    since, nested, ids = "2026-11-01 12:30:00", ("n (CREATE)",), ("id", "n")
    return StrandedStack("id", "name", "p", action, status, convergence, since, 1, nested, ids, "f")


ACTIONS = "/stacks/name/id/actions"


@pytest.mark.parametrize(
    ("action", "call"),
    [
        *((action, Call("PATCH", "/stacks/name/id", {})) for action in ("CREATE", "UPDATE", "ROLLBACK", "SNAPSHOT")),
        ("RESTORE", Call("PATCH", "/stacks/name/id", {})),
        ("DELETE", Call("DELETE", "/stacks/name/id")),
        ("SUSPEND", Call("POST", ACTIONS, {"suspend": None})),
        ("RESUME", Call("POST", ACTIONS, {"resume": None})),
        ("CHECK", Call("POST", ACTIONS, {"check": None})),
    ],
)
def test_each_action_has_its_way_out(action: str, call: Call) -> None:
    assert way_out(stranded(action), Choice.UPDATE) == call


def test_what_an_update_would_harm_is_left_with_what_to_do() -> None:
    assert "adopts it again" in str(way_out(stranded("ADOPT"), Choice.UPDATE))
    assert "heat-manage reset_stack_status id" in str(way_out(stranded("UPDATE", convergence=False), Choice.UPDATE))


def test_a_legacy_stack_can_be_deleted_again() -> None:
    assert way_out(stranded("DELETE", convergence=False), Choice.UPDATE) == Call("DELETE", "/stacks/name/id")


def test_creates_and_updates_in_progress_can_be_cancelled_and_nothing_else() -> None:
    call = Call("POST", ACTIONS, {"cancel_without_rollback": None})
    assert way_out(stranded("CREATE"), Choice.CANCEL) == way_out(stranded("UPDATE"), Choice.CANCEL) == call
    for other in (stranded("DELETE"), stranded("SUSPEND"), stranded("UPDATE", "FAILED")):
        assert f"not {other.action}_{other.status}" in str(way_out(other, Choice.CANCEL))
    assert "legacy" in str(way_out(stranded("CREATE", convergence=False), Choice.CANCEL))


def test_a_stack_survives_its_way_through_an_xcom() -> None:
    whole = stranded("CREATE")
    assert StrandedStack.from_xcom(json.loads(json.dumps(whole.as_xcom()))) == whole


def test_the_log_s_table_stands_in_columns() -> None:
    lines = text_table(STRANDED, stranded_rows([stranded("CREATE"), stranded("DELETE", "FAILED")])).splitlines()
    assert lines[0].split("  ")[0] == "stack"
    assert lines[2] == "  in it: n (CREATE)"
    assert lines[1].index("CREATE IN_PROGRESS") == lines[3].index("DELETE FAILED") == lines[0].index("action")


def test_the_question_is_a_table_that_stays_readable() -> None:
    few = question([stranded("CREATE")])
    assert few.splitlines()[2] == "| name | id | p | CREATE IN_PROGRESS | 2026-11-01 12:30:00 | 1 |"
    assert "more rows" not in few
    many = question([stranded("CREATE")] * 300)
    assert len(many.splitlines()) < 130
    assert "500 more rows" in many
    for choice in Choice:
        assert f"**{choice}**" in few


def test_a_name_can_t_break_the_question() -> None:
    odd = replace(stranded("CREATE"), name="a|b`c")
    assert "| a\\|b\\`c |" in question([odd])
