"""What takes a canary back."""

from __future__ import annotations

import pytest

from heat_upgrade.flip.canary import Limits, errors_of
from heat_upgrade.readings import BegunActions
from heat_upgrade.report.availability import Availability

LIMITS = Limits(slowest=10, usual=2)


def seen(*answers: tuple[float, str | None]) -> Availability:
    account = Availability("build_info")
    for number, (seconds, problem) in enumerate(answers):
        account.observe(1000.0 + 20 * number, 1000.0 + 20 * number + seconds, problem)
    return account


GOOD = (0.2, None)


@pytest.mark.parametrize("begun", [None, BegunActions(0, 0), BegunActions(9, 2)])
@pytest.mark.parametrize("answers", [[], [GOOD], [GOOD, (10.0, None)]])
def test_what_is_as_usual_holds(answers: list[tuple[float, str | None]], begun: BegunActions | None) -> None:
    assert errors_of(seen(*answers), begun, LIMITS) == []


def test_one_failed_request_is_too_much() -> None:
    (error,) = errors_of(seen(GOOD, (0.1, "no answer within 30 s"), GOOD), BegunActions(3, 0), LIMITS)
    assert error.startswith("1 of 3 requests to the API failed (no answer within 30 s), expected none to: see")


def test_an_api_that_is_slower_than_the_cloud_file_grants_is_too_much() -> None:
    (error,) = errors_of(seen(GOOD, (10.1, None)), None, LIMITS)
    assert error.startswith("the API took 10.1 s to answer, expected 10 s at the most: see")


def test_more_failed_stacks_than_in_as_long_a_time_before_are_too_much() -> None:
    (error,) = errors_of(seen(GOOD), BegunActions(9, 3), LIMITS)
    assert error.startswith("3 of 9 actions on the canary's stacks failed, expected 2 at the most, as many as in as")


def test_all_that_is_wrong_is_told() -> None:
    assert len(errors_of(seen((11.0, None), (1.0, "HTTP 503")), BegunActions(3, 3), LIMITS)) == 3
