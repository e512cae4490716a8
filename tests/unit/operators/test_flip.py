"""The flip and the close over hosts with real state files: SSH and the database alone are made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from heat_upgrade import hosts
from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import HostUnreachableError, TransientError, UpgradeError
from heat_upgrade.hooks import heat_database
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hosts import HostState, RouterState
from heat_upgrade.operators.flip import CloseOperator, FlipOperator, StartBesideOperator
from heat_upgrade.readings import StackInTree
from heat_upgrade.remote.step import Step
from heat_upgrade.router import state
from heat_upgrade.run.plan import Plan
from tests.unit._helpers.healthy import CLOUD, NAMES, NEW, OLD

PLAN = Plan(source=OLD, target=NEW, hosts=NAMES)
BACK = Plan(source=NEW, target=OLD, hosts=NAMES, going_back=True)
API_HOSTS = [host for host in CLOUD.hosts if host.api_roles]
ROOT, CHILD, OTHER = (f"{number}1111111-1111-4111-8111-111111111111" for number in (1, 2, 3))


class World:
    """The hosts' routers and what else the tasks ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = mock.create_autospec(HeatDatabaseHook, instance=True)
        self.database.trees_in_flight.return_value = []
        self.away: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.swept: set[str] = set()

    def sweep(self, *names: str, front: str = NEW, default: str = OLD, stacks: Mapping[str, str] | None = None) -> None:
        """Put a release's APIs with a router in front on some hosts."""
        for name in names:
            self.swept.add(name)
            directory = self.directory(name, front)
            (directory / "run").mkdir(parents=True)
            fields = {"sides": [OLD, NEW], "default": default, "projects": {}, "stacks": dict(stacks or {})}
            state.create(directory, {**fields, "closed": False})

    def directory(self, name: str, front: str) -> Path:
        return self.folder / name / front

    def state(self, name: str, front: str = NEW) -> state.State:
        found = state.read(self.directory(name, front))
        assert found
        return found

    def states(self, front: str, else_on: str) -> dict[str, HostState]:
        """Return what hosts run: the release in front where they are swept, else another one alone."""
        found = {}
        for host in API_HOSTS:
            release = front if host.name in self.swept else else_on
            services = {(role, release): "active" for role in host.api_roles}
            found[host.name] = HostState(host, host.name, services, routers=self._routers(host.name))
        return found

    def _routers(self, name: str) -> dict[str, RouterState]:
        known = {release: state.read(self.directory(name, release)) for release in (OLD, NEW)}
        return {
            release: RouterState(each.default, len(each.stacks), each.closed) for release, each in known.items() if each
        }

    def hook(self, name: str) -> Any:
        hook = mock.Mock()
        hook.conversation.side_effect = lambda step: self._conversation(name, step)
        return hook

    @contextmanager
    def _conversation(self, name: str, step: Step) -> Iterator[Any]:
        if name in self.away:
            raise HostUnreachableError(f"{name} is away")
        release = Path(step.settings["ROUTER"]).parent.name
        yield mock.Mock(ask=lambda question, timeout: self._answer(name, release, question))

    def _answer(self, name: str, release: str, question: Mapping[str, Any]) -> Any:
        self.asked.append((name, question["verb"]))
        if (name, question["verb"]) in self.away:
            raise HostUnreachableError(f"{name} is away")
        asked = json.loads(json.dumps(question))
        new = [asked["new"]] if "new" in asked else []
        try:
            answer = {"state": state.ANSWERS[asked["verb"]](self.directory(name, release), *asked["words"], *new)}
        except state.StateError as error:
            return {"error": str(error)}
        return json.loads(json.dumps(answer))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World(tmp_path)
    monkeypatch.setattr(Clients, "connect", lambda _, machine: world.hook(machine.name))
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", lambda _: world.database)
    monkeypatch.setattr(hosts, "states_of", lambda *_: world.states(NEW, OLD))
    return world


@pytest.fixture
def back(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A run back: the old release is in front again on the swept hosts, and on the others still."""
    monkeypatch.setattr(hosts, "states_of", lambda *_: world.states(OLD, OLD))
    return world


@pytest.fixture
def flip() -> Callable[..., Any]:
    def run(plan: Plan = PLAN, kind: type[Any] = FlipOperator) -> Any:
        return kind(task_id="flip", cloud=CLOUD).flip(plan)

    return run


def in_flight(*ids: str, owner: str | None = None) -> list[StackInTree]:
    return [StackInTree(each, "p", owner if each == CHILD else None, in_progress=True) for each in ids]


def test_what_is_new_goes_to_the_target_and_what_is_in_flight_stays(world: World, flip: Callable[..., Any]) -> None:
    world.sweep(*NAMES)
    world.database.trees_in_flight.return_value = in_flight(ROOT, CHILD, owner=ROOT)
    told = flip()
    assert told["moved"]
    assert told["in_flight"] == 2
    assert set(told["held"]) == set(NAMES)
    assert told["began"] <= told["held_from"] < told["held_until"] <= told["ended"]
    for name in NAMES:
        found = world.state(name)
        assert (found.default, found.stacks, found.hold) == (NEW, {ROOT: OLD, CHILD: OLD}, None)


def test_no_host_is_asked_for_the_next_phase_before_all_have_done_this_one(
    world: World, flip: Callable[..., Any]
) -> None:
    world.sweep(*NAMES)
    flip()
    phases = [verb for _, verb in world.asked]
    assert phases == [verb for verb in ("show", "hold", "prepare", "release") for _ in NAMES]


def test_done_twice_it_does_nothing(world: World, flip: Callable[..., Any]) -> None:
    world.sweep(*NAMES)
    flip()
    numbers = [world.state(name).sequence for name in NAMES]
    assert not flip()["moved"]
    assert [world.state(name).sequence for name in NAMES] == numbers


def test_the_database_is_read_before_anything_is_held(world: World, flip: Callable[..., Any]) -> None:
    world.sweep(*NAMES)
    seen: list[bool] = []
    world.database.trees_in_flight.side_effect = lambda *_: seen.append(bool(world.state(NAMES[0]).hold)) or []
    flip()
    assert seen[0] is False
    assert all(seen[1:])


def test_what_nobody_worked_on_before_the_run_does_not_stay(world: World, flip: Callable[..., Any]) -> None:
    world.sweep(*NAMES)
    world.database.trees_in_flight.return_value = in_flight(ROOT, OTHER)
    flip(Plan(source=OLD, target=NEW, hosts=NAMES, stranded=(ROOT,)))
    assert set(world.state(NAMES[0]).stacks) == {OTHER}


@pytest.mark.parametrize("when", ["hold", "prepare"])
def test_a_host_that_does_not_take_it_leaves_all_where_they_were(
    world: World, flip: Callable[..., Any], when: str
) -> None:
    world.sweep(*NAMES)
    world.away.add((NAMES[1], when))  # type: ignore[arg-type]
    with pytest.raises(HostUnreachableError):
        flip()
    assert {world.state(name).default for name in NAMES} == {OLD}
    world.away.clear()
    assert flip()["moved"]
    assert {world.state(name).default for name in NAMES} == {NEW}


def test_one_that_some_hosts_have_taken_is_finished_by_the_next_try(world: World, flip: Callable[..., Any]) -> None:
    world.sweep(*NAMES)
    world.away.add((NAMES[1], "release"))  # type: ignore[arg-type]
    with pytest.raises(HostUnreachableError):
        flip()
    assert world.state(NAMES[1]).hold, "it waits to be told"
    world.away.clear()
    assert flip()["moved"]
    assert {(world.state(name).default, world.state(name).hold) for name in NAMES} == {(NEW, None)}


def test_a_host_without_the_target_in_front_is_refused(world: World, flip: Callable[..., Any]) -> None:
    world.sweep(*NAMES[1:])
    with pytest.raises(UpgradeError, match=rf"^{NAMES[0]}: an API of {NEW} isn't in front there.*clear these hosts'"):
        flip()
    assert not world.asked


def test_a_sweep_that_is_taken_back_needs_no_flip(back: World, flip: Callable[..., Any]) -> None:
    back.sweep(*NAMES[:1], front=OLD)
    assert not flip(BACK)["moved"]
    assert back.state(NAMES[0], OLD).default == OLD
    flip(BACK, CloseOperator)
    assert back.state(NAMES[0], OLD).closed


@pytest.mark.parametrize("apart", [{"default": NEW}, {"stacks": {ROOT: NEW}}], ids=["default", "listed"])
def test_hosts_with_and_without_a_router_have_to_agree(
    back: World, flip: Callable[..., Any], apart: dict[str, Any]
) -> None:
    back.sweep(NAMES[0], front=OLD, **apart)
    with pytest.raises(UpgradeError, match=f"^{NAMES[0]}: an API there hands requests to {NEW} while .* knows {OLD} "):
        flip(BACK)


def test_going_back_what_is_in_flight_on_the_new_side_stays_there(back: World, flip: Callable[..., Any]) -> None:
    back.sweep(*NAMES, front=OLD, default=NEW, stacks={OTHER: OLD})
    back.database.trees_in_flight.return_value = in_flight(ROOT, OTHER)
    flip(BACK)
    found = back.state(NAMES[0], OLD)
    assert (found.default, found.stacks) == (OLD, {ROOT: NEW})


def test_it_is_not_closed_over_a_stack_that_is_worked_on(world: World, flip: Callable[..., Any]) -> None:
    world.sweep(*NAMES, default=NEW, stacks={ROOT: OLD, OTHER: OLD})
    world.database.trees_in_flight.return_value = in_flight(ROOT, CHILD, owner=ROOT)
    assert flip(kind=CloseOperator)["in_flight"] == 1
    for name in NAMES:
        found = world.state(name)
        assert (found.closed, found.hold) == (False, None)
        assert found.stacks == {ROOT: OLD}, "what is done has gone over; a child is found by its root"
    world.database.trees_in_flight.return_value = []
    assert flip(kind=CloseOperator)["in_flight"] == 0
    assert {(world.state(name).closed, len(world.state(name).stacks)) for name in NAMES} == {(True, 0)}
    assert not flip(kind=CloseOperator)["moved"], "a second try finds nothing to hold"


def test_while_stacks_are_left_the_old_apis_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sweep(*NAMES, default=NEW, stacks={ROOT: OLD})
    world.database.trees_in_flight.return_value = in_flight(ROOT)
    close = CloseOperator(task_id="close", cloud=CLOUD)
    monkeypatch.setattr(CloseOperator, "steps", lambda *_: pytest.fail("an API beside would stop"))
    with pytest.raises(TransientError, match=f"1 stacks were changed on the side of {OLD} since .* clear wait_until"):
        close.run(PLAN, {})


def test_the_end_stops_whatever_runs_beside(world: World) -> None:
    world.sweep(*NAMES)
    placed = CloseOperator(task_id="close", cloud=CLOUD).steps(PLAN)
    assert [each.machine.name for each in placed] == [host.name for host in API_HOSTS]
    units = placed[0].step.settings["OLD_UNITS"].split()
    assert {unit for unit in units if NEW in unit}
    assert {unit for unit in units if OLD in unit}


def test_beside_each_other_two_releases_have_ports_of_their_own(back: World) -> None:
    deployments = [CLOUD.deployment(API_HOSTS[0], release) for release in CLOUD.releases]
    ports = [each.beside("api").port for each in deployments]
    assert len(set(ports)) == len(ports) <= 3
    back.sweep(NAMES[0], front=OLD)
    (step,) = StartBesideOperator(task_id="start_beside", cloud=CLOUD).steps(BACK)
    assert step.machine.name == NAMES[0]
    assert str(CLOUD.deployment(API_HOSTS[0], CLOUD.release(NEW)).beside("api").port) in step.step.settings["APIS"]
