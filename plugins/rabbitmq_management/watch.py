"""
When is a set of queues drained? The rule, from readings to a verdict; nothing here reads anything.

Drained means: in so many readings in a row, some seconds apart, every queue was there and held no message in any
state, and every quorum queue had kept its leader for long enough to have counted. A reading that is missing, partial or
an error is not a clean one and starts the count again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rabbitmq_management.records import QueueReading

# A leader counts its queue's messages at each of its ticks, by default every 5 s, and shows none before the first one:
# seen on three nodes of RabbitMQ 3.10.8, a queue of 3 messages whose leader was killed showed 0 for 5.0 s.
SETTLING = 10.0
# Queues that a message names; the rest is counted.
_NAMED = 20


class Selection:
    """
    The queues that are waited for.

    :param queues: a regular expression that whole names match, or the names
    :param missing_ok: whether a queue that isn't there counts as empty
    :raises ValueError: when it can't select anything
    """

    def __init__(self, queues: str | Sequence[str], *, missing_ok: bool = False) -> None:
        if not queues:
            raise ValueError(f"queues is {queues!r}, expected a regular expression or a list of names")
        try:
            self._pattern = re.compile(queues) if isinstance(queues, str) else None
        except re.error as error:
            raise ValueError(f"queues is {queues!r}, expected a regular expression: {error}") from None
        self._names = () if isinstance(queues, str) else tuple(queues)
        self._missing_ok = missing_ok

    def __contains__(self, name: str) -> bool:
        """Return whether a queue is waited for."""
        return self._pattern.fullmatch(name) is not None if self._pattern else name in self._names

    def missing(self, queues: Iterable[QueueReading]) -> list[str]:
        """
        Return what should be there and isn't, in words.

        :param queues: what has been read of the selection
        """
        there = {queue.name for queue in queues}
        if self._missing_ok:
            return []
        if self._pattern:
            return [] if there else [f"no queue matches {self._pattern.pattern!r}"]
        return [f"queue {name!r} isn't there" for name in self._names if name not in there]


class LeaderWatch:
    """Remember since when each quorum queue has had its leader: after a change RabbitMQ shows it empty for a while."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, float]] = {}

    def unsettled(self, queues: Iterable[QueueReading], at: float) -> list[str]:
        """
        Return the quorum queues whose count can't be relied on yet, in words.

        :param queues: what has been read
        :param at: when, in seconds of a clock that only goes forward
        """
        found = {queue.name: queue.leader for queue in queues if queue.leader}
        self._since = {
            name: (leader, self._since[name][1] if self._since.get(name, ("", at))[0] == leader else at)
            for name, leader in found.items()
        }
        return [
            f"quorum queue {name!r} has been seen led by {leader!r} for {at - since:.0f} s, expected {SETTLING:.0f} s, "
            "as a new leader shows no messages at first"
            for name, (leader, since) in self._since.items()
            if at - since < SETTLING
        ]

    def forget(self) -> None:
        """Begin again, as after a reading that failed: nobody knows who led meanwhile."""
        self._since.clear()


@dataclass(frozen=True)
class Unread:
    """Why a reading failed; ``final`` if another would too until somebody changes something."""

    reason: str
    final: bool = False


class QueuesWatch:
    """
    Follow the readings until enough of them in a row are clean.

    :param selection: the queues that are waited for
    :param clean_readings: clean readings in a row that are needed
    """

    def __init__(self, selection: Selection, clean_readings: int) -> None:
        self.selection = selection
        self.needed = clean_readings
        self.taken = 0
        self.clean = 0
        self.blockers: list[str] = ["nothing has been read yet"]
        self._leaders = LeaderWatch()

    @property
    def drained(self) -> bool:
        """Return whether the queues are drained."""
        return self.clean >= self.needed

    def observe(self, reading: Sequence[QueueReading] | Unread, at: float) -> None:
        """
        Take in one more reading.

        :param reading: what was read of the selection, or why it couldn't be
        :param at: when, in seconds of a clock that only goes forward
        """
        self.taken += 1
        self.blockers = self._judge(reading, at)
        self.clean = 0 if self.blockers else self.clean + 1

    def __str__(self) -> str:
        """Return where the wait stands: one line, and one for each of the first things in the way."""
        head = f"reading {self.taken}: {self.clean} of {self.needed} clean readings in a row"
        more = len(self.blockers) - _NAMED
        return "\n  ".join([head, *self.blockers[:_NAMED], *([f"and {more} more"] if more > 0 else [])])

    def _judge(self, reading: Sequence[QueueReading] | Unread, at: float) -> list[str]:
        if isinstance(reading, Unread):
            self._leaders.forget()
            return [f"the queues were not read: {reading.reason}"]
        filled = sorted((queue for queue in reading if queue.messages), key=lambda queue: -queue.messages)
        return [
            *(f"{queue} is not empty" for queue in filled),
            *self.selection.missing(reading),
            *self._leaders.unsettled(reading, at),
        ]
