"""What speaks against an upgrade, and what doesn't."""

from typing import Any

import pytest

from lab.traffic.account import Stacks
from lab.traffic.ledger import Failure, Requests
from lab.traffic.rates import Rate
from lab.traffic.rules import verdict
from tests.unit._helpers.accounts import account, failed

KNOWN = "UPDATE: Stack UPDATE cancelled"
MEASURED = "DELETE: MySQL IntegrityError 1451, constraint resource_ibfk_1"
WENT_DOWN = "CREATE: Worker went down during resource CREATE"


@pytest.fixture(autouse=True)
def heats_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.traffic.rules.HEATS_OWN", {MEASURED: Rate(5, 1000)})


def names(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


def test_two_clean_runs_hold() -> None:
    assert verdict(account("upgrade"), account("control")) == []


def test_what_the_control_run_has_is_heats_own_at_the_same_rate() -> None:
    upgrade = account(stacks=failed(**{KNOWN: names(3)}))
    assert verdict(upgrade, account(stacks=failed(**{KNOWN: names(1)}))) == []


def test_but_not_at_a_far_higher_one() -> None:
    upgrade = account(stacks=failed(begun=200, **{KNOWN: names(60)}))
    (reason,) = verdict(upgrade, account(stacks=failed(**{KNOWN: names(1)})))
    assert reason.startswith("60 of 200 stacks failed in a way that without an upgrade only 1 of 80 do: UPDATE: ")


def test_what_was_measured_without_an_upgrade_needs_no_second_control_run() -> None:
    assert verdict(account(stacks=failed(**{MEASURED: names(2)})), account()) == []
    (reason,) = verdict(account(stacks=failed(**{MEASURED: names(8)})), account())
    assert reason.startswith("8 of 80 stacks failed in a way that without an upgrade only 5 of 1080 do: DELETE: ")


BAD_UPGRADES = {
    "1 requests failed, the first a create: 500 oops": {
        "requests": Requests(
            sent=9,
            failed=1,
            probes_per_second=11,
            failures=[Failure(at=1, kind="create", error="500 oops", seconds=60)],
        )
    },
    "2 stacks are stuck: a, b": {"stuck": ["a", "b"]},
    "1 stacks are still in progress: c": {"unsettled": ["c"]},
    f"1 stacks failed in a way that the control run doesn't have: {WENT_DOWN}: d": {
        "stacks": failed(**{WENT_DOWN: ["d"], KNOWN: ["e"]})
    },
    "upgrade: 9.9 probes were answered a second, expected 10 or more": {
        "requests": Requests(sent=1500, probes_per_second=9.9)
    },
    "upgrade: no stack was begun, so it proves nothing": {"stacks": Stacks()},
    "the runs differ: seed 2, and 1; expected the same": {"seed": 2},
    "2 resources had their lock stolen from an engine, expected at most 0 as in the control run: a/x, b/y": {
        "stolen": ["a/x", "b/y"]
    },
    "1 resources were created twice, expected at most 0 as in the control run: a/x": {"created_twice": ["a/x"]},
}


@pytest.mark.parametrize("expected", BAD_UPGRADES)
def test_each_thing_that_speaks_against_an_upgrade_is_named(expected: str) -> None:
    control = account("control", stacks=failed(**{KNOWN: ["x"]}))
    assert verdict(account("upgrade", **BAD_UPGRADES[expected]), control) == [expected]


def test_a_loaded_cloud_may_take_engines_for_dead_without_an_upgrade_too() -> None:
    crossed = {"stolen": ["a/x"], "created_twice": ["a/x"]}
    assert verdict(account(**crossed), account(**crossed)) == []


@pytest.mark.parametrize(
    "trouble", [{"stuck": ["a"]}, {"unsettled": ["a"]}, {"requests": Requests(failed=1, probes_per_second=12)}]
)
def test_a_control_run_in_trouble_excuses_nothing(trouble: dict[str, Any]) -> None:
    reasons = verdict(account(), account(**trouble))
    assert len(reasons) == 1
    assert "the cloud is unwell without an upgrade" in reasons[0]
