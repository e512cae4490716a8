"""What the ledger makes of what it is told."""

import pytest

from lab.traffic import ledger as ledger_module
from lab.traffic.ledger import Ledger, slowest_pace


def test_the_slowest_window_shows_an_outage_that_the_mean_hides() -> None:
    steady = [second / 10 for second in range(600)]
    outage = [moment for moment in steady if not 22 <= moment < 28]
    assert slowest_pace(steady, 0, 60) == 10
    assert slowest_pace(outage, 0, 60) == 4
    assert slowest_pace([], 0, 60) == 0


def test_it_counts_what_it_is_told() -> None:
    ledger = Ledger()
    ledger.answered("build_info", 0.5)
    ledger.answered("create", 1.0)
    ledger.failed("update", "500 oops", 60.0)
    requests = ledger.requests(0.0, 0.1)
    assert (requests.sent, requests.failed) == (3, 1)
    assert requests.by_kind == {"build_info": 1, "create": 1, "update": 1}
    assert requests.failed_by_kind == {"update": 1}
    assert requests.failures[0].error == "500 oops"
    assert (requests.probe_seconds_median, requests.probe_seconds_worst) == (0.5, 0.5)
    assert str(ledger) == "3 requests, 1 failed"


def test_it_keeps_the_longest_answer_of_each_kind_by_the_second_it_was_sent_in(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    for now, kind, seconds in (
        (100.9, "create", 0.5),
        (102.3, "create", 2.0),
        (103.9, "create", 0.2),
        (103.9, "list", 0.1),
    ):
        monkeypatch.setattr(ledger_module.time, "time", lambda now=now: now)
        ledger.answered(kind, seconds)
    requests = ledger.requests(100.0, 104.0)
    assert requests.longest == {"create": {100: 2.0, 103: 0.2}, "list": {103: 0.1}}
    assert requests.medians == {"create": 0.5, "list": 0.1}


def test_it_knows_which_api_and_engine_answered_together_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    for now, engine in ((100.1, "25"), (100.9, "25"), (101.5, "26"), (102.0, "25")):
        monkeypatch.setattr(ledger_module.time, "time", lambda now=now: now)
        ledger.release("26", engine)
    sides = {(side.api, side.engine): side.answers for side in ledger.sides()}
    assert sides == {("26", "25"): {100: 2, 102: 1}, ("26", "26"): {101: 1}}
