"""The history of a drain, for the run's report: few enough readings to keep, however long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heat_upgrade.readings import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heat_upgrade.drain.rule import Snapshot
    from heat_upgrade.readings import Reading

# Readings to keep: a plot has no room for more.
MOST_READINGS = 240
MOST_STACKS = 300


class DrainHistory:
    """
    Keep every reading at first, later every second, fourth, ... one, and what was in flight at T0.

    :param kept: what an earlier one has kept, as after a restart of the triggerer
    """

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        kept = kept or {}
        self.readings: list[list[float | None]] = list(kept.get("readings", []))
        self.every: int = kept.get("every", 1)
        self.taken: int = kept.get("taken", 0)
        self.t0: float | None = kept.get("t0")
        self.stacks: list[dict[str, str]] = list(kept.get("stacks", []))
        self.in_flight: int = kept.get("in_flight", 0)
        self._last: list[float | None] | None = None

    def add(self, reading: Reading, snapshot: Snapshot) -> None:
        """
        Take in one more reading.

        :param reading: the reading
        :param snapshot: what the old side had begun at T0, as this reading leaves it
        """
        if self.t0 is None and snapshot.time is not None:
            self.t0 = snapshot.time.timestamp()
            self.in_flight = len(snapshot.waiting)
            self.stacks = [
                {"id": stack.id, "name": stack.name, "project": stack.project, "action": stack.action}
                for stack in snapshot.waiting[:MOST_STACKS]
            ]
        self._last = _numbers(reading, snapshot)
        if self.taken % self.every == 0:
            self.readings.append(self._last)
        self.taken += 1
        if len(self.readings) > MOST_READINGS:
            self.readings, self.every = self.readings[::2], 2 * self.every

    def as_xcom(self) -> dict[str, Any]:
        """Return what restores it, with the latest reading at the end."""
        latest = [self._last] if self._last and self._last not in self.readings else []
        return {
            "readings": self.readings + latest,
            "every": self.every,
            "taken": self.taken,
            "t0": self.t0,
            "stacks": self.stacks,
            "in_flight": self.in_flight,
        }


def _numbers(reading: Reading, snapshot: Snapshot) -> list[float | None]:
    """
    Return the time, all messages, what old engines hold, and the stacks in flight there and on the new side.

    None stands for what wasn't read; on the new side nobody is before the end of the drain unless there was a flip.
    """
    unread = isinstance(reading.broker, Unavailable), isinstance(reading.database, Unavailable)
    return [
        reading.began.timestamp(),
        None if isinstance(reading.broker, Unavailable) else sum(queue.messages for queue in reading.broker.queues),
        None if any(unread) else len(reading.held_by_old),
        None if any(unread) else len(snapshot.waiting),
        _on_new_side(reading, snapshot),
    ]


def _on_new_side(reading: Reading, snapshot: Snapshot) -> int | None:
    if snapshot.kept is None or isinstance(reading.broker, Unavailable) or isinstance(reading.database, Unavailable):
        return None
    elsewhere = snapshot.stranded | {stack.id for stack in snapshot.waiting}
    return sum(stack.id not in elsewhere for stack in reading.database.in_progress)
