"""Finds the stacks that nobody works on any more."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Underway:
    """A stack in progress, nested or not, as the database shows it."""

    stack_id: str
    name: str
    owner_id: str | None
    state: str  # all that changes while somebody works on it, as one comparable text
    engines: frozenset[str]  # the ids in its resources' and its own locks


@dataclass(frozen=True)
class Reading:
    """What is in progress, and which engines are alive."""

    underway: tuple[Underway, ...]
    live_engines: frozenset[str]


@dataclass
class StuckWatch:
    """Tells stuck stacks from slow ones, from one reading to the next.

    :param after: for how many seconds a stack without a live engine must not change to count as stuck.
    """

    after: float = 60.0
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)

    def observe(self, reading: Reading, now: float) -> list[Underway]:
        """Take a reading and return the stacks that are stuck.

        A stack that waits for a stuck one is stuck too, though a live engine polls for it.

        :param reading: the newest.
        :param now: when it was taken, in seconds.
        """
        self._since = {stack.stack_id: self._unchanged(stack, now) for stack in reading.underway}
        stuck = {stack.stack_id for stack in reading.underway if self._is_stuck(stack, reading, now)}
        while waiting := _owners(reading, stuck) - stuck:
            stuck |= waiting
        return [stack for stack in reading.underway if stack.stack_id in stuck]

    def _unchanged(self, stack: Underway, now: float) -> tuple[str, float]:
        state, since = self._since.get(stack.stack_id, (stack.state, now))
        return (state, since) if state == stack.state else (stack.state, now)

    def _is_stuck(self, stack: Underway, reading: Reading, now: float) -> bool:
        _, since = self._since[stack.stack_id]
        return not (stack.engines & reading.live_engines) and now - since >= self.after


def _owners(reading: Reading, stuck: set[str]) -> set[str]:
    underway = {stack.stack_id for stack in reading.underway}
    owners = {stack.owner_id for stack in reading.underway if stack.stack_id in stuck and stack.owner_id}
    return owners & underway
