"""What can go wrong, as the tasks raise it: what may pass by itself is tried again, the rest fails at once."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException


class MayPass(AirflowException):
    """Raised when another try may do better without anybody's help."""


class HostUnreachable(MayPass):
    """Raised when SSH to a host fails or breaks off."""


class JobCutOff(MayPass):
    """Raised when a job on a host has ended without a status: the host was restarted, or somebody ended it."""


class HostRefused(AirflowFailException):
    """Raised when a host doesn't accept the upgrade's login, or isn't the host that it should be."""


class RemoteStepError(AirflowFailException):
    """Raised when a step ran on a host and failed: another try without mending the cause would fail as well."""


class JobOverdue(AirflowFailException):
    """Raised when a job on a host takes longer than it may; it goes on there."""


class UpgradeError(AirflowFailException):
    """Raised when the cloud isn't as a step needs it, with what was expected and what to do."""


def is_retryable(error: Exception) -> bool:
    """
    Return whether a task that fails with an error is tried again.

    :param error: what it raised
    """
    return not isinstance(error, AirflowFailException | AirflowNotFoundException)
