"""Something done to a lab while its users keep creating stacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from lab.traffic import Account, Traffic
from lab.traffic.deck import round_seconds
from lab.traffic.generator import Pace

Result = TypeVar("Result")

# Stacks of every shape are under way before the work begins, and still after it has ended.
BEFORE_SECONDS = 5
AFTER_SECONDS = 10
# A control run sees each card of the deck at least once: what fails among them fails without any upgrade.
CONTROL_SECONDS = max(45.0, round_seconds(Pace.create_every))


class Cloud(Protocol):
    """What traffic needs to know of a cloud; its state is where the account goes."""

    @property
    def endpoint(self) -> str:
        """Heat's API with the project."""

    @property
    def cfn_endpoint(self) -> str:
        """heat-api-cfn."""

    @property
    def state(self) -> Path:
        """The directory of all that belongs to it."""

    def database_url(self) -> str:
        """Return the SQLAlchemy URL of Heat's database."""

    def login(self) -> Mapping[str, str] | None:
        """Return how the user logs in whose stacks the traffic's are, or None where nobody asks."""


def under_traffic(
    lab: Cloud, label: str, work: Callable[[], Result], create_every: float = Pace.create_every
) -> tuple[Result, Account]:
    """
    Send traffic from before some work until after it.

    :param lab: the lab; Heat runs there.
    :param label: what the account is called.
    :param work: the work.
    :param create_every: seconds from one new stack to the next.
    :return: what the work returned, and the traffic's account.
    """
    traffic = _traffic_on(lab, label, create_every)
    traffic.start()
    try:
        _let_pass(BEFORE_SECONDS)
        result = work()
        _let_pass(AFTER_SECONDS)
    finally:
        account = traffic.stop()
    return result, account


def control_run(lab: Cloud, seconds: float, create_every: float = Pace.create_every) -> Traffic:
    """
    Send the same traffic without any work; its ``stop`` waits for the last stacks and returns the account.

    :param lab: the lab; Heat runs there.
    :param seconds: how long to send.
    :param create_every: seconds from one new stack to the next.
    """
    traffic = _traffic_on(lab, "control", create_every)
    traffic.start()
    _let_pass(seconds)
    return traffic


def _traffic_on(lab: Cloud, label: str, create_every: float) -> Traffic:
    return Traffic(
        endpoint=lab.endpoint,
        cfn_endpoint=lab.cfn_endpoint,
        database=lab.database_url(),
        login=lab.login(),
        out=lab.state / f"traffic-{label.replace(' ', '-')}.json",
        label=label,
        create_every=create_every,
        environment={"HEAT_LAB": str(lab.state)},  # so that the lab's end is the traffic's too
    )


def _let_pass(seconds: float) -> None:
    """Let traffic run for its length: the time itself is what is asked for here."""
    threading.Event().wait(seconds)
