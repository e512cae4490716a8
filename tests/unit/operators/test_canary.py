"""The canary's tasks, with the routers' own state files of three hosts, and everything else in a test's hands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from heat_upgrade import compat, hosts
from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.hooks import heat_api, heat_database
from heat_upgrade.hooks.heat_api import BuildInfo
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hosts import HostState, RouterState
from heat_upgrade.operators.canary import EndCanaryOperator, FlipCanaryOperator, WatchCanaryOperator
from heat_upgrade.operators.flip import CloseOperator, FlipOperator
from heat_upgrade.readings import BegunActions, StackInTree, StackRow
from heat_upgrade.remote.step import Machine, Step
from heat_upgrade.router import state as router_state
from heat_upgrade.run.plan import Plan
from heat_upgrade.triggers.canary import WatchedCanary
from tests.unit._helpers.healthy import CLOUD, NAMES, NEW, OLD

PLAN = Plan(OLD, NEW, NAMES, canary=("p1", "p2"))
EARLY, LATE, OTHERS = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(3))


class World:
    """Hosts with routers, stacks in flight, and what the run's tasks have returned."""

    def __init__(self, folder: Path) -> None:
        self.folders = {name: folder / name for name in NAMES}
        for each in self.folders.values():
            each.mkdir()
            fresh = {"sides": [OLD, NEW], "default": OLD, "projects": {}, "stacks": {}, "closed": False}
            router_state.create(each, fresh)
        self.stacks: list[StackInTree] = []
        self.database = mock.create_autospec(HeatDatabaseHook, instance=True)
        self.database.trees_in_flight.side_effect = lambda *_: list(self.stacks)
        self.database.actions_begun.return_value = BegunActions(9, 2)
        self.database.stacks_in_progress.return_value = [
            StackRow(project, project, project, "CREATE", "IN_PROGRESS", True, None, 5, None)
            for project in ("p1", "p9")
        ]
        self.login: Exception | None = None
        self.asked_in: list[str | None] = []
        self.questions: list[tuple[Any, ...]] = []
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.fails_at = ""

    def sides(self) -> dict[str, Any]:
        """Return by what all hosts decide."""
        found = [router_state._summary(each) | router_state.ANSWERS["show"](each) for each in self.folders.values()]
        (sides,) = {json.dumps([one[key] for key in ("default", "projects", "stacks")]): one for one in found}.values()
        assert not sides["hold"]
        return sides

    def inspect(self, _: Any, some: list[Any]) -> dict[str, HostState]:
        def looked(host: Any) -> HostState:
            found = router_state._summary(self.folders[host.name])
            services = {(role, NEW): "active" for role in host.api_roles}
            router = RouterState(found["default"], found["listed"], found["closed"])
            return HostState(host, host.name, services, routers={NEW: router})

        return {host.name: looked(host) for host in some}

    def connect(self, machine: Machine) -> Any:
        folder = self.folders[machine.name]

        def ask(question: dict[str, Any], timeout: float) -> dict[str, Any]:
            if question["verb"] == self.fails_at:
                raise TransientError("SSH failed, check the host")
            new = [question["new"]] if "new" in question else []
            try:
                return {"state": router_state.ANSWERS[question["verb"]](folder, *question["words"], *new)}
            except router_state.StateError as error:
                return {"error": str(error)}

        @contextmanager
        def conversation(step: Step) -> Iterator[Any]:
            assert step.name == "route"
            yield SimpleNamespace(ask=ask)

        def run_step(step: Step) -> dict[str, str]:
            assert step.name == "read_sides"
            return {"state": json.dumps(router_state.ANSWERS["show"](folder))}

        return SimpleNamespace(conversation=conversation, run_step=run_step)

    def api(self, conn_id: str, project: str | None = None) -> Any:
        self.asked_in.append(project)
        return self

    def build_info(self) -> BuildInfo:
        if self.login:
            raise self.login
        return BuildInfo(NEW, NEW)

    def context(self, plan: Plan = PLAN) -> Any:
        instance = mock.Mock(dag_id="heat_rolling_upgrade__lab", id="the-instance")
        saved = {("preflight", "return_value"): json.loads(json.dumps(plan.as_xcom()))}
        instance.xcom_pull.side_effect = lambda task_ids, key="return_value": {**self.xcoms, **saved}.get(
            (task_ids, key)
        )
        instance.xcom_push.side_effect = lambda key, value: self.xcoms.update({("pushed", key): value})
        return {"ti": instance, "dag_run": mock.Mock(clear_number=0)}

    def do(self, operator: type, plan: Plan = PLAN) -> Any:
        """Let a task do its work, and keep what it returns."""
        result = operator(task_id=NAMED[operator], cloud=CLOUD).execute(self.context(plan))
        self.xcoms[NAMED[operator], "return_value"] = json.loads(json.dumps(result))
        return result

    def watched(self, plan: Plan = PLAN) -> WatchedCanary:
        """Return what is watched from here on."""
        with pytest.raises(TaskDeferred) as deferred:
            self.do(WatchCanaryOperator, plan)
        assert deferred.value.method_name == "execute_complete"
        return deferred.value.trigger.arguments  # type: ignore[no-any-return]

    def end(self, event: dict[str, Any]) -> None:
        """Let the watch end."""
        operator = WatchCanaryOperator(task_id="watch_canary", cloud=CLOUD)
        result = operator.execute_complete(self.context(), event)
        self.xcoms["watch_canary", "return_value"] = json.loads(json.dumps(result))


NAMED = {
    FlipCanaryOperator: "flip_canary",
    WatchCanaryOperator: "watch_canary",
    EndCanaryOperator: "end_canary",
    FlipOperator: "flip",
    CloseOperator: "close",
}
MEASURED = {"probes": 360, "slowest": 0.4, "begun": 12, "failed": 1}
HELD = {"verdict": "held", "errors": [], **MEASURED}
BROKEN = {"verdict": "failed", "errors": ["3 of 9 actions on the canary's stacks failed"], **MEASURED}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.setattr(hosts, "inspect", world.inspect)
    monkeypatch.setattr(Clients, "connect", world.connect)
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", lambda _: world.database)
    monkeypatch.setattr(heat_api, "HeatApiHook", world.api)
    monkeypatch.setattr(compat, "ask_while_deferred", lambda *asked: world.questions.append(asked))
    return world


def in_flight(id_: str, project: str) -> StackInTree:
    return StackInTree(id_, project, None, True)


class TestTheWholeWay:
    """From the canary's flip to everybody's, or back."""

    def test_what_is_new_of_the_canary_goes_ahead_and_all_else_stays(self, world: World) -> None:
        world.stacks = [in_flight(EARLY, "p1"), in_flight(OTHERS, "p9")]
        flipped = world.do(FlipCanaryOperator)
        sides = world.sides()
        assert (sides["default"], sides["projects"]) == (OLD, {"p1": NEW, "p2": NEW})
        assert sides["stacks"] == {EARLY: OLD}
        assert (flipped["projects"], flipped["usual"], flipped["moved"]) == (["p1", "p2"], 2, True)
        projects, since, until = world.database.actions_begun.call_args.args
        assert (projects, (until - since).total_seconds()) == (("p1", "p2"), 60 * CLOUD.canary.minutes)

    def test_everybody_follows_once_it_has_held(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.watched()
        world.end(HELD)
        world.do(EndCanaryOperator)
        world.stacks = [in_flight(LATE, "p1"), in_flight(OTHERS, "p9")]
        world.do(FlipOperator)
        sides = world.sides()
        assert (sides["default"], sides["projects"], sides["stacks"]) == (NEW, {}, {OTHERS: OLD})
        told = world.xcoms["pushed", "canary"]
        assert (told["projects"], told["verdict"], told["usual"]) == (["p1", "p2"], "held", 2)
        assert datetime.fromisoformat(told["began"]) < datetime.fromisoformat(told["ended"])

    def test_one_that_does_not_hold_is_taken_back_and_what_it_has_begun_stays_ahead(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.watched()
        world.end(BROKEN)
        world.stacks = [in_flight(LATE, "p1"), in_flight(OTHERS, "p9")]
        for _ in range(2):  # cleared alone, it does nothing the second time and says the same
            with pytest.raises(
                UpgradeError, match=r"^the canary of p1, p2 was taken back: 3 of 9 actions .* failed\. "
            ):
                world.do(EndCanaryOperator)
            sides = world.sides()
            assert (sides["default"], sides["projects"], sides["stacks"]) == (OLD, {}, {LATE: NEW})
        assert world.xcoms["pushed", "canary"]["verdict"] == "failed"

    def test_a_taking_back_that_fails_is_tried_again(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.end(BROKEN)
        for verb in ("show", "hold", "prepare", "release"):
            world.fails_at = verb
            with pytest.raises(TransientError):
                world.do(EndCanaryOperator)
        world.fails_at = ""
        with pytest.raises(UpgradeError, match="was taken back"):
            world.do(EndCanaryOperator)
        assert (world.sides()["default"], world.sides()["projects"]) == (OLD, {})

    def test_it_begins_again_where_it_was_taken_back(self, world: World) -> None:
        self.test_one_that_does_not_hold_is_taken_back_and_what_it_has_begun_stays_ahead(world)
        world.do(FlipCanaryOperator)
        assert world.sides()["projects"] == {"p1": NEW, "p2": NEW}
        assert world.sides()["stacks"] == {}
        assert world.watched().projects == ["p1", "p2"]

    def test_a_run_without_it_takes_everybody_along_from_within_one(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.stacks = [in_flight(LATE, "p1")]
        world.do(FlipOperator, replace(PLAN, canary=()))
        assert (world.sides()["default"], world.sides()["stacks"]) == (NEW, {})

    def test_a_run_that_goes_back_takes_it_back(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.stacks = [in_flight(LATE, "p1")]
        fronts = [CLOUD.deployment(host, CLOUD.release(NEW)) for host in CLOUD.hosts]
        # The routers of the other direction go on by the same words; here the same ones have to do.
        with mock.patch.object(FlipOperator, "_fronts", return_value=fronts):
            world.do(FlipOperator, Plan(NEW, OLD, NAMES, going_back=True))
        assert (world.sides()["default"], world.sides()["projects"]) == (OLD, {})
        assert world.sides()["stacks"] == {LATE: NEW}


class TestWithoutOne:
    """Where there is no canary, and where it would take people back."""

    @pytest.mark.parametrize("operator", [FlipCanaryOperator, WatchCanaryOperator, EndCanaryOperator])
    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_run_without_a_canary_skips_them(self, operator: type, dry_run: bool, world: World) -> None:
        with pytest.raises(AirflowSkipException, match="no project goes ahead in this run"):
            world.do(operator, replace(PLAN, canary=(), dry_run=dry_run))
        assert world.sides()["default"] == OLD

    @pytest.mark.parametrize("closed", [False, True])
    @pytest.mark.parametrize("operator", [FlipCanaryOperator, WatchCanaryOperator, EndCanaryOperator])
    def test_whoever_has_followed_is_never_taken_back(self, operator: type, closed: bool, world: World) -> None:
        world.do(FlipOperator)
        if closed:
            with mock.patch("heat_upgrade.operators.steps.StepsOperator.run"):
                world.do(CloseOperator)
        world.xcoms["watch_canary", "return_value"] = BROKEN
        with pytest.raises(AirflowSkipException, match=r"users are on the side of 26\.0\.2 already"):
            world.do(operator)
        assert world.sides()["default"] == NEW

    def test_a_watch_without_its_canary_says_what_to_clear(self, world: World) -> None:
        with pytest.raises(UpgradeError, match=r"the router decides by 25\.0\.2, expected 25\.0\.2 with 2 projects"):
            world.do(WatchCanaryOperator)
        world.do(FlipCanaryOperator, replace(PLAN, canary=("p1",)))
        with pytest.raises(UpgradeError, match="clear flip_canary with all that follows it"):
            world.do(WatchCanaryOperator)
        assert world.questions == []


class TestTheWatch:
    """What the trigger gets, and what a person's answer does."""

    def test_it_counts_from_the_flip_and_lasts_from_now(self, world: World) -> None:
        flipped = world.do(FlipCanaryOperator)
        watched = world.watched()
        assert watched.since == datetime.fromisoformat(flipped["began"]).timestamp()
        assert watched.deadline == pytest.approx(datetime.now().timestamp() + 60 * CLOUD.canary.minutes, abs=10)
        assert (watched.release, watched.usual, watched.slowest, watched.asked_in) == (NEW, 2, 10, "p1")

    @pytest.mark.parametrize(
        ("login", "asked_in", "tried"),
        [
            (None, "p1", ["p1"]),
            (UpgradeError("Forbidden"), "", ["p1", "p2"]),
            (TransientError("503"), "p1", ["p1"]),
        ],
    )
    def test_the_api_is_asked_where_the_login_is_let_in(
        self, login: Exception | None, asked_in: str, tried: list[str], world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.do(FlipCanaryOperator)
        world.login = login
        assert world.watched().asked_in == asked_in
        assert world.asked_in == tried
        assert ("is let into none of p1, p2" in capsys.readouterr().out) == (not asked_in)

    def test_nobody_has_to_answer_but_anybody_may(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.watched()
        ((instance, options, subject, body),) = world.questions
        assert (instance, options, subject) == (
            "the-instance",
            ["Approve", "Reject"],
            "Heat in lab: end the canary early?",
        )
        assert "New stacks of p1, p2 go to 26.0.2" in body
        assert "Nobody has to answer: after 30 min everybody follows if all goes well." in body

    def test_an_approval_ends_it_early(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.end({"chosen_options": ["Approve"], "params_input": {}, "responded_by_user": {"id": "1", "name": "ann"}})
        world.do(EndCanaryOperator)
        assert world.xcoms["pushed", "canary"]["verdict"] == "approved"
        assert world.sides()["projects"] == {"p1": NEW, "p2": NEW}, "the flip takes it from here"

    @pytest.mark.parametrize("answer", [["Reject"], [], ["Approve", "Reject"]])
    def test_any_other_answer_takes_it_back(self, answer: list[str], world: World) -> None:
        world.do(FlipCanaryOperator)
        user = {"id": "1", "name": "eve\n" + "x" * 1000}
        world.end({"chosen_options": answer, "params_input": {}, "responded_by_user": user})
        with pytest.raises(UpgradeError, match=r"taken back: rejected by eve x{96}\. New") as caught:
            world.do(EndCanaryOperator)
        assert "\n" not in str(caught.value)
        assert world.sides()["projects"] == {}

    def test_whoever_marks_the_watch_as_done_has_approved(self, world: World) -> None:
        world.do(FlipCanaryOperator)
        world.do(EndCanaryOperator)
        assert world.xcoms["pushed", "canary"]["verdict"] == "approved"

    def test_ids_of_projects_do_nothing_in_markdown(self, world: World) -> None:
        plan = replace(PLAN, canary=("_p1_", *(f"project-{number}" for number in range(49))))
        world.do(FlipCanaryOperator, plan)
        world.watched(plan)
        ((*_, body),) = world.questions
        assert r"New stacks of \_p1\_, project-0, project-1, project-2, project-3 and 45 more go to" in body


class TestDryRun:
    """The same declaration, not executed."""

    def test_it_shows_what_would_be_done_and_changes_nothing(self, world: World) -> None:
        told = {}
        for operator in (FlipCanaryOperator, WatchCanaryOperator, EndCanaryOperator):
            world.do(operator, replace(PLAN, dry_run=True))
            told[operator] = world.xcoms["pushed", "planned"]["summary"]
        assert (
            "send what is new of p1, p2 to 26.0.2, keep their stacks in flight, 1 as it is now"
            in told[FlipCanaryOperator]
        )
        assert told[WatchCanaryOperator].startswith("watch the API and the stacks of p1, p2 for 30 min")
        assert told[EndCanaryOperator].startswith("let everybody follow if all has held; else")
        assert world.sides()["projects"] == {}
        assert world.questions == []

    def test_where_everybody_has_followed_nothing_would_be_done(self, world: World) -> None:
        world.do(FlipOperator)
        world.do(FlipCanaryOperator, replace(PLAN, dry_run=True))
        assert world.xcoms["pushed", "planned"]["idle"]
