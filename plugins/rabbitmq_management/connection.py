"""Where the management API is and how it is proven, from an Airflow connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONN_TYPE = "rabbitmq_management"
DEFAULT_CONN_ID = "rabbitmq_management_default"
HOOK_NAME = "RabbitMQ management API"
# RabbitMQ's own, see https://www.rabbitmq.com/docs/networking#ports
PORTS = {"https": 15671, "http": 15672}
# Seconds to connect, and between two pieces of an answer.
TIMEOUT = 10.0
_LONGEST_TIMEOUT = 300.0

_HOST = re.compile(r"[A-Za-z0-9.:_-]+")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


@dataclass(frozen=True)
class Endpoint:
    """
    A management API and how to log in there.

    :param url: what comes before ``/api/``
    :param login: the user
    :param password: the user's password
    :param verify: whether to verify the server's certificate, or the path of the CA's to verify it with
    :param timeout: seconds to connect, and between two pieces of an answer
    """

    url: str
    login: str
    password: str = field(repr=False)
    verify: bool | str
    timeout: float

    @classmethod
    def of(cls, connection: Connection) -> Endpoint:
        """
        Read an Airflow connection; what it leaves out means TLS with a verified certificate.

        :param connection: the connection
        :raises ValueError: when it can't be used, with what it has and what was expected
        """
        # Another type's fields may have the same names and mean something else, such as http where no scheme is given.
        if connection.conn_type != CONN_TYPE:
            raise ValueError(
                f"type {connection.conn_type!r}, expected {CONN_TYPE!r}, whose defaults and extras are its own"
            )
        extra = connection.extra_dejson
        return cls(
            url=_url(connection, extra),
            login=connection.login or "",
            password=connection.password or "",
            verify=_verify(extra),
            timeout=_timeout(extra),
        )

    @property
    def risk(self) -> str | None:
        """Return what somebody between here and the server could do, None if nothing."""
        if self.url.startswith("http:"):
            return "uses http: login and password can be read on their way"
        if not self.verify:
            return "has verify false: whoever answers in the server's place gets login and password"
        return None


def _url(connection: Connection, extra: dict[str, Any]) -> str:
    scheme, host = connection.schema or "https", connection.host or ""
    if scheme not in PORTS:
        raise ValueError(f"scheme {scheme[:20]!r}, expected https, or http where nobody can listen")
    # Not shown: somebody may have put login and password there.
    if not _HOST.fullmatch(host):
        raise ValueError(
            "a host that can't be used, expected a name or an IP address alone; a path goes to path_prefix"
        )
    prefix = str(extra.get("path_prefix") or "").rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"path_prefix {prefix[:100]!r}, expected RabbitMQ's management.path_prefix, such as /rabbitmq")
    return f"{scheme}://{_bracketed(host)}:{connection.port or PORTS[scheme]}{prefix}"


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host


def _verify(extra: dict[str, Any]) -> bool | str:
    given, ca_file = extra.get("verify"), extra.get("ca_file")
    verify = True if given is None else {"true": True, "false": False}.get(str(given).lower())
    if verify is None:
        raise ValueError(f"verify {str(given)[:20]!r}, expected true or false")
    if ca_file and not verify:
        raise ValueError("a ca_file and verify false, expected one of them: the file is there to verify with")
    return str(ca_file) if ca_file else verify


def _timeout(extra: dict[str, Any]) -> float:
    given = extra.get("timeout")
    try:
        timeout = TIMEOUT if given in (None, "") else float(given)
    except (TypeError, ValueError):
        timeout = 0.0
    if not 0 < timeout <= _LONGEST_TIMEOUT:
        raise ValueError(f"timeout {str(given)[:20]!r}, expected seconds above 0, at most {_LONGEST_TIMEOUT:.0f}")
    return timeout
