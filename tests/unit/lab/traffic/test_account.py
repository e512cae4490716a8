"""The account of a run: what became of the stacks, who answered when, and how it is shown and kept."""

from pathlib import Path

import pytest

from lab.traffic.__main__ import main
from lab.traffic.account import Account, sum_up
from lab.traffic.history import Event
from lab.traffic.tables import table
from lab.traffic.work import Span, Work
from tests.unit._helpers.accounts import account, answered, failed

KNOWN = "UPDATE: Stack UPDATE cancelled"
WENT_DOWN = "CREATE: Worker went down during resource CREATE"


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


def test_releases_are_counted_over_all_pairs_of_api_and_engine() -> None:
    releases = account(sides=[answered("26", "25", 0, 10), answered("26", "26", 5, 20)]).releases
    assert {release: answers.total() for release, answers in releases["api"].items()} == {"26": 300}
    assert {release: answers.total() for release, answers in releases["engine"].items()} == {"25": 120, "26": 180}
    assert set(releases["engine"]["26"]) == set(range(5, 20))


def test_releases_overlap_in_the_seconds_in_which_both_answered() -> None:
    there_and_back = [answered("25", "25", 0, 50), answered("26", "26", 43, 60), answered("25", "25", 60, 70)]
    assert account(sides=there_and_back).overlap("api") == 7
    assert account(sides=there_and_back[:1]).overlap("api") == 0


def test_an_account_survives_its_file(tmp_path: Path) -> None:
    work = Work(engines={"e": Span(first=1, last=2)}, stacks={"a": {"e": Span(first=1, last=2)}})
    written = account(stacks=failed(**{KNOWN: ["a"]}), stuck=["b"], touched={"a": [1.5, 2.5]}, work=work)
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
