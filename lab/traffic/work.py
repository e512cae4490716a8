"""Which engine was at work on which stack, and when: what no event of Heat's tells."""

import threading
import time
from collections.abc import Callable, Iterable

from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

EVERY = 1.0  # seconds between two looks


class Span(BaseModel):
    """The first and the last time that something was seen, in seconds since the epoch."""

    first: float
    last: float

    def reach(self, now: float) -> None:
        """Note that it is still seen."""
        self.last = now


class Work(BaseModel):
    """What the engines were at.

    :param engines: id -> from when until when the engine was known to be alive.
    :param stacks: a user's stack -> id of an engine -> from when until when that held a resource of the stack's tree.
    """

    engines: dict[str, Span] = {}
    stacks: dict[str, dict[str, Span]] = {}

    def observe(self, live: Iterable[str], held: Iterable[tuple[str, str]], now: float) -> None:
        """Take a look into account.

        :param live: ids of engines that live.
        :param held: stacks and the engines that are at them.
        :param now: when it was, in seconds since the epoch.
        """
        for engine in live:
            self.engines.setdefault(engine, Span(first=now, last=now)).reach(now)
        for stack, engine in held:
            self.stacks.setdefault(stack, {}).setdefault(engine, Span(first=now, last=now)).reach(now)

    def engines_before(self, moment: float) -> frozenset[str]:
        """Return the engines that lived before a moment.

        :param moment: in seconds since the epoch.
        """
        return frozenset(engine for engine, span in self.engines.items() if span.first < moment)


class WorkWatch(threading.Thread):
    """Looks at the work once a second until it is stopped.

    :param look: returns ids of live engines, and stacks with the engines that are at them.
    """

    def __init__(self, look: Callable[[], tuple[Iterable[str], Iterable[tuple[str, str]]]]) -> None:
        super().__init__(name="work", daemon=True)
        self.work = Work()
        self._look = look
        self._end = threading.Event()

    def run(self) -> None:
        """Look, again and again; a look that fails is left out, as a database that restarts is none of its business."""
        while not self._end.wait(EVERY):
            try:
                self.work.observe(*self._look(), time.time())
            except SQLAlchemyError as error:
                print(f"no look at the engines' work: {error}", flush=True)

    def stop(self) -> Work:
        """Stop looking and return what was seen."""
        self._end.set()
        self.join()
        return self.work
