"""What a run does with maintenance windows: whether it starts, what it waits for, and when it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped, TaskDeferred

from heat_upgrade import hosts
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.hooks import rabbitmq
from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
from heat_upgrade.hosts import HostState, RouterState
from heat_upgrade.operators import gates as module
from heat_upgrade.operators.gates import MayFlipOperator, MayPrepareOperator, MayStartOperator, MayStopOperator
from heat_upgrade.readings import Unavailable
from heat_upgrade.run.plan import Plan
from tests.unit._helpers.clouds.broken import DELETE, edited

OLD, NEW, NEXT = "25.0.2", "26.0.2", "27.0.1"
FIRST, SECOND, THIRD = NAMES = ("controller-1", "controller-2", "edge.example")
# Open on Saturdays from 21:00 to 01:00 UTC, but not on 28 November; a wave of one host, then one of two.
EDITS = {
    "windows.openings": [{"cron": "0 22 * * sat", "minutes": 240, "timezone": "Europe/Berlin"}],
    "windows.blackouts": ["2026-11-28"],
}
OPEN, CLOSED = "2026-11-21 23:00", "2026-11-20 12:00"
NEXT_OPENING = datetime(2026, 11, 21, 21, tzinfo=UTC)
AFTER_THE_BLACKOUT = datetime(2026, 12, 5, 21, tzinfo=UTC)


def cloud(**edits: Any) -> Cloud:
    return Cloud.model_validate({**edited({**EDITS, **edits}), "name": "lab"})


class World:
    """The clock, the cloud, and what earlier tasks have left."""

    def __init__(self) -> None:
        self.now = CLOSED
        self.engines = 2
        self.xcoms: dict[str, Any] = {}
        self.looked = False
        self.states: dict[str, HostState | Unavailable] = {}
        for name in NAMES:
            self.run(name, OLD)

    def run(self, name: str, *releases: str, api: str | None = None) -> None:
        """Let a host run some releases of its services, and its APIs another one."""
        host = cloud().host(name)
        services = {
            (role, release): "active"
            for role in host.roles
            for release in ((api,) if api and role != "engine" else releases)
        }
        self.states[name] = HostState(host, name, services)

    def sweep(self, default: str = OLD, names: Iterable[str] = NAMES) -> None:
        """Put the new APIs in front on some hosts, with users on one side."""
        for name in names:
            self.run(name, OLD, NEW, api=NEW)
            self.states[name] = replace(self.states[name], routers={NEW: RouterState(default)})

    def inspect(self, _: Cloud, some: list[Any]) -> dict[str, HostState | Unavailable]:
        self.looked = True
        return {host.name: self.states[host.name] for host in some}

    def context(self, run_type: str = "manual", **plan: Any) -> Any:
        saved = Plan(source=OLD, target=NEW, **{"hosts": NAMES, **plan}).as_xcom()
        xcoms = {"preflight": json.loads(json.dumps(saved)), **self.xcoms}
        instance = mock.Mock()
        instance.xcom_pull.side_effect = lambda task_ids, **_: xcoms.get(task_ids)
        return {"ti": instance, "dag_run": mock.Mock(run_type=run_type, clear_number=0)}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    broker = mock.create_autospec(HeatRabbitMQHook, instance=True)
    broker.consumers.side_effect = lambda _: {"engine": world.engines}
    monkeypatch.setattr(hosts, "inspect", world.inspect)
    monkeypatch.setattr(rabbitmq, "HeatRabbitMQHook", lambda _: broker)
    monkeypatch.setattr(module, "_now", lambda: datetime.fromisoformat(world.now).replace(tzinfo=UTC))
    return world


def waits_until(execute: Callable[[], None]) -> datetime:
    """Return the moment for which a gate waits."""
    with pytest.raises(TaskDeferred) as caught:
        execute()
    assert isinstance(caught.value.trigger, DateTimeTrigger)
    assert caught.value.method_name == "execute_complete"
    assert caught.value.timeout is None, "a window may be weeks ahead"
    _, arguments = caught.value.trigger.serialize()
    return DateTimeTrigger(**arguments).moment


class TestMayFlip:
    """Users are sent to the target's side only in a window, and only where every host is ready for it."""

    @pytest.fixture
    def gate(self, world: World) -> Callable[..., Callable[[], None]]:
        world.sweep()

        def make(of: Cloud | None = None, **plan: Any) -> Callable[[], None]:
            operator = MayFlipOperator(task_id="may_flip", cloud=of or cloud())
            return lambda: operator.execute(world.context(**plan))

        return make

    def test_it_waits_for_the_next_window(self, world: World, gate: Any, capsys: Any) -> None:
        assert waits_until(gate()) == NEXT_OPENING
        log = capsys.readouterr().out
        assert "Waiting until 2026-11-21 21:00 UTC (Sat 22:00 Europe/Berlin), when a window opens for 4 h" in log
        assert "1 min are needed and no window is open" in log

    def test_whom_the_cloud_file_names_is_told_of_the_wait(
        self, world: World, gate: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notified = mock.Mock()
        monkeypatch.setattr(module, "notify", notified)
        waits_until(gate())
        _, event, _, subject, text = notified.call_args.args
        assert (event, subject) == ("window", "Heat in lab: upgrade waits for a maintenance window")
        assert text.startswith("Waiting until 2026-11-21 21:00 UTC (Sat 22:00 Europe/Berlin)")
        world.now = OPEN
        gate()()
        assert notified.call_count == 1

    def test_it_opens_in_a_window(self, world: World, gate: Any) -> None:
        world.now = OPEN
        gate()()

    def test_it_opens_at_the_moment_for_which_it_waits(self, world: World, gate: Any) -> None:
        world.now = NEXT_OPENING.replace(tzinfo=None).isoformat()
        gate()()

    @pytest.mark.parametrize(("now", "opens"), [("2026-11-22 00:59:00", True), ("2026-11-22 00:59:01", False)])
    def test_a_minute_is_enough(self, now: str, opens: bool, world: World, gate: Any, capsys: Any) -> None:
        world.now = now
        if opens:
            gate()()
        else:
            assert waits_until(gate()) == AFTER_THE_BLACKOUT
            assert "1 min are needed and the open window closes in 59 s" in capsys.readouterr().out

    @pytest.mark.parametrize(("now", "opens"), [("2026-11-22 00:29:00", True), ("2026-11-22 00:29:01", False)])
    def test_with_a_canary_everybodys_flip_has_to_come_before_the_window_closes(
        self, now: str, opens: bool, world: World, gate: Any, capsys: Any
    ) -> None:
        world.now = now
        if opens:
            gate(canary=("p1",))()
        else:
            assert waits_until(gate(canary=("p1",))) == AFTER_THE_BLACKOUT
            assert "31 min are needed and the open window closes in" in capsys.readouterr().out

    def test_no_window_at_all_is_told(self, world: World, gate: Any) -> None:
        with pytest.raises(UpgradeError, match=r"the longest one to come is open for 0 s"):
            gate(cloud(**{"windows.blackouts": ["2026-01-01 to 2040-01-01"]}))()

    def test_a_manual_run_may_ignore_windows(self, world: World, gate: Any, capsys: Any) -> None:
        gate(ignore_windows=True)()
        assert "Maintenance windows are ignored" in capsys.readouterr().out

    def test_without_windows_there_is_nothing_to_wait_for(self, gate: Any, capsys: Any) -> None:
        gate(cloud(windows=DELETE, pending_release=DELETE))()
        assert "The cloud file has no windows" in capsys.readouterr().out

    def test_a_run_that_leaves_hosts_to_another_one_ends_here(self, world: World, gate: Any) -> None:
        world.run(THIRD, OLD)
        with pytest.raises(AirflowSkipException, match=r"^edge\.example are still on 25\.0\.2, which goes on serving"):
            gate(hosts=(FIRST, SECOND))()

    def test_a_host_of_the_run_whose_api_is_not_in_front_is_an_error(self, world: World, gate: Any) -> None:
        world.run(THIRD, OLD)
        with pytest.raises(UpgradeError, match=r"^edge\.example: an API of 26\.0\.2 isn't in front there"):
            gate()()

    @pytest.mark.parametrize("flipped", [NAMES, (FIRST,)])
    def test_a_flip_that_has_begun_waits_for_nothing(
        self, flipped: tuple[str, ...], world: World, gate: Any, capsys: Any
    ) -> None:
        world.sweep(default=NEW, names=flipped)
        gate()()
        assert "Users are on the side of 26.0.2 already" in capsys.readouterr().out

    @pytest.mark.parametrize("now", [OPEN, CLOSED])
    def test_without_a_new_engine_nobody_is_sent_there_and_that_is_told_before_the_wait(
        self, now: str, world: World, gate: Any
    ) -> None:
        world.now, world.engines = now, 0
        with pytest.raises(TransientError, match="vhost heat_26 has no engine"):
            gate()()

    def test_after_the_wait_all_is_checked_anew(self, world: World, gate: Any) -> None:
        operator = MayFlipOperator(task_id="may_flip", cloud=cloud())

        def resume() -> None:
            operator.execute_complete(world.context(), event=None)

        assert waits_until(resume) == NEXT_OPENING, "the operator has shut this window meanwhile"
        world.now = OPEN
        resume()
        world.engines = 0
        with pytest.raises(TransientError, match="has no engine"):
            resume()


class TestMayPrepare:
    """The gate of clouds that want even the preparation in a window."""

    def test_it_needs_no_more_than_an_open_window(self, world: World) -> None:
        gate = MayPrepareOperator(task_id="may_prepare", cloud=cloud())
        assert waits_until(lambda: gate.execute(world.context())) == NEXT_OPENING
        for now in ("2026-11-21 21:00", "2026-11-22 00:59:00"):
            world.now = now
            gate.execute(world.context())
        world.now = CLOSED
        gate.execute(world.context(ignore_windows=True))

    @pytest.mark.parametrize("moved", [NAMES, (FIRST,)])
    def test_it_holds_up_neither_a_sweep_that_has_begun_nor_what_follows_it(
        self, moved: tuple[str, ...], world: World
    ) -> None:
        for name in moved:
            world.run(name, OLD, NEW, api=NEW)
        MayPrepareOperator(task_id="may_prepare", cloud=cloud()).execute(world.context())


class TestMayStop:
    """The gate before a cold upgrade's outage."""

    @pytest.fixture
    def gate(self, world: World) -> Callable[[], None]:
        operator = MayStopOperator(task_id="may_stop", cloud=cloud(**{"windows.seconds_per_outage": 3600}))
        return lambda: operator.execute(world.context(cold=True))

    def test_the_outage_needs_as_long_as_the_cloud_file_says(self, world: World, gate: Callable[[], None]) -> None:
        assert waits_until(gate) == NEXT_OPENING
        world.now = "2026-11-22 00:00:00"
        gate()
        world.now = "2026-11-22 00:00:01"
        assert waits_until(gate) == AFTER_THE_BLACKOUT

    @pytest.mark.parametrize("stopped", ["", OLD])
    def test_an_outage_that_has_begun_is_brought_to_its_end(
        self, stopped: str, world: World, gate: Callable[[], None]
    ) -> None:
        world.run(FIRST, *([OLD] if stopped else []))
        state = world.states[FIRST]
        assert isinstance(state, HostState)
        world.states[FIRST] = replace(state, stopped=stopped)
        gate()
        MayPrepareOperator(task_id="may_prepare", cloud=cloud()).execute(world.context(cold=True))

    def test_a_rolling_upgrade_left_half_way_is_no_outage_yet(self, world: World, gate: Callable[[], None]) -> None:
        world.run(FIRST, OLD, NEW, api=NEW)
        assert waits_until(gate) == NEXT_OPENING

    def test_where_every_api_has_moved_nothing_is_waited_for(self, world: World, gate: Callable[[], None]) -> None:
        for name in NAMES:
            world.run(name, NEW)
        gate()


class TestMayStart:
    """A scheduled run goes on only where an upgrade is due."""

    @pytest.fixture
    def start(self, world: World) -> Callable[..., set[str]]:
        """Execute the first task of a run, and return which tasks it skips."""

        def execute(run_type: str = "scheduled", of: Cloud | None = None) -> set[str]:
            with DAG("upgrade", schedule=None) as dag:
                first = MayStartOperator(task_id="may_start", cloud=of or cloud())
                second = EmptyOperator(task_id="second")
                first >> second >> EmptyOperator(task_id="last", trigger_rule=TriggerRule.NONE_FAILED)
            try:
                dag.get_task("may_start").execute(world.context(run_type))
            except DownstreamTasksSkipped as skipped:
                return set(skipped.tasks)
            return set()

        return execute

    def test_a_release_that_is_pending_is_upgraded_to(self, start: Any, capsys: Any) -> None:
        assert start() == set()
        assert "26.0.2 is pending: the run goes on" in capsys.readouterr().out

    def test_with_nothing_pending_all_is_skipped_and_no_host_is_asked(
        self, world: World, start: Any, capsys: Any
    ) -> None:
        assert start(of=cloud(pending_release=DELETE)) == {"second", "last"}
        assert not world.looked
        assert "skipped: the cloud file of lab has no pending_release" in capsys.readouterr().out

    def test_on_the_pending_release_already_all_is_skipped(self, world: World, start: Any, capsys: Any) -> None:
        for name in NAMES:
            world.run(name, NEW)
        assert start() == {"second", "last"}
        assert "skipped: the cloud is on 26.0.2 already" in capsys.readouterr().out

    @pytest.mark.parametrize("release", [OLD, "24.0.0"])
    def test_while_another_release_runs_anywhere_the_upgrade_is_due(
        self, release: str, world: World, start: Any
    ) -> None:
        for name in NAMES:
            world.run(name, NEW)
        world.run(FIRST, NEW, release)
        assert start() == set()

    def test_a_scheduled_run_never_goes_back(self, world: World, start: Any, capsys: Any) -> None:
        world.run(SECOND, NEXT)
        assert start() == {"second", "last"}
        assert "27.0.1 runs, and a scheduled run never goes back to 26.0.2" in capsys.readouterr().out

    def test_a_host_that_cannot_be_asked_is_preflights_to_tell(self, world: World, start: Any) -> None:
        world.states[FIRST] = Unavailable("no route", retryable=True)
        assert start() == set()

    @pytest.mark.parametrize("edits", [{}, {"pending_release": DELETE}])
    def test_a_manual_run_always_goes_on(self, edits: dict[str, Any], world: World, start: Any) -> None:
        assert start("manual", cloud(**edits)) == set()
        assert not world.looked
