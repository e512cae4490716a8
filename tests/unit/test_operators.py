"""What the operators decide, with autospec'd hooks in the place of servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from heat_upgrade import hosts
from heat_upgrade.drain import QueueReading, Unread
from heat_upgrade.exceptions import HostUnreachable, UpgradeError
from heat_upgrade.hooks import heat_api, heat_database, rabbitmq
from heat_upgrade.hooks.heat_api import BuildInfo, HeatApiHook
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hooks.rabbitmq import Node, Permission, RabbitMQManagementError, RabbitMQManagementHook
from heat_upgrade.hosts import HostState
from heat_upgrade.operators.api import (
    LeaveRotationOperator,
    MaySwitchOperator,
    RejoinRotationOperator,
    SwitchApiOperator,
)
from heat_upgrade.operators.base import Plan
from heat_upgrade.operators.database import BackUpDatabaseOperator
from heat_upgrade.operators.engine import RetireEngineOperator
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.prepare import PrepareHostOperator
from heat_upgrade.operators.vhost import DeleteVhostOperator
from heat_upgrade.preflight import ask
from heat_upgrade.preflight.facts import HostFacts
from tests.unit.healthy import CLOUD, NAMES, NEW, OLD, healthy

PLAN = Plan(source=OLD, target=NEW, hosts=NAMES)
FORM = {"target_release": NEW, "hosts": list(NAMES), "delete_old_vhost": False}


def context(plan: Plan | None = None, **params: Any) -> Any:
    """Return a task's context; what preflight returned comes back as an XCom keeps it."""
    instance = mock.Mock()
    instance.xcom_pull.side_effect = lambda task_ids: {"preflight": json.loads(json.dumps((plan or PLAN).as_xcom()))}[
        task_ids
    ]
    return {"ti": instance, "params": {**FORM, **params}}


class Servers:
    """Everything that the operators talk to."""

    def __init__(self) -> None:
        self.broker = mock.create_autospec(RabbitMQManagementHook, instance=True)
        self.database = mock.create_autospec(HeatDatabaseHook, instance=True)
        self.api = mock.create_autospec(HeatApiHook, instance=True)
        self.steps: list[tuple[str, str]] = []
        self.states: dict[str, HostState | Exception] = {}
        self.broker.tags.return_value = {"administrator"}
        self.broker.nodes.return_value = [Node("rabbit@a", True, (), ())]
        self.broker.vhost_exists.return_value = True
        self.broker.consumers.return_value = {f"engine.{name}": 1 for name in NAMES} | {
            "engine": 2,
            "heat-engine-listener.e1": 1,
        }
        self.broker.live_engine_ids.return_value = {"e1", "e2"}
        self.broker.queues.return_value = []
        self.broker.expiring_policies.return_value = []
        self.broker.permissions.return_value = [Permission("heat", True)]
        self.broker.vhost_changes.return_value = []
        self.database.stranded_stacks.return_value = []
        self.database.revision.return_value = "c6214ca60943"
        self.database.server_time.side_effect = lambda: datetime.now(UTC)
        self.database.size.return_value = 10**9
        self.database.recent_events.return_value = []
        self.database.stacks_in_progress.return_value = []
        self.api.build_info.return_value = BuildInfo(NEW, NEW)
        for name in NAMES:
            self.run(name, OLD)

    def run(self, name: str, *releases: str) -> None:
        """Let a host run some releases of all its services."""
        host = CLOUD.host(name)
        services = {(role, release): "active" for role in host.roles for release in releases}
        self.states[name] = HostState(host, name, services)

    def ask(self) -> dict[str, HostFacts | Unread]:
        """Return what preflight is told by the hosts."""
        return {
            name: Unread(str(state)) if isinstance(state, Exception) else self._facts(state)
            for name, state in self.states.items()
        }

    def _facts(self, state: HostState) -> HostFacts:
        facts = healthy(state.host, *state.running)
        return replace(facts, state=replace(facts.state, services=state.services))

    def hook(self, name: str) -> HeatHostHook:
        hook = mock.create_autospec(HeatHostHook, instance=True)
        hook.run_step.side_effect = lambda step, **_: self.steps.append((name, step.name)) or {}

        @contextmanager
        def url(address: str, port: int) -> Iterator[str]:
            yield f"http://tunnel-to-{address}-{port}"

        hook.local_url.side_effect = url
        return hook  # type: ignore[no-any-return]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(hosts, "look_at", lambda _, some: {host.name: servers.states[host.name] for host in some})
    monkeypatch.setattr(ask, "ask_all", lambda *_: (servers.ask(), {}))
    monkeypatch.setattr(hosts, "hook_for", lambda _, host: servers.hook(host.name))
    monkeypatch.setattr(hosts, "rotation_hook", lambda one, role: servers.hook(f"{one.host.name} {role}"))
    monkeypatch.setattr(rabbitmq, "RabbitMQManagementHook", lambda _: servers.broker)
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", lambda _: servers.database)
    monkeypatch.setattr(heat_api, "HeatApiHook", lambda _: servers.api)
    return servers


def of_host(operator: type, name: str = "controller-1") -> Any:
    return operator(task_id="task", cloud=CLOUD, host=CLOUD.host(name))


@pytest.mark.parametrize(
    "plan", [PLAN, Plan(OLD, NEW, ("controller-2",), ("s1", "s2"), delete_old_vhost=True, going_back=True)]
)
def test_a_plan_comes_back_from_an_xcom_as_it_was(plan: Plan) -> None:
    assert Plan.of(context(plan)) == plan


@pytest.mark.parametrize(
    "operator", [PrepareHostOperator, LeaveRotationOperator, SwitchApiOperator, RejoinRotationOperator]
)
def test_a_host_that_is_not_part_of_the_run_is_skipped_untouched(operator: type, servers: Servers) -> None:
    others = context(Plan(OLD, NEW, ("controller-2", "edge.example")))
    with pytest.raises(AirflowSkipException, match=r"controller-1 is not among this run's hosts: controller-2, edge"):
        of_host(operator).execute(others)
    assert servers.steps == []


def test_the_last_run_retires_every_host(servers: Servers) -> None:
    of_host(RetireEngineOperator).execute(context(Plan(OLD, NEW, ("controller-2",))))
    assert servers.steps == [("controller-1", "stop_engine")]


def test_messages_that_an_engine_left_are_told(servers: Servers) -> None:
    servers.broker.queues.return_value = [QueueReading("engine_worker", 2, 0, 0), QueueReading("engine", 3, 0, 1)]
    with pytest.raises(UpgradeError, match=r"left messages in vhost heat \(.*engine_worker.*\), expected none"):
        of_host(RetireEngineOperator).execute(context())


class TestPreflight:
    """Nothing is touched before it passes, and all that is wrong is told at once."""

    @pytest.fixture
    def preflight(self) -> Callable[..., Any]:
        return lambda **params: PreflightOperator(task_id="preflight", cloud=CLOUD).execute(context(**params))

    def test_what_it_returns_is_the_plan(self, preflight: Callable[..., Any], servers: Servers) -> None:
        stack = mock.Mock(id="s1", project="p", action="CREATE")
        stack.name = "web"
        servers.database.stranded_stacks.return_value = [stack]
        saved = json.loads(json.dumps(preflight(hosts=["controller-2"], delete_old_vhost=True)))
        instance = mock.Mock()
        instance.xcom_pull.return_value = saved
        expected = Plan(OLD, NEW, ("controller-2",), ("s1",), delete_old_vhost=True)
        assert Plan.of({"ti": instance}) == expected  # type: ignore[typeddict-item]

    def test_the_table_has_every_check(
        self, preflight: Callable[..., Any], servers: Servers, capsys: pytest.CaptureFixture[str]
    ) -> None:
        preflight()
        log = capsys.readouterr().out
        for group in ("run of lab", *NAMES, "RabbitMQ", "database"):
            assert f"\n{group}\n" in log
        assert "\n  passed   move               upgrade from 25.0.2 to 26.0.2 on controller-1, controller-2" in log
        assert "\n58 checks: 55 passed, 3 skipped, 0 warned, 0 failed" in log

    def test_every_failure_is_told_at_once(self, preflight: Callable[..., Any], servers: Servers) -> None:
        servers.states["controller-2"] = HostUnreachable("controller-2: SSH failed, check the host")
        servers.run("edge.example")
        servers.broker.tags.side_effect = RabbitMQManagementError("the management API answers 401: check it")
        servers.database.revision.side_effect = AirflowException("the database is away: start it")
        with pytest.raises(AirflowFailException) as caught:
            preflight()
        assert str(caught.value).splitlines() == [
            "preflight failed, nothing was touched:",
            "controller-2, SSH: controller-2: SSH failed, check the host",
            "edge.example, services: none of its services runs: heat-api-cfn (not installed), heat-api (not "
            "installed); expected some: start Heat there, or correct `layout` and the first release's `unit` in the "
            "cloud file",
            "RabbitMQ, management user: the management API answers 401: check it",
            "database, schema: the database is away: start it",
        ]
        assert servers.steps == []

    def test_a_warning_stops_nothing(
        self, preflight: Callable[..., Any], servers: Servers, capsys: pytest.CaptureFixture[str]
    ) -> None:
        servers.states["controller-1"] = HostState(CLOUD.host("controller-1"), "", {("api", OLD): "active"})
        assert preflight()["hosts"] == list(NAMES)
        assert "\n  warned   services           heat-engine (not installed) doesn't run" in capsys.readouterr().out

    def test_a_move_that_is_refused_does_not_hide_the_rest(
        self, preflight: Callable[..., Any], servers: Servers
    ) -> None:
        servers.states["controller-2"] = HostUnreachable("controller-2: SSH failed, check the host")
        servers.broker.permissions.return_value = []
        with pytest.raises(AirflowFailException) as caught:
            preflight(target_release="27.0.1")
        assert "controller-2: SSH failed, check the host" in str(caught.value)
        assert "got '27.0.1', expected the release next to 25.0.2" in str(caught.value)
        assert "RabbitMQ, permissions: user 'heat'" in str(caught.value)

    def test_wrong_parameters_are_refused_before_a_host_is_asked(
        self, preflight: Callable[..., Any], servers: Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ask, "ask_all", lambda *_: pytest.fail("a host was asked"))
        with pytest.raises(AirflowFailException, match="did you mean 'controller-1'") as caught:
            preflight(hosts=["controler-1"], target_release="latest")
        assert "'latest'" in str(caught.value)


class TestSwitch:
    """An API's way to the target."""

    def test_an_api_that_is_on_the_target_stays_in_rotation(self, servers: Servers) -> None:
        host = CLOUD.host("edge.example")
        servers.states[host.name] = HostState(host, "", {("api", NEW): "active", ("api-cfn", OLD): "active"})
        of_host(LeaveRotationOperator, "edge.example").execute(context())
        assert servers.steps == [("edge.example api-cfn", "leave_rotation")]
        of_host(RejoinRotationOperator, "edge.example").execute(context())
        assert servers.steps[1:] == [
            ("edge.example api-cfn", "rejoin_rotation"),
            ("edge.example api", "rejoin_rotation"),
        ]

    def test_both_releases_at_once_leave(self, servers: Servers) -> None:
        servers.run("controller-1", OLD, NEW)
        of_host(LeaveRotationOperator).execute(context())
        assert servers.steps == [("controller-1 api", "leave_rotation")]

    def test_the_answer_of_the_new_api_is_what_counts(self, servers: Servers) -> None:
        of_host(SwitchApiOperator).execute(context())
        assert servers.steps == [("controller-1", "switch_api")]
        servers.api.build_info.assert_called_once_with("http://tunnel-to-10.0.0.11-8004")

    @pytest.mark.parametrize("found", [BuildInfo(OLD, NEW), BuildInfo(NEW, OLD), BuildInfo("unknown", "unknown")])
    def test_another_release_than_the_target_is_told(self, found: BuildInfo, servers: Servers) -> None:
        servers.api.build_info.return_value = found
        with pytest.raises(UpgradeError) as caught:
            of_host(SwitchApiOperator).execute(context())
        assert str(caught.value) == (
            f"controller-1: build_info names API {found.api} and engine {found.engine}, expected {NEW} for both: check "
            f"[revision] heat_revision and transport_url in /etc/heat/{NEW}/heat.conf, then clear this task"
        )

    def test_no_answer_may_pass_by_itself(self, servers: Servers) -> None:
        servers.api.build_info.side_effect = AirflowException("build_info failed, check the log")
        with pytest.raises(AirflowException, match="controller-1: build_info failed, check the log") as caught:
            of_host(SwitchApiOperator).execute(context())
        assert not isinstance(caught.value, AirflowFailException), "it is tried again"

    def test_no_api_moves_where_no_new_engine_is(self, servers: Servers) -> None:
        gate = MaySwitchOperator(task_id="may_switch", cloud=CLOUD)
        gate.execute(context())
        servers.broker.consumers.return_value = {}
        with pytest.raises(
            UpgradeError, match="vhost heat_26 has no engine, expected at least one before an API moves"
        ):
            gate.execute(context())


def test_a_backup_is_taken_only_before_a_migration(servers: Servers) -> None:
    backup = BackUpDatabaseOperator(task_id="back_up_database", cloud=CLOUD)
    assert backup.execute(context()) == {"host": "controller-2"}
    assert servers.steps == [("controller-2", "back_up_database")]
    assert backup.execute(context(Plan(OLD, NEW, NAMES, going_back=True))) is None
    for name in NAMES:
        servers.run(name, NEW)
    assert backup.execute(context()) is None
    assert len(servers.steps) == 1


def test_the_old_vhost_stays_unless_the_run_asks_for_more(servers: Servers) -> None:
    delete = DeleteVhostOperator(task_id="delete_old_vhost", cloud=CLOUD)
    with pytest.raises(AirflowSkipException, match="the old vhost stays"):
        delete.execute(context())
    servers.broker.delete_vhost.assert_not_called()
    delete.execute(context(Plan(OLD, NEW, NAMES, delete_old_vhost=True)))
    servers.broker.delete_vhost.assert_called_once_with("heat")
