"""By what the hosts decide after a flip, and what an unfinished one has to be brought to."""

from __future__ import annotations

import json

import pytest

from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.flip.rule import Goal, HostSides, Sides, sides_after, sides_to_finish
from heat_upgrade.readings import StackInTree

OLD, NEW = "25.0.2", "26.0.2"
FLIPPED = Sides(NEW, stacks={"s1": OLD})


def stack(id_: str, owner: str | None = None, *, busy: bool = False, project: str = "p1") -> StackInTree:
    return StackInTree(id_, project, owner, busy)


class TestWhatStaysWhereItIs:
    def test_a_stack_in_flight_stays_and_one_at_rest_moves(self) -> None:
        after = sides_after(Sides(OLD), Goal(NEW), [stack("busy", busy=True), stack("idle")])
        assert after == Sides(NEW, stacks={"busy": OLD})

    def test_a_tree_stays_together_whichever_of_it_is_in_flight(self) -> None:
        tree = [stack("root"), stack("child", "root", busy=True), stack("other child", "root"), stack("alone")]
        after = sides_after(Sides(OLD), Goal(NEW), tree)
        assert after.stacks == dict.fromkeys(["root", "child", "other child"], OLD)

    def test_a_stack_whose_owner_is_gone_is_a_tree_of_its_own(self) -> None:
        assert sides_after(Sides(OLD), Goal(NEW), [stack("child", "gone", busy=True)]).stacks == {"child": OLD}

    def test_on_the_way_back_what_had_stayed_is_at_home_again(self) -> None:
        tree = [stack("s1", busy=True), stack("new", busy=True)]
        assert sides_after(FLIPPED, Goal(OLD), tree) == Sides(OLD, stacks={"new": NEW})

    def test_a_child_that_the_list_does_not_know_is_on_its_parents_side(self) -> None:
        tree = [stack("s1"), stack("late child", "s1", busy=True)]
        assert sides_after(FLIPPED, Goal(NEW, closed=True), tree).stacks == {"s1": OLD, "late child": OLD}

    def test_a_listed_stack_that_is_done_leaves_the_list(self) -> None:
        assert sides_after(FLIPPED, Goal(NEW, closed=True), [stack("s1")]) == Sides(NEW, closed=True)

    def test_a_canarys_new_stacks_go_ahead_and_its_stacks_in_flight_stay(self) -> None:
        canary = Goal(OLD, {"p1": NEW})
        tree = [stack("of the canary", busy=True), stack("of others", busy=True, project="p2")]
        assert sides_after(Sides(OLD), canary, tree) == Sides(OLD, {"p1": NEW}, {"of the canary": OLD})

    def test_after_a_canary_everybody_follows_and_the_canary_is_there_already(self) -> None:
        now = Sides(OLD, {"p1": NEW}, {"early": OLD})
        tree = [
            stack("of the canary", busy=True),
            stack("early", busy=True),
            stack("of others", busy=True, project="p2"),
        ]
        assert sides_after(now, Goal(NEW), tree) == Sides(NEW, stacks={"early": OLD, "of others": OLD})

    def test_a_canary_that_is_taken_back_leaves_what_it_has_begun_on_the_new_side(self) -> None:
        now = Sides(OLD, {"p1": NEW}, {"early": OLD})
        tree = [
            stack("of the canary"),
            stack("its child", "of the canary", busy=True),
            stack("early", busy=True),
            stack("at rest"),
            stack("of others", busy=True, project="p2"),
        ]
        after = sides_after(now, Goal(OLD), tree)
        assert after == Sides(OLD, stacks=dict.fromkeys(["of the canary", "its child"], NEW))

    def test_what_a_canary_had_begun_is_at_home_once_it_begins_again_or_everybody_follows(self) -> None:
        taken_back = Sides(OLD, stacks={"of the canary": NEW})
        tree = [stack("of the canary", busy=True)]
        assert sides_after(taken_back, Goal(OLD, {"p1": NEW}), tree) == Sides(OLD, {"p1": NEW})
        assert sides_after(taken_back, Goal(NEW), tree) == Sides(NEW)

    def test_of_two_canaries_one_after_the_other_the_first_ones_stack_in_flight_stays_ahead(self) -> None:
        now = Sides(OLD, {"p1": NEW})
        tree = [stack("of the first", busy=True), stack("of the second", busy=True, project="p2")]
        after = sides_after(now, Goal(OLD, {"p2": NEW}), tree)
        assert after == Sides(OLD, {"p2": NEW}, {"of the first": NEW, "of the second": OLD})


class TestWhetherAGoalIsReached:
    @pytest.mark.parametrize(
        "sides",
        [Sides(OLD), Sides(NEW), Sides(OLD, {"p2": NEW}), Sides(OLD, {"p1": NEW, "p2": NEW}), Sides(NEW, {"p1": NEW})],
    )
    def test_a_canary_is_under_way_only_with_all_its_projects_and_no_others(self, sides: Sides) -> None:
        assert not Goal(OLD, {"p1": NEW}).reached_by(sides)
        assert Goal(OLD, {"p1": NEW}).reached_by(Sides(OLD, {"p1": NEW}, {"early": OLD}))

    def test_a_canary_is_not_everybodys_flip_nor_its_end(self) -> None:
        canary = Sides(OLD, {"p1": NEW})
        assert not any(goal.reached_by(canary) for goal in (Goal(NEW), Goal(OLD), Goal(NEW, closed=True)))


class TestWhatIsHalfDone:
    def test_nothing_is_where_no_host_waits(self) -> None:
        assert sides_to_finish([HostSides("a", Sides(OLD)), HostSides("b", Sides(OLD))], Goal(NEW)) is None

    def test_a_host_that_has_moved_takes_the_others_along(self) -> None:
        states = [
            HostSides("a", FLIPPED),
            HostSides("b", FLIPPED, prepared=True),
            HostSides("c", Sides(OLD), prepared=True),
        ]
        assert sides_to_finish(states, Goal(NEW)) == FLIPPED

    def test_a_host_that_has_not_moved_and_is_free_takes_the_others_back(self) -> None:
        assert sides_to_finish(
            [HostSides("a", Sides(OLD)), HostSides("b", FLIPPED, prepared=True)], Goal(NEW)
        ) == Sides(OLD)

    def test_where_all_wait_the_goal_is_taken(self) -> None:
        states = [HostSides("a", Sides(OLD), prepared=True), HostSides("b", FLIPPED, prepared=True)]
        assert sides_to_finish(states, Goal(NEW)) == FLIPPED
        assert sides_to_finish(states, Goal(OLD)) == Sides(OLD)

    def test_a_canary_that_a_host_has_taken_is_finished_on_the_others_and_one_that_none_has_is_not(self) -> None:
        canary, goal = Sides(OLD, {"p1": NEW}, {"early": OLD}), Goal(OLD, {"p1": NEW})
        assert sides_to_finish([HostSides("a", canary), HostSides("b", canary, prepared=True)], goal) == canary
        waits = HostSides("b", canary, prepared=True)
        assert sides_to_finish([HostSides("a", Sides(OLD)), waits], goal) == Sides(OLD)
        assert sides_to_finish([HostSides("a", Sides(OLD), prepared=True), waits], goal) == canary
        assert sides_to_finish([HostSides("a", Sides(OLD), prepared=True), waits], Goal(OLD)) == Sides(OLD)

    def test_free_hosts_that_disagree_are_an_error_that_names_them(self) -> None:
        with pytest.raises(UpgradeError, match=r"a: 25\.0\.2; b: 26\.0\.2, 1 stacks elsewhere"):
            sides_to_finish([HostSides("a", Sides(OLD)), HostSides("b", FLIPPED)], Goal(NEW))


def test_sides_survive_their_file() -> None:
    sides = Sides(NEW, {"p1": OLD}, {"s1": OLD}, closed=False)
    assert (
        Sides.of_json({"version": 1, "sequence": 3, "hold": None, **json.loads(json.dumps(sides.as_json()))}) == sides
    )
