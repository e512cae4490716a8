"""When a task is tried again: what may pass by itself is, with growing delays; the rest fails at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

# As the table of heat_upgrade.exceptions says; Airflow never retries the others that it names, and retries the rest.
POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="heat_upgrade.exceptions.TransientError",
            action=RetryAction.RETRY,
            reason="a host or server doesn't answer, or a job was cut off: that may pass by itself",
        ),
        RetryRule(
            exception="airflow.sdk.exceptions.AirflowNotFoundException",
            action=RetryAction.FAIL,
            reason="an Airflow connection is missing: add the one that the error names, then clear this task",
        ),
    ]
)
# Tries after 5 to 10, 10 to 20, ... 80 to 120 seconds: an outage of a minute passes, and five minutes are enough.
RETRIES: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
    "retry_policy": POLICY,
}
