"""RabbitMQ, as far as it is Heat's: which queues carry work, which engines listen, and whose program a client is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from heat_upgrade.exceptions import RabbitMQRefusedError, RabbitMQUnavailableError
from heat_upgrade.read_only import ensure_writable
from heat_upgrade.readings import TOPICS, ClientConnection, carries_work, engines_of, is_notification
from rabbitmq_management.api import ManagementAPI
from rabbitmq_management.hooks.management import RabbitMQManagementHook, Wanted, every_queue

if TYPE_CHECKING:
    from collections.abc import Collection

    from rabbitmq_management.api import Row
    from rabbitmq_management.records import ExpiringPolicy, QueueReading


class _GuardedAPI(ManagementAPI):
    """Changes nothing where only reading is allowed, and fails with the errors that decide what is tried again."""

    unavailable = RabbitMQUnavailableError
    refused = RabbitMQRefusedError

    def call(self, method: str, path: str, body: Row | None = None) -> Any:
        if method != "GET":
            ensure_writable(f"send RabbitMQ a {method} of {path}")
        return super().call(method, path, body)


class HeatRabbitMQHook(RabbitMQManagementHook):
    """
    Read what Heat's queues hold, who is connected to its vhosts, and RabbitMQ's settings.

    :param rabbitmq_conn_id: Airflow connection of type rabbitmq_management, with a user tagged ``administrator``
    """

    api_type = _GuardedAPI

    def queues(
        self, vhost: str, wanted: Wanted = every_queue, *, consumers: bool = True, skip_streams: bool = True
    ) -> list[QueueReading]:
        """Return what queues hold now; oslo.messaging's fanouts may be streams, which keep what was read."""
        return super().queues(vhost, wanted, consumers=consumers, skip_streams=skip_streams)

    def clients(self, vhost: str) -> list[ClientConnection]:
        """
        Return which programs are connected now; that of one that has just come is told after up to 5 s.

        :param vhost: the vhost
        """
        return [_client(client.client_name, client.peer) for client in self.connections(vhost)]

    def notification_readers(self, vhost: str) -> list[ClientConnection]:
        """
        Return who reads what Heat tells others, such as Ceilometer.

        :param vhost: the vhost
        """
        return [_client(client.client_name, client.peer) for client in self.readers(vhost, is_notification)]

    def expiring_policies(
        self, vhost: str, wanted: Wanted = carries_work, expected: Collection[str] = TOPICS
    ) -> list[ExpiringPolicy]:
        """Return what makes messages vanish from queues that carry Heat's work, or are going to."""
        return super().expiring_policies(vhost, wanted, expected)

    def engine_ids(self, vhost: str) -> frozenset[str]:
        """
        Return the ids of all engines that have ever used a vhost, as its queues tell them.

        :param vhost: the vhost
        """
        return engines_of(self.queue_names(vhost))

    def live_engine_ids(self, vhost: str) -> frozenset[str]:
        """
        Return the ids of the engines that listen on a vhost.

        :param vhost: the vhost
        """
        return engines_of(self.consumers(vhost))


def _client(said: str | None, peer: str) -> ClientConnection:
    """Take a client's program from the name it gives its connection: oslo.messaging says ``program:pid:uuid``."""
    if match := re.fullmatch(r"(.+):(\d+):[0-9a-f-]+", said or ""):
        return ClientConnection(match[1], int(match[2]), peer)
    return ClientConnection(said, None, peer)
