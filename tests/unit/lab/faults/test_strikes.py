"""When faults strike one after the other, and what is held meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from unittest.mock import Mock

import pytest

from lab.cloud.model import Lab
from lab.faults import strikes
from lab.faults.fault import Fault, Scene
from lab.faults.strikes import Strikes
from lab.faults.task import FLIP, Task
from lab.faults.watch import Attempt
from lab.processes import wait_until

LAB = Lab("faults-unit", "small")
FIRST_TRY, SECOND_TRY = 4711, 4712


class Lasting(Fault):
    """A fault that lasts until a test ends it."""

    name = "lasting"

    def __init__(self, *, ends_engines: bool = False) -> None:
        self.costs = True
        self.ends_engines = ends_engines
        self.strikes, self.over = threading.Event(), threading.Event()

    def strike(self, scene: Scene) -> None:
        self.strikes.set()
        assert self.over.wait(10)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], signal.Signals]]:
    sent: list[tuple[list[int], signal.Signals]] = []

    def send(pids: Sequence[int], number: signal.Signals) -> None:
        if pids:
            sent.append((list(pids), number))

    monkeypatch.setattr(strikes, "send_signal", send)
    monkeypatch.setattr(strikes, "step_pids", lambda task: [])
    names = iter(({"r-001"}, {"r-002"}, set[str](), set[str]()))
    monkeypatch.setattr(strikes, "in_progress", lambda lab: next(names))
    return sent


@pytest.fixture
def faults() -> Iterator[list[Lasting]]:
    made = [Lasting(), Lasting(ends_engines=True)]
    yield made
    for fault in made:
        fault.over.set()


def attempts(number: int, state: str = "running") -> dict[str, Attempt]:
    return {FLIP: Attempt(state, number, {1: FIRST_TRY, 2: SECOND_TRY}[number])}


def test_the_next_try_waits_for_the_next_fault(
    signals: list[tuple[list[int], signal.Signals]], faults: list[Lasting]
) -> None:
    first, second = faults
    watch = Mock()
    watch.await_moment.side_effect = lambda task, **_: attempts(1 if not first.over.is_set() else 2)[FLIP]
    struck = Strikes(LAB, watch, Mock(), {Task(LAB, FLIP): [first, second]}, Mock(), [])
    struck.look(attempts(1))
    assert first.strikes.wait(10)
    struck.look(attempts(1))
    assert signals == [], "the try that is struck goes on"
    struck.look(attempts(2))
    assert signals == [([SECOND_TRY], signal.SIGSTOP)]
    first.over.set()
    wait_until(lambda: not struck.lasts(), what="all is well")
    struck.look(attempts(2))
    assert second.strikes.wait(10)
    assert signals[1:] == [([SECOND_TRY], signal.SIGCONT)]
    second.over.set()
    struck.wait()
    struck.end()
    assert struck.missed == []


def struck_at_its_flip(fault: Lasting) -> Strikes:
    """Return the strikes of a run whose flip's first try was hit; the fault is over."""
    watch = Mock()
    watch.await_moment.return_value = attempts(1)[FLIP]
    struck = Strikes(LAB, watch, Mock(), {Task(LAB, FLIP): [fault]}, Mock(), [])
    fault.over.set()
    struck.look(attempts(1))
    struck.wait()
    return struck


def test_what_a_flip_costs_is_over_once_a_try_has_ended_well(
    signals: list[tuple[list[int], signal.Signals]], faults: list[Lasting]
) -> None:
    fault, _ = faults
    struck = struck_at_its_flip(fault)
    assert len(struck.windows) == 1
    struck.look(attempts(2))
    assert len(struck.windows) == 1
    struck.look(attempts(2, "success"))
    (began, _), (again, ended) = struck.windows
    assert began == again <= ended
    assert struck.touched == {"r-001", "r-002"}
    assert struck.taken_up == set(), "no engine was ended"
    struck.end()
    assert len(struck.windows) == 2


def test_a_fault_that_ends_engines_excuses_who_takes_their_work_up(
    signals: list[tuple[list[int], signal.Signals]], faults: list[Lasting]
) -> None:
    _, fault = faults
    struck = struck_at_its_flip(fault)
    struck.end()
    assert struck.taken_up == struck.touched == {"r-001", "r-002"}
    assert len(struck.windows) == 2, "the run ended without a good try"
