"""What RabbitMQ's management API tells of queues, clients and the cluster, and when that can be relied on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard

from airflow.sdk import BaseHook

from rabbitmq_management.api import ManagementAPI, Row, quoted
from rabbitmq_management.connection import CONN_TYPE, DEFAULT_CONN_ID, HOOK_NAME
from rabbitmq_management.exceptions import RabbitMQManagementError
from rabbitmq_management.records import (
    STATISTICS_ON,
    ClientConnection,
    ExpiringPolicy,
    Node,
    Permission,
    Policy,
    QueueReading,
)

if TYPE_CHECKING:
    import requests

# Without one of these RabbitMQ answers 200 and leaves out what other users do.
_SEES_ALL = {"administrator", "monitoring"}
_ACTIONS = ("configure", "write", "read")
# What a row of each has at least.
PERMISSION = {"user": str, **dict.fromkeys(_ACTIONS, str)}
POLICY = {"name": str, "pattern": str, "definition": dict, "priority": int, "apply-to": str}
_NAME = {"name": str}
_COUNTS = ("messages_ready", "messages_unacknowledged", "messages")
# The server has less to send: half of it, with 5,000 queues.
_TOTALS = ",".join(("name", "type", "state", *_COUNTS, "leader", "members", "online"))

Wanted = Callable[[str], bool]


def every_queue(_name: str) -> bool:
    """Return True: no queue is left out."""
    return True


class RabbitMQManagementHook(BaseHook):
    """
    Read queues, clients and nodes of RabbitMQ through its management API.

    Nothing that a reading says rests on RabbitMQ's statistics where they are seconds old: queues are asked for what
    they hold. What is missing, partial or told by a queue that isn't running is an error, never zero.

    :param rabbitmq_conn_id: Airflow connection of type ``rabbitmq_management``: host, port, login and password; schema
        ``https`` (the default) or ``http``; of the extras ``ca_file`` is the path of a CA certificate, ``verify`` may
        be false, ``path_prefix`` is the server's ``management.path_prefix``, ``timeout`` is in seconds
    """

    conn_name_attr = "rabbitmq_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME
    # What sends the requests; a subclass may take a subclass of it.
    api_type: ClassVar[type[ManagementAPI]] = ManagementAPI

    def __init__(self, rabbitmq_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.rabbitmq_conn_id = rabbitmq_conn_id

    def get_conn(self) -> requests.Session:
        """Return the session that every request of this hook goes through."""
        return self.api.session

    @cached_property
    def api(self) -> ManagementAPI:
        """
        Return what sends this hook's requests.

        :raises RabbitMQRefusedError: when the Airflow connection can't be used
        """
        api = self.api_type.of(self.rabbitmq_conn_id, self.get_connection(self.rabbitmq_conn_id))
        if risk := api.endpoint.risk:
            self.log.warning("Airflow connection %r %s", self.rabbitmq_conn_id, risk)
        return api

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the server answers this user, and what it is or what is wrong."""
        try:
            user, overview = self.api.row("whoami"), self.api.row("overview?columns=rabbitmq_version,cluster_name")
            tags = ", ".join(sorted(self.tags())) or "no tags"
        except RabbitMQManagementError as error:
            return False, str(error)
        says = (
            f"RabbitMQ {overview.get('rabbitmq_version')} of cluster {overview.get('cluster_name')!r} answers "
            f"{user.get('name')!r} ({tags})"
        )
        return True, f"{says}; the connection {self.api.endpoint.risk}" if self.api.endpoint.risk else says

    def queues(
        self, vhost: str, wanted: Wanted = every_queue, *, consumers: bool = True, skip_streams: bool = False
    ) -> list[QueueReading]:
        """
        Return what queues hold now, not as of the last statistics.

        A quorum queue's counts are up to 5 s old, and zero for up to 5 s after its leader has changed, whatever it
        holds: ``LeaderWatch`` tells.

        :param vhost: the vhost
        :param wanted: tells by a queue's name whether it is to be read
        :param consumers: whether to read how many consumers each has, which needs RabbitMQ's statistics and a user with
            the tag ``monitoring``
        :param skip_streams: whether to leave streams out; else one is an error, as it keeps what was read
        :raises RabbitMQManagementError: also when one queue's numbers are missing, or it isn't running
        """
        names = {name for name in self.queue_names(vhost) if wanted(name)}
        # RabbitMQ asks each queue for its totals, and leaves out those that don't answer within a second. All at once:
        # it would ask every queue anew for each page.
        path = f"queues/{quoted(vhost)}?disable_stats=true&enable_queue_totals=true&columns={_TOTALS}"
        rows = [row for row in self.api.rows(path, _NAME | {"type": str}) if wanted(row["name"])]
        consumed = self.consumers(vhost) if consumers else {}
        self._check_same(vhost, names, {row["name"] for row in rows}, {name for name in consumed if wanted(name)})
        return [
            self._reading(row, consumed.get(row["name"], 0) if consumers else None)
            for row in rows
            if not (skip_streams and row["type"] == "stream")
        ]

    def queue_names(self, vhost: str) -> set[str]:
        """
        Return the names of all queues, also of those that don't answer.

        :param vhost: the vhost
        """
        return {row["name"] for row in self.api.rows(f"queues/{quoted(vhost)}?disable_stats=true&columns=name", _NAME)}

    def consumers(self, vhost: str) -> dict[str, int]:
        """
        Return how many consumers each queue has. One that has just come shows after up to 5 s.

        :param vhost: the vhost
        """
        self._check_sees_all()
        path = f"consumers/{quoted(vhost)}?columns=queue.name"
        queues = [row["queue"] for row in self.api.rows(path, {"queue": dict})]
        return dict(Counter(queue["name"] for queue in self.api.checked(queues, path, _NAME)))

    def readers(self, vhost: str, wanted: Wanted = every_queue) -> list[ClientConnection]:
        """
        Return which clients read queues; one that has just come shows after up to 5 s.

        :param vhost: the vhost
        :param wanted: tells by a queue's name whether its readers matter
        """
        path = f"consumers/{quoted(vhost)}?columns=queue.name,channel_details.connection_name"
        rows = self.api.rows(path, {"queue": dict})
        channels = [row.get("channel_details") for row in rows if wanted(str(row["queue"].get("name")))]
        names = {channel.get("connection_name") for channel in channels if isinstance(channel, dict)}
        return [client for client in self.connections(vhost) if client.name in names]

    def connections(self, vhost: str) -> list[ClientConnection]:
        """
        Return who is connected now; what a client that has just come calls itself is shown after up to 5 s.

        :param vhost: the vhost
        """
        self._check_sees_all()
        columns = "columns=name,peer_host,client_properties.connection_name"
        shown = self.api.rows(f"vhosts/{quoted(vhost)}/connections?{columns}", _NAME)
        details = {row["name"]: row for row in shown}
        tracked = self.api.rows("connections?disable_stats=true&columns=name,vhost", _NAME | {"vhost": str})
        return [_client(row["name"], details.get(row["name"], {})) for row in tracked if row["vhost"] == vhost]

    def tags(self) -> set[str]:
        """Return the tags of the connection's user."""
        tags = self.api.row("whoami").get("tags")
        # As text before RabbitMQ 3.9.
        return set(tags.split(",") if isinstance(tags, str) else map(str, _list(tags)))

    def nodes(self) -> list[Node]:
        """Return the cluster's nodes; their alarms are up to 5 s old."""
        columns = "columns=name,running,mem_alarm,disk_free_alarm,partitions"
        return [_node(row) for row in self.api.rows(f"nodes?{columns}", _NAME | {"running": bool})]

    def vhost_exists(self, vhost: str) -> bool:
        """
        Return whether a vhost exists.

        :param vhost: the vhost
        """
        return self.vhost(vhost) is not None

    def vhost(self, vhost: str) -> Row | None:
        """
        Return what is known of a vhost, None if it doesn't exist.

        :param vhost: the vhost
        """
        try:
            return self.api.row(f"vhosts/{quoted(vhost)}")
        except RabbitMQManagementError as error:
            # A server that knows no vhost at all, as behind a wrong path_prefix, says 404 as well.
            if error.status == 404 and vhost not in {
                row["name"] for row in self.api.rows("vhosts?columns=name", _NAME)
            }:
                return None
            raise

    def permissions(self, vhost: str) -> list[Permission]:
        """
        Return what each user may do in a vhost.

        :param vhost: the vhost
        """
        rows = self.api.rows(f"vhosts/{quoted(vhost)}/permissions", PERMISSION)
        return [Permission(row["user"], all(row[action] for action in _ACTIONS)) for row in rows]

    def policies(self, vhost: str) -> list[Policy]:
        """
        Return the policies of a vhost, operator policies too.

        :param vhost: the vhost
        """
        return [
            Policy(row["name"], row["pattern"], row["apply-to"], row["priority"], row["definition"], operator)
            for path, operator in (("policies", False), ("operator-policies", True))
            for row in self.api.rows(f"{path}/{quoted(vhost)}", POLICY)
        ]

    def expiring_policies(
        self, vhost: str, wanted: Wanted = every_queue, expected: Collection[str] = ()
    ) -> list[ExpiringPolicy]:
        """
        Return what makes messages vanish from queues unread: policies and arguments of queues.

        :param vhost: the vhost
        :param wanted: tells by a queue's name whether it matters
        :param expected: names of queues that matter, and on which a policy counts even before they are there
        """
        listed = f"queues/{quoted(vhost)}?disable_stats=true&columns=name,arguments,policy,operator_policy"
        queues = [row for row in self.api.rows(listed, _NAME | {"arguments": dict}) if wanted(row["name"])]
        absent = set(expected) - {row["name"] for row in queues}
        policies = [
            ExpiringPolicy(str(policy), setting)
            for policy in self.policies(vhost)
            if (setting := _settings(policy.definition, "message-ttl", "expires"))
            and (any(map(policy.may_match, absent)) or self._applies(vhost, policy, queues))
        ]
        return policies + [
            ExpiringPolicy(f"queue {row['name']!r}", setting)
            for row in queues
            if (setting := _settings(row["arguments"], "x-message-ttl", "x-expires"))
        ]

    def _applies(self, vhost: str, policy: Policy, queues: list[Row]) -> bool:
        """Return whether RabbitMQ applies a policy to one of some queues; its patterns are its own to match."""
        column = "operator_policy" if policy.operator else "policy"
        if not policy.operator or any(column in row for row in queues):
            return any(row.get(column) == policy.name for row in queues)
        # Before 4.3 no listing says which operator policy a queue has.
        filtered = f"page=1&page_size=500&use_regex=true&name={quoted(policy.pattern)}"
        path = f"queues/{quoted(vhost)}?disable_stats=true&columns=name&{filtered}"
        found = self.api.row(path)
        named = {row["name"] for row in self.api.checked(found.get("items"), path, _NAME)}
        whole = found.get("filtered_count") == len(named)
        return not whole or not named.isdisjoint(row["name"] for row in queues)

    def _check_sees_all(self) -> None:
        """Check that clients of all users and nodes are shown: else the answer is a shorter list, and no error."""
        if not (tags := self.tags()) & _SEES_ALL:
            raise self.api.error(
                f"gives user {self.api.endpoint.login!r} the tags {sorted(tags)}, expected 'administrator' or "
                "'monitoring', as others don't see every client: set a tag, or use another user",
                403,
            )
        if silent := [node.name for node in self.nodes() if node.silent]:
            raise self.api.error(
                f"shows no statistics of {', '.join(silent)}, expected them, as consumers and clients there are not "
                f"shown either: wait if it has just started, else {STATISTICS_ON}"
            )

    def _check_same(self, vhost: str, names: set[str], counted: set[str], consumed: set[str]) -> None:
        if different := (names ^ counted) | (consumed - names):
            raise self.api.error(
                f"shows queues {_first_few(different)} of vhost {vhost!r} only in some of its answers, expected in "
                "all: they were made or deleted just now, or don't answer; should that last, check those queues"
            )

    def _reading(self, row: Row, consumers: int | None) -> QueueReading:
        if row["type"] == "stream":
            raise self.api.error(
                f"has a stream {row['name']!r}, expected classic and quorum queues, as a stream keeps what was read "
                "and its length tells nothing: leave it out",
                final=True,
            )
        if row.get("state") != "running":
            raise self.api.error(
                f"says queue {row['name']!r} is {row.get('state')!r}, expected 'running': check the queue and its node"
            )
        ready, unacknowledged, messages = self._counts(row)
        leader = self._leader(row) if row["type"] == "quorum" else None
        other = messages - ready - unacknowledged
        return QueueReading(row["name"], ready, unacknowledged, consumers, row["type"], leader, other)

    def _counts(self, row: Row) -> tuple[int, int, int]:
        ready, unacknowledged, messages = counts = [row.get(field) for field in _COUNTS]
        if _whole(ready) and _whole(unacknowledged) and _whole(messages) and ready + unacknowledged <= messages:
            return ready, unacknowledged, messages
        raise self.api.error(
            f"says queue {row['name']!r} holds {counts} messages (ready, unacknowledged, all), expected whole numbers "
            "that add up: check that the queue answers, and that its node is up"
        )

    def _leader(self, row: Row) -> str:
        """Return a quorum queue's leader: what a node without the others knows is of the past."""
        leader, online, members = row.get("leader"), _list(row.get("online")), _list(row.get("members"))
        if not leader or leader not in online or 2 * len(online) <= len(members):
            raise self.api.error(
                f"says quorum queue {row['name']!r} is led by {leader!r}, with {len(online)} of {len(members)} members "
                "online, expected a leader and a majority: check the cluster's nodes"
            )
        return str(leader)


def _first_few(names: set[str]) -> str:
    shown = sorted(names)[:10]
    return f"{shown} and {len(names) - len(shown)} more" if len(names) > len(shown) else str(shown)


def _whole(count: Any) -> TypeGuard[int]:
    return type(count) is int and count >= 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _client(name: str, details: Row) -> ClientConnection:
    properties = details.get("client_properties")
    said = properties.get("connection_name") if isinstance(properties, dict) else None
    return ClientConnection(name, details.get("peer_host") or name.partition(" -> ")[0], str(said) if said else None)


def _node(row: Row) -> Node:
    rings: dict[str, Any] = {"memory": row.get("mem_alarm"), "disk": row.get("disk_free_alarm")}
    if None in rings.values():
        return Node(row["name"], row["running"] is True, None, None)
    alarms = tuple(f"{what} alarm" for what, is_ringing in rings.items() if is_ringing)
    return Node(row["name"], row["running"] is True, alarms, tuple(map(str, _list(row.get("partitions")))))


def _settings(definition: Row, *names: str) -> str:
    return ", ".join(f"{name} {definition[name]}" for name in names if name in definition)
