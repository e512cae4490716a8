"""Sends the traffic: one thread keeps the beat, a pool of others waits for the answers."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.traffic.client import HeatClient
from lab.traffic.deck import SIGNALS, Card, Deck, Moment, Step
from lab.traffic.shapes import files, template

TICK = 0.02  # seconds; the beat's resolution
EARLY: dict[Moment, float] = {"at once": 1.0, "in progress": 3.0}  # seconds after a stack's last change
AGAIN = 1.0  # seconds until a resource is asked for again that can't be signalled yet
SIGNALLED = "handle"  # the resource
LAST_SIGNALS = 30.0  # seconds for the signals at the end; only a stack that was lost leaves them unsent
THREADS = 64  # bounds the requests in flight: 12 a second that take 0.5 s need 6, a hung minute more


@dataclass(frozen=True)
class Pace:
    """How much traffic; times in seconds."""

    probe_every: float = 1 / 12
    cfn_every: float = 1.0
    list_every: float = 2.0
    show_every: float = 1.0
    create_every: float = 1.5
    most_in_progress: int = 60
    most_stacks: int = 2000


@dataclass
class Life:
    """A stack on its way through its card; its times are monotonic, but for `touched`."""

    name: str
    number: int
    card: Card
    stack_id: str | None = None
    changed: float = 0.0
    due: float = 0.0
    done: int = 0
    busy: bool = True
    touched: list[float] = field(default_factory=list)  # when its user has sent a change, in seconds since the epoch

    @property
    def next_step(self) -> Step | None:
        """Return what the user does next, if anything."""
        return self.card.steps[self.done] if self.stack_id and self.done < len(self.card.steps) else None

    @property
    def waits(self) -> bool:
        """Whether it is, or will be, in progress until its user signals it."""
        refused = self.stack_id is None and not self.busy
        return not refused and any(step.action in SIGNALS for step in self.card.steps[self.done :])


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
    :param deck: which stacks come.
    :param seed: decides in which order.
    :param pace: how much.
    """

    def __init__(self, client: HeatClient, *, prefix: str, deck: Deck, seed: int, pace: Pace) -> None:
        self.lives: list[Life] = []
        self._client = client
        self._prefix = prefix
        self._deck = deck
        self._seed = seed
        self._pace = pace
        self._cards = deck.deal(seed)
        self._shown = itertools.count()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="traffic")
        self._listed = (0.0, set[str]())

    def run(self, end: threading.Event) -> float:
        """Send traffic; return when the last of it was sent, in seconds since the epoch.

        :param end: set when no more is wanted; requests under way and stacks that wait for a signal are brought to
            their end then.
        """
        beats = self._beats()
        while not end.wait(TICK):
            for beat in beats:
                beat.tick()
        ended = time.time()
        self._end_waiting()
        self._pool.shutdown(wait=True)
        return ended

    def _end_waiting(self) -> None:
        """Signal the stacks that wait for it: they would never come to an end."""
        deadline = time.monotonic() + LAST_SIGNALS
        while (waiting := [life for life in self.lives if life.waits]) and time.monotonic() < deadline:
            self._take_steps(waiting)
            time.sleep(TICK)

    def _beats(self) -> list[Beat]:
        pace, trickle = self._pace, self._deck.trickle
        beats = [
            Beat(pace.probe_every, lambda: self._submit(self._client.probe)),
            Beat(pace.list_every, lambda: self._submit(self._list)),
            Beat(pace.show_every, self._show),
            Beat(pace.create_every, lambda: self._begin(next(self._cards))),
            Beat(0.25, lambda: self._take_steps(self.lives)),
        ]
        if trickle:
            beats.append(Beat(pace.create_every, lambda: self._begin(trickle)))
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

    def _show(self) -> None:
        """Show one stack after the other, from the newest back to the oldest and again."""
        known = [life for life in self.lives if life.stack_id]
        if known:
            life = known[-1 - next(self._shown) % len(known)]
            self._submit(self._client.show, life.name, life.stack_id)

    def _begin(self, card: Card) -> None:
        _, in_progress = self._listed
        if len(in_progress) >= self._pace.most_in_progress or len(self.lives) >= self._pace.most_stacks:
            return
        number = len(self.lives)
        life = Life(f"{self._prefix}-{number:03}-{card.shape.replace(' ', '-')}", number, card)
        self.lives.append(life)
        self._submit(self._create, life)

    def _create(self, life: Life) -> None:
        shape = life.card.shape
        life.touched.append(time.time())
        life.stack_id = self._client.create(life.name, template(shape, seed=self._seed + life.number), files(shape))
        self._settle(life)

    def _take_steps(self, lives: list[Life]) -> None:
        for life in lives:
            step = life.next_step
            if step and not life.busy and self._is_due(life, step):
                life.busy = True
                self._submit(self._step, life, step)

    def _is_due(self, life: Life, step: Step) -> bool:
        if step.moment != "at rest":
            return time.monotonic() >= life.due
        listed, names = self._listed
        return listed > life.changed and life.name not in names

    def _step(self, life: Life, step: Step) -> None:
        if step.action in SIGNALS:
            self._signal(life, step)
            return
        assert life.stack_id  # a step is only due once there is one
        life.done += 1
        life.touched.append(time.time())
        if step.action == "delete":
            self._client.delete(life.name, life.stack_id)
        else:
            shape, done = life.card.shape, [step.action for step in life.card.steps[: life.done]]
            new = template(shape, seed=self._seed + life.number, done=done)
            self._client.update(life.name, life.stack_id, new, files(shape))
        self._settle(life)

    def _signal(self, life: Life, step: Step) -> None:
        """Signal a stack as soon as it has something to signal, as who runs on its server would."""
        assert life.stack_id
        found = self._client.find(life.name, life.stack_id, SIGNALLED)
        if found is None or found.status != "CREATE_COMPLETE":
            life.due = time.monotonic() + AGAIN
            life.busy = False
            return
        life.done += 1
        life.touched.append(time.time())
        (self._client.signal if step.action == "signal" else self._client.cfn_signal)(found.path)
        self._settle(life)

    def _settle(self, life: Life) -> None:
        life.changed = time.monotonic()
        step = life.next_step
        life.due = life.changed + (EARLY.get(step.moment, 0.0) if step else 0.0)
        life.busy = False
