"""One look at the whole cloud before an upgrade: ask everybody, then judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade import hosts
from heat_upgrade.hosts import HostState
from heat_upgrade.preflight import ask
from heat_upgrade.preflight.check import Check, failed, passed, unavailable
from heat_upgrade.preflight.database import DatabaseFacts, Migration, check_database, logins
from heat_upgrade.preflight.facts import Ahead, HostFacts
from heat_upgrade.preflight.hosts import check_host
from heat_upgrade.preflight.notifications import notifications
from heat_upgrade.preflight.rabbitmq import BrokerFacts, check_rabbitmq
from heat_upgrade.preflight.window import window
from heat_upgrade.problems import ProblemsError
from heat_upgrade.readings import Unavailable, read
from heat_upgrade.run.move import next_release, plan_move
from heat_upgrade.run.plan import Plan

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.sections import Release
    from heat_upgrade.run.move import Move
    from heat_upgrade.run.parameters import RunParameters


class Survey:
    """
    What is so now, asked of hosts and servers, and judged.

    :param cloud: the cloud
    :param parameters: what the run is to do
    :param cold: whether it is a cold upgrade
    :param other_runs: the DAGs that have a run over the cloud meanwhile
    :param time_of_sweep: says for how long users are touched while the APIs of some hosts move, on or back
    """

    def __init__(
        self,
        cloud: Cloud,
        parameters: RunParameters,
        *,
        cold: bool = False,
        other_runs: Sequence[str] = (),
        time_of_sweep: Callable[[set[str], bool], timedelta] = lambda *_: timedelta(),
    ) -> None:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook
        from heat_upgrade.hooks.vhosts import VhostHook

        self.cloud = cloud
        self.parameters = parameters
        self.cold = cold
        self.other_runs = other_runs
        self.time_of_sweep = time_of_sweep
        self.target = self._target()
        self.found, self.rotations = ask.ask_all(cloud, self.target)
        self.hosts = {name: facts for name, facts in self.found.items() if isinstance(facts, HostFacts)}
        self.move = self._move()
        self.source = self._source()
        self.broker = BrokerFacts.read(VhostHook(cloud.connections.rabbitmq), self.source, self.target)
        self.database = DatabaseFacts.read(HeatDatabaseHook(cloud.connections.database), self.broker.live_engines)

    def groups(self) -> dict[str, list[Check]]:
        """Return the checks by what was asked."""
        return {
            f"run of {self.cloud.name}": self._run_checks(),
            **{name: check_host(facts, self._ahead(name)) for name, facts in self.found.items()},
            "RabbitMQ": self._rabbitmq_checks(),
            "database": self._database_checks(),
        }

    def plan(self) -> Plan:
        """Return what the later tasks go by; only after no check has failed."""
        if isinstance(self.move, Unavailable) or isinstance(self.database.stranded, Unavailable):
            raise AirflowFailException("a plan was asked for after a check had failed, expected none to fail")
        return Plan(
            source=self.move.source.version,
            target=self.move.target.version,
            hosts=self.parameters.hosts,
            stranded=tuple(stack.id for stack in self.database.stranded),
            delete_old_vhost=self.parameters.delete_old_vhost,
            going_back=self.move.going_back,
            cold=self.cold,
            retired=self.cold and all(facts.state.upgraded(self.target.version) for facts in self.hosts.values()),
            bounded_wait=60 * self.parameters.drain,
            ignore_windows=self.parameters.ignore_windows,
            dry_run=self.parameters.dry_run,
            approvals=str(self.parameters.approvals),
            moved=tuple(name for name, facts in self.hosts.items() if facts.state.apis_moved(self.target.version)),
        )

    def _target(self) -> Release:
        if self.parameters.target_release:
            return self.cloud.release(self.parameters.target_release)
        # Asked for this alone, as the checks want to know the target. Who doesn't answer is told by them.
        found = read(lambda: hosts.look_at(self.cloud, self.cloud.hosts))
        states = {} if isinstance(found, Unavailable) else found
        known = {name: state for name, state in states.items() if isinstance(state, HostState)}
        return next_release(self.cloud, self._running(known))

    def _running(self, states: Mapping[str, HostState]) -> dict[str, set[str]]:
        if not self.cold:
            return {name: state.running for name, state in states.items()}
        # Of a run that was left between the stop and the start, the hosts remember where it came from.
        return {name: state.running or {state.stopped} - {""} for name, state in states.items()}

    def _move(self) -> Move | Unavailable:
        states = {name: facts.state for name, facts in self.hosts.items()}
        stopped = self.cold and any(state.idle and state.stopped == self.target.version for state in states.values())
        try:
            return plan_move(self.cloud, self.target.version, self._running(states), stopped=stopped)
        except ProblemsError as refused:
            # Which move it is can't be told while no host answers.
            return Unavailable(str(refused), retryable=not self.hosts)

    @property
    def _goes_back(self) -> bool:
        return not isinstance(self.move, Unavailable) and self.move.going_back

    def _source(self) -> Release | None:
        """Return the release that the cloud comes from; the oldest that runs, where the move is refused."""
        if not isinstance(self.move, Unavailable):
            return self.move.source
        running = set[str]().union(*(facts.state.running for facts in self.hosts.values()))
        return next((release for release in self.cloud.releases if release.version in running), None)

    def _run_checks(self) -> list[Check]:
        """Return what concerns the run as a whole: its move, and whatever else may forbid it now."""
        return [
            self._alone("one run at a time"),
            self._course("move"),
            self._window("window"),
            *notifications("notifications", self.cloud.notifications),
        ]

    def _window(self, name: str) -> Check:
        windows, ignored = self.cloud.windows, self.parameters.ignore_windows
        left = {
            facts.state.host.name
            for facts in self.hosts.values()
            if facts.state.host.name in self.parameters.hosts and not facts.state.apis_moved(self.target.version)
        }
        return window(name, windows, self.time_of_sweep(left, self._goes_back), datetime.now(UTC), ignored=ignored)

    def _alone(self, name: str) -> Check:
        if self.other_runs:
            return failed(
                name,
                f"{', '.join(self.other_runs)} has a run in progress, expected one run over a cloud at a time: see "
                "that one to its end, or mark it as failed, then trigger this one again",
            )
        return passed(name, "no other upgrade of this cloud is in progress")

    def _course(self, name: str) -> Check:
        if isinstance(self.move, Unavailable):
            return unavailable(name, self.move)
        course = "GOING BACK" if self.move.going_back else "cold upgrade" if self.cold else "upgrade"
        releases = f"from {self.move.source.version} to {self.move.target.version}"
        return passed(name, f"{course} {releases} on {', '.join(self.parameters.hosts)}")

    def _rabbitmq_checks(self) -> list[Check]:
        stopped = self.cold and any(facts.state.stopped for facts in self.hosts.values())
        return check_rabbitmq(self.broker, self.source, self.target, logins(self.hosts, self.source), stopped=stopped)

    def _ahead(self, name: str) -> Ahead:
        return Ahead(
            target=self.cloud.deployment(self.cloud.host(name), self.target),
            consumers=self.broker.consumers,
            rotations={role: reading for (host, role), reading in self.rotations.items() if host == name},
            longest=self.database.longest,
            cold=self.cold,
        )

    def _database_checks(self) -> list[Check]:
        engines = [facts.state for facts in self.hosts.values() if "engine" in facts.state.host.roles]
        migration = Migration(
            source=self.source,
            target=self.target,
            going_back=self._goes_back,
            cloud=self.cloud.name,
            starts_engine=not self.cold
            and any(self.target.version not in state.releases("engine") for state in engines),
        )
        backup_host = self.hosts.get(self.cloud.backup_host.name)
        return check_database(self.database, migration, list(self.hosts.values()), backup_host)
