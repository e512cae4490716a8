"""The state of the whole cloud before an upgrade: everybody is asked once, then judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade import hosts
from heat_upgrade.clients import Clients
from heat_upgrade.hosts import HostState
from heat_upgrade.preflight import ask
from heat_upgrade.preflight.check import Check
from heat_upgrade.preflight.database import DatabaseFacts, Migration, check_database, logins
from heat_upgrade.preflight.facts import HostCheckContext, HostFacts
from heat_upgrade.preflight.hosts import check_host
from heat_upgrade.preflight.rabbitmq import BrokerFacts, check_rabbitmq
from heat_upgrade.preflight.run import RunFacts, check_run
from heat_upgrade.problems import ProblemsError
from heat_upgrade.readings import Unavailable, read
from heat_upgrade.run.move import next_release, plan_move
from heat_upgrade.run.plan import Plan
from heat_upgrade.stranded.rule import STRANDED_AFTER, abandoned

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.sections import Release
    from heat_upgrade.run.move import Move
    from heat_upgrade.run.parameters import RunParameters

States = Mapping[str, HostState]


@dataclass(frozen=True)
class Survey:
    """
    What was found of a cloud; ``take`` asks for it.

    :param cloud: the cloud
    :param parameters: what the run is to do
    :param cold: whether it is a cold upgrade
    :param target: the release that is to come
    :param found: of each host what it runs and has, or why it wasn't told
    :param rotations: of each API behind an HAProxy its status and check
    :param move: from which release to which, or why there is no such move
    :param source: the release that the cloud comes from, None if that isn't known
    :param broker: what RabbitMQ tells
    :param database: what Heat's database tells
    """

    cloud: Cloud
    parameters: RunParameters
    cold: bool
    target: Release
    found: ask.Hosts
    rotations: ask.Rotations
    move: Move | Unavailable
    source: Release | None
    broker: BrokerFacts
    database: DatabaseFacts

    @classmethod
    def take(cls, cloud: Cloud, parameters: RunParameters, *, cold: bool = False) -> Survey:
        """
        Ask hosts, RabbitMQ and the database; who doesn't answer is among the findings.

        :param cloud: the cloud
        :param parameters: what the run is to do
        :param cold: whether it is a cold upgrade
        """
        clients = Clients(cloud)
        target = _target(cloud, parameters, cold=cold)
        found, rotations = ask.ask_all(cloud, target)
        states = _states(found)
        move = _move(cloud, target, states, cold=cold)
        source = _source(cloud, move, states)
        broker = BrokerFacts.read(clients.vhosts, source, target)
        database = DatabaseFacts.read(clients.database, clients.read_work if broker.shows_engines else None)
        return cls(cloud, parameters, cold, target, found, rotations, move, source, broker, database)

    @property
    def hosts(self) -> dict[str, HostFacts]:
        """Return the facts of the hosts that answered."""
        return {name: facts for name, facts in self.found.items() if isinstance(facts, HostFacts)}

    @property
    def going_back(self) -> bool:
        """Return whether the target is the older release."""
        return not isinstance(self.move, Unavailable) and self.move.going_back

    @property
    def canary(self) -> tuple[str, ...]:
        """Return the projects whose new stacks go ahead; none on the way back, on which nobody is to wait."""
        return () if self.cold or self.going_back else self.parameters.canary

    @property
    def remaining(self) -> set[str]:
        """Return the names of the run's hosts whose APIs are still to move, of those that answered."""
        states = _states(self.found)
        return {name for name in self.parameters.hosts if name in states and not self._has_moved(states[name])}

    def checks(self, *, other_runs: Sequence[str], required: timedelta) -> dict[str, list[Check]]:
        """
        Return all checks, by what was asked.

        :param other_runs: the DAGs that have a run over the cloud meanwhile
        :param required: how long a window has to stay open for what users notice
        """
        run = RunFacts(self.move, self.cold, other_runs, required, datetime.now(UTC))
        return {
            f"run of {self.cloud.name}": check_run(self.cloud, self.parameters, run),
            **{name: check_host(facts, self._context(name)) for name, facts in self.found.items()},
            "RabbitMQ": self._rabbitmq_checks(),
            "database": self._database_checks(),
        }

    def plan(self) -> Plan:
        """
        Return what the later tasks go by.

        :raises AirflowFailException: where a check must have failed
        """
        if isinstance(self.move, Unavailable) or isinstance(self.database.work, Unavailable):
            raise AirflowFailException("a plan was asked for after a check had failed, expected none to fail")
        states = _states(self.found)
        return Plan(
            source=self.move.source.version,
            target=self.move.target.version,
            hosts=self.parameters.hosts,
            stranded=tuple(sorted(abandoned(self.database.work, STRANDED_AFTER))),
            delete_old_vhost=self.parameters.delete_old_vhost,
            going_back=self.move.going_back,
            cold=self.cold,
            retired=self.cold and all(state.upgraded(self.target.version) for state in states.values()),
            bounded_wait=60 * self.parameters.drain,
            ignore_windows=self.parameters.ignore_windows,
            dry_run=self.parameters.dry_run,
            approvals=str(self.parameters.approvals),
            canary=self.canary,
            moved=tuple(name for name, state in states.items() if self._has_moved(state)),
        )

    def _has_moved(self, state: HostState) -> bool:
        return state.apis_moved(self.target.version)

    def _context(self, name: str) -> HostCheckContext:
        return HostCheckContext(
            target=self.cloud.deployment(self.cloud.host(name), self.target),
            consumers=self.broker.consumers,
            rotations={role: reading for (host, role), reading in self.rotations.items() if host == name},
            longest=self.database.longest,
            cold=self.cold,
        )

    def _rabbitmq_checks(self) -> list[Check]:
        stopped = self.cold and any(state.stopped for state in _states(self.found).values())
        return check_rabbitmq(self.broker, self.source, self.target, logins(self.hosts, self.source), stopped=stopped)

    def _database_checks(self) -> list[Check]:
        engines = [state for state in _states(self.found).values() if "engine" in state.host.roles]
        migration = Migration(
            source=self.source,
            target=self.target,
            going_back=self.going_back,
            cloud=self.cloud.name,
            starts_engine=not self.cold
            and any(self.target.version not in state.releases("engine") for state in engines),
        )
        backup_host = self.hosts.get(self.cloud.backup_host.name)
        return check_database(self.database, migration, list(self.hosts.values()), backup_host)


def _states(found: ask.Hosts) -> dict[str, HostState]:
    return {name: facts.state for name, facts in found.items() if isinstance(facts, HostFacts)}


def _target(cloud: Cloud, parameters: RunParameters, *, cold: bool) -> Release:
    if parameters.target_release:
        return cloud.release(parameters.target_release)
    # What the hosts are asked in full depends on the target. Who doesn't answer here is found there.
    found = read(lambda: hosts.inspect(cloud, cloud.hosts))
    states = {} if isinstance(found, Unavailable) else found
    known = {name: state for name, state in states.items() if isinstance(state, HostState)}
    return next_release(cloud, _running(known, cold=cold))


def _running(states: States, *, cold: bool) -> dict[str, set[str]]:
    if not cold:
        return {name: state.running for name, state in states.items()}
    # Of a run that was left between the stop and the start, the hosts remember where it came from.
    return {name: state.running or {state.stopped} - {""} for name, state in states.items()}


def _move(cloud: Cloud, target: Release, states: States, *, cold: bool) -> Move | Unavailable:
    stopped = cold and any(state.idle and state.stopped == target.version for state in states.values())
    try:
        return plan_move(cloud, target.version, _running(states, cold=cold), stopped=stopped)
    except ProblemsError as refused:
        # Which move it is can't be told while no host answers.
        return Unavailable(str(refused), retryable=not states)


def _source(cloud: Cloud, move: Move | Unavailable, states: States) -> Release | None:
    """Return the release that the cloud comes from; the oldest that runs, where the move is refused."""
    if not isinstance(move, Unavailable):
        return move.source
    running = set[str]().union(*(state.running for state in states.values()))
    return next((release for release in cloud.releases if release.version in running), None)
