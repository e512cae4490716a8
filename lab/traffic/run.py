"""One run of the traffic, from its first request to its account."""

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.traffic.account import Account, sum_up
from lab.traffic.client import HeatClient
from lab.traffic.database import HeatDatabase
from lab.traffic.deck import DECK
from lab.traffic.generator import Generator, Pace
from lab.traffic.ledger import Ledger
from lab.traffic.login import Login
from lab.traffic.stuck import StuckWatch
from lab.traffic.work import WorkWatch

POLL = 3.0  # seconds between two looks at what is still in progress
REPORT = 10.0  # seconds between two lines of progress


class TrafficError(Exception):
    """The traffic could not be sent or accounted for."""


@dataclass(frozen=True)
class Run:
    """What a run is made of.

    :param label: what it is called in the account, as `control`.
    :param endpoint: Heat's API with the project.
    :param cfn_endpoint: heat-api-cfn, or None.
    :param database: SQLAlchemy URL of Heat's database.
    :param login: how the user logs in, as `Login` wants it, or None.
    :param seed: decides in which order the stacks come.
    :param settle: seconds to wait at the end until the stacks are done.
    """

    label: str
    endpoint: str
    cfn_endpoint: str | None
    database: str
    login: Mapping[str, str] | None = None
    seed: int = 1
    settle: float = 180.0
    pace: Pace = field(default_factory=Pace)

    def send(self, end: threading.Event) -> Account:
        """Send traffic until the end, wait for its stacks, and sum it all up.

        :param end: set when no more traffic is wanted.
        """
        began = time.time()
        # the time keeps the stacks of two runs on one cloud apart
        prefix = f"{re.sub(r'[^a-z0-9]+', '-', self.label.lower())}-{began:.0f}"
        database = HeatDatabase(self.database, prefix)
        database.reading()  # an account that can't be drawn up in the end would be a waste of the run
        ledger = Ledger()
        generator = self._generator(prefix, ledger)
        threading.Thread(target=_report, args=(generator, ledger, end), daemon=True).start()
        watch = WorkWatch(database.work)
        watch.start()
        ended = generator.run(end)
        account = self._account(database, ledger, prefix, began, ended)
        account.touched = {life.name: life.touched for life in generator.lives}
        account.work = watch.stop()
        return account

    def _generator(self, prefix: str, ledger: Ledger) -> Generator:
        login = Login(self.login) if self.login else None
        client = HeatClient(self.endpoint, self.cfn_endpoint, ledger, login)
        return Generator(client, prefix=prefix, deck=DECK, seed=self.seed, pace=self.pace)

    def _account(self, database: HeatDatabase, ledger: Ledger, prefix: str, began: float, ended: float) -> Account:
        stuck, unsettled = settle(database, self.settle)
        resources = database.resources()
        return Account(
            label=self.label,
            seed=self.seed,
            began=began,
            ended=ended,
            settled_after=round(time.time() - ended, 1),
            requests=ledger.requests(began, ended),
            stacks=sum_up(database.stacks(), database.events(), prefix=prefix),
            stuck=stuck,
            unsettled=unsettled,
            stolen=sorted(resource.name for resource in resources if resource.stolen),
            created_twice=sorted(resource.name for resource in resources if resource.created_twice),
            orphan_sync_points=database.sync_points(),
            sides=ledger.sides(),
        )


def settle(database: HeatDatabase, timeout: float) -> tuple[list[str], list[str]]:
    """Wait until no stack is in progress any more but those that are stuck.

    :param database: sees the run's stacks.
    :param timeout: how long to wait, in seconds.
    :return: the names of the stacks that are stuck, and of those that were still worked on.
    """
    watch = StuckWatch()
    deadline = time.monotonic() + timeout
    while True:
        now = time.monotonic()
        reading = database.reading()
        stuck = {stack.name for stack in watch.observe(reading, now)}
        moving = {stack.name for stack in reading.underway} - stuck
        if not moving or now >= deadline:
            return sorted(stuck), sorted(moving)
        time.sleep(POLL)


def _report(generator: Generator, ledger: Ledger, end: threading.Event) -> None:
    began = time.monotonic()
    while not end.wait(REPORT):
        print(f"{time.monotonic() - began:4.0f} s  {len(generator.lives)} stacks, {ledger}", flush=True)
