"""A management API that answers what a test has put there, and a hook for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rabbitmq_management.hooks.management import RabbitMQManagementHook
from tests.unit._helpers.management_api import FakeBroker, connection, fake_broker

Connect = Callable[..., RabbitMQManagementHook]


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with fake_broker() as server:
        yield server


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Make a hook whose Airflow connection has some settings changed."""

    def made(port: int | None = None, **changed: object) -> RabbitMQManagementHook:
        monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(port, **changed))
        return RabbitMQManagementHook("broker")

    return made


@pytest.fixture
def hook(broker: FakeBroker, connect: Connect) -> RabbitMQManagementHook:
    return connect(broker.server_port)
