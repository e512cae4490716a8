"""RabbitMQ's management API: what drain and preflight read there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
from airflow.sdk import BaseHook
from requests.auth import HTTPBasicAuth

from heat_upgrade.exceptions import (
    RabbitMQManagementError,
    RabbitMQRefusedError,
    RabbitMQUnavailableError,
    UpgradeError,
)
from heat_upgrade.read_only import ensure_writable
from heat_upgrade.readings import TOPICS, ClientConnection, ExpiringPolicy, QueueReading, carries_work, engines_of

if TYPE_CHECKING:
    from airflow.sdk import Connection

# Seconds to connect, and between two pieces of an answer.
_TIMEOUT = (5, 10)
# A vhost that isn't there is one: who asks whether it is there takes it for an answer.
_REFUSALS = {400, 401, 403, 404, 405}
_EXPIRING_SETTINGS = ("message-ttl", "expires")
_EXPIRING_ARGUMENTS = ("x-message-ttl", "x-expires")
# Without one of these RabbitMQ answers 200 and leaves out what other users do.
_SEES_ALL = {"administrator", "monitoring"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """A policy of a vhost; ``operator`` ones are set by RabbitMQ's administrator above the others."""

    name: str
    pattern: str
    apply_to: str
    priority: int
    definition: dict[str, Any]
    operator: bool

    def __str__(self) -> str:
        """Name the policy."""
        return f"{'operator ' if self.operator else ''}policy {self.name!r}"

    def matches(self, queue: str) -> bool:
        """
        Tell whether the policy may apply to a queue; a pattern that only Erlang understands may.

        :param queue: name of the queue
        """
        try:
            return self.apply_to != "exchanges" and re.search(self.pattern, queue) is not None
        except re.error:
            return True


@dataclass(frozen=True)
class Node:
    """A node of the cluster; ``alarms`` says for lack of what it takes no messages."""

    name: str
    running: bool
    alarms: tuple[str, ...]
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class Permission:
    """What a user may do in a vhost; ``complete`` if he may make, write and read queues."""

    user: str
    complete: bool


ACTIONS = ("configure", "write", "read")
POLICY = ("pattern", "definition", "priority", "apply-to")


class RabbitMQManagementHook(BaseHook):
    """
    Read queues, clients and settings of RabbitMQ.

    :param rabbitmq_conn_id: Airflow connection of type http: host, port, login and password of a user with the tag
        ``administrator``; schema ``http`` or ``https``; of the extras ``ca`` is the path of a CA certificate, and
        ``verify`` may be ``false``
    """

    conn_name_attr = "rabbitmq_conn_id"
    default_conn_name = "rabbitmq_default"
    conn_type = "http"
    hook_name = "RabbitMQ management API"

    def __init__(self, rabbitmq_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.rabbitmq_conn_id = rabbitmq_conn_id

    def get_conn(self) -> requests.Session:
        """Return the session that every call of this hook goes through."""
        return self._session

    def queues(self, vhost: str) -> list[QueueReading]:
        """
        Return what every queue holds now, not as of the last statistics.

        Streams are left out: they keep what was read, so what they hold tells nothing. A quorum queue's count may be
        5 s old.

        :param vhost: the vhost
        :raises RabbitMQManagementError: also when one queue's numbers are missing, or it isn't running
        """
        names = {row["name"] for row in self._rows(f"queues/{quoted(vhost)}?disable_stats=true", "name")}
        # RabbitMQ asks each queue for its totals, and leaves out those that don't answer within a second.
        totals = self._rows(f"queues/{quoted(vhost)}?disable_stats=true&enable_queue_totals=true", "name", "type")
        consumers = self.consumers(vhost)
        self._check_same(vhost, names, {row["name"] for row in totals}, set(consumers))
        return [self._reading(row, consumers.get(row["name"], 0)) for row in totals if row["type"] != "stream"]

    def consumers(self, vhost: str) -> dict[str, int]:
        """
        Return how many consumers each queue has. One that has just come shows after up to 5 s.

        :param vhost: the vhost
        """
        self._check_rights()
        rows = self._rows(f"consumers/{quoted(vhost)}", "queue")
        return dict(Counter(row["queue"]["name"] for row in rows))

    def connections(self, vhost: str) -> list[ClientConnection]:
        """
        Return who is connected now; the program of one that has just come is told after up to 5 s.

        :param vhost: the vhost
        """
        self._check_rights()
        details = {row["name"]: row for row in self._rows(f"vhosts/{quoted(vhost)}/connections", "name")}
        tracked = self._rows("connections?disable_stats=true", "name", "vhost")
        return [_client(row["name"], details.get(row["name"], {})) for row in tracked if row["vhost"] == vhost]

    def tags(self) -> set[str]:
        """Return the tags of the connection's user."""
        return self._rights

    def nodes(self) -> list[Node]:
        """Return the cluster's nodes; their alarms are up to 5 s old."""
        return [_node(row) for row in self._rows("nodes", "name")]

    def permissions(self, vhost: str) -> list[Permission]:
        """
        Return what each user may do in a vhost.

        :param vhost: the vhost
        """
        rows = self._rows(f"vhosts/{quoted(vhost)}/permissions", "user", *ACTIONS)
        return [Permission(row["user"], all(row[action] for action in ACTIONS)) for row in rows]

    def policies(self, vhost: str) -> list[Policy]:
        """
        Return the policies of a vhost, operator policies too.

        :param vhost: the vhost
        """
        return [
            Policy(row["name"], row["pattern"], row["apply-to"], row["priority"], row["definition"], operator)
            for path, operator in (("policies", False), ("operator-policies", True))
            for row in self._rows(f"{path}/{quoted(vhost)}", "name", *POLICY)
        ]

    def expiring_policies(self, vhost: str) -> list[ExpiringPolicy]:
        """
        Return what makes messages vanish from queues that carry Heat's work: policies and arguments of queues.

        :param vhost: the vhost
        """
        listed = self._rows(f"queues/{quoted(vhost)}?disable_stats=true", "name", "arguments")
        working = [row for row in listed if carries_work(row["name"])]
        names = {*TOPICS, *(row["name"] for row in working)}
        return [
            *(
                ExpiringPolicy(str(policy), _settings(policy.definition, _EXPIRING_SETTINGS))
                for policy in self.policies(vhost)
                if _settings(policy.definition, _EXPIRING_SETTINGS) and any(map(policy.matches, names))
            ),
            *(
                ExpiringPolicy(f"queue {row['name']!r}", _settings(row["arguments"], _EXPIRING_ARGUMENTS))
                for row in working
                if _settings(row["arguments"], _EXPIRING_ARGUMENTS)
            ),
        ]

    def engine_ids(self, vhost: str) -> frozenset[str]:
        """
        Return the ids of all engines that have ever used a vhost, as its queues tell them.

        :param vhost: the vhost
        """
        rows = self._rows(f"queues/{quoted(vhost)}?disable_stats=true", "name")
        return engines_of(row["name"] for row in rows)

    def live_engine_ids(self, vhost: str) -> frozenset[str]:
        """
        Return the ids of the engines that listen on a vhost.

        :param vhost: the vhost
        """
        return engines_of(self.consumers(vhost))

    def vhost_exists(self, vhost: str) -> bool:
        """
        Tell whether a vhost exists.

        :param vhost: the vhost
        """
        return self._vhost(vhost) is not None

    @cached_property
    def _connection(self) -> Connection:
        return self.get_connection(self.rabbitmq_conn_id)

    @cached_property
    def _session(self) -> requests.Session:
        session = requests.Session()
        # Else a proxy, a .netrc or a CA bundle of Airflow's own environment would decide.
        session.trust_env = False
        # As bytes: requests would refuse what Latin-1 can't write.
        login, password = ((text or "").encode() for text in (self._connection.login, self._connection.password))
        session.auth = HTTPBasicAuth(login, password)
        session.verify = _verify(self._connection.extra_dejson)
        return session

    @cached_property
    def _address(self) -> str:
        connection = self._connection
        schema, host = connection.schema or "http", connection.host or ""
        if schema not in ("http", "https") or not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
            raise UpgradeError(
                f"Airflow connection {self.rabbitmq_conn_id!r} has schema {schema!r} and a host that can't be used, "
                "expected http or https, and a name or an IP address: mend the connection"
            )
        port = connection.port or (15671 if schema == "https" else 15672)
        return f"{schema}://{_bracketed(host)}:{port}"

    def _call(self, method: str, path: str, body: Row | None = None) -> Any:
        if method != "GET":
            ensure_writable(f"send RabbitMQ a {method} of {path}")
        url = f"{self._address}/api/{path}"
        try:
            answer = self._session.request(method, url, json=body, timeout=_TIMEOUT, allow_redirects=False)
            if answer.status_code >= requests.codes.multiple_choices:
                raise self._error(_refusal(answer, path, self._connection), answer.status_code)
            return answer.json() if answer.content else None
        except requests.JSONDecodeError as error:
            raise self._error("answers something else than JSON: check host and port of the connection") from error
        except OSError as error:  # what requests raises, and a CA certificate that isn't there
            # The innermost reason, as the outer ones only repeat the URL.
            reason = getattr(error.args[0] if error.args else None, "reason", error)
            raise self._error(
                f"doesn't answer ({type(error).__name__}: {reason}): check that the server runs with its management "
                "plugin, and host, port, schema and extras of the connection"
            ) from error

    def _error(self, text: str, status: int | None = None) -> RabbitMQManagementError:
        where = f"RabbitMQ's management API at {self._address} (Airflow connection {self.rabbitmq_conn_id!r})"
        kind = RabbitMQRefusedError if status in _REFUSALS else RabbitMQUnavailableError
        return kind(f"{where} {text}", status)

    def _rows(self, path: str, *fields: str) -> list[Row]:
        rows = self._call("GET", path)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._error(f"answers no list to {path!r}, expected one: check the server's version and log")
        for row in rows:
            if missing := [field for field in fields if field not in row]:
                raise self._error(f"leaves out {missing} of {row.get('name')!r} in {path!r}: check the server's log")
        return rows

    def _row(self, path: str) -> Row:
        row = self._call("GET", path)
        if not isinstance(row, dict):
            raise self._error(f"answers no object to {path!r}, expected one: check the server's version and log")
        return row

    def _check_rights(self) -> None:
        if not self._rights & _SEES_ALL:
            raise self._error(
                f"gives user {self._connection.login!r} the tags {sorted(self._rights)}, expected 'administrator', "
                "as others don't see every client: set the tag, or use another user",
                requests.codes.forbidden,
            )

    @cached_property
    def _rights(self) -> set[str]:
        tags = self._row("whoami").get("tags", [])
        return set(tags.split(",") if isinstance(tags, str) else tags)

    def _check_same(self, vhost: str, names: set[str], counted: set[str], consumed: set[str]) -> None:
        if different := (names ^ counted) | (consumed - names):
            raise self._error(
                f"tells of queues {sorted(different)} in vhost {vhost!r} only in some of its answers, expected in all: "
                "they were made or deleted just now, or don't answer; should that last, check those queues"
            )

    def _reading(self, row: Row, consumers: int) -> QueueReading:
        if row.get("state") != "running":
            raise self._error(f"says queue {row['name']!r} is {row.get('state')!r}, expected 'running': mend the queue")
        counts = [row.get(field) for field in ("messages_ready", "messages_unacknowledged", "messages")]
        if not all(type(count) is int and count >= 0 for count in counts):
            raise self._error(
                f"says queue {row['name']!r} holds {counts} messages, expected whole numbers: "
                "check that the queue answers, and that its node is up"
            )
        return QueueReading(row["name"], int(row["messages_ready"]), int(row["messages_unacknowledged"]), consumers)

    def _vhost(self, vhost: str) -> Row | None:
        try:
            return self._row(f"vhosts/{quoted(vhost)}")
        except RabbitMQManagementError as error:
            if error.status == requests.codes.not_found:
                return None
            raise


def quoted(text: str) -> str:
    """
    Return a name as it stands in a path, whatever it is made of.

    :param text: the name
    """
    return quote(text, safe="")


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host


def _verify(extra: dict[str, Any]) -> bool | str:
    if ca := extra.get("ca"):
        return str(ca)
    return str(extra.get("verify", True)).lower() not in ("false", "0", "no")


def _refusal(answer: requests.Response, path: str, connection: Connection) -> str:
    """Say what an answer other than success means, and what to do."""
    try:
        reason = answer.json().get("reason", "")
    except (ValueError, AttributeError):
        reason = ""
    said = f"answers {answer.status_code} ({reason or answer.reason}) to {path!r}"
    if answer.status_code == requests.codes.unauthorized:
        return f"{said}: check login and password of the connection, and that {connection.login!r} is an administrator"
    if answer.status_code == requests.codes.not_found:
        return f"{said}: check that the vhost exists, and the releases' vhosts in the cloud file"
    return f"{said}, expected success: check the server's log"


def _client(name: str, details: Row) -> ClientConnection:
    """Take a client's program from the name it gives its connection: oslo.messaging says ``program:pid:uuid``."""
    said = str((details.get("client_properties") or {}).get("connection_name") or "")
    peer = details.get("peer_host") or name.partition(" -> ")[0]
    if match := re.fullmatch(r"(.+):(\d+):[0-9a-f-]+", said):
        return ClientConnection(match[1], int(match[2]), peer)
    return ClientConnection(said or None, None, peer)


def _node(row: Row) -> Node:
    alarms = {"memory": row.get("mem_alarm"), "disk": row.get("disk_free_alarm")}
    ringing = tuple(f"{what} alarm" for what, rings in alarms.items() if rings)
    return Node(row["name"], row.get("running") is True, ringing, tuple(row.get("partitions") or ()))


def _settings(definition: Row, names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {definition[name]}" for name in names if name in definition)
