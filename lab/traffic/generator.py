"""Sends the traffic: one thread keeps the beat, a pool of others waits for the answers."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.traffic.client import HeatClient
from lab.traffic.shapes import Card, Step, deal, template

TICK = 0.02  # seconds; the beat's resolution
EARLY = 3.0  # seconds after its last change that a stack is changed again while in progress
THREADS = 64  # bounds the requests in flight: 12 a second that take 0.5 s need 6, a hung minute more


@dataclass(frozen=True)
class Pace:
    """How much traffic; times in seconds."""

    probe_every: float = 1 / 12
    cfn_every: float = 1.0
    list_every: float = 2.0
    create_every: float = 1.5
    most_in_progress: int = 60
    most_stacks: int = 400


@dataclass
class Life:
    """A stack on its way through its card."""

    name: str
    number: int
    card: Card
    stack_id: str | None = None
    changed: float = field(default=0.0)
    done: int = 0
    busy: bool = True

    @property
    def next_step(self) -> Step | None:
        """Return what the user does next, if anything."""
        return self.card.steps[self.done] if self.stack_id and self.done < len(self.card.steps) else None


class Beat:
    """Calls something at a fixed pace; a beat that was missed is left out, not made up for.

    :param every: seconds.
    :param action: what to call; it must not block.
    """

    def __init__(self, every: float, action: Callable[[], None]) -> None:
        self._every = every
        self._action = action
        self._due = time.monotonic()

    def tick(self) -> None:
        """Call the action if it is due."""
        now = time.monotonic()
        if now >= self._due:
            self._due = max(self._due + self._every, now - self._every)
            self._action()


class Generator:
    """Creates, updates and deletes stacks, and probes the API, until it is told to end.

    :param client: sends the requests.
    :param prefix: what the names of its stacks begin with; unique to the run.
    :param seed: decides which stacks come, and in which order.
    :param pace: how much.
    """

    def __init__(self, client: HeatClient, *, prefix: str, seed: int, pace: Pace) -> None:
        self.lives: list[Life] = []
        self._client = client
        self._prefix = prefix
        self._seed = seed
        self._pace = pace
        self._cards = deal(seed)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="traffic")
        self._listed = (0.0, set[str]())

    def run(self, end: threading.Event) -> float:
        """Send traffic; return when the last of it was sent, in seconds since the epoch.

        :param end: set when no more is wanted; requests under way are then waited for.
        """
        beats = self._beats()
        while not end.wait(TICK):
            for beat in beats:
                beat.tick()
        ended = time.time()
        self._pool.shutdown(wait=True)
        return ended

    def _beats(self) -> list[Beat]:
        pace = self._pace
        beats = [
            Beat(pace.probe_every, lambda: self._submit(self._client.probe)),
            Beat(pace.list_every, lambda: self._submit(self._list)),
            Beat(pace.create_every, self._begin),
            Beat(0.25, self._take_steps),
        ]
        if self._client.cfn_endpoint:
            beats.append(Beat(pace.cfn_every, lambda: self._submit(self._client.probe_cfn)))
        return beats

    def _submit(self, call: Callable[..., None], *arguments: object) -> None:
        self._pool.submit(call, *arguments)

    def _list(self) -> None:
        began = time.monotonic()
        names = self._client.in_progress()
        if names is not None and began > self._listed[0]:
            self._listed = (began, names)

    def _begin(self) -> None:
        _, in_progress = self._listed
        if len(in_progress) >= self._pace.most_in_progress or len(self.lives) >= self._pace.most_stacks:
            return
        number, card = len(self.lives), next(self._cards)
        life = Life(f"{self._prefix}-{number:03}-{card.shape.replace(' ', '-')}", number, card)
        self.lives.append(life)
        self._submit(self._create, life)

    def _create(self, life: Life) -> None:
        first = template(life.card.shape, seed=self._seed + life.number)
        life.stack_id = self._client.create(life.name, first)
        self._settle(life)

    def _take_steps(self) -> None:
        for life in self.lives:
            step = life.next_step
            if step and not life.busy and self._is_due(life, step):
                life.busy = True
                self._submit(self._step, life, step)

    def _is_due(self, life: Life, step: Step) -> bool:
        if step.moment == "in progress":
            return time.monotonic() >= life.changed + EARLY
        listed, names = self._listed
        return listed > life.changed and life.name not in names

    def _step(self, life: Life, step: Step) -> None:
        life.done += 1
        assert life.stack_id  # a step is only due once there is one
        if step.action == "delete":
            self._client.delete(life.name, life.stack_id)
        else:
            new = template(life.card.shape, seed=self._seed + life.number, update=step.action)
            self._client.update(life.name, life.stack_id, new)
        self._settle(life)

    def _settle(self, life: Life) -> None:
        life.changed = time.monotonic()
        life.busy = False
