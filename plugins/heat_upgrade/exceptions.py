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


def is_presentable(error: BaseException) -> bool:
    """
    Return whether an error's text was written to be read by operators; that of any other may hold a secret.

    :param error: what was raised
    """
    return isinstance(error, AirflowException)


def error_text(error: object) -> str:
    """
    Return what to show of an error outside of its task's own log.

    :param error: what was raised; anything else where the task's process has ended without raising
    """
    if not isinstance(error, BaseException):
        return "exited without an error message: see the log of its worker"
    if is_presentable(error):
        return str(error)
    return f"{type(error).__name__} (text withheld: it may hold a secret)"
