"""Whom preflight asks for what, with autospec'd hooks in the place of hosts."""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from heat_upgrade.clients import Clients
from heat_upgrade.cloud.model import Cloud, Deployment
from heat_upgrade.cloud.sections import Host
from heat_upgrade.exceptions import HostUnreachableError
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.preflight import ask
from heat_upgrade.preflight.facts import HostFacts
from heat_upgrade.readings import Unavailable
from tests.unit._helpers.clouds.broken import HAPROXY, edited
from tests.unit._helpers.healthy import NEW, OLD


class Machines:
    """What is asked over SSH, and what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {}

    def hook(self, name: str) -> HeatHostHook:
        hook = mock.create_autospec(HeatHostHook, instance=True)
        hook.username, hook.remote_host, hook.port = "heat", "10.0.0.1", 22
        hook.no_host_key_check = hook.allow_host_key_change = False
        hook.run_step.side_effect = lambda step, **_: self.run(name, step.name)
        return hook  # type: ignore[no-any-return]

    def run(self, name: str, step: str) -> Any:
        self.asked.append((name, step))
        answer = self.answers.get(name, {})
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    machines = Machines()

    def host(_: Clients, host: Host) -> HeatHostHook:
        if host.name == "edge.example":
            raise AirflowNotFoundException("the connection isn't defined, add it")
        return machines.hook(host.name)

    def balancer(_: Clients, one: Deployment, role: str) -> HeatHostHook:
        return machines.hook(f"balancer of {one.host.name}")

    monkeypatch.setattr(Clients, "host", host)
    monkeypatch.setattr(Clients, "balancer", balancer)
    return machines


def cloud(**edits: Any) -> Cloud:
    return Cloud.model_validate({**edited(edits), "name": "lab"})


def test_each_host_gives_its_facts_or_its_own_error(machines: Machines) -> None:
    machines.answers = {
        "controller-1": {f"engine/{OLD}": "active", "clock": str(time.time() + 40)},
        "controller-2": HostUnreachableError("controller-2: down"),
    }
    found, rotations = ask.ask_all(cloud(), cloud().release(NEW))
    assert rotations == {}
    first = found["controller-1"]
    assert isinstance(first, HostFacts)
    assert first.state.running == {OLD}
    assert 39 < first.ahead < 41
    assert (first.login, first.key) == ("heat@10.0.0.1:22", "the Airflow user's known_hosts")
    assert found["controller-2"] == Unavailable("controller-2: down", retryable=True)
    assert found["edge.example"] == Unavailable("the connection isn't defined, add it")


def test_a_balancer_is_asked_once_for_all_its_servers(machines: Machines) -> None:
    machines.answers = {"balancer of controller-1": {"heat_api/controller-1": "UP,L7OK"}}
    one = cloud(rotation=HAPROXY)
    _, rotations = ask.ask_all(one, one.release(NEW))
    assert [(name, step) for name, step in machines.asked if step == "check_rotation"] == [
        ("balancer of controller-1", "check_rotation")
    ]
    assert rotations["controller-1", "api"] == "UP,L7OK"
    assert rotations["edge.example", "api"] == Unavailable("HAProxy says nothing of edge.example")
    assert set(rotations) == {
        ("controller-1", "api"),
        ("controller-2", "api"),
        ("edge.example", "api"),
        ("edge.example", "api-cfn"),
    }


def test_a_balancer_that_is_away_is_told_for_each_api(machines: Machines) -> None:
    machines.answers = {"balancer of controller-1": HostUnreachableError("the balancer is down")}
    one = cloud(rotation=HAPROXY)
    assert set(ask.ask_all(one, one.release(NEW))[1].values()) == {Unavailable("the balancer is down", retryable=True)}
