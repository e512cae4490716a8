"""
What can go wrong, as the tasks raise it. Two roots, neither above the other, decide whether a task is retried:

========================================  =======  ==============================================================
raised                                    retried  because
========================================  =======  ==============================================================
``TransientError`` and all below it       yes      it may pass by itself: a host or server doesn't answer
``PermanentError`` and all below it       no       it would come again: somebody has to fix something first
Airflow's ``AirflowFailException``        no       as Airflow has it for everybody
Airflow's ``AirflowNotFoundException``    no       a connection is missing until somebody adds it
Airflow's ``AirflowSensorTimeout``        no       the wait was bounded, and is over
anything else                             yes      an unforeseen failure of a worker or a server
========================================  =======  ==============================================================

How often and how fast is ``RETRIES``. A task that was skipped or deferred has not failed.
"""

from __future__ import annotations

from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
)

from rabbitmq_management import exceptions as rabbitmq_management

_FINAL = (AirflowFailException, AirflowNotFoundException, AirflowSensorTimeout)


class TransientError(AirflowException):
    """Raised when another try may do better without anybody's help."""


class HostUnreachableError(TransientError):
    """Raised when SSH to a host fails or breaks off."""


class JobLostError(TransientError):
    """Raised when a job on a host has ended without a status: the host was restarted, or somebody ended it."""


class HeatDatabaseUnavailableError(TransientError):
    """Raised when Heat's database can't be read."""


class PermanentError(AirflowFailException):
    """Raised when another try would fail as well until somebody has fixed something."""


class UpgradeError(PermanentError):
    """Raised when the cloud isn't as a step needs it, with what was expected and what to do."""


class HostAuthError(PermanentError):
    """Raised when a host doesn't accept the upgrade's login, or isn't the host that it should be."""


class RemoteStepError(PermanentError):
    """Raised when a step ran on a host and failed."""


class JobTimeoutError(PermanentError):
    """Raised when a job on a host takes longer than it may; it goes on there."""


class HeatDatabaseRefusedError(PermanentError):
    """Raised when Heat's database refuses the account, or isn't there."""


class RabbitMQUnavailableError(rabbitmq_management.RabbitMQUnavailableError, TransientError):
    """Raised when the management API doesn't answer, or not in a way that can be relied on."""


class RabbitMQRefusedError(rabbitmq_management.RabbitMQRefusedError, PermanentError):
    """Raised when the management API refuses what it is asked for, or its connection can't be used."""


def is_retryable(error: Exception) -> bool:
    """
    Return whether a task that fails with an error is tried again.

    :param error: what it raised
    """
    return not isinstance(error, _FINAL)


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
