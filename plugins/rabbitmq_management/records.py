"""What the management API shows, as records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# What makes nodes show their statistics.
STATISTICS_ON = (
    "set management_agent.disable_metrics_collector and management.disable_stats to false in rabbitmq.conf on every "
    "node, and restart the nodes one by one"
)


@dataclass(frozen=True)
class QueueReading:
    """
    What one queue holds.

    :param name: name of the queue
    :param ready: messages that wait for a consumer
    :param unacknowledged: messages that a consumer has got and not acknowledged yet
    :param consumers: how many consumers it has; None if that wasn't read
    :param type: ``classic`` or ``quorum``
    :param leader: the node that leads a quorum queue, None for other types
    :param other: messages that RabbitMQ counts beside these, such as a quorum queue's dead letters on their way
    """

    name: str
    ready: int
    unacknowledged: int
    consumers: int | None = None
    type: str = "classic"
    leader: str | None = None
    other: int = 0

    @property
    def messages(self) -> int:
        """Return all messages, in whatever state."""
        return self.ready + self.unacknowledged + self.other

    def __str__(self) -> str:
        """Name the queue and what it holds."""
        other = f", {self.other} other" if self.other else ""
        return f"queue {self.name!r} ({self.ready} ready, {self.unacknowledged} unacknowledged{other})"


@dataclass(frozen=True)
class ClientConnection:
    """
    A client of RabbitMQ.

    :param name: RabbitMQ's name of the connection: both ends' addresses and ports
    :param peer: the client's address; with its port as long as RabbitMQ shows no details
    :param client_name: what the client calls its connection, None if it says nothing or RabbitMQ shows no details yet
    """

    name: str
    peer: str
    client_name: str | None = None


@dataclass(frozen=True)
class Node:
    """
    A node of the cluster.

    :param name: name of the node
    :param running: whether it runs
    :param alarms: for lack of what it takes no messages; None if the node shows no statistics
    :param partitions: nodes that it has lost sight of; None if the node shows no statistics
    """

    name: str
    running: bool
    alarms: tuple[str, ...] | None
    partitions: tuple[str, ...] | None

    @property
    def silent(self) -> bool:
        """Return whether the node runs and shows no statistics: what depends on them can't be told then."""
        return self.running and (self.alarms is None or self.partitions is None)


@dataclass(frozen=True)
class Permission:
    """What a user may do in a vhost; ``complete`` if he may configure, write and read something."""

    user: str
    complete: bool


@dataclass(frozen=True)
class Policy:
    """A policy of a vhost; ``operator`` policies are set by RabbitMQ's administrator above the others."""

    name: str
    pattern: str
    apply_to: str
    priority: int
    definition: dict[str, Any]
    operator: bool

    def __str__(self) -> str:
        """Name the policy."""
        return f"{'operator ' if self.operator else ''}policy {self.name!r}"

    def may_match(self, queue: str) -> bool:
        """
        Return whether the policy may apply to a queue that isn't there yet; a pattern that Python can't read may.

        :param queue: name of the queue
        """
        try:
            return self.apply_to != "exchanges" and re.search(self.pattern, queue) is not None
        except re.error:
            return True


@dataclass(frozen=True)
class ExpiringPolicy:
    """
    A setting that makes messages of a queue vanish unread.

    :param name: the policy or the queue that has it
    :param setting: the setting and its value
    """

    name: str
    setting: str
