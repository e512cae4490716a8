"""A message as an HTTP POST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from airflow.sdk import BaseHook, BaseNotifier
from airflow.sdk.exceptions import AirflowException

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

# Seconds to connect, and from one byte of the answer to the next.
TIMEOUT = (5.0, 10.0)


class WebhookNotifier(BaseNotifier):
    """
    Post a run's message as JSON to a URL.

    The connection, of type http, holds all that authorises it: its host is the whole URL (``https://...``), or a name
    with schema and port; its password is sent as a bearer token; ``headers`` in its extra are sent as they are.

    :param conn_id: the Airflow connection
    """

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def notify(self, context: Context) -> None:
        """
        Send the context's ``message``.

        :raises AirflowException: if it isn't taken; without the URL's path, which may be a secret
        """
        import requests

        message = cast("dict[str, Any]", context)["message"]
        connection = BaseHook.get_connection(self.conn_id)
        url = url_of(connection)
        try:
            answer = requests.post(
                url,
                json=message.as_json(),
                headers=headers_of(connection),
                timeout=TIMEOUT,
                allow_redirects=False,  # the headers are for this server alone
            )
        except requests.RequestException as error:
            raise AirflowException(f"{urlsplit(url).hostname}: {type(error).__name__}") from None
        if not answer.ok or answer.is_redirect:
            raise AirflowException(
                f"{urlsplit(url).hostname} answers {answer.status_code} to the message, expected 200"
            )


def url_of(connection: Connection) -> str:
    """
    Return where a connection's messages go.

    :param connection: the Airflow connection
    :raises AirflowException: if it names no HTTP server
    """
    host = connection.host or ""
    port = f":{connection.port}" if connection.port else ""
    url = host if "://" in host else f"{connection.schema or 'https'}://{host}{port}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AirflowException(
            f"connection {connection.conn_id} names no HTTP server, expected the URL as its host, as in "
            "https://example.org/hook"
        )
    return url


def headers_of(connection: Connection) -> dict[str, str]:
    """Return the headers that authorise a connection's messages."""
    token = {"Authorization": f"Bearer {connection.password}"} if connection.password else {}
    return token | {str(name): str(value) for name, value in connection.extra_dejson.get("headers", {}).items()}
