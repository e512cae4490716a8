"""How preflight tells an operator what it has found."""

from __future__ import annotations

import pytest

from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.preflight.check import failed, failures, judge, may_pass, passed, skipped, table, warned
from heat_upgrade.readings import Unavailable, read

GROUPS = {
    "controller-1": [passed("SSH", "as heat@10.0.0.11:22"), failed("disk", "90 MiB free for /opt, expected 0.5 GiB")],
    "database": [warned("stranded stacks", " ".join(["stack"] * 40)), skipped("clock", "not asked")],
}


def test_the_table_is_aligned_grouped_and_counted() -> None:
    assert table(GROUPS).splitlines() == [
        "controller-1",
        "  passed   SSH                as heat@10.0.0.11:22",
        "  FAILED   disk               90 MiB free for /opt, expected 0.5 GiB",
        "database",
        "  warned   stranded stacks    " + " ".join(["stack"] * 16),
        " " * 30 + " ".join(["stack"] * 16),
        " " * 30 + " ".join(["stack"] * 8),
        "  skipped  clock              not asked",
        "4 checks: 1 passed, 1 skipped, 1 warned, 1 failed",
    ]


def test_long_words_stay_in_one_piece() -> None:
    path = "/var/" + "x-" * 80
    assert path in table({"host": [passed("disk", f"free for {path}")]})


def test_only_what_failed_is_in_the_message() -> None:
    assert failures(GROUPS) == ["controller-1, disk: 90 MiB free for /opt, expected 0.5 GiB"]


def test_the_text_of_an_unforeseen_error_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> int:
        raise KeyError("password=Geheim77")

    found = read(broken)
    assert isinstance(found, Unavailable)
    assert "failed unexpectedly (KeyError)" in found.reason
    assert "Geheim77" not in found.reason
    assert found.retryable
    assert "Geheim77" in caplog.text


def test_what_cannot_be_read_fails_and_what_was_not_asked_is_skipped() -> None:
    def broken() -> int:
        raise UpgradeError("away, start it")

    assert read(lambda: 7) == 7
    assert read(broken) == Unavailable("away, start it")
    assert judge("size", 7, lambda name, size: passed(name, f"{size} KiB")) == passed("size", "7 KiB")
    assert judge("size", read(broken), passed) == failed("size", "away, start it")
    assert judge("size", Unavailable.not_asked("it is away"), passed) == skipped("size", "it is away")


def test_a_run_is_tried_again_if_all_that_failed_may_pass_by_itself() -> None:
    def away() -> int:
        raise TransientError("connection refused")

    def refused() -> int:
        raise UpgradeError("wrong password")

    assert read(away) == Unavailable("connection refused", retryable=True)
    assert read(refused) == Unavailable("wrong password")
    fine, passing, final = passed("a", "1"), judge("b", read(away), passed), judge("c", read(refused), passed)
    assert may_pass({"host": [fine, passing]})
    assert not may_pass({"host": [fine, passing], "RabbitMQ": [final]})
