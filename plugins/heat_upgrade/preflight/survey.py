"""One look at the whole cloud before an upgrade: ask everybody, then judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade.drain import Unread
from heat_upgrade.operators.base import Plan
from heat_upgrade.plan import plan_move
from heat_upgrade.preflight import ask
from heat_upgrade.preflight.check import Check, failed, passed
from heat_upgrade.preflight.database import DatabaseFacts, Migration, check_database, logins
from heat_upgrade.preflight.facts import Ahead, HostFacts
from heat_upgrade.preflight.hosts import check_host
from heat_upgrade.preflight.rabbitmq import BrokerFacts, check_rabbitmq
from heat_upgrade.problems import ProblemsError

if TYPE_CHECKING:
    from heat_upgrade.cloud import Cloud, Release
    from heat_upgrade.parameters import RunParameters
    from heat_upgrade.plan import Move


class Survey:
    """
    What is so now, asked of hosts and servers, and judged.

    :param cloud: the cloud
    :param parameters: what the run is to do
    """

    def __init__(self, cloud: Cloud, parameters: RunParameters) -> None:
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook
        from heat_upgrade.hooks.rabbitmq import RabbitMQManagementHook

        self.cloud = cloud
        self.parameters = parameters
        self.target = cloud.release(parameters.target_release)
        self.found, self.rotations = ask.ask_all(cloud, self.target)
        self.hosts = {name: facts for name, facts in self.found.items() if isinstance(facts, HostFacts)}
        self.move = self._move()
        self.source = self._source()
        self.broker = BrokerFacts.read(RabbitMQManagementHook(cloud.connections.rabbitmq), self.source, self.target)
        self.database = DatabaseFacts.read(HeatDatabaseHook(cloud.connections.database), self.broker.live_engines)

    def groups(self) -> dict[str, list[Check]]:
        """Return the checks by what was asked."""
        return {
            f"run of {self.cloud.name}": self._run_checks(),
            **{name: check_host(facts, self._ahead(name)) for name, facts in self.found.items()},
            "RabbitMQ": check_rabbitmq(self.broker, self.source, self.target, logins(self.hosts, self.source)),
            "database": self._database_checks(),
        }

    def plan(self) -> Plan:
        """Return what the later tasks go by; only after no check has failed."""
        if isinstance(self.move, ProblemsError) or isinstance(self.database.stranded, Unread):
            raise AirflowFailException("a plan was asked for after a check had failed, expected none to fail")
        return Plan(
            source=self.move.source.version,
            target=self.move.target.version,
            hosts=self.parameters.hosts,
            stranded=tuple(stack.id for stack in self.database.stranded),
            delete_old_vhost=self.parameters.delete_old_vhost,
            going_back=self.move.going_back,
        )

    def _move(self) -> Move | ProblemsError:
        running = {name: facts.state.running for name, facts in self.hosts.items()}
        try:
            return plan_move(self.cloud, self.target.version, running)
        except ProblemsError as refused:
            return refused

    def _source(self) -> Release | None:
        """Return the release that the cloud comes from; the oldest that runs, where the move is refused."""
        if not isinstance(self.move, ProblemsError):
            return self.move.source
        running = set[str]().union(*(facts.state.running for facts in self.hosts.values()))
        return next((release for release in self.cloud.releases if release.version in running), None)

    def _run_checks(self) -> list[Check]:
        """Return what concerns the run as a whole: its move, and whatever else may forbid it now."""
        return [self._move_check("move")]

    def _move_check(self, name: str) -> Check:
        if isinstance(self.move, ProblemsError):
            return failed(name, str(self.move))
        course = "GOING BACK" if self.move.going_back else "upgrade"
        releases = f"from {self.move.source.version} to {self.move.target.version}"
        return passed(name, f"{course} {releases} on {', '.join(self.parameters.hosts)}")

    def _ahead(self, name: str) -> Ahead:
        return Ahead(
            target=self.cloud.deployment(self.cloud.host(name), self.target),
            consumers=self.broker.consumers,
            rotations={role: reading for (host, role), reading in self.rotations.items() if host == name},
            longest=self.database.longest,
        )

    def _database_checks(self) -> list[Check]:
        engines = [facts.state for facts in self.hosts.values() if "engine" in facts.state.host.roles]
        migration = Migration(
            source=self.source,
            target=self.target,
            going_back=not isinstance(self.move, ProblemsError) and self.move.going_back,
            cloud=self.cloud.name,
            starts_engine=any(self.target.version not in state.releases("engine") for state in engines),
        )
        backup_host = self.hosts.get(self.cloud.backup_host.name)
        return check_database(self.database, migration, list(self.hosts.values()), backup_host)
