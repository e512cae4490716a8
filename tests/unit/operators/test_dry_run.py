"""A dry run, task by task as a run would do them: all of them tell what they would do, and none of them does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from heat_upgrade import hosts
from heat_upgrade.clients import Clients
from heat_upgrade.cloud.sections import Host
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.hooks import heat_api, heat_database, rabbitmq, vhosts
from heat_upgrade.hooks.heat_api import HeatApiHook
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
from heat_upgrade.hooks.vhosts import VhostChange, VhostHook
from heat_upgrade.hosts import HostState
from heat_upgrade.names import PLANNED
from heat_upgrade.operators.api_watch import WatchApiOperator
from heat_upgrade.operators.base import UpgradeTask
from heat_upgrade.operators.dry_run import ShowPlanOperator
from heat_upgrade.operators.gates import MayStartOperator
from heat_upgrade.operators.preflight import PreflightOperator
from heat_upgrade.operators.report import ReportOperator
from heat_upgrade.read_only import read_only
from heat_upgrade.remote.step import Step
from heat_upgrade.run.dry_run import PlannedAction
from heat_upgrade.run.plan import Plan
from rabbitmq_management.records import QueueReading
from tests.unit._helpers.dag_files import BOTH, SHAPES, Shape, cloud_file, loader
from tests.unit._helpers.healthy import CLOUD, NEW, OLD

# These have nothing to preview: they only look, or are the end of a dry run.
# Around the upgrade, so no part of the plan.
AROUND = (WatchApiOperator, ReportOperator, EmptyOperator)
ONLY_LOOK = (PreflightOperator, MayStartOperator, ShowPlanOperator, *AROUND)
OPENING = {"cron": "0 22 * * sat", "minutes": 240, "timezone": "Europe/Berlin"}
WINDOWS = {
    "openings": [OPENING],
    "prepare_outside": False,
}
DAGS = ("heat_rolling_upgrade", "heat_cold_upgrade")
ROLES = [BOTH, ["engine", "api", "api-cfn"], ["api"]]
NAMES = tuple(f"controller-{number}" for number in range(1, len(ROLES) + 1))
DRY = Plan(OLD, NEW, NAMES, dry_run=True)
LoadDag = Callable[..., DAG]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadDag:
    def load(kind: str, roles: list[list[str]] | None = None, **sections: Any) -> DAG:
        bag = loader(f"{kind}.py", tmp_path, monkeypatch)(lab=cloud_file(roles or ROLES, **sections))
        assert bag.import_errors == {}
        return bag.dags[f"{kind}__lab"]

    return load


class Servers:
    """Everything that the tasks talk to; to change something there is an error."""

    def __init__(self, cloud_hosts: Mapping[str, Host]) -> None:
        self.hosts = cloud_hosts
        self.broker = mock.create_autospec(VhostHook, instance=True)
        self.database = mock.create_autospec(HeatDatabaseHook, instance=True)
        self.looked: list[tuple[str, str]] = []
        for name in ("create_like", "delete"):
            getattr(self.broker, name).side_effect = AssertionError(f"{name} in a dry run")
        self.broker.vhost_exists.side_effect = lambda vhost: vhost == "heat"
        self.broker.changes.return_value = [VhostChange("created", "PUT", "vhosts/heat_26", {"tags": ""})]
        self.broker.deletion.return_value = VhostChange("deleted", "DELETE", "vhosts/heat")
        self.broker.queues.return_value = [QueueReading("engine", 2, 1, 1)]
        self.broker.clients.return_value = []
        self.broker.expiring_policies.return_value = []
        for read in ("unfinished_stacks", "held"):
            getattr(self.database, read).return_value = []
        self.database.revision.return_value = "c6214ca60943"

    def hook(self, name: str) -> HeatHostHook:
        hook = mock.create_autospec(HeatHostHook, instance=True)
        hook.name = name
        hook.run_step.side_effect = lambda step, **_: self._look(name, step)
        hook.started.side_effect = AssertionError("a job in a dry run")
        return hook  # type: ignore[no-any-return]

    def _look(self, name: str, step: Step) -> dict[str, str]:
        assert step.read_only, f"step {step.name} in a dry run"
        self.looked.append((name, step.name))
        return {"release": "install it", "config": "write it", "services": "", "diff/0": "--- a", "diff/1": "+++ b"}

    def inspect(self, _: Any, some: list[Host]) -> dict[str, HostState]:
        return {host.name: HostState(host, host.name, {(role, OLD): "active" for role in host.roles}) for host in some}


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers({})
    monkeypatch.setattr(hosts, "inspect", servers.inspect)
    monkeypatch.setattr(Clients, "connect", lambda _, machine: servers.hook(machine.name))
    monkeypatch.setattr(rabbitmq, "HeatRabbitMQHook", lambda _: servers.broker)
    monkeypatch.setattr(vhosts, "VhostHook", lambda _: servers.broker)
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", lambda _: servers.database)
    api = mock.create_autospec(HeatApiHook, side_effect=AssertionError("Heat's API in a dry run"))
    monkeypatch.setattr(heat_api, "HeatApiHook", api)
    return servers


class Run:
    """One run, in the order of its tasks, with the XComs that they leave."""

    def __init__(self, dag: DAG, plan: Plan, measured: Mapping[str, float] | None = None) -> None:
        self.dag = dag
        self.plan = plan
        self.measured = {"run": "run-of-may", "seconds": {**measured, "verify_cloud": 0.1}} if measured else None
        self.xcoms: dict[tuple[str, str], Any] = {("preflight", "return_value"): plan.as_xcom()}
        self.skipped: set[str] = set()

    def walk(self) -> str:
        for task in self.dag.topological_sort():  # type: ignore[no-untyped-call]
            if task.task_id not in ("preflight", "may_start") and not isinstance(task, AROUND):
                self._execute(task)
        return str(self.xcoms.get(("show_plan", "return_value")))

    def planned(self, task_id: str) -> PlannedAction:
        return PlannedAction.of_xcom(json.loads(json.dumps(self.xcoms[task_id, PLANNED])))

    def _execute(self, task: BaseOperator) -> None:
        try:
            result = task.execute(self.context(task.task_id))
        except AirflowSkipException:
            self.skipped.add(task.task_id)
        else:
            if result is not None:
                self.xcoms[task.task_id, "return_value"] = result

    def context(self, task_id: str) -> Any:
        def pull(task_ids: Any, key: str = "return_value", include_prior_dates: bool = False, **_: Any) -> Any:
            if include_prior_dates:
                return self.measured if (task_ids, key) == ("report", "timings") else None
            if isinstance(task_ids, str):
                return self.xcoms.get((task_ids, key))
            return [self.xcoms.get((each, key)) for each in task_ids]

        instance = SimpleNamespace(
            xcom_pull=pull,
            xcom_push=lambda key, value: self.xcoms.update({(task_id, key): value}),
            dag_id=self.dag.dag_id,
            run_id="now",
        )
        return {"ti": instance, "dag_run": SimpleNamespace(clear_number=0, run_type="manual"), "params": {}}


def tasks_of(dag: DAG) -> Iterator[BaseOperator]:
    return (task for task in dag.tasks if not isinstance(task, ONLY_LOOK))


@pytest.mark.parametrize("kind", DAGS)
@pytest.mark.parametrize("shape", SHAPES[:7], ids=lambda shape: shape.name)
def test_every_task_can_say_what_it_would_do(kind: str, shape: Shape, load: LoadDag) -> None:
    for task in tasks_of(load(kind, shape.roles, waves=shape.waves, windows=WINDOWS)):
        assert isinstance(task, UpgradeTask), task.task_id
        assert type(task).execute is UpgradeTask.execute, "there is one place that decides"


@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["any time", "windows"])
@pytest.mark.parametrize("kind", DAGS)
def test_a_dry_run_walks_the_whole_order_and_changes_nothing(
    kind: str, windows: Any, load: LoadDag, servers: Servers
) -> None:
    sections = {"windows": windows} if windows else {}
    plan = Plan(OLD, NEW, NAMES, delete_old_vhost=True, cold="cold" in kind, dry_run=True, canary=("p1",))
    run = Run(load(kind, **sections), plan)
    page = run.walk()
    assert run.skipped == set()
    results = {task for task, key in run.xcoms if key == "return_value"}
    assert results == {"preflight", "show_plan"}, "nothing that a later run reads"
    for task in tasks_of(run.dag):
        assert f"`{task.task_id}`" in page
        assert run.planned(task.task_id).summary
    assert {step for _, step in servers.looked} == {"preview_prepare"}


def test_a_dry_run_without_a_canary_leaves_its_tasks_out(load: LoadDag, servers: Servers) -> None:
    run = Run(load("heat_rolling_upgrade"), DRY)
    page = run.walk()
    assert {"flip_canary", "watch_canary", "end_canary"} <= run.skipped
    assert "canary" not in page


def test_the_plan_has_every_command_of_every_host(load: LoadDag, servers: Servers) -> None:
    run = Run(load("heat_rolling_upgrade"), Plan(OLD, NEW, NAMES, delete_old_vhost=True, dry_run=True))
    page = run.walk()
    for name in NAMES:
        _, _, section = page.partition(f"\n## {name}\n")
        section = section.partition("\n## ")[0]
        steps = ["prepare", "leave_rotation", "switch_api", "rejoin_rotation"]
        steps += ["start_engine"] if name != "controller-3" else []
        for step in steps:
            assert f"/{step} </dev/null\n" in section or f" {step} </dev/null\n" in section, (name, step)
    for task, step, names in (("close", "close_router", NAMES), ("retire", "stop_engine", NAMES[:2])):
        _, _, section = page.partition(f"\n### {task}\n")
        section = section.partition("\n### ")[0]
        assert section.count(f"{step} </dev/null\n") == len(names)
        assert all(f"\nTo {name}:\n" in section for name in names)
    assert '\nPUT /api/vhosts/heat_26 {"tags": ""}\n' in page
    assert "\nDELETE /api/vhosts/heat\n" in page
    assert "```diff\n--- a\n+++ b\n```" in page
    assert "queues     2 ready, 1 unacknowledged in 1 queues, 1 of them with a consumer" in page


def test_a_run_over_some_hosts_ends_where_a_real_one_would(load: LoadDag, servers: Servers) -> None:
    run = Run(load("heat_rolling_upgrade"), Plan(OLD, NEW, NAMES[:1], dry_run=True))
    page = run.walk()
    assert "controller_2.switch_api" in run.skipped
    assert "end the run here. controller-2, controller-3 are still on 25.0.2" in page
    for task in ("flip", "wait_until_drained", "close", "retire", "verify_cloud", "delete_old_vhost"):
        assert run.planned(task) == PlannedAction.nothing("the run would have ended with may_flip")


def test_going_back_migrates_and_backs_up_nothing(load: LoadDag, servers: Servers) -> None:
    run = Run(load("heat_rolling_upgrade"), Plan(OLD, NEW, NAMES, going_back=True, dry_run=True))
    page = run.walk()
    assert page.startswith("# Dry run: going back of lab")
    assert run.planned("back_up_database").idle
    assert run.planned("sync_database").idle
    (command,) = run.planned("prepare.controller_1").commands
    assert "KEEP_CONFIG=yes" in command.line


class TestTime:
    """How long a real run would take."""

    MEASURED: ClassVar = {
        "prepare.controller_1": 60.0,
        "prepare.controller_2": 90.0,
        "may_flip": 7200.0,
        "controller_1.switch_api": 10.0,
        "controller_2.switch_api": 11.0,
        "wait_until_drained": 40.0,
        "delete_old_vhost": 1000.0,
    }

    def test_it_is_what_the_last_run_took_and_no_wait_for_a_window(self, load: LoadDag, servers: Servers) -> None:
        page = Run(load("heat_rolling_upgrade"), DRY, self.MEASURED).walk()
        assert "- The whole run: about 2 min 31 s as its tasks took in run-of-may" in page
        assert "| 1 min 30 s |" in page

    def test_the_outage_is_measured_from_the_first_api_that_leaves(self, load: LoadDag, servers: Servers) -> None:
        measured = {"prepare.controller_1": 60.0, "stop_apis.controller_1": 3.0, "wait_until_drained": 40.0}
        plan = Plan(OLD, NEW, NAMES, cold=True, dry_run=True)
        assert "- The outage: about 43 s, as its" in Run(load("heat_cold_upgrade"), plan, measured).walk()

    def test_without_an_earlier_run_it_is_said_to_be_a_guess(self, load: LoadDag, servers: Servers) -> None:
        page = Run(load("heat_rolling_upgrade"), DRY).walk()
        assert "not known, as no such run has got through yet. By the cloud file the drain takes" in page
        assert "the old release serves them until the flip, which holds what changes a stack" in page


def test_a_gate_says_that_it_would_wait_and_does_not(load: LoadDag, servers: Servers) -> None:
    run = Run(load("heat_rolling_upgrade", windows={**WINDOWS, "blackouts": ["2020-01-01 to 2060-01-01"]}), DRY)
    run.walk()
    assert "fail, as it is now: may_flip needs" in run.planned("may_flip").summary
    run = Run(load("heat_rolling_upgrade", windows={**WINDOWS, "openings": [{**OPENING, "cron": "0 3 1 1 *"}]}), DRY)
    run.walk()
    says = run.planned("may_flip").summary
    assert says.startswith("see an engine of 26.0.2 on vhost heat_26 (0 listen now), then ")
    assert "waiting until" in says or "a window is open" in says.lower()


def test_a_task_that_can_not_say_what_it_would_do_is_no_task() -> None:
    class Careless(UpgradeTask):
        def run(self, plan: Plan, context: Any) -> None:
            raise AssertionError("it acts in a dry run")

    with pytest.raises(TypeError, match="preview"):
        Careless(task_id="careless", cloud=CLOUD)  # type: ignore[abstract]


class TestHandsOff:
    """The net below: whatever changes something refuses, should a task get there after all."""

    @pytest.fixture(autouse=True)
    def connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(
            "AIRFLOW_CONN_NOBODY", json.dumps({"conn_type": "rabbitmq_management", "host": "127.0.0.1", "port": 1})
        )

    @pytest.fixture
    def host(self) -> HeatHostHook:
        return HeatHostHook(ssh_conn_id="nobody", address="127.0.0.1", port=1, host_key=None, name="c1")

    @pytest.mark.parametrize(
        "act",
        [
            lambda host: host.run_step(Step("switch_api", {}, "/s")),
            lambda host: host.started(Step("prepare", {}, "/s", timeout=9)).__enter__(),
            lambda host: host.stop_job(Step("prepare", {}, "/s", timeout=9).job),
            lambda _: HeatRabbitMQHook("nobody").api.call("PUT", "vhosts/x"),
            lambda _: HeatApiHook("nobody").call("PATCH", "/stacks/x"),
            lambda _: HeatApiHook("nobody").run_smoke_stack(),
        ],
        ids=["step", "job", "end of a job", "RabbitMQ", "Heat", "smoke stack"],
    )
    def test_nothing_is_changed(self, act: Callable[[HeatHostHook], object], host: HeatHostHook) -> None:
        with (
            read_only("a task"),
            pytest.raises(UpgradeError, match=r"a task was about to .*, expected it to read only"),
        ):
            act(host)

    def test_to_look_is_allowed_and_afterwards_all_is(self, host: HeatHostHook) -> None:
        with read_only("a task"), pytest.raises(Exception, match="c1: SSH to"):
            host.run_step(Step("look", {}, "/s", read_only=True))
        with pytest.raises(Exception, match="c1: SSH to"):
            host.run_step(Step("switch_api", {}, "/s"))
