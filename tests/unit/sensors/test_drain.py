"""The sensor: it waits only once every API has moved, in the triggerer, and passes on what the trigger found."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from heat_upgrade import hosts
from heat_upgrade.clients import Clients
from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.flip.rule import Sides
from heat_upgrade.hosts import HostState, RouterState
from heat_upgrade.run.plan import Plan
from heat_upgrade.sensors.drain import AllApisStoppedSensor, OldEnginesDrainedSensor

OLD, NEW = "25.0.2", "26.0.2"
CLOUD = """
releases:
  - {version: 25.0.2, vhost: heat}
  - {version: 26.0.2, vhost: heat_26, requirements: include/releases/openstack-heat-26.0.2.txt}
hosts:
  - {name: c1, address: 10.0.0.11, roles: [engine, api]}
  - {name: c2, address: 10.0.0.12, roles: [engine, api]}
connections: {ssh: s, rabbitmq: r, database: d, api: a}
rotation: {kind: healthcheck, file: /var/lib/heat/out}
drain: {interval: 5, readings: 4, timeout: 600}
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    path: Path = tmp_path_factory.mktemp("clouds") / "small.yaml"
    path.write_text(CLOUD)
    return load_cloud(path)


class Instance:
    """The task instance, as far as a plan is read from it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def xcom_pull(self, *, task_ids: str) -> dict[str, Any] | None:
        return self.plan.as_xcom() if task_ids == "preflight" else None


def context(*selected: str, stranded: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    plan = Plan(source=OLD, target=NEW, hosts=selected, stranded=stranded, **more)
    return {"ti": Instance(plan), "dag_run": SimpleNamespace(clear_number=0)}


MOVED = {("api", NEW): "active", ("engine", OLD): "active", ("engine", NEW): "active"}
NOT_MOVED = {("api", OLD): "active", ("engine", OLD): "active"}
OLD_API_STOPS = MOVED | {("api", OLD): "stopping"}


@pytest.fixture
def sensor(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(
        c1: dict[tuple[str, str], str],
        c2: dict[tuple[str, str], str],
        kind: type[OldEnginesDrainedSensor] = OldEnginesDrainedSensor,
        router: RouterState | None = None,
    ) -> OldEnginesDrainedSensor:
        found = {"c1": c1, "c2": c2}
        routers = {NEW: router} if router else {}
        states = {host.name: HostState(host, host.name, found[host.name], routers=routers) for host in cloud.hosts}
        monkeypatch.setattr(hosts, "states_of", lambda *_: states)
        return kind(task_id="wait_until_drained", cloud=cloud)

    return make


def test_it_waits_in_the_triggerer_once_every_api_has_moved(sensor):
    before = time.time()
    with pytest.raises(TaskDeferred) as caught:
        sensor(MOVED, MOVED).execute(context("c1", "c2", stranded=("s1",)))
    _, arguments = caught.value.trigger.serialize()
    deadline = arguments.pop("deadline")
    assert before + 600 <= deadline <= time.time() + 600
    assert arguments == {
        "old_vhost": "heat",
        "new_vhost": "heat_26",
        "rabbitmq_conn_id": "r",
        "database_conn_id": "d",
        "interval": 5,
        "readings": 4,
        "timeout": 600,
        "stranded_stacks": ["s1"],
        "kept_stacks": [],
        "warning": None,
    }
    assert caught.value.method_name == "execute_complete"
    assert timedelta(seconds=600) < caught.value.timeout < timedelta(seconds=700)


def test_it_waits_for_the_stacks_that_stayed_at_the_flip(sensor, monkeypatch):
    sides = {"state": json.dumps(Sides(NEW, stacks={"s2": OLD, "s1": OLD}).as_json())}
    monkeypatch.setattr(Clients, "host", lambda *_: SimpleNamespace(run_step=lambda step: sides))
    with pytest.raises(TaskDeferred) as caught:
        sensor(MOVED, MOVED, router=RouterState(NEW, listed=2)).execute(context("c1", "c2"))
    assert caught.value.trigger.serialize()[1]["kept_stacks"] == ["s1", "s2"]


def test_before_the_flip_it_is_an_error(sensor):
    with pytest.raises(AirflowException, match=r"^c1, c2: users aren't on the side of 26\.0\.2 there.*clear flip"):
        sensor(MOVED, MOVED, router=RouterState(OLD)).execute(context("c1", "c2"))


@pytest.mark.parametrize("state", [NOT_MOVED, OLD_API_STOPS, {}])
def test_a_host_of_this_run_that_has_not_moved_is_an_error(sensor, state):
    with pytest.raises(AirflowException, match=r"^c2: .*these hosts' switch_api where") as caught:
        sensor(MOVED, state).execute(context("c1", "c2"))
    assert not isinstance(caught.value, AirflowSkipException)


EVENT = {"status": "drained", "message": "why", "table": "reading 9"}


def test_it_passes_and_logs_the_last_reading(sensor, capsys):
    sensor(MOVED, MOVED).execute_complete(context("c1"), EVENT)
    assert "reading 9" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "error"), [("failed", AirflowFailException), ("timed out", AirflowSensorTimeout)])
def test_it_fails_with_the_reason_and_still_logs_the_last_reading(sensor, capsys, status, error):
    with pytest.raises(error, match="why"):
        sensor(MOVED, MOVED).execute_complete(context("c1"), EVENT | {"status": status})
    assert "reading 9" in capsys.readouterr().out


STOPPED = {("engine", OLD): "active"}
LEFT = EVENT | {"stacks": {"s1": "stack 'web'"}, "reasons": ["stack 'web' has been in progress since T0"]}


@pytest.mark.parametrize(("bounded_wait", "seconds"), [(0.0, 600), (12.0, 12)])
def test_a_cold_upgrade_waits_while_no_old_api_runs(sensor, bounded_wait, seconds):
    waiting = sensor(STOPPED, STOPPED | MOVED, AllApisStoppedSensor)
    before = time.time()
    with pytest.raises(TaskDeferred) as caught:
        waiting.execute(context("c1", "c2", cold=True, bounded_wait=bounded_wait))
    _, arguments = caught.value.trigger.serialize()
    assert arguments["timeout"] == seconds
    assert before + seconds <= arguments["deadline"] <= time.time() + seconds
    assert timedelta(seconds=seconds) < caught.value.timeout < timedelta(seconds=seconds + 100)


@pytest.mark.parametrize("state", [NOT_MOVED, OLD_API_STOPS])
def test_a_cold_upgrade_does_not_wait_beside_an_old_api(sensor, state):
    with pytest.raises(AirflowException, match=r"^c2: an API of 25\.0\.2 still runs.*clear these hosts' stop_apis"):
        sensor(STOPPED, state, AllApisStoppedSensor).execute(context("c1", "c2", cold=True))


def test_where_all_is_upgraded_nothing_is_waited_for(sensor):
    sensor(MOVED, MOVED, AllApisStoppedSensor).execute(context("c1", "c2", cold=True, retired=True))


@pytest.mark.parametrize("status", ["failed", "timed out"])
def test_what_a_bounded_wait_leaves_is_handed_on(sensor, capsys, status):
    cold = sensor(STOPPED, STOPPED, AllApisStoppedSensor)
    left = cold.execute_complete(context("c1", cold=True, bounded_wait=60.0), LEFT | {"status": status})
    assert left == {"stacks": LEFT["stacks"], "reasons": LEFT["reasons"]}
    assert "reading 9" in capsys.readouterr().out


def test_nothing_is_handed_on_once_the_engines_have_finished(sensor):
    cold = sensor(STOPPED, STOPPED, AllApisStoppedSensor)
    assert cold.execute_complete(context("c1", cold=True, bounded_wait=60.0), LEFT) is None


@pytest.mark.parametrize(
    ("bounded_wait", "stacks"), [(0.0, {"s1": "stack 'web'"}), (60.0, None)], ids=["unbounded", "nobody knows what"]
)
def test_a_wait_that_can_not_be_confirmed_fails_and_says_how_to_go_on(sensor, bounded_wait, stacks):
    cold = sensor(STOPPED, STOPPED, AllApisStoppedSensor)
    event = LEFT | {"status": "timed out", "stacks": stacks}
    with pytest.raises(AirflowSensorTimeout, match="why") as caught:
        cold.execute_complete(context("c1", cold=True, bounded_wait=bounded_wait), event)
    assert "clear wait_until_drained" in str(caught.value)
    assert f"trigger heat_cold_upgrade__small with target_release {OLD}" in str(caught.value)
