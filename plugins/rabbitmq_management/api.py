"""One request to the management API, and an answer of bounded size and time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote

import requests
import urllib3
from requests.auth import HTTPBasicAuth

from rabbitmq_management.connection import Endpoint
from rabbitmq_management.exceptions import RabbitMQManagementError, RabbitMQRefusedError, RabbitMQUnavailableError
from rabbitmq_management.records import STATISTICS_ON

if TYPE_CHECKING:
    from airflow.sdk import Connection

Row = dict[str, Any]

# Bytes of an answer: a hundred thousand queues, as this package asks for them.
LARGEST_ANSWER = 16 * 2**20
_LARGEST_REFUSAL = 64 * 2**10
_PIECE = 64 * 2**10
# A whole answer may take as many times the time-out that holds from one piece to the next.
_PATIENCE = 3
# What a proxy before a busy server answers; the server itself answers 5xx then.
_BUSY = {requests.codes.request_timeout, requests.codes.too_many_requests}
# Characters of what a server says that are shown.
_SHOWN = 200

_UNKNOWN_SETTINGS = "not recognised policy settings"
_STATISTICS_ARE_OFF = "Stats in management UI are disabled on this node"


def quoted(text: str) -> str:
    """
    Return a name as it stands in a path, whatever it is made of.

    :param text: the name
    """
    return quote(text, safe="")


class ManagementAPI:
    """
    Send requests as one user of one server.

    :param endpoint: the server and the user
    :param where: the server in words, which every error begins with
    """

    # What every error is one of; whoever has kinds of errors of its own derives them from these.
    unavailable: ClassVar[type[RabbitMQUnavailableError]] = RabbitMQUnavailableError
    refused: ClassVar[type[RabbitMQRefusedError]] = RabbitMQRefusedError

    def __init__(self, endpoint: Endpoint, where: str) -> None:
        self.endpoint = endpoint
        self.where = where

    @classmethod
    def of(cls, conn_id: str, connection: Connection) -> Self:
        """
        Return what sends requests to where an Airflow connection says.

        :param conn_id: its id, for messages
        :param connection: the connection
        :raises RabbitMQRefusedError: when it can't be used
        """
        try:
            endpoint = Endpoint.of(connection)
        except ValueError as error:
            raise cls.refused(f"Airflow connection {conn_id!r} has {error}: correct the connection") from None
        return cls(endpoint, f"RabbitMQ's management API at {endpoint.url} (Airflow connection {conn_id!r})")

    @cached_property
    def session(self) -> requests.Session:
        """Return the session that every request goes through."""
        session = requests.Session()
        # Else a proxy, a .netrc or a CA bundle of Airflow's own environment would decide.
        session.trust_env = False
        # As bytes: requests would refuse what Latin-1 can't write.
        session.auth = HTTPBasicAuth(self.endpoint.login.encode(), self.endpoint.password.encode())
        session.verify = self.endpoint.verify
        # What is sent is what is read: no small answer unpacks to a large one.
        session.headers["Accept-Encoding"] = "identity"
        return session

    def call(self, method: str, path: str, body: Row | None = None) -> Any:
        """
        Send one request and return what the answer holds; None if it is empty.

        :param method: HTTP method
        :param path: what comes after ``/api/``, names in it quoted
        :param body: what to send as JSON
        :raises RabbitMQManagementError: when there is no answer, another than success, or none that can be read
        """
        try:
            with self._send(method, path, body) as answer:
                if answer.status_code >= requests.codes.multiple_choices:
                    raise self.error(self._refusal(answer, path), answer.status_code)
                content = self._content(answer, LARGEST_ANSWER, path)
        except (OSError, urllib3.exceptions.HTTPError) as error:  # requests' errors, and a CA file that isn't there
            raise self.error(
                f"doesn't answer ({type(error).__name__}: {_reason(error)}): check that the server runs with its "
                "management plugin, and host, port, scheme and TLS settings of the connection"
            ) from error
        return self._parsed(content, path)

    def rows(self, path: str, fields: Mapping[str, type]) -> list[Row]:
        """
        Return a list of objects that have some fields.

        :param path: what comes after ``/api/``
        :param fields: the fields and what each has to be
        """
        return self.checked(self.call("GET", path), path, fields)

    def checked(self, rows: Any, path: str, fields: Mapping[str, type]) -> list[Row]:
        """
        Return what has been answered if it is a list of objects that have some fields.

        :param rows: what has been answered
        :param path: to what
        :param fields: the fields and what each has to be
        """
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error(f"answers no list to {path!r}, expected one: check the server's version and log")
        for row in rows:
            if missing := [name for name, kind in fields.items() if not isinstance(row.get(name), kind)]:
                name = str(row.get("name"))[:_SHOWN]
                raise self.error(f"leaves out {missing} of {name!r} in {path!r}: check the server's log")
        return rows

    def row(self, path: str) -> Row:
        """
        Return one object.

        :param path: what comes after ``/api/``
        """
        row = self.call("GET", path)
        if not isinstance(row, dict):
            raise self.error(f"answers no object to {path!r}, expected one: check the server's version and log")
        return row

    def error(self, text: str, status: int | None = None, *, final: bool = False) -> RabbitMQManagementError:
        """
        Return an error that names the server.

        :param text: what it does, what was expected and what to do
        :param status: HTTP status of the answer, None where there was none
        :param final: whether another try would meet the same
        """
        refused = status is not None and status < requests.codes.server_error and status not in _BUSY
        kind = self.refused if final or refused else self.unavailable
        return kind(f"{self.where} {text}", status)

    def _send(self, method: str, path: str, body: Row | None) -> requests.Response:
        return self.session.request(
            method,
            f"{self.endpoint.url}/api/{path}",
            json=body,
            timeout=self.endpoint.timeout,
            allow_redirects=False,
            stream=True,
        )

    def _content(self, answer: requests.Response, largest: int, path: str) -> bytes:
        """Read an answer as it comes, so that neither its size nor its slowness is the server's to choose."""
        until = time.monotonic() + _PATIENCE * self.endpoint.timeout
        content = bytearray()
        while piece := answer.raw.read1(_PIECE):
            content += piece
            if len(content) > largest:
                raise self.error(f"answers more than {largest >> 20} MiB to {path!r}: check what it serves", final=True)
            if time.monotonic() > until:
                raise self.error(f"takes more than {_PATIENCE * self.endpoint.timeout:.0f} s to answer {path!r}")
        return bytes(content)

    def _parsed(self, content: bytes, path: str) -> Any:
        try:
            return json.loads(content) if content else None
        except (ValueError, RecursionError):
            raise self.error(
                f"answers {path!r} with something else than JSON: check host, port and path_prefix of the connection"
            ) from None

    def _refusal(self, answer: requests.Response, path: str) -> str:
        """Return what an answer other than success means, and what to do."""
        status, reason = answer.status_code, self._stated_reason(answer, path)
        says = f"answers {status} ({reason!r}) to {path!r}"
        if status < requests.codes.bad_request:
            return f"{says}, expected no redirection: give the server's management.path_prefix as path_prefix, or https"
        if status == requests.codes.unauthorized:
            return f"{says}: check login and password of the connection, and what {self.endpoint.login!r} may do"
        if status == requests.codes.not_found:
            return f"{says}: check that the vhost exists, and path_prefix of the connection"
        if _UNKNOWN_SETTINGS in reason:
            return f"{says}, expected settings that this version knows: remove the others from the policy"
        if _STATISTICS_ARE_OFF in reason:
            return f"{says}, expected statistics: {STATISTICS_ON}"
        return f"{says}, expected success: check the server's log"

    def _stated_reason(self, answer: requests.Response, path: str) -> str:
        try:
            reason = json.loads(self._content(answer, _LARGEST_REFUSAL, path))["reason"]
        except (ValueError, TypeError, KeyError, RecursionError, RabbitMQManagementError):
            reason = answer.reason
        return str(reason)[:_SHOWN]


def _reason(error: Exception) -> str:
    """Return the innermost reason: the outer ones only repeat the URL."""
    return str(getattr(error.args[0] if error.args else None, "reason", error))[:_SHOWN]
