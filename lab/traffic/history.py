"""What became of a stack and of its resources, told by their events."""

from collections.abc import Iterable
from dataclasses import dataclass

# What Heat writes on a resource when it steals its lock from an engine that doesn't answer
# (`_stale_resource_needs_retry` in heat/engine/check_resource.py).
STOLEN = "Worker went down"
# Whose update is a replacement by nature, so that a second creation is what the user has asked for.
REPLACED_BY_UPDATE = frozenset({"OS::Heat::RandomString"})


@dataclass(frozen=True)
class Event:
    """A change of a stack's own state, or of a resource's."""

    action: str
    status: str
    reason: str


@dataclass(frozen=True)
class Attempt:
    """Something that was tried with a stack, and how it ended last."""

    action: str
    status: str
    reason: str


@dataclass(frozen=True)
class Resource:
    """All that had one name in one stack; `name` is STACK/RESOURCE."""

    name: str
    type: str
    events: tuple[Event, ...]

    @property
    def stolen(self) -> bool:
        """Whether an engine has stolen its lock from one that it took for dead.

        Engines on two vhosts can't ask each other: if both live, both work on it.
        """
        return any(STOLEN in event.reason for event in self.events)

    @property
    def created_twice(self) -> bool:
        """Whether it was created again though nobody had asked for that.

        Heat replaces what has failed and what can't be updated in place: neither counts. What is called failed
        because its lock was stolen has not failed: its engine may well be at work.
        """
        if self.type in REPLACED_BY_UPDATE:
            return False
        made = False
        for event in self.events:
            if (event.action, event.status) == ("CREATE", "IN_PROGRESS"):
                if made:
                    return True
                made = True
            elif event.status == "FAILED" and STOLEN not in event.reason:
                made = False
        return False


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
