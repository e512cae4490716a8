"""Everything that is checked before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade import hosts
from heat_upgrade.exceptions import MayPass
from heat_upgrade.operators.base import CloudOperator, Plan, other_runs
from heat_upgrade.parameters import COLD, ROLLING, RunParameters
from heat_upgrade.plan import plan_move
from heat_upgrade.problems import ProblemsError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook
    from heat_upgrade.hosts import HostState
    from heat_upgrade.plan import Move

# Topics, engines' own queues, fanouts and replies; what others read from Heat are its notifications.
HEAT_QUEUE = re.compile(r"(engine|engine_worker|heat-engine-listener)(\.|_fanout_|$)|reply_|notifications\.|amq\.")
# A stack that nobody has worked on for this long, in seconds, is stranded.
STRANDED_AFTER = 60


@dataclass(frozen=True)
class Check:
    """
    The outcome of one check.

    :param name: what was checked
    :param passed: whether it is as it should be
    :param finding: what was found; where it failed, also what was expected and what to do
    :param may_pass: whether a failure may pass by itself
    """

    name: str
    passed: bool
    finding: str
    may_pass: bool = False

    @classmethod
    def failed(cls, name: str, error: Exception) -> Check:
        """Return the outcome of a check that couldn't be made."""
        return cls(name, False, str(error), isinstance(error, MayPass) and not isinstance(error, AirflowFailException))

    def __str__(self) -> str:
        """Return a line of preflight's table."""
        return f"{'passed' if self.passed else 'FAILED'}  {self.name:<28} {self.finding}"


class BrokenCloudOperator(BaseOperator):
    """
    Fail with what is wrong with a cloud file.

    :param problems: the message, with every problem
    """

    def __init__(self, *, problems: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Context) -> None:
        """Refuse to start."""
        raise AirflowFailException(f"the cloud file can't be used, nothing was touched:\n{self.problems}")


class PreflightOperator(CloudOperator):
    """
    Check parameters, hosts, RabbitMQ and the database; give the later tasks their plan.

    :param cold: whether the run is a cold upgrade
    """

    def __init__(self, *, cold: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cold = cold

    def execute(self, context: Context) -> dict[str, Any]:
        """Run every check, show them in one table and refuse to go on if one failed."""
        try:
            parameters = RunParameters.parse(dict(context["params"]), self.cloud, COLD if self.cold else ROLLING)
        except ProblemsError as wrong:
            raise AirflowFailException(str(wrong)) from None
        found = hosts.look_at(self.cloud, self.cloud.hosts)
        states = {name: state for name, state in found.items() if not isinstance(state, Exception)}
        checks = [
            _alone(other_runs(context, self.cloud)),
            *(_reached(name, state, cold=self.cold) for name, state in found.items()),
        ]
        plan = None
        try:
            move = self._move(parameters.target_release, states)
        except ProblemsError as wrong:
            # Which move it is can't be told while no host answers.
            checks.append(Check("move", False, str(wrong), may_pass=not states))
        else:
            plan = self._plan(move, parameters, states, checks)
        return self._conclude(checks, plan)

    def _move(self, target: str, states: dict[str, HostState]) -> Move:
        running = {name: state.running for name, state in states.items()}
        if not self.cold:
            return plan_move(self.cloud, target, running)
        # Of a run that was left between the stop and the start, the hosts remember where it came from.
        running = {name: found or {states[name].stopped} - {""} for name, found in running.items()}
        stopped = any(state.idle and state.stopped == target for state in states.values())
        return plan_move(self.cloud, target, running, stopped=stopped)

    def _plan(self, move: Move, parameters: RunParameters, states: dict[str, HostState], checks: list[Check]) -> Plan:
        stranded: list[str] = []
        course = "GOING BACK" if move.going_back else "cold upgrade" if self.cold else "upgrade"
        hosts_of_run = ", ".join(parameters.hosts)
        checks += [
            Check("move", True, f"{course} from {move.source.version} to {move.target.version} on {hosts_of_run}"),
            _attempt("RabbitMQ", lambda: self._rabbitmq(move, states)),
            _attempt("database", lambda: self._database(move, stranded)),
        ]
        return Plan(
            source=move.source.version,
            target=move.target.version,
            hosts=parameters.hosts,
            stranded=tuple(stranded),
            delete_old_vhost=parameters.delete_old_vhost,
            going_back=move.going_back,
            cold=self.cold,
            retired=self.cold and all(state.upgraded(move.target.version) for state in states.values()),
            bounded_wait=60 * parameters.drain,
            ignore_windows=parameters.ignore_windows,
        )

    def _conclude(self, checks: list[Check], plan: Plan | None) -> dict[str, Any]:
        self.log.info("Preflight of %s\n%s", self.cloud.name, "\n".join(map(str, checks)))
        failed = [check for check in checks if not check.passed]
        if failed or plan is None:
            kind = MayPass if all(check.may_pass for check in failed) else AirflowFailException
            findings = [f"{check.name}: {check.finding}" for check in failed]
            raise kind("preflight failed, nothing was touched:\n" + "\n".join(findings))
        return plan.as_xcom()

    def _rabbitmq(self, move: Move, states: dict[str, HostState]) -> str:
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        rabbitmq = RabbitMQManagementHook(self.cloud.connections.rabbitmq)
        engines = 0
        for release in (move.source, move.target):
            running = [s for s in states.values() if release.version in s.releases("engine")]
            if running:
                engines += _engines_listen(rabbitmq, release.vhost, running)
        _refuse_shared_vhost(rabbitmq, move.source.vhost)
        return f"{engines} engines listen where the cloud file says"

    def _database(self, move: Move, stranded: list[str]) -> str:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        database = HeatDatabaseHook(self.cloud.connections.database)
        rabbitmq = RabbitMQManagementHook(self.cloud.connections.rabbitmq)
        vhosts = [release.vhost for release in (move.source, move.target) if rabbitmq.vhost_exists(release.vhost)]
        live = set[str]().union(*map(rabbitmq.live_engine_ids, vhosts))
        names = []
        for stack in database.stranded_stacks(live, STRANDED_AFTER):
            stranded.append(stack.id)
            names.append(f"{stack.name} ({stack.action}, project {stack.project})")
        found = f"schema at {database.revision()}"
        return found + (f"; stranded before this run, not waited for: {', '.join(names)}" if names else "")


def _alone(others: list[str]) -> Check:
    if others:
        todo = "see that one to its end, or mark it as failed, then trigger this one again"
        return Check(
            "one run at a time",
            False,
            f"{', '.join(others)} has a run in progress, expected one run over a cloud at a time: {todo}",
        )
    return Check("one run at a time", True, "no other upgrade of this cloud is in progress")


def _reached(name: str, state: HostState | Exception, *, cold: bool) -> Check:
    if isinstance(state, Exception):
        return Check.failed(name, state)
    services = ", ".join(f"heat-{role} {release} {s}" for (role, release), s in state.services.items() if s != "absent")
    if state.running or (cold and state.stopped):
        return Check(name, True, services)
    todo = "start Heat there, or correct `layout` and the first release's `unit` in the cloud file"
    if state.stopped:
        todo = f"a cold upgrade has stopped {state.stopped} there and was left at that, so run that one again"
    return Check(name, False, f"none of its services runs ({services or 'none is installed'}), expected some: {todo}")


def _engines_listen(rabbitmq: RabbitMQManagementHook, vhost: str, states: list[HostState]) -> int:
    consumers = rabbitmq.consumers(vhost)
    if deaf := [s.host.name for s in states if not consumers.get(f"engine.{s.heat_host}")]:
        raise AirflowFailException(
            f"the engines of {', '.join(deaf)} don't listen on vhost {vhost!r}, which the cloud file gives to their "
            "release: correct the release's `vhost` (transport_url in heat.conf has it), or see to those engines"
        )
    return len(states)


def _refuse_shared_vhost(rabbitmq: RabbitMQManagementHook, vhost: str) -> None:
    """The drain can't tell Heat's clients from others', so it would never open in a vhost that Heat shares."""
    if not rabbitmq.vhost_exists(vhost):
        return
    if others := sorted(queue for queue in rabbitmq.consumers(vhost) if not HEAT_QUEUE.match(queue)):
        raise AirflowFailException(
            f"vhost {vhost!r} is used by others than Heat (queues {', '.join(others[:5])}), expected a vhost of Heat's "
            "own: move Heat to one first, by [DEFAULT] transport_url and a restart of all its services"
        )


def _attempt(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:
        return Check.failed(name, error)
