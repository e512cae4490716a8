"""
How all hosts are brought to agree on their sides: hold, prepare, release. Nothing here connects.

Every call may fail, or succeed without anybody hearing of it, or arrive late, and whoever makes the calls may end
between any two of them. ``rule`` says what holds then, and what the next try makes of it. Each change of a host's state
has a number, and a call names the one that it follows, so what is left of an earlier try can do nothing any more once a
later one has changed that host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from heat_upgrade.exceptions import TransientError
from heat_upgrade.flip.rule import Goal, HostSides, Sides, sides_to_finish

# How often what is in flight may be read before the flip is given up: what changes for longer is held for too long.
LISTS = 5


class Router(Protocol):
    """The router of one host, in the hands of one try: it follows what this try has last seen or done there."""

    def read(self) -> HostSides:
        """Return what it knows."""

    def hold(self) -> None:
        """Have changes wait for a bound, and see those done that are under way."""

    def prepare(self, sides: Sides) -> None:
        """Give it what it decides by once it is released; fails where its hold is over."""

    def release(self) -> None:
        """Have it go on, by what it knows."""


# Does something to some routers side by side; raises the first error once all have ended.
AtOnce = Callable[[Sequence[Router], Callable[[Router], Any]], list[Any]]


def bring_to(
    goal: Goal, routers: Sequence[Router], sides_after: Callable[[Sides], Sides], at_once: AtOnce
) -> Sides | None:
    """
    Bring all hosts to the goal, or leave all of them where they are; what a try before has half done is finished.

    :param goal: where to
    :param routers: of every host with an API
    :param sides_after: given by what is decided, reads what is in flight and returns by what to decide after the flip
    :param at_once: does something to some routers side by side
    :return: by what the hosts decide now; None where they did so before
    """
    states = at_once(routers, lambda router: router.read())
    finished = sides_to_finish(states, goal)
    if finished:
        _finish(routers, states, finished, at_once)
        states = at_once(routers, lambda router: router.read())
        if sides_to_finish(states, goal):
            # A call of an earlier try has come meanwhile: what that host waits with isn't what the others decide by.
            raise TransientError("a host waits again with what an earlier try has sent it: the next try finishes it")
    now: Sides = states[0].sides
    if goal.reached_by(now):
        return now if finished else None
    return _flip(now, routers, sides_after, at_once)


def _finish(routers: Sequence[Router], states: Sequence[HostSides], sides: Sides, at_once: AtOnce) -> None:
    """Bring the prepared hosts to where the others are, all of them before one is released."""
    prepared = [(router, state) for router, state in zip(routers, states, strict=True) if state.prepared]
    at_once([router for router, state in prepared if state.sides != sides], lambda router: router.prepare(sides))
    at_once([router for router, _ in prepared], lambda router: router.release())


def _flip(now: Sides, routers: Sequence[Router], sides_after: Callable[[Sides], Sides], at_once: AtOnce) -> Sides:
    try:
        at_once(routers, lambda router: router.hold())
        after = _prepare(now, routers, sides_after, at_once)
    except Exception:
        # None has been released by this try, and no earlier one can do so any more.
        at_once(routers, lambda router: _go_on_by(now, router))
        raise
    at_once(routers, lambda router: router.release())
    return after


def _prepare(now: Sides, routers: Sequence[Router], sides_after: Callable[[Sides], Sides], at_once: AtOnce) -> Sides:
    after = sides_after(now)
    for _ in range(LISTS):
        _prepare_all(after, routers, at_once)
        listed, after = after, sides_after(now)
        # What an answered request has set off may show in the database a moment later.
        if after == listed:
            return after
    raise TransientError(
        f"what is in flight went on changing over {LISTS} readings, expected two alike: the next try reads it again"
    )


def _prepare_all(sides: Sides, routers: Sequence[Router], at_once: AtOnce) -> None:
    at_once(routers, lambda router: router.prepare(sides))


def _go_on_by(sides: Sides, router: Router) -> None:
    # Where this fails the hold's bound ends it, or the next try.
    with suppress(Exception):
        router.prepare(sides)
        router.release()
