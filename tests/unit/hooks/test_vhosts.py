"""What a new vhost gets from the old one, and what the server would refuse to give it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from heat_upgrade.exceptions import PermanentError
from heat_upgrade.hooks.vhosts import VhostHook
from tests.unit._helpers.management_api import FakeBroker, connection, fake_broker

MIRRORED = {"ha-mode": "all"}


def policy(name: str, definition: dict[str, Any], vhost: str = "heat") -> dict[str, Any]:
    kept = {"name": name, "pattern": ".*", "apply-to": "all", "priority": 0}
    return {"vhost": vhost, **kept, "definition": definition}


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with fake_broker("heat") as server:
        server.answers |= {"vhosts": [{"name": "heat"}], "vhosts/heat": {"name": "heat"}}
        for kind in ("permissions", "topic-permissions"):
            server.answers |= {f"vhosts/heat/{kind}": [], f"vhosts/heat_26/{kind}": []}
        server.answers |= {"policies/heat_26": [], "operator-policies/heat_26": []}
        yield server


@pytest.fixture
def hook(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> VhostHook:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", connection(broker.server_port))
    return VhostHook("broker")


@pytest.mark.parametrize("version", ["4.0.0", "4.1.2+rc.1", "10.0"])
@pytest.mark.parametrize(
    ("listing", "definition", "named"),
    [
        ("policies/heat", MIRRORED, "ha-mode of policy 'p' of vhost 'heat'"),
        ("policies/heat", {"ha-params": 2, "ha-mode": "exactly", "max-length": 9}, "ha-mode, ha-params of policy 'p'"),
        ("operator-policies/heat", {"ha-sync-mode": "automatic"}, "ha-sync-mode of operator policy 'p'"),
    ],
)
def test_a_policy_for_mirrored_queues_is_named_before_anything_is_made(
    broker, hook, version, listing, definition, named
):
    broker.answers |= {listing: [policy("p", definition)], "overview": {"rabbitmq_version": version}}
    for ask in (hook.changes, hook.create_like):
        with pytest.raises(PermanentError) as caught:
            ask("heat", "heat_26")
        assert f"would refuse a copy of {named}" in str(caught.value)
        assert f"RabbitMQ {version} mirrors no queue" in str(caught.value)
        assert "rabbitmqctl clear_policy" in str(caught.value)


@pytest.mark.parametrize(
    ("version", "definition"),
    [
        ("3.13.7", MIRRORED),
        (None, MIRRORED),  # what isn't known is for the server to say
        ("4.1.0", {"max-length": 9}),
        ("4.1.0", {"stream-retention-policy": "x"}),
    ],
)
def test_a_policy_that_the_server_takes_is_copied(broker, hook, version, definition):
    broker.answers |= {"policies/heat": [policy("p", definition)], "overview": {"rabbitmq_version": version}}
    assert "policy 'p'" in [change.text for change in hook.changes("heat", "heat_26")]


def test_a_policy_that_the_new_vhost_has_by_now_is_no_matter(broker, hook):
    broker.answers |= {"vhosts/heat_26": {"name": "heat_26"}, "overview": {"rabbitmq_version": "4.0.0"}}
    broker.answers |= {f"policies/{vhost}": [policy("p", MIRRORED, vhost)] for vhost in ("heat", "heat_26")}
    assert hook.changes("heat", "heat_26") == []
