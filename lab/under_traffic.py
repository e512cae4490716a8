"""Something done to a lab while its users keep creating stacks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from lab.cloud_lab import Lab
from lab.traffic import Account, Traffic

Result = TypeVar("Result")

# Stacks of every shape are under way before the work begins, and still after it has ended.
BEFORE_SECONDS = 5
AFTER_SECONDS = 10


def under_traffic(lab: Lab, label: str, work: Callable[[], Result]) -> tuple[Result, Account]:
    """
    Send traffic from before some work until after it.

    :param lab: the lab; Heat runs there.
    :param label: what the account is called.
    :param work: the work.
    :return: what the work returned, and the traffic's account.
    """
    traffic = _traffic_on(lab, label)
    traffic.start()
    try:
        _let_pass(BEFORE_SECONDS)
        result = work()
        _let_pass(AFTER_SECONDS)
    finally:
        account = traffic.stop()
    return result, account


def control_run(lab: Lab, seconds: float) -> Traffic:
    """
    Send the same traffic without any work; its ``stop`` waits for the last stacks and returns the account.

    :param lab: the lab; Heat runs there.
    :param seconds: how long to send.
    """
    traffic = _traffic_on(lab, "control")
    traffic.start()
    _let_pass(seconds)
    return traffic


def _traffic_on(lab: Lab, label: str) -> Traffic:
    return Traffic(
        endpoint=lab.endpoint,
        cfn_endpoint=lab.cfn_endpoint,
        database=lab.database_url(),
        out=lab.state / f"traffic-{label.replace(' ', '-')}.json",
        label=label,
        environment={"HEAT_LAB": str(lab.state)},  # so that the lab's end is the traffic's too
    )


def _let_pass(seconds: float) -> None:
    """Let traffic run for its length: the time itself is what is asked for here."""
    threading.Event().wait(seconds)
