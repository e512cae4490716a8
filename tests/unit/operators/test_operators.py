"""What the operators decide, with autospec'd hooks in the place of servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from heat_upgrade import hosts
from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import (
    HeatDatabaseRefusedError,
    HeatDatabaseUnavailableError,
    JobLostError,
    RabbitMQUnavailableError,
    RemoteStepError,
    TransientError,
    UpgradeError,
)
from heat_upgrade.hooks import heat_api, heat_database, rabbitmq, vhosts
from heat_upgrade.hooks.heat_api import BuildInfo, HeatApiHook
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hooks.ssh_command import LogOffset, RunningCommand
from heat_upgrade.hooks.vhosts import VhostHook
from heat_upgrade.hosts import HostState, RouterState
from heat_upgrade.operators import steps as module
from heat_upgrade.operators.apis import (
    LeaveRotationOperator,
    RejoinRotationOperator,
    StartApiOperator,
    StopApiOperator,
    SwitchApiOperator,
)
from heat_upgrade.operators.database import BackUpDatabaseOperator
from heat_upgrade.operators.engines import RetireEngineOperator
from heat_upgrade.operators.gates import MayFlipOperator
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.prepare import PrepareHostOperator
from heat_upgrade.operators.verify import VerifyCloudOperator
from heat_upgrade.operators.vhosts import DeleteVhostOperator
from heat_upgrade.preflight import ask
from heat_upgrade.preflight.facts import HostFacts
from heat_upgrade.readings import Unavailable, UnfinishedStack
from heat_upgrade.remote.step import Machine, Outcome, Step
from heat_upgrade.run.plan import Plan
from rabbitmq_management.records import Node, Permission, QueueReading
from tests.unit._helpers.healthy import CLOUD, HEAD, NAMES, NEW, OLD, healthy

PLAN = Plan(source=OLD, target=NEW, hosts=NAMES)
ROLLING, COLD = "heat_rolling_upgrade__lab", "heat_cold_upgrade__lab"
FORM = {"target_release": NEW, "hosts": list(NAMES), "delete_old_vhost": False}


def context(plan: Plan | None = None, running: int = 0, cleared: int = 0, **params: Any) -> Any:
    """
    Return a task's context; what preflight returned comes back as an XCom keeps it.

    :param running: how many runs of the cold upgrade go on meanwhile
    :param cleared: how often tasks of this run were cleared
    """
    instance = mock.Mock()
    xcoms = {"preflight": json.loads(json.dumps((plan or PLAN).as_xcom()))}
    instance.xcom_pull.side_effect = lambda task_ids, **_: xcoms.get(task_ids)
    instance.dag_id = ROLLING
    instance.get_dr_count.side_effect = lambda dag_id, states: {COLD: running}[dag_id] if states == ["running"] else 9
    return {"ti": instance, "params": {**FORM, **params}, "dag_run": mock.Mock(clear_number=cleared)}


def cold_context(plan: Plan | None = None, **params: Any) -> Any:
    """Return the context of a cold upgrade's task."""
    made = context(plan or Plan(OLD, NEW, NAMES, cold=True))
    saved = (plan or PLAN).as_xcom()
    pulled = {"preflight": made["ti"].xcom_pull(task_ids="preflight"), "confirm_cut_off": saved["cut_off"]}
    made["ti"].xcom_pull.side_effect = lambda task_ids: pulled[task_ids]
    made["ti"].dag_id = COLD
    made["ti"].get_dr_count.side_effect = lambda dag_id, states: {ROLLING: 0}[dag_id]
    return made | {"params": {"target_release": NEW, **params}}


class Servers:
    """Everything that the operators talk to."""

    def __init__(self) -> None:
        self.broker = mock.create_autospec(VhostHook, instance=True)
        self.database = mock.create_autospec(HeatDatabaseHook, instance=True)
        self.api = mock.create_autospec(HeatApiHook, instance=True)
        self.steps: list[tuple[str, str]] = []
        self.states: dict[str, HostState | Unavailable] = {}
        self.broker.tags.return_value = {"administrator"}
        self.broker.nodes.return_value = [Node("rabbit@a", True, (), ())]
        self.takes_long, self.outcome = False, Outcome(0, {})
        self.broker.vhost_exists.return_value = True
        self.broker.consumers.return_value = {f"engine.{name}": 1 for name in NAMES} | {
            "engine": 2,
            "heat-engine-listener.e1": 1,
        }
        self.broker.live_engine_ids.return_value = frozenset({"e1", "e2"})
        self.broker.engine_ids.return_value = frozenset({"e1", "e2"})
        self.broker.queues.return_value = []
        self.broker.expiring_policies.return_value = []
        self.broker.permissions.return_value = [Permission("heat", True)]
        self.broker.changes.return_value = []
        self.database.held.return_value = []
        self.database.engines_heard_of.return_value = frozenset()
        self.database.unfinished_stacks.return_value = []
        self.database.revision.return_value = "c6214ca60943"
        self.database.server_time.side_effect = lambda: datetime.now(UTC)
        self.database.size.return_value = 10**9
        self.database.recent_events.return_value = []
        self.database.stacks_in_progress.return_value = []
        self.api.past_the_balancer.return_value = self.api
        self.api.build_info.return_value = BuildInfo(NEW, NEW)
        for name in NAMES:
            self.run(name, OLD)

    def run(self, name: str, *releases: str) -> None:
        """Let a host run some releases of all its services."""
        host = CLOUD.host(name)
        services = {(role, release): "active" for role in host.roles for release in releases}
        self.states[name] = HostState(host, name, services)

    def sweep(self, default: str = OLD) -> None:
        """Put the new APIs in front on every host, with users on one side."""
        for name in NAMES:
            host = CLOUD.host(name)
            services = {(role, NEW): "active" for role in host.api_roles}
            services |= {("engine", release): "active" for release in (OLD, NEW) if "engine" in host.roles}
            self.states[name] = HostState(host, name, services, routers={NEW: RouterState(default)})

    def reported(self, step: Step) -> dict[str, str]:
        """Return what a step reports: users stay on the old side when an API is put in front."""
        return {"state": json.dumps({"default": OLD})} if step.name == "switch_api" else {}

    def ask(self) -> dict[str, HostFacts | Unavailable]:
        """Return what preflight is told by the hosts."""
        return {
            name: state if isinstance(state, Unavailable) else self._facts(state) for name, state in self.states.items()
        }

    def _facts(self, state: HostState) -> HostFacts:
        facts = healthy(state.host, *state.running)
        return replace(facts, state=replace(facts.state, services=state.services, stopped=state.stopped))

    def hook(self, name: str) -> HeatHostHook:
        hook = mock.create_autospec(HeatHostHook, instance=True)
        hook.name = name
        hook.run_step.side_effect = lambda step, **_: self.steps.append((name, step.name)) or self.reported(step)

        @contextmanager
        def started(step: Step) -> Iterator[RunningCommand]:
            self.steps.append((name, step.name))
            running = mock.create_autospec(RunningCommand, instance=True, offset=LogOffset(1, 0))
            running.read.side_effect = lambda: not self.takes_long
            yield running

        hook.started.side_effect = started
        hook.outcome.side_effect = lambda *_: self.outcome

        @contextmanager
        def url(address: str, port: int) -> Iterator[str]:
            yield f"http://tunnel-to-{address}-{port}"

        hook.local_url.side_effect = url
        return hook  # type: ignore[no-any-return]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(hosts, "inspect", lambda _, some: {host.name: servers.states[host.name] for host in some})
    monkeypatch.setattr(ask, "ask_all", lambda *_: (servers.ask(), {}))
    monkeypatch.setattr(Clients, "connect", lambda _, machine: servers.hook(machine.name))
    monkeypatch.setattr(
        Clients, "balancer_machine", lambda _, one, role: Machine(f"{one.host.name} {role}", "ssh", "lb")
    )
    monkeypatch.setattr(rabbitmq, "HeatRabbitMQHook", lambda _: servers.broker)
    monkeypatch.setattr(vhosts, "VhostHook", lambda _: servers.broker)
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", lambda _: servers.database)
    monkeypatch.setattr(heat_api, "HeatApiHook", lambda _: servers.api)
    return servers


def of_host(operator: type, name: str = "controller-1") -> Any:
    return operator(task_id="task", cloud=CLOUD, host=CLOUD.host(name))


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan(OLD, NEW, ("controller-2",), ("s1", "s2"), delete_old_vhost=True, going_back=True, ignore_windows=True),
        replace(PLAN, canary=("p1", "p2")),
        replace(PLAN, dry_run=True),
    ],
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


def ended(outcome: Outcome | None, machine: str = "controller-1") -> dict[str, Any]:
    """Return what the trigger tells of a job."""
    return {"machine": machine, "outcome": asdict(outcome) if outcome else None, "reason": "", "retryable": False}


class TestLongStep:
    """A step that takes long is left to the triggerer."""

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "AT_ONCE", 0.0)

    def test_it_is_deferred_without_a_secret(self, servers: Servers) -> None:
        servers.takes_long = True
        with pytest.raises(TaskDeferred) as deferred:
            of_host(PrepareHostOperator).execute(context())
        _, arguments = deferred.value.trigger.serialize()
        (followed,) = arguments["jobs"]
        assert followed["machine"] == asdict(Clients(CLOUD).machine(CLOUD.host("controller-1")))
        assert followed["job"]["step"] == "prepare"
        assert followed["logged"] == [1, 0]
        assert followed["deadline"] == pytest.approx(time.time() + followed["timeout"], abs=5)
        assert deferred.value.timeout.total_seconds() > followed["timeout"]
        assert deferred.value.method_name == "execute_complete"

    def test_what_comes_after_it_is_done_after_the_deferral(self, servers: Servers) -> None:
        servers.broker.queues.return_value = [QueueReading("engine_worker", 2, 0, 0)]
        event = [ended(Outcome(0, {}))]
        with pytest.raises(UpgradeError, match="left messages"):
            of_host(RetireEngineOperator).execute_complete(context(), event)

    @pytest.mark.parametrize(("retryable", "error"), [(True, TransientError), (False, UpgradeError)])
    def test_an_end_that_nobody_knows_is_told(self, retryable: bool, error: type, servers: Servers) -> None:
        event = [ended(None) | {"reason": "why", "retryable": retryable}]
        with pytest.raises(error, match="why"):
            of_host(PrepareHostOperator).execute_complete(context(), event)

    @pytest.mark.parametrize(
        ("outcome", "error", "said"),
        [
            (Outcome(1, {}, "the disk is full"), RemoteStepError, "controller-1: the disk is full"),
            (Outcome(1, {"job": "lost"}, "x"), JobLostError, "controller-1: the job has ended without a status"),
            (Outcome(1, {"job": "stopped"}, "x"), JobLostError, "controller-1: the job was stopped"),
        ],
    )
    def test_how_it_ended_decides(self, outcome: Outcome, error: type, said: str, servers: Servers) -> None:
        event = [ended(outcome)]
        with pytest.raises(error, match=said) as caught:
            of_host(PrepareHostOperator).execute_complete(context(), event)
        assert isinstance(caught.value, AirflowFailException) == (error is RemoteStepError)


class TestPreflight:
    """Nothing is touched before it passes, and all that is wrong is told at once."""

    @pytest.fixture
    def preflight(self) -> Callable[..., Any]:
        return lambda **params: PreflightOperator(task_id="preflight", cloud=CLOUD).execute(context(**params))

    def test_what_it_returns_is_the_plan(self, preflight: Callable[..., Any], servers: Servers) -> None:
        servers.database.unfinished_stacks.return_value = [stack("s1")]
        saved = json.loads(json.dumps(preflight(hosts=["controller-2"], delete_old_vhost=True)))
        instance = mock.Mock()
        instance.xcom_pull.return_value = saved
        expected = Plan(OLD, NEW, ("controller-2",), ("s1",), delete_old_vhost=True)
        assert Plan.of({"ti": instance}) == expected  # type: ignore[typeddict-item]

    def test_a_canary_is_of_the_way_there_and_nobody_waits_on_the_way_back(
        self, preflight: Callable[..., Any], servers: Servers
    ) -> None:
        assert preflight(canary=["p1"])["canary"] == ["p1"]
        for name in NAMES:
            servers.run(name, NEW)
        servers.database.revision.return_value = HEAD
        assert preflight(target_release=OLD, canary=["p1"])["canary"] == []

    def test_the_table_has_every_check(
        self, preflight: Callable[..., Any], servers: Servers, capsys: pytest.CaptureFixture[str]
    ) -> None:
        preflight()
        log = capsys.readouterr().out
        for group in ("run of lab", *NAMES, "RabbitMQ", "database"):
            assert f"\n{group}\n" in log
        assert "\n  passed   move               upgrade from 25.0.2 to 26.0.2 on controller-1, controller-2" in log
        assert "\n69 checks: 66 passed, 3 skipped, 0 warned, 0 failed" in log

    def test_every_failure_is_told_at_once(self, preflight: Callable[..., Any], servers: Servers) -> None:
        servers.states["controller-2"] = Unavailable("controller-2: SSH failed, check the host", retryable=True)
        servers.run("edge.example")
        servers.broker.tags.side_effect = RabbitMQUnavailableError("the management API answers 401: check it")
        servers.database.revision.side_effect = AirflowException("the database is away: start it")
        with pytest.raises(AirflowFailException) as caught:
            preflight()
        assert str(caught.value).splitlines() == [
            "preflight failed, nothing was touched; fix each of these, then clear this task:",
            "controller-2, SSH: controller-2: SSH failed, check the host",
            "edge.example, services: none of its services runs: heat-api-cfn (not installed), heat-api (not "
            "installed); expected some: start Heat there, or correct `layout` and the first release's `unit` in the "
            "cloud file",
            "RabbitMQ, management user: the management API answers 401: check it",
            "database, schema: the database is away: start it",
        ]
        assert servers.steps == []

    def test_a_form_sent_off_as_it_is_goes_to_the_release_after_the_one_that_runs(
        self, preflight: Callable[..., Any], servers: Servers
    ) -> None:
        assert preflight(target_release=None)["target"] == NEW
        servers.run("controller-1", OLD, NEW)
        assert preflight(target_release=None)["target"] == NEW
        for name in NAMES:
            servers.run(name, NEW)
        servers.database.revision.return_value = HEAD
        plan = preflight(target_release=None)
        assert (plan["source"], plan["target"], plan["going_back"]) == (NEW, "27.0.1", False)

    def test_a_scheduled_run_goes_to_the_pending_release(self, servers: Servers) -> None:
        cloud = CLOUD.model_copy(update={"pending_release": "27.0.1"})
        given = context(target_release=None)
        given["dag_run"].run_type = "scheduled"
        with pytest.raises(AirflowFailException, match=r"got '27\.0\.1', expected the release next to 25\.0\.2"):
            PreflightOperator(task_id="preflight", cloud=cloud).execute(given)

    def test_a_warning_stops_nothing(
        self, preflight: Callable[..., Any], servers: Servers, capsys: pytest.CaptureFixture[str]
    ) -> None:
        servers.states["controller-1"] = HostState(CLOUD.host("controller-1"), "", {("api", OLD): "active"})
        assert preflight()["hosts"] == list(NAMES)
        assert "\n  warned   services           heat-engine (not installed) doesn't run" in capsys.readouterr().out

    def test_a_move_that_is_refused_does_not_hide_the_rest(
        self, preflight: Callable[..., Any], servers: Servers
    ) -> None:
        servers.states["controller-2"] = Unavailable("controller-2: SSH failed, check the host", retryable=True)
        servers.broker.permissions.return_value = []
        with pytest.raises(AirflowFailException) as caught:
            preflight(target_release="27.0.1")
        assert "controller-2: SSH failed, check the host" in str(caught.value)
        assert "got '27.0.1', expected the release next to 25.0.2" in str(caught.value)
        assert "RabbitMQ, permissions: user 'heat'" in str(caught.value)

    def test_what_may_pass_by_itself_is_tried_again(self, preflight: Callable[..., Any], servers: Servers) -> None:
        servers.states["controller-2"] = Unavailable("controller-2: SSH failed, check the host", retryable=True)
        servers.database.unfinished_stacks.side_effect = HeatDatabaseUnavailableError("the database is away: start it")
        with pytest.raises(TransientError, match="nothing was touched") as caught:
            preflight()
        assert not isinstance(caught.value, AirflowFailException)
        servers.database.unfinished_stacks.side_effect = HeatDatabaseRefusedError("access denied")
        with pytest.raises(AirflowFailException, match="access denied"):
            preflight()

    def test_wrong_parameters_are_refused_before_a_host_is_asked(
        self, preflight: Callable[..., Any], servers: Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ask, "ask_all", lambda *_: pytest.fail("a host was asked"))
        with pytest.raises(AirflowFailException, match="did you mean 'controller-1'") as caught:
            preflight(hosts=["controler-1"], target_release="latest")
        assert "'latest'" in str(caught.value)

    def test_another_upgrade_of_the_cloud_is_told(self, servers: Servers) -> None:
        with pytest.raises(AirflowFailException, match=f"{COLD} has a run in progress, expected one run over a cloud"):
            PreflightOperator(task_id="preflight", cloud=CLOUD).execute(context(running=1))


class TestColdPreflight:
    """A cold upgrade begins where all runs, and goes on where nothing runs any more."""

    @pytest.fixture
    def preflight(self) -> Callable[..., Plan]:
        def run(target: str = NEW, **params: Any) -> Plan:
            operator = PreflightOperator(task_id="preflight", cloud=CLOUD, cold=True)
            instance = mock.Mock()
            instance.xcom_pull.side_effect = [operator.execute(cold_context(target_release=target, **params)), None]
            return Plan.of({"ti": instance})  # type: ignore[typeddict-item]

        return run

    def test_a_first_run(self, preflight: Callable[..., Plan], servers: Servers) -> None:
        assert preflight(drain=0.5) == Plan(OLD, NEW, NAMES, cold=True, bounded_wait=30.0)

    def test_a_run_over_an_upgraded_cloud(self, preflight: Callable[..., Plan], servers: Servers) -> None:
        for name in NAMES:
            servers.run(name, NEW)
        assert preflight() == Plan(OLD, NEW, NAMES, cold=True, retired=True, moved=NAMES)

    @pytest.mark.parametrize(("target", "source", "back"), [(NEW, OLD, False), (OLD, NEW, True)])
    def test_where_all_was_stopped_it_goes_on_or_back(
        self, target: str, source: str, back: bool, preflight: Callable[..., Plan], servers: Servers
    ) -> None:
        for name in NAMES:
            servers.states[name] = HostState(CLOUD.host(name), name, stopped=OLD)
        assert preflight(target) == Plan(source, target, NAMES, cold=True, going_back=back)

    def test_after_a_rejection_it_goes_back(self, preflight: Callable[..., Plan], servers: Servers) -> None:
        """The engines of the middle release run, its APIs don't: their configuration must not be made anew."""
        for name in NAMES:
            services = {("engine", NEW): "active"} if "engine" in CLOUD.host(name).roles else {}
            servers.states[name] = HostState(CLOUD.host(name), name, services, stopped=NEW)
        assert preflight(NEW) == Plan("27.0.1", NEW, NAMES, cold=True, going_back=True)

    def test_a_jump_is_refused_though_nothing_runs(self, preflight: Callable[..., Plan], servers: Servers) -> None:
        for name in NAMES:
            servers.states[name] = HostState(CLOUD.host(name), name, stopped=OLD)
        with pytest.raises(AirflowFailException, match=r"expected the release next to 25\.0\.2"):
            preflight("27.0.1")

    def test_what_was_not_stopped_by_an_upgrade_has_to_run(
        self, preflight: Callable[..., Plan], servers: Servers
    ) -> None:
        servers.run("edge.example")
        with pytest.raises(AirflowFailException, match=r"edge\.example, services: none of its services runs"):
            preflight()

    def test_a_rolling_upgrade_leaves_it_alone(self, servers: Servers) -> None:
        servers.states["edge.example"] = HostState(CLOUD.host("edge.example"), "", stopped=OLD)
        with pytest.raises(AirflowFailException, match=r"a cold upgrade has stopped 25\.0\.2 there and was left at"):
            PreflightOperator(task_id="preflight", cloud=CLOUD).execute(context())


def test_a_run_that_goes_on_gives_way_to_one_that_has_begun_since(servers: Servers) -> None:
    for operator in (of_host(LeaveRotationOperator), of_host(RetireEngineOperator)):
        with pytest.raises(AirflowException, match=f"{COLD} has a run in progress") as caught:
            operator.execute(context(running=1, cleared=1))
        assert not isinstance(caught.value, AirflowFailException), "it is tried again"
    assert servers.steps == []


def test_a_run_that_was_never_cleared_is_not_held_up_by_one_that_will_be_refused(servers: Servers) -> None:
    of_host(RetireEngineOperator).execute(context(running=1))
    assert servers.steps == [("controller-1", "stop_engine")]


class TestCutOff:
    """What an operator has confirmed to cut off is named, and fails nothing."""

    CUT_OFF = Plan(OLD, NEW, NAMES, cold=True, bounded_wait=60.0, cut_off={"s1": "stack 'web'"})

    @pytest.fixture
    def upgraded(self, servers: Servers) -> Servers:
        for name in NAMES:
            servers.run(name, NEW)
        servers.broker.queues.return_value = [QueueReading("engine_worker", 2, 0, 0)]
        servers.database.unfinished_stacks.return_value = [stack("s1"), stack("s2", "s1"), stack("s3", "s2")]
        servers.database.stacks_in_progress.return_value = [stack("s1"), stack("new")]
        return servers

    @pytest.fixture
    def verify(self) -> Callable[[Plan], None]:
        operator = VerifyCloudOperator(task_id="verify_cloud", cloud=CLOUD)
        return lambda plan: operator.execute(cold_context(plan))

    def test_messages_that_it_leaves_are_known(self, servers: Servers) -> None:
        servers.broker.queues.return_value = [QueueReading("engine_worker", 2, 0, 0)]
        of_host(RetireEngineOperator).execute(cold_context(self.CUT_OFF))
        assert servers.steps == [("controller-1", "stop_engine")]
        with pytest.raises(UpgradeError, match="left messages"):
            of_host(RetireEngineOperator).execute(cold_context(replace(self.CUT_OFF, cut_off=None)))

    def test_it_is_named_with_what_to_do(
        self, verify: Callable[[Plan], None], upgraded: Servers, capsys: pytest.CaptureFixture[str]
    ) -> None:
        verify(self.CUT_OFF)
        log = capsys.readouterr().out
        assert "stack 's1' (s1, project p, CREATE, age 2 min)" in log
        assert "'new'" not in log
        assert "openstack stack update --existing" in log

    def test_other_stranded_stacks_fail_the_run(self, verify: Callable[[Plan], None], upgraded: Servers) -> None:
        upgraded.database.unfinished_stacks.return_value += [stack("lost")]
        with pytest.raises(UpgradeError, match="stack 'lost'") as caught:
            verify(self.CUT_OFF)
        assert "'s1'" not in str(caught.value)
        assert "engine_worker" not in str(caught.value)

    def test_unconfirmed_it_fails_the_run(self, verify: Callable[[Plan], None], upgraded: Servers) -> None:
        with pytest.raises(UpgradeError, match="engine_worker") as caught:
            verify(replace(self.CUT_OFF, cut_off=None))
        assert "stack 's1'" in str(caught.value)

    def test_a_run_afterwards_finds_it_as_it_was(self, verify: Callable[[Plan], None], upgraded: Servers) -> None:
        verify(Plan(OLD, NEW, NAMES, ("s1", "s2", "s3"), cold=True, retired=True))


def stack(id_: str, owner: str | None = None) -> UnfinishedStack:
    return UnfinishedStack(
        id_, id_, "p", "CREATE", "IN_PROGRESS", True, owner, 120, None, datetime(2026, 11, 22, 3), 120, 1
    )


def test_a_cold_upgrade_stops_all_and_starts_all(servers: Servers) -> None:
    of_host(StopApiOperator).execute(cold_context())
    of_host(StartApiOperator).execute(cold_context())
    assert servers.steps == [("controller-1", "stop_api"), ("controller-1", "start_api")]
    servers.api.past_the_balancer.assert_called_once_with("http://tunnel-to-10.0.0.11-8004")
    servers.api.build_info.return_value = BuildInfo(OLD, NEW)
    with pytest.raises(UpgradeError, match="build_info names API 25"):
        of_host(StartApiOperator).execute(cold_context())


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

    def test_what_users_are_answered_through_the_api_in_front_is_what_counts(self, servers: Servers) -> None:
        servers.api.build_info.return_value = BuildInfo(OLD, OLD)
        of_host(SwitchApiOperator).execute(context())
        assert servers.steps == [("controller-1", "switch_api")]
        servers.api.past_the_balancer.assert_called_once_with("http://tunnel-to-10.0.0.11-8004")

    def test_where_users_are_on_the_target_for_good_nothing_is_put_in_front(self, servers: Servers) -> None:
        servers.sweep()
        servers.states["controller-1"] = replace(servers.states["controller-1"], routers={})
        of_host(SwitchApiOperator).execute(context())
        assert servers.steps == []

    @pytest.mark.parametrize("found", [BuildInfo(OLD, NEW), BuildInfo(NEW, OLD), BuildInfo(NEW, NEW)])
    def test_another_release_than_users_had_is_told(self, found: BuildInfo, servers: Servers) -> None:
        servers.api.build_info.return_value = found
        with pytest.raises(UpgradeError) as caught:
            of_host(SwitchApiOperator).execute(context())
        assert str(caught.value) == (
            f"controller-1: build_info names API {found.api} and engine {found.engine}, expected {OLD} for both: check "
            f"[revision] heat_revision and transport_url in /etc/heat/{NEW}/heat.conf, then clear this task"
        )

    def test_no_answer_may_pass_by_itself(self, servers: Servers) -> None:
        servers.api.build_info.side_effect = AirflowException("build_info failed, check the log")
        with pytest.raises(AirflowException, match="controller-1: build_info failed, check the log") as caught:
            of_host(SwitchApiOperator).execute(context())
        assert not isinstance(caught.value, AirflowFailException), "it is tried again"

    def test_nobody_is_sent_where_no_new_engine_is(self, servers: Servers) -> None:
        servers.sweep()
        gate = MayFlipOperator(task_id="may_flip", cloud=CLOUD)
        gate.execute(context())
        servers.broker.consumers.return_value = {}
        with pytest.raises(
            TransientError, match="vhost heat_26 has no engine, expected at least one before users are sent there"
        ):
            gate.execute(context())

    def test_where_a_run_has_no_engine_to_start_waiting_is_no_use(self, servers: Servers) -> None:
        servers.sweep()
        servers.broker.consumers.return_value = {}
        apis_alone = [host.name for host in CLOUD.hosts if "engine" not in host.roles]
        with pytest.raises(UpgradeError, match="trigger a run over hosts of which one has an engine"):
            MayFlipOperator(task_id="may_flip", cloud=CLOUD).execute(context(replace(PLAN, hosts=tuple(apis_alone))))


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
    servers.broker.delete.assert_not_called()
    delete.execute(context(Plan(OLD, NEW, NAMES, delete_old_vhost=True)))
    servers.broker.delete.assert_called_once_with("heat")
