"""What can go wrong, as the tasks raise it."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException


class RemoteStepError(AirflowFailException):
    """Raised when a step ran on a host and failed: another try without mending the cause would fail as well."""


class HostUnreachable(AirflowException):
    """Raised when SSH to a host fails or breaks off; may pass by itself."""


class UpgradeError(AirflowFailException):
    """Raised when the cloud isn't as a step needs it, with what was expected and what to do."""
