"""What became of a stack, told by its events."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """A change of a stack's own state."""

    action: str
    status: str
    reason: str


@dataclass(frozen=True)
class Attempt:
    """Something that was tried with a stack, and how it ended last."""

    action: str
    status: str
    reason: str


def attempts(events: Iterable[Event]) -> list[Attempt]:
    """Tell what was tried with a stack, in order.

    A stack may report the end of one action after the user has begun the next (a create that an update
    took over "fails"): what was taken over has no end of its own. And it may take an end back: an update
    that is complete fails while Heat tidies up after it. So the last word before the next action counts.

    :param events: its own events (not its resources'), in order.
    """
    told: list[Attempt] = []
    for event in events:
        if event.status == "IN_PROGRESS":
            told.append(Attempt(event.action, event.status, event.reason))
        elif told and told[-1].action == event.action:
            told[-1] = Attempt(event.action, event.status, event.reason)
    return told


def failures(tried: list[Attempt]) -> list[Attempt]:
    """Pick what failed, without what the user himself put an end to.

    :param tried: all attempts.
    """
    return [
        attempt
        for attempt, following in zip(tried, [*tried[1:], None], strict=True)
        if attempt.status == "FAILED" and not _cut_short(attempt, following)
    ]


def _cut_short(attempt: Attempt, following: Attempt | None) -> bool:
    """A delete begins with cancelling what is in progress; Heat books that as a failure."""
    cancelled = attempt.reason == f"Stack {attempt.action} cancelled"
    return cancelled and following is not None and following.action == "DELETE"
