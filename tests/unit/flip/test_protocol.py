"""The flip's protocol against a model of hosts on which every call may fail, half-succeed or be the last one."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from heat_upgrade.exceptions import TransientError
from heat_upgrade.flip.protocol import bring_to
from heat_upgrade.flip.rule import Goal, HostSides, Sides, sides_after
from heat_upgrade.readings import StackInTree

OLD, NEW = "25.0.2", "26.0.2"
HOSTS = "controller-1", "controller-2", "controller-3"
IN_FLIGHT = "stack-in-flight"
AT_REST = "stack-at-rest"
EARLY_BIRD, OTHERS, THIRD = "canary-project", "project", "another-project"
# Each stack, and its project.
STACKS = {
    IN_FLIGHT: OTHERS,
    AT_REST: OTHERS,
    **{f"{project}-{number}": project for project in (EARLY_BIRD, THIRD) for number in range(3)},
}
KINDS = "killed before", "killed after", "fails before", "fails after", "late"


class KilledError(BaseException):
    """The worker has ended, with no chance to tidy up."""


@dataclass
class Model:
    """A host's router as its state file's rules have it, with its clock in the test's hands."""

    host: str
    sides: Sides = field(default_factory=lambda: Sides(OLD))
    number: int = 1
    hold: str = ""  # for a while, prepared
    expired: bool = False

    def side_of(self, stack: str) -> str | None:
        """Return where a change of a stack goes; None where it waits or is refused."""
        if self.hold == "prepared" or (self.hold and not self.expired):
            return None
        return self.sides.stacks.get(stack, self.sides.of_project(STACKS[stack]))


@dataclass
class Trouble:
    """What goes wrong, and when: the world between a try and the hosts."""

    dice: random.Random
    models: Sequence[Model]
    odds: float
    late: list[Callable[[], None]] = field(default_factory=list)
    worker_lives: bool = True
    # The stacks in flight, and where they are worked on.
    in_flight: dict[str, str] = field(default_factory=dict)

    def meet(self, act: Callable[[], None]) -> None:
        """Let an act happen, or not, or later, or let the worker die over it."""
        self._time_passes()
        if not self.worker_lives:
            raise KilledError
        kind = self.dice.choice(KINDS) if self.dice.random() < self.odds else ""
        if kind == "late":
            self.late.append(act)
        elif not kind.endswith("before"):
            act()
        nothing_crosses(self)
        if kind.startswith("killed"):
            self.worker_lives = False
            raise KilledError
        if kind:
            raise ConnectionError(kind)

    def _time_passes(self) -> None:
        for model in self.models:
            if self.dice.random() < self.odds:
                model.expired = True
        while self.late and self.dice.random() < 0.5:
            act = self.late.pop(self.dice.randrange(len(self.late)))
            with contextlib.suppress(ConnectionError):
                act()
        nothing_crosses(self)


@dataclass
class Hand:
    """One try's hand on one host's router."""

    model: Model
    trouble: Trouble
    seen: int = 0

    def _do(self, act: Callable[[], None]) -> None:
        self.trouble.meet(act)

    def read(self) -> HostSides:
        self._do(lambda: None)
        self.seen = self.model.number
        return HostSides(self.model.host, self.model.sides, prepared=self.model.hold == "prepared")

    def hold(self) -> None:
        def act() -> None:
            if self.model.hold == "prepared":
                raise ConnectionError("it waits to be released")
            self.model.number += 1
            self.model.hold, self.model.expired = "for a while", False

        self._do(act)
        self.seen = self.model.number

    def prepare(self, sides: Sides) -> None:
        seen = self.seen

        def act() -> None:
            if self.model.number == seen + 1 and self.model.hold == "prepared" and self.model.sides == sides:
                return
            if self.model.number != seen or not self.model.hold:
                raise ConnectionError("another state is there")
            if self.model.hold == "for a while" and self.model.expired:
                raise ConnectionError("the hold is over")
            self.model.number, self.model.sides, self.model.hold = seen + 1, sides, "prepared"

        self._do(act)
        self.seen = seen + 1

    def release(self) -> None:
        seen = self.seen

        def act() -> None:
            if self.model.number == seen + 1 and not self.model.hold:
                return
            if self.model.number != seen or not self.model.hold:
                raise ConnectionError("another state is there")
            self.model.number, self.model.hold = seen + 1, ""

        self._do(act)


def one_by_one(hands: Sequence[Hand], act: Callable[[Hand], object]) -> list[object]:
    """Do something to all, whatever happens at one of them, as threads do; a killed worker does nothing more."""
    results, errors = [], []
    for hand in hands:
        try:
            results.append(act(hand))
        except ConnectionError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return results


def nothing_crosses(trouble: Trouble) -> None:
    """See that no stack is changed on two sides, nor on another one than works on it."""
    for stack in STACKS:
        sides = {side for model in trouble.models if (side := model.side_of(stack))}
        assert len(sides) < 2, f"{stack} is changed on both sides: {trouble.models}"
        assert sides <= {trouble.in_flight.get(stack, *sides)}, f"{stack} is in flight elsewhere: {trouble.models}"


def one_try(trouble: Trouble, goal: Goal) -> None:
    trouble.worker_lives = True
    trees = [StackInTree(stack, STACKS[stack], None, True) for stack in trouble.in_flight]
    hands = [Hand(model, trouble) for model in trouble.models]
    bring_to(goal, hands, lambda now: sides_after(now, goal, trees), one_by_one)


def tries(trouble: Trouble, goal: Goal, number: int = 6) -> None:
    """Try under faults, as runs do that are cleared or given up."""
    for _ in range(number):
        with contextlib.suppress(ConnectionError, TransientError, KilledError):
            one_try(trouble, goal)


def arrive(trouble: Trouble, goal: Goal) -> None:
    """Try until it works, and see that every host has arrived and agrees; what is left of earlier tries comes late."""
    tries(trouble, goal)
    odds, trouble.odds = trouble.odds, 0
    while trouble.late:
        # Each of them can fail a try, and then is gone.
        tries(trouble, goal, number=1)
    one_try(trouble, goal)
    trouble.odds = odds
    (sides,) = {repr(model.sides): model.sides for model in trouble.models}.values()
    assert goal.reached_by(sides)
    assert not any(model.hold == "prepared" for model in trouble.models)
    for model in trouble.models:
        model.expired = True  # what an earlier try holds ends by itself


def world(seed: int) -> Trouble:
    dice = random.Random(seed)
    return Trouble(dice, [Model(host) for host in HOSTS], odds=dice.choice([0.03, 0.1, 0.2]))


def begin(trouble: Trouble, *stacks: str) -> None:
    """Let stacks be in flight, each on the side that takes its changes."""
    for stack in stacks:
        (side,) = {model.side_of(stack) for model in trouble.models}
        assert side
        trouble.in_flight[stack] = side


@pytest.mark.parametrize("seed", range(400))
def test_whatever_goes_wrong_nothing_is_changed_on_two_sides(seed: int) -> None:
    trouble = world(seed)
    begin(trouble, IN_FLIGHT)
    arrive(trouble, Goal(NEW))
    assert all(model.side_of(AT_REST) == NEW and model.side_of(IN_FLIGHT) == OLD for model in trouble.models)


CANARY = Goal(OLD, {EARLY_BIRD: NEW})
BACK = Goal(OLD)
FIRST, SECOND, REST = (f"{EARLY_BIRD}-{number}" for number in range(3))


@pytest.mark.parametrize("seed", range(300))
def test_a_canary_goes_ahead_and_everybody_follows(seed: int) -> None:
    trouble = world(seed)
    begin(trouble, FIRST, IN_FLIGHT)
    arrive(trouble, CANARY)
    begin(trouble, SECOND)
    assert trouble.in_flight == {FIRST: OLD, IN_FLIGHT: OLD, SECOND: NEW}
    assert {model.side_of(AT_REST) for model in trouble.models} == {OLD}, "the others' stay"
    arrive(trouble, Goal(NEW))
    assert {model.side_of(stack) for model in trouble.models for stack in (AT_REST, REST)} == {NEW}
    assert all(model.sides.stacks == {FIRST: OLD, IN_FLIGHT: OLD} for model in trouble.models)
    # The drain is over.
    trouble.in_flight = {SECOND: NEW}
    arrive(trouble, Goal(NEW, closed=True))
    assert all(not model.sides.stacks for model in trouble.models)


@pytest.mark.parametrize("seed", range(300))
def test_a_canary_is_taken_back_and_what_it_has_begun_stays_ahead(seed: int) -> None:
    trouble = world(seed)
    begin(trouble, FIRST, IN_FLIGHT)
    arrive(trouble, CANARY)
    begin(trouble, SECOND)
    arrive(trouble, BACK)
    assert {model.side_of(stack) for model in trouble.models for stack in (AT_REST, REST, FIRST)} == {OLD}
    assert all(model.sides.stacks == {SECOND: NEW} for model in trouble.models)
    # Begun once more, or with everybody: what had gone ahead is at home there.
    arrive(trouble, trouble.dice.choice([CANARY, Goal(NEW)]))
    assert {model.side_of(SECOND) for model in trouble.models} == {NEW}
    assert {model.side_of(FIRST) for model in trouble.models} == {OLD}


@pytest.mark.parametrize("seed", range(400))
def test_runs_that_are_given_up_half_way_and_go_elsewhere_cross_nothing(seed: int) -> None:
    """Canaries of one and of two projects, taken back, everybody's flip and its way back, in any order."""
    goals = [CANARY, Goal(OLD, {EARLY_BIRD: NEW, THIRD: NEW}), Goal(OLD, {THIRD: NEW}), BACK, Goal(NEW)]
    trouble = world(seed)
    for _ in range(5):
        trouble.in_flight = {}
        begin(trouble, *trouble.dice.sample(sorted(STACKS), 4))
        for _ in range(3):
            tries(trouble, trouble.dice.choice(goals), number=trouble.dice.randrange(4))
        arrive(trouble, trouble.dice.choice(goals))


@pytest.mark.parametrize("goal", [Goal(NEW), CANARY, BACK])
def test_what_an_earlier_try_has_sent_may_come_once_the_others_are_finished(goal: Goal) -> None:
    """A host that waits then decides nothing for the others: it is neither everybody's state nor the goal reached."""
    trouble = world(0)
    trouble.odds = 0
    begin(trouble, IN_FLIGHT)
    ahead, waits, _ = trouble.models
    flipped = Sides(NEW, stacks={IN_FLIGHT: OLD})
    ahead.hold = "for a while"
    waits.sides, waits.hold = flipped, "prepared"

    def act(hands: Sequence[Hand], what: Callable[[Hand], object]) -> list[object]:
        results = one_by_one(hands, what)
        if waits.sides == Sides(OLD) and not waits.hold and not ahead.expired:
            ahead.sides, ahead.hold, ahead.number, ahead.expired = flipped, "prepared", ahead.number + 1, True
        return results

    hands = [Hand(model, trouble) for model in trouble.models]
    with pytest.raises(TransientError, match="a host waits again with what an earlier try has sent it"):
        bring_to(goal, hands, lambda now: sides_after(now, goal, []), act)
    nothing_crosses(trouble)
    arrive(trouble, goal)
