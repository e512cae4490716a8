"""What is tried again, how often, and when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import ExceptionRetryPolicy, RetryAction
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from heat_upgrade import exceptions
from heat_upgrade.exceptions import HostUnreachable, JobCutOff, MayPass
from heat_upgrade.hooks.heat_database import HeatDatabaseError
from heat_upgrade.hooks.rabbitmq import RabbitMQManagementError
from heat_upgrade.retries import POLICY, RETRIES


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (HostUnreachable("refused"), RetryAction.RETRY),
        (JobCutOff("killed"), RetryAction.RETRY),
        (RabbitMQManagementError("reset"), RetryAction.RETRY),
        (HeatDatabaseError("timed out"), RetryAction.RETRY),
        (AirflowNotFoundException("no such connection"), RetryAction.FAIL),
        (ConnectionError("the API server is away"), RetryAction.DEFAULT),
    ],
)
def test_the_policy_tells_what_may_pass_from_what_does_not(error: Exception, action: RetryAction) -> None:
    decision = ExceptionRetryPolicy.deserialize(POLICY.serialize()).evaluate(error, 1, 5)
    assert decision.action == action
    assert bool(decision.reason) == (action is not RetryAction.DEFAULT)
    assert decision.retry_delay is None, "the delays grow"


def test_every_error_says_whether_it_may_pass() -> None:
    errors = [error for error in vars(exceptions).values() if isinstance(error, type)]
    own = [error for error in errors if error.__module__ == exceptions.__name__]
    assert all(issubclass(error, MayPass) != issubclass(error, AirflowFailException) for error in own)


def test_an_outage_of_a_minute_passes_and_the_patience_ends() -> None:
    first, limit = RETRIES["retry_delay"], RETRIES["max_retry_delay"]
    least = [min(first * RETRIES["retry_exponential_backoff"] ** number, limit) for number in range(RETRIES["retries"])]
    most = [min(2 * delay, limit) for delay in least]  # Airflow spreads them
    assert most[0] <= timedelta(seconds=10)
    assert sum(least[:-1], timedelta()) >= timedelta(minutes=1)
    assert timedelta(minutes=2) < sum(least, timedelta()) < sum(most, timedelta()) < timedelta(minutes=6)
