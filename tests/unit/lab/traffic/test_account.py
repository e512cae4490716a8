"""The account of a run, and the verdict on an upgrade."""

from pathlib import Path
from typing import Any

import pytest

from lab.traffic.__main__ import main
from lab.traffic.account import Account, Stacks, sum_up, table, verdict
from lab.traffic.history import Event
from lab.traffic.ledger import Failure, Ledger, Requests, Seen, slowest_pace

KNOWN = "UPDATE: Stack UPDATE cancelled"
WENT_DOWN = "CREATE: Worker went down during resource CREATE"


def account(label: str = "run", **changes: Any) -> Account:
    values: dict[str, Any] = {
        "label": label,
        "seed": 1,
        "began": 1000.0,
        "ended": 1120.0,
        "settled_after": 20.0,
        "requests": Requests(sent=1500, probes_per_second=11.9),
        "stacks": Stacks(begun=80, complete=80),
        "stuck": [],
        "unsettled": [],
        "created_twice": [],
        "orphan_sync_points": 0,
        "releases": {"api": {"25.0.2": Seen(answers=1400, first=1000, last=1120)}, "engine": {}},
    }
    return Account(**{**values, **changes})


def failed(**kinds: list[str]) -> Stacks:
    return Stacks(begun=80, failed=sum(map(len, kinds.values())), failure_kinds=kinds)


def test_two_clean_runs_hold() -> None:
    assert verdict(account("upgrade"), account("control")) == []


def test_what_the_control_run_has_is_heats_own_in_any_number() -> None:
    upgrade = account(stacks=failed(**{KNOWN: ["a", "b", "c"]}))
    assert verdict(upgrade, account(stacks=failed(**{KNOWN: ["x"]}))) == []


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
    "the runs differ: seed 2 and 1, expected the same": {"seed": 2},
}


@pytest.mark.parametrize("expected", BAD_UPGRADES)
def test_each_thing_that_speaks_against_an_upgrade_is_named(expected: str) -> None:
    control = account("control", stacks=failed(**{KNOWN: ["x"]}))
    assert verdict(account("upgrade", **BAD_UPGRADES[expected]), control) == [expected]


@pytest.mark.parametrize(
    "trouble", [{"stuck": ["a"]}, {"unsettled": ["a"]}, {"requests": Requests(failed=1, probes_per_second=12)}]
)
def test_a_control_run_in_trouble_excuses_nothing(trouble: dict[str, Any]) -> None:
    reasons = verdict(account(), account(**trouble))
    assert len(reasons) == 1
    assert "the cloud is unwell without an upgrade" in reasons[0]


def test_the_stacks_are_summed_up_by_what_became_of_them() -> None:
    started, done = Event("CREATE", "IN_PROGRESS", ""), Event("CREATE", "COMPLETE", "")
    broken = Event("CREATE", "FAILED", "Resource CREATE failed: resources.a: boom 17")
    deleting, gone = Event("DELETE", "IN_PROGRESS", ""), Event("DELETE", "COMPLETE", "")
    total = sum_up(
        {
            "1": ("t-1", "COMPLETE"),
            "2": ("t-2", "COMPLETE"),
            "3": ("t-3", "FAILED"),
            "4": ("t-4", "COMPLETE"),
            "5": ("t-5", "IN_PROGRESS"),
        },
        {
            "1": [started, done],
            "2": [started, done, deleting, gone],
            "3": [started, broken],
            "4": [started, broken, deleting, gone],
            "5": [started],
        },
        prefix="t",
    )
    assert (total.begun, total.complete, total.failed, total.in_progress, total.deleted) == (5, 2, 2, 1, 2)
    assert total.failure_kinds == {"CREATE: boom <n>": ["t-3", "t-4"]}


def test_releases_overlap_from_the_first_of_the_new_to_the_last_of_the_old() -> None:
    old, new = Seen(answers=9, first=0, last=50), Seen(answers=9, first=42.5, last=100)
    assert account(releases={"api": {"25": old, "26": new}}).overlap("api") == 7.5
    apart = Seen(answers=9, first=60, last=100)
    assert account(releases={"api": {"25": old, "26": apart}}).overlap("api") == 0
    assert account(releases={"api": {"25": old}}).overlap("api") == 0


def test_the_slowest_window_shows_an_outage_that_the_mean_hides() -> None:
    steady = [second / 10 for second in range(600)]
    outage = [moment for moment in steady if not 22 <= moment < 28]
    assert slowest_pace(steady, 0, 60) == 10
    assert slowest_pace(outage, 0, 60) == 4
    assert slowest_pace([], 0, 60) == 0


def test_the_ledger_counts_what_it_is_told() -> None:
    ledger = Ledger()
    ledger.answered("build_info", 0.5, probe=True)
    ledger.answered("create", 1.0)
    ledger.failed("update", "500 oops", 60.0)
    ledger.release("api", "25.0.2")
    ledger.release("api", "26.0.2")
    ledger.release("api", "26.0.2")
    requests = ledger.requests(0.0, 0.1)
    assert (requests.sent, requests.failed) == (3, 1)
    assert requests.by_kind == {"build_info": 1, "create": 1, "update": 1}
    assert requests.failures[0].error == "500 oops"
    assert {release: seen.answers for release, seen in ledger.releases["api"].items()} == {"25.0.2": 1, "26.0.2": 2}


def test_an_account_survives_its_file(tmp_path: Path) -> None:
    written = account(stacks=failed(**{KNOWN: ["a"]}), stuck=["b"])
    written.save(tmp_path / "account.json")
    assert Account.load(tmp_path / "account.json") == written


def test_the_table_shows_every_kind_of_both_runs() -> None:
    shown = table(
        account("control", stacks=failed(**{KNOWN: ["a", "b"]})),
        account("upgrade", stacks=failed(**{WENT_DOWN: ["c"]})),
    )
    rows = {line.strip().rsplit(maxsplit=2)[0]: line.split()[-2:] for line in shown.splitlines() if line.strip()}
    assert rows[KNOWN] == ["2", "0"]
    assert rows[WENT_DOWN] == ["0", "1"]
    assert rows["stacks begun"] == ["80", "80"]


@pytest.mark.parametrize(("stuck", "status"), [([], 0), (["lost"], 1)])
def test_compare_prints_the_verdict_and_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stuck: list[str], status: int
) -> None:
    account("control").save(tmp_path / "control.json")
    account("upgrade", stuck=stuck).save(tmp_path / "upgrade.json")
    assert main(["compare", str(tmp_path / "control.json"), str(tmp_path / "upgrade.json")]) == status
    printed = capsys.readouterr().out
    assert ("it does not hold" in printed) == bool(stuck)
    assert ("lost" in printed) == bool(stuck)
