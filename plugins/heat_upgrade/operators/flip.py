"""The flip and its close: every host's router told, at one moment, which side works on what."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from heat_upgrade import hosts
from heat_upgrade.counts import counts_of
from heat_upgrade.exceptions import RemoteStepError, TransientError, UpgradeError
from heat_upgrade.flip.protocol import bring_to
from heat_upgrade.flip.rule import Goal, HostSides, Sides, sides_after
from heat_upgrade.operators.base import UpgradeTask, skip_unneeded
from heat_upgrade.operators.steps import StepsOperator, raise_first
from heat_upgrade.readings import Unavailable
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import PlacedStep
from heat_upgrade.run.dry_run import PlannedAction

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Deployment
    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.counts import Counts
    from heat_upgrade.hooks.heat_api import HeatApiHook
    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.hooks.ssh_command import Conversation
    from heat_upgrade.run.plan import Plan

Thing = TypeVar("Thing")

# Seconds that changes wait at the most; what comes after the hold has to be through by then.
HELD_FOR = 10
# Seconds for the changes that are under way when the hold begins, out of those.
UNDER_WAY = 6
# Seconds for a host's answer, the first of which waits for what another step does there.
ANSWER = 60


class HostRouter:
    """
    The router of one host.

    :param conversation: with the step that does the phases there
    :param host: the host's name
    :param releases: the versions on both sides
    :param what: which changes a hold is about
    """

    def __init__(self, conversation: Conversation, host: str, releases: Sequence[str], what: str) -> None:
        self._conversation, self._host, self._releases, self._what = conversation, host, releases, what
        self._number = 0
        self._since: datetime | None = None
        self.touched: frozenset[str] = frozenset()
        # From before the hold to its end, as seen from here; None where this try didn't see both.
        self.held: tuple[datetime, datetime] | None = None

    def read(self) -> HostSides:
        """Return what it knows."""
        state = self._ask("show")
        prepared = bool(state["hold"]) and state["hold"]["until"] is None
        return HostSides(self._host, Sides.of_json(state), prepared=prepared)

    def hold(self) -> None:
        """Have changes wait for a bound, and see those done that are under way."""
        self._since = datetime.now(UTC)
        self.touched = frozenset(self._ask("hold", self._what, HELD_FOR, UNDER_WAY)["touched"])

    def prepare(self, sides: Sides) -> None:
        """Give it what it decides by once it is released."""
        self._ask("prepare", self._number, new={"sides": sorted(self._releases), **sides.as_json()})

    def release(self) -> None:
        """Have it go on, by what it knows."""
        self._ask("release", self._number)
        if self._since is not None:
            self.held = self._since, datetime.now(UTC)

    @property
    def host(self) -> str:
        """Return the host's name."""
        return self._host

    def _ask(self, verb: str, *words: Any, **new: Any) -> dict[str, Any]:
        try:
            answer = self._conversation.ask({"verb": verb, "words": words, **new}, ANSWER)
        except RemoteStepError as error:
            raise TransientError(str(error)) from error
        if "error" in answer:
            # A hold that is over, a change that takes long: the next try finds another moment.
            raise TransientError(f"{self._host}: {answer['error']}")
        state: dict[str, Any] = answer["state"]
        self._number = state["sequence"]
        return state


class FlipTask(UpgradeTask):
    """
    A task that brings all hosts' routers to a goal.

    :cvar what: the changes that it holds: ``changes`` for all, ``listed`` for those of stacks that are listed elsewhere
    """

    what = "changes"

    @abstractmethod
    def goal(self, plan: Plan) -> Goal:
        """Return where it goes."""

    def flip(self, plan: Plan) -> dict[str, Any]:
        """
        Bring all hosts' routers to the goal.

        :return: for the report, when it began and ended, how long each host held, and what stays on the other side
        """
        began = datetime.now(UTC)
        if not (fronts := self._fronts(plan)):
            return self._told(began, None, [])
        with ExitStack() as stack, ThreadPoolExecutor(len(fronts)) as pool:
            routers = list(pool.map(partial(self._router, plan, stack), fronts))
            # So that nothing is looked up or set up while changes wait.
            self.clients.database.trees_in_flight()
            sides = bring_to(
                self.goal(plan), routers, partial(self.sides_after, plan, routers), partial(_at_once, pool)
            )
        return self._told(began, sides, routers)

    def _told(self, began: datetime, sides: Sides | None, routers: Sequence[HostRouter]) -> dict[str, Any]:
        self.log.info("Every host decides by %s now" if sides else "Every host decides so already%s", sides or "")
        return {
            "began": began.isoformat(),
            "ended": datetime.now(UTC).isoformat(),
            "moved": sides is not None,
            "in_flight": len(sides.stacks) if sides else 0,
            **_held(routers),
        }

    def sides_after(self, plan: Plan, routers: Sequence[HostRouter], now: Sides) -> Sides:
        """
        Read what is in flight, and return by what to decide after the flip.

        :param plan: the run's plan
        :param routers: those that hold
        :param now: by what is decided before it
        """
        touched = frozenset[str]().union(*(router.touched for router in routers))
        stacks = self.clients.database.trees_in_flight(touched)
        # Nobody works on what was stranded before the run: an update on the target's side can bring it to an end.
        stacks = [replace(each, in_progress=each.in_progress and each.id not in plan.stranded) for each in stacks]
        return sides_after(now, self.goal(plan), stacks)

    def _router(self, plan: Plan, stack: ExitStack, front: Deployment) -> HostRouter:
        conversation = stack.enter_context(self.clients.host(front.host).conversation(steps.route(front)))
        return HostRouter(conversation, front.host.name, (plan.source, plan.target), self.what)

    def _fronts(self, plan: Plan) -> list[Deployment]:
        """Return the target wherever a router is in front of it."""
        states = hosts.states_of(self.cloud, self.cloud.api_hosts)
        hosts.refuse_unless_in_front(states, plan.target)
        # Closed by an earlier try; or never swept, before a run that takes the sweep back.
        alone = [name for name, state in states.items() if state.closed(plan.target)]
        routed = [state for state in states.values() if state.router]
        if alone and (apart := [state.host.name for state in routed if not state.only_on(plan.target)]):
            raise UpgradeError(
                f"{', '.join(apart)}: an API there hands requests to {plan.source} while {', '.join(alone)} knows "
                f"{plan.target} alone, expected one rule for all: see docs/flip.md, then clear this task"
            )
        return [self.cloud.deployment(state.host, self.cloud.release(plan.target)) for state in routed]


class FlipOperator(FlipTask):
    """Send what is new to the target's side, on all hosts at one moment, and keep what is in flight on the source's."""

    def goal(self, plan: Plan) -> Goal:
        """Go to the target."""
        return Goal(plan.target)

    def run(self, plan: Plan, context: Context) -> dict[str, Any]:
        """Flip, unless that is done."""
        return self.flip(plan)

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Say what would stay where it is, as it is now."""
        in_flight = len(self.clients.database.stacks_in_progress())
        return PlannedAction(
            f"hold what changes a stack for a second or two, {HELD_FOR} s at most; then send what is new to "
            f"{plan.target}, and keep the stacks in flight, {in_flight} as it is now, on {plan.source}"
        )


class CloseOperator(FlipTask, StepsOperator):
    """End the source's side: nothing is in flight there any more, so its APIs beside the target's stop."""

    what = "listed"

    def goal(self, plan: Plan) -> Goal:
        """Leave nothing on the source's side."""
        return Goal(plan.target, closed=True)

    def run(self, plan: Plan, context: Context) -> dict[str, Any]:
        """Close the routers, unless that is done, then stop the APIs beside."""
        closed = self.flip(plan)
        if left := closed["in_flight"]:
            raise TransientError(
                f"{left} stacks were changed on the side of {plan.source} since it had drained, expected none; the "
                f"others are on {plan.target} now. The next try looks again; if they don't end, clear "
                "wait_until_drained, which names them"
            )
        StepsOperator.run(self, plan, context)
        return {**closed, "counts": self._counts(plan)}

    def _counts(self, plan: Plan) -> dict[str, Counts]:
        """Return what the routers have done, for the report, which can do without a host's."""
        found = counts_of(self.cloud, plan.target)
        for name, counts in found.items():
            if isinstance(counts, Unavailable):
                self.log.warning("%s: the report will be without what its router has done (%s)", name, counts.reason)
        return {name: counts for name, counts in found.items() if not isinstance(counts, Unavailable)}

    def sides_after(self, plan: Plan, routers: Sequence[HostRouter], now: Sides) -> Sides:
        """Take from the list what is done; the rest is for the next try, so that each of them has less to wait for."""
        after = super().sides_after(plan, routers, now)
        # What was made below a listed stack meanwhile is found by that one.
        left = {stack: side for stack, side in after.stacks.items() if stack in now.stacks}
        return replace(after, stacks=left, closed=not after.stacks)

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Stop the source's APIs beside, on every host, and take the router out of the services' files."""
        return [
            PlacedStep(
                self.clients.machine(host),
                steps.close_router(
                    self.cloud.deployment(host, self.cloud.release(plan.source)),
                    self.cloud.deployment(host, self.cloud.release(plan.target)),
                ),
            )
            for host in self.cloud.api_hosts
        ]

    def summary(self, plan: Plan) -> str:
        """Name the release that ends."""
        return (
            f"send the last stacks' requests to {plan.target}, then stop the APIs of {plan.source} beside it and take "
            "the router out of the services' files"
        )

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Show the steps."""
        return StepsOperator.preview(self, plan, context)


class StartBesideOperator(StepsOperator):
    """Start the source's APIs once more on the run's hosts, for the target's to hand requests to."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Start them on every host of the run that needs them; those that run are left running."""
        states = hosts.states_of(self.cloud, [host for host in map(self.cloud.host, plan.hosts) if host.api_roles])
        source, target = self.cloud.release(plan.source), self.cloud.release(plan.target)
        return [
            PlacedStep(
                self.clients.machine(state.host),
                steps.start_beside(
                    self.cloud.deployment(state.host, source), self.cloud.deployment(state.host, target)
                ),
            )
            for state in states.values()
            if not state.closed(plan.target)
        ]

    def idle(self, plan: Plan) -> str:
        """Say where users are."""
        return f"on every host of the run users are on {plan.target} alone"

    def run(self, plan: Plan, context: Context) -> Any:
        """Start them, and skip what the run doesn't need later on."""
        super().run(plan, context)
        skip_unneeded(self, plan)

    def summary(self, plan: Plan) -> str:
        """Name the release."""
        return f"start the APIs of {plan.source} once more, on ports of their own, and see them answer"


class ProveOperator(UpgradeTask):
    """Prove the target's side on every host of the run, by a way that users don't have, before they are sent there."""

    def run(self, plan: Plan, context: Context) -> None:
        """Create, update and delete a stack through each host's API, all hosts side by side."""
        target, states = self.cloud.release(plan.target), hosts.states_of(self.cloud, self._hosts(plan))
        # Where the other side is over, every user is the proof.
        fronts = [self.cloud.deployment(state.host, target) for state in states.values() if state.router]
        if not fronts:
            return
        hooks = [self.clients.host(front.host) for front in fronts]
        with ThreadPoolExecutor(len(fronts)) as pool:
            _at_once(pool, list(zip(fronts, hooks, strict=True)), lambda each: self._prove(*each))

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Name the hosts."""
        names = ", ".join(host.name for host in self._hosts(plan))
        return PlannedAction(f"create, update and delete a small stack through {plan.target} alone on {names}")

    def _hosts(self, plan: Plan) -> list[Host]:
        return [host for host in map(self.cloud.host, plan.hosts) if "api" in host.roles]

    def _prove(self, front: Deployment, hook: HeatHostHook) -> None:
        token = secrets.token_hex(32)
        hook.run_step(steps.probe(front, token))
        try:
            listen = front.listen("api")
            with hook.local_url(listen.address, listen.port) as url:
                self._use(self.clients.api.past_the_balancer(url, token), front)
        finally:
            hook.run_step(steps.probe(front))

    def _use(self, api: HeatApiHook, front: Deployment) -> None:
        host, release = front.host.name, front.release.version
        found = api.build_info()
        if set(found) != {release}:
            raise UpgradeError(
                f"{host}: API {found.api} and engine {found.engine} answer on its own side, expected {release} "
                "for both: see the API's log and [revision] heat_revision in its heat.conf, then clear this task"
            )
        name = api.run_smoke_stack()
        self.log.info("%s: %s has created, updated and deleted the stack %s", host, release, name)


def _at_once(pool: ThreadPoolExecutor, things: Sequence[Thing], act: Callable[[Thing], Any]) -> list[Any]:
    def tried(thing: Thing) -> Any:
        try:
            return act(thing)
        except Exception as error:
            return error

    results = list(pool.map(tried, things))
    raise_first([result for result in results if isinstance(result, Exception)])
    return results


def _held(routers: Sequence[HostRouter]) -> dict[str, Any]:
    """Return how many seconds each host held changes, and from when to when any did."""
    held = {router.host: router.held for router in routers if router.held}
    if not held:
        return {"held": {}}
    return {
        "held": {host: round((end - begin).total_seconds(), 3) for host, (begin, end) in held.items()},
        "held_from": min(begin for begin, _ in held.values()).isoformat(),
        "held_until": max(end for _, end in held.values()).isoformat(),
    }
