"""What the management API's part can raise: what may pass by itself, and what another try would meet again."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException


class RabbitMQManagementError(AirflowException):
    """
    Raised when the management API doesn't answer, or not in a way that can be relied on.

    :param message: what was found, what was expected and what to do
    :param status: HTTP status of the answer, None where there was none
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RabbitMQUnavailableError(RabbitMQManagementError):
    """Raised when another try may do better: no answer, a partial one, a queue that isn't running."""


class RabbitMQRefusedError(RabbitMQManagementError, AirflowFailException):
    """Raised when another try would fail as well until somebody changes the connection, the server or the request."""
