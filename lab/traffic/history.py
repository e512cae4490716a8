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
    that is complete fails while Heat tidies up after it. So the last word before the next action counts;
    only what follows a cancellation is its echo, from the nested stacks.

    :param events: its own events (not its resources'), in order.
    """
    told: list[Attempt] = []
    for event in events:
        attempt = Attempt(event.action, event.status, event.reason)
        if event.status == "IN_PROGRESS":
            told.append(attempt)
        elif told and told[-1].action == event.action and not _is_cancelled(told[-1]):
            told[-1] = attempt
    return told


def failures(tried: list[Attempt]) -> list[Attempt]:
    """Pick what failed, without what the user himself put an end to.

    A delete begins with cancelling what is in progress, and Heat books that as a failure.

    :param tried: all attempts.
    """
    following = [*(attempt.action for attempt in tried[1:]), None]
    return [
        attempt
        for attempt, next_action in zip(tried, following, strict=True)
        if attempt.status == "FAILED" and not (_is_cancelled(attempt) and next_action == "DELETE")
    ]


def _is_cancelled(attempt: Attempt) -> bool:
    """Tell the stack's own cancellation from that of a stack nested in it."""
    return attempt.status == "FAILED" and attempt.reason == f"Stack {attempt.action} cancelled"
