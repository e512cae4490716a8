"""The flip's protocol against a model of hosts on which every call may fail, half-succeed or be the last one."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from heat_upgrade.flip.protocol import bring_to
from heat_upgrade.flip.rule import Goal, HostSides, Sides

OLD, NEW = "25.0.2", "26.0.2"
HOSTS = "controller-1", "controller-2", "controller-3"
IN_FLIGHT = "stack-in-flight"
AT_REST = "stack-at-rest"
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
        return self.sides.stacks.get(stack, self.sides.default)


@dataclass
class Trouble:
    """What goes wrong, and when: the world between a try and the hosts."""

    dice: random.Random
    models: Sequence[Model]
    odds: float
    late: list[Callable[[], None]] = field(default_factory=list)
    worker_lives: bool = True

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
        nothing_crosses(self.models)
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
        nothing_crosses(self.models)


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


def listed(now: Sides) -> Sides:
    return Sides(NEW, stacks={IN_FLIGHT: now.default} if now.default != NEW else dict(now.stacks))


def nothing_crosses(models: Sequence[Model]) -> None:
    for stack in (IN_FLIGHT, AT_REST):
        sides = {side for model in models if (side := model.side_of(stack))}
        assert len(sides) < 2, f"{stack} is changed on both sides: {models}"


def one_try(models: Sequence[Model], trouble: Trouble, goal: Goal) -> None:
    trouble.worker_lives = True
    bring_to(goal, [Hand(model, trouble) for model in models], listed, one_by_one)


@pytest.mark.parametrize("seed", range(400))
def test_whatever_goes_wrong_nothing_is_changed_on_two_sides(seed: int) -> None:
    dice = random.Random(seed)
    models = [Model(host) for host in HOSTS]
    trouble = Trouble(dice, models, odds=dice.choice([0.03, 0.1, 0.2]))
    for _ in range(6):
        with contextlib.suppress(ConnectionError, KilledError):
            one_try(models, trouble, Goal(NEW))
    trouble.odds = 0
    one_try(models, trouble, Goal(NEW))
    assert all(model.side_of(AT_REST) == NEW and model.side_of(IN_FLIGHT) == OLD for model in models)
