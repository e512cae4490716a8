"""What a host runs, as it is read from what the step look reports."""

from __future__ import annotations

from unittest import mock

import pytest

from heat_upgrade import hosts
from heat_upgrade.clients import Clients
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.exceptions import HostUnreachableError, TransientError
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hosts import HostState
from heat_upgrade.readings import Unavailable
from tests.unit._helpers.clouds.broken import edited

OLD, NEW = "25.0.2", "26.0.2"
CLOUD = Cloud.model_validate({**edited({}), "name": "lab"})


def state(host: str = "controller-1", **services: str) -> HostState:
    """Return a host's state; services are given as role_release=state with _ for the rest."""
    releases = {"old": OLD, "new": NEW}
    words = {}
    for key, value in services.items():
        role, _, release = key.rpartition("_")
        words[f"{role.replace('_', '-')}/{releases[release]}"] = value
    return HostState.parse(CLOUD.host(host), words)


def test_everything_that_look_reports_is_read() -> None:
    found = HostState.parse(
        CLOUD.host("controller-1"),
        {
            f"engine/{OLD}": "active",
            f"api/{OLD}": "inactive",
            f"engine/{NEW}": "absent",
            f"installed/{OLD}": OLD,
            f"installed/{NEW}": "",
            f"vhost/{OLD}": "",
            "heat_host": "c1",
            "stopped": NEW,
        },
    )
    assert found.heat_host == "c1"
    assert found.services == {("engine", OLD): "active", ("api", OLD): "inactive", ("engine", NEW): "absent"}
    assert found.installed == {OLD: OLD, NEW: ""}
    assert found.vhosts == {OLD: "/"}, "the default"
    assert found.running == {OLD}
    assert found.stopped == NEW
    assert found.idle, "no API runs"


@pytest.mark.parametrize(
    ("services", "upgraded"),
    [
        ({"engine_new": "active", "api_new": "active"}, True),
        ({"engine_new": "active", "engine_old": "stopping", "api_new": "active"}, False),
        ({"engine_new": "active"}, False),
        ({}, False),
    ],
)
def test_a_host_is_upgraded_when_all_of_it_runs_on_the_target_alone(services: dict[str, str], upgraded: bool) -> None:
    assert state(**services).upgraded(NEW) is upgraded


@pytest.mark.parametrize(
    ("word", "alive"),
    [
        ("active", True),
        ("starting", True),
        ("stopping", True),
        ("inactive", False),
        ("failed", False),
        ("absent", False),
    ],
)
def test_a_service_that_works_or_will_is_alive(word: str, alive: bool) -> None:
    found = state(api_old=word)
    assert found.releases("api") == ({OLD} if alive else set())
    assert found.running == ({OLD} if alive else set())
    assert found.releases("engine") == set()


@pytest.mark.parametrize(
    ("host", "services", "moved"),
    [
        ("controller-1", {"engine_new": "active", "api_new": "active"}, True),
        ("controller-1", {"engine_old": "active", "engine_new": "active", "api_new": "active"}, True),
        ("controller-1", {"engine_old": "active", "api_new": "active"}, False),
        ("controller-1", {"engine_new": "active", "api_new": "active", "api_old": "stopping"}, False),
        ("controller-1", {"engine_new": "active", "api_old": "active"}, False),
        ("controller-1", {"engine_new": "failed", "api_new": "active"}, False),
        ("controller-1", {"engine_new": "active"}, False),
        ("controller-1", {}, False),
        ("edge.example", {"api_new": "active", "api_cfn_new": "active"}, True),
        ("edge.example", {"api_new": "active", "api_cfn_old": "active"}, False),
        ("edge.example", {"api_new": "active"}, False),
    ],
)
def test_a_host_has_moved_when_its_apis_run_on_the_target_alone(
    host: str, services: dict[str, str], moved: bool
) -> None:
    assert state(host, **services).moved(NEW) is moved


def test_a_host_that_cannot_be_asked_gives_its_error_and_the_others_their_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect(_: Clients, host: object) -> HeatHostHook:
        hook = mock.create_autospec(HeatHostHook, instance=True)
        if host == CLOUD.host("controller-2"):
            hook.run_step.side_effect = HostUnreachableError("controller-2: down")
        else:
            hook.run_step.return_value = {f"api/{OLD}": "active"}
        return hook  # type: ignore[no-any-return]

    monkeypatch.setattr(Clients, "host", connect)
    found = hosts.inspect(CLOUD, CLOUD.hosts)
    assert list(found) == ["controller-1", "controller-2", "edge.example"]
    assert found["controller-2"] == Unavailable("controller-2: down", retryable=True)
    for name in ("controller-1", "edge.example"):
        one = found[name]
        assert isinstance(one, HostState)
        assert one.running == {OLD}
    with pytest.raises(TransientError, match="controller-2: down"):
        hosts.states_of(CLOUD, CLOUD.hosts)
