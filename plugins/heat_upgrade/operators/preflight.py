"""Everything that is checked before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade import hosts
from heat_upgrade.operators.base import CloudOperator, Plan
from heat_upgrade.parameters import RunParameters
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
    """

    name: str
    passed: bool
    finding: str

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
    """Check parameters, hosts, RabbitMQ and the database; give the later tasks their plan."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Run every check, show them in one table and refuse to go on if one failed."""
        try:
            parameters = RunParameters.parse(dict(context["params"]), self.cloud)
        except ProblemsError as wrong:
            raise AirflowFailException(str(wrong)) from None
        found = hosts.look_at(self.cloud, self.cloud.hosts)
        states = {name: state for name, state in found.items() if not isinstance(state, Exception)}
        checks = [_reached(name, state) for name, state in found.items()]
        plan = None
        try:
            move = plan_move(self.cloud, parameters.target_release, {n: s.running for n, s in states.items()})
        except ProblemsError as wrong:
            checks.append(Check("move", False, str(wrong)))
        else:
            plan = self._plan(move, parameters, states, checks)
        return self._conclude(checks, plan)

    def _plan(self, move: Move, parameters: RunParameters, states: dict[str, HostState], checks: list[Check]) -> Plan:
        stranded: list[str] = []
        course = "GOING BACK" if move.going_back else "upgrade"
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
            ignore_windows=parameters.ignore_windows,
        )

    def _conclude(self, checks: list[Check], plan: Plan | None) -> dict[str, Any]:
        self.log.info("Preflight of %s\n%s", self.cloud.name, "\n".join(map(str, checks)))
        failed = [f"{check.name}: {check.finding}" for check in checks if not check.passed]
        if failed or plan is None:
            raise AirflowFailException("preflight failed, nothing was touched:\n" + "\n".join(failed))
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


def _reached(name: str, state: HostState | Exception) -> Check:
    if isinstance(state, Exception):
        return Check(name, False, str(state))
    services = ", ".join(f"heat-{role} {release} {s}" for (role, release), s in state.services.items() if s != "absent")
    idle = [role for role in state.host.roles if not state.releases(role)]
    if len(idle) == len(state.host.roles):
        todo = "start Heat there, or correct `layout` and the first release's `unit` in the cloud file"
        return Check(
            name, False, f"none of its services runs ({services or 'none is installed'}), expected some: {todo}"
        )
    return Check(name, True, services)


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
        return Check(name, False, str(error))
