"""What is tried again, how often, and when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import ExceptionRetryPolicy, RetryAction
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
)

from heat_upgrade import exceptions
from heat_upgrade.dag_factory import POLICY, RETRIES
from heat_upgrade.exceptions import (
    HeatDatabaseUnavailableError,
    HostUnreachableError,
    JobLostError,
    PermanentError,
    RabbitMQUnavailableError,
    TransientError,
    is_retryable,
)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (HostUnreachableError("refused"), RetryAction.RETRY),
        (JobLostError("killed"), RetryAction.RETRY),
        (RabbitMQUnavailableError("reset"), RetryAction.RETRY),
        (HeatDatabaseUnavailableError("timed out"), RetryAction.RETRY),
        (AirflowNotFoundException("no such connection"), RetryAction.FAIL),
        (ConnectionError("the API server is away"), RetryAction.DEFAULT),
    ],
)
def test_the_policy_tells_what_may_pass_from_what_does_not(error: Exception, action: RetryAction) -> None:
    decision = ExceptionRetryPolicy.deserialize(POLICY.serialize()).evaluate(error, 1, 5)
    assert decision.action == action
    assert bool(decision.reason) == (action is not RetryAction.DEFAULT)
    assert decision.retry_delay is None, "the delays grow"


OWN = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and kind.__module__ == exceptions.__name__]


@pytest.mark.parametrize("kind", OWN)
def test_every_error_has_one_of_the_two_roots(kind: type[AirflowException]) -> None:
    assert kind.__name__.endswith("Error")
    assert issubclass(kind, TransientError) != issubclass(kind, PermanentError)
    assert is_retryable(kind("found, expected, to do")) == issubclass(kind, TransientError)


def test_the_roots_know_nothing_of_each_other() -> None:
    assert not issubclass(TransientError, AirflowFailException)
    assert not issubclass(PermanentError, TransientError)


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (AirflowFailException("as Airflow has it"), False),
        (AirflowSensorTimeout("the wait is over"), False),
        (AirflowNotFoundException("no such connection"), False),
        (AirflowException("a provider's"), True),
        (KeyError("nobody has foreseen it"), True),
    ],
)
def test_what_is_retried_of_what_others_raise(error: Exception, retried: bool) -> None:
    assert is_retryable(error) is retried


def test_an_outage_of_a_minute_passes_and_the_patience_ends() -> None:
    first, limit = RETRIES["retry_delay"], RETRIES["max_retry_delay"]
    least = [min(first * RETRIES["retry_exponential_backoff"] ** number, limit) for number in range(RETRIES["retries"])]
    most = [min(2 * delay, limit) for delay in least]  # Airflow spreads them
    assert most[0] <= timedelta(seconds=10)
    assert sum(least[:-1], timedelta()) >= timedelta(minutes=1)
    assert timedelta(minutes=2) < sum(least, timedelta()) < sum(most, timedelta()) < timedelta(minutes=6)
