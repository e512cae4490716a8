"""Accounts of runs of the traffic, clean but for what a test changes."""

from __future__ import annotations

from typing import Any

from lab.traffic.account import Account, Stacks
from lab.traffic.ledger import Requests, Sides

BEGAN, ENDED = 1000, 1120


def account(label: str = "run", **changes: Any) -> Account:
    """Return the account of a run of two minutes."""
    values: dict[str, Any] = {
        "label": label,
        "seed": 1,
        "began": float(BEGAN),
        "ended": float(ENDED),
        "settled_after": 20.0,
        "requests": Requests(sent=1500, probes_per_second=11.9),
        "stacks": Stacks(begun=80, complete=80),
        "stuck": [],
        "unsettled": [],
        "stolen": [],
        "created_twice": [],
        "orphan_sync_points": 0,
        "sides": [answered("25.0.2", "25.0.2", BEGAN, ENDED)],
    }
    return Account(**{**values, **changes})


def answered(api: str, engine: str, begin: int, end: int, every_second: int = 12) -> Sides:
    """Return the probes that an API and an engine answered together from one second until before another."""
    return Sides(api=api, engine=engine, answers=dict.fromkeys(range(begin, end), every_second))


def failed(begun: int = 80, **kinds: list[str]) -> Stacks:
    """Return stacks of which some failed, by kind."""
    return Stacks(begun=begun, failed=sum(map(len, kinds.values())), failure_kinds=kinds)
