"""The flip's tasks: what they leave for the report. Their protocol is tested apart."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from heat_upgrade import counts
from heat_upgrade.exceptions import TransientError
from heat_upgrade.flip.rule import Sides
from heat_upgrade.operators.flip import CloseOperator, HostRouter
from heat_upgrade.operators.steps import StepsOperator
from heat_upgrade.readings import Unavailable
from heat_upgrade.remote.step import Step
from tests.unit.operators.test_operators import CLOUD, NEW, OLD, PLAN, Servers, context, servers

__all__ = ["servers"]  # a fixture
STATE = {"sequence": 7, "default": OLD, "projects": {}, "stacks": {}, "closed": False, "hold": None, "touched": []}
NUMBERS = dict.fromkeys(counts.NAMES, 3)


class Conversation:
    """With a host that takes some seconds for each answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime(2026, 11, 27, tzinfo=UTC)
        monkeypatch.setattr("heat_upgrade.operators.flip.datetime", SimpleNamespace(now=lambda _: self.now))

    def ask(self, question: dict[str, Any], timeout: float) -> dict[str, Any]:
        self.now += timedelta(seconds=0.5)
        return {"state": STATE}


def test_a_hold_is_measured_from_its_beginning_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Conversation(monkeypatch)
    router = HostRouter(talk, "c1", (OLD, NEW), "changes")  # type: ignore[arg-type]
    router.read()
    router.hold()
    router.prepare(Sides(NEW))
    assert router.held is None, "it lasts"
    router.release()
    assert router.held
    begin, end = router.held
    assert (end - begin).total_seconds() == 1.5


def test_of_a_hold_that_another_try_has_begun_nobody_knows_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    router = HostRouter(Conversation(monkeypatch), "c1", (OLD, NEW), "changes")  # type: ignore[arg-type]
    router.read()
    router.release()
    assert router.held is None


def test_the_close_leaves_what_the_routers_have_done(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"controller-1": NUMBERS, "controller-2": Unavailable("away")}
    monkeypatch.setattr("heat_upgrade.operators.flip.counts_of", lambda *_: found)
    monkeypatch.setattr(CloseOperator, "flip", lambda *_: {"moved": True, "in_flight": 0})
    monkeypatch.setattr(StepsOperator, "run", lambda *_: None)
    left = CloseOperator(task_id="close", cloud=CLOUD).execute(context(PLAN))
    assert left == {"moved": True, "in_flight": 0, "counts": {"controller-1": NUMBERS}}


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (json.dumps({**NUMBERS, "more": "x" * 10**6}), True),
        ("", False),
        ("{", False),
        ("[1]", False),
        (json.dumps({**NUMBERS, "lost": "9"}), False),
        (json.dumps({**NUMBERS, "lost": float("nan")}), False),
        (json.dumps({"lost": 9}), False),
    ],
)
def test_hosts_are_asked_for_numbers_and_for_nothing_else(
    servers: Servers, told: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reported(_: Servers, step: Step) -> dict[str, str]:
        return {"counts": told}

    monkeypatch.setattr(Servers, "reported", reported)
    found = counts.counts_of(CLOUD, NEW)
    assert set(found) == {host.name for host in CLOUD.hosts if host.api_roles}
    assert {step for _, step in servers.steps} == {"read_counts"}
    for each in found.values():
        assert each == NUMBERS if known else isinstance(each, Unavailable) and isinstance(each.error, TransientError)
