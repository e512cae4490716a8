"""The drain rule over time: how often in a row it has held, and what the old side had begun."""

from __future__ import annotations

from collections.abc import Iterable

from heat_upgrade.drain.rule import Snapshot, Verdict, assess
from heat_upgrade.readings import Reading, Unavailable


class DrainWatch:
    """
    Follow the readings until enough of them in a row are clean.

    A watch that starts over, as after a restart of the triggerer, takes T0 again: what the old side had begun and has
    not ended is in progress still, so nothing is lost; it only waits for some of the new side's stacks too. After a
    flip it starts over with the same stacks.

    :param readings: clean readings in a row that are needed
    :param stranded: ids of the stacks that nobody worked on before the upgrade began
    :param kept: ids of the stacks that stayed on the old side at the flip; None where there was none
    """

    def __init__(self, *, readings: int, stranded: Iterable[str] = (), kept: Iterable[str] | None = None) -> None:
        self.needed = readings
        self.snapshot = Snapshot(stranded=frozenset(stranded), kept=None if kept is None else frozenset(kept))
        self.verdict = Verdict(blockers=("nothing was read yet",))
        self.taken = 0
        self.clean = 0
        self._broker_read = False
        self._retired = False
        self._last: Reading | None = None

    @property
    def drained(self) -> bool:
        """Return whether the old engines may stop."""
        return self.verdict.clean and (self._retired or self.clean >= self.needed)

    def observe(self, reading: Reading) -> Verdict:
        """
        Take in one more reading, and return what it means.

        :param reading: the reading; some seconds after the one before
        """
        self.taken += 1
        self._last = reading
        if self._finds_it_retired(reading):
            self._retired = True
            self.snapshot = self.snapshot.without_old_side(reading)
        else:
            self.snapshot = self.snapshot.after(reading)
        self.verdict = assess(reading, self.snapshot)
        self.clean = self.clean + 1 if self.verdict.clean else 0
        return self.verdict

    @property
    def remaining(self) -> dict[str, str] | None:
        """Return the stacks, by id, that are cut off if the old engines stop now; None where that isn't known."""
        reading = self._last
        if reading is None or isinstance(reading.broker, Unavailable) or isinstance(reading.database, Unavailable):
            return None
        waiting = {stack.id: str(stack) for stack in self.snapshot.waiting}
        held = {row.stack_id: row.stack for row in reading.held_by_old if row.stack_id not in self.snapshot.stranded}
        return held | waiting

    def _finds_it_retired(self, reading: Reading) -> bool:
        """Return whether the old engines were stopped in an earlier run, as the first reading of RabbitMQ shows."""
        if self._broker_read or isinstance(reading.broker, Unavailable):
            return False
        self._broker_read = True
        return reading.broker.deserted
