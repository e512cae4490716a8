"""Heat's database: the backup and the migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade import hosts
from heat_upgrade.operators.steps import Results, StepsOperator
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import PlacedStep

if TYPE_CHECKING:
    from heat_upgrade.run.plan import Plan


class BackUpDatabaseOperator(StepsOperator):
    """Dump the database on the backup host, unless this upgrade has done so or nothing is left to upgrade."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Take a backup where a migration is ahead."""
        if plan.going_back or self._is_upgraded(plan.target):
            return []
        host = self.cloud.backup_host
        source = self.cloud.deployment(host, self.cloud.release(plan.source))
        step = steps.back_up_database(source, plan.target, self.cloud.backup.directory)
        return [PlacedStep(self.clients.machine(host), step)]

    def summary(self, plan: Plan) -> str:
        """Say where the dump would lie."""
        return f"dump the database into {self.cloud.backup.directory}, unless a fresh dump for {plan.target} is there"

    def idle(self, plan: Plan) -> str:
        """Say that nothing changes in the database."""
        return "no migration is ahead, so no backup is taken"

    def verify(self, plan: Plan, results: Results) -> dict[str, str]:
        """Return where the backup lies."""
        return {"host": self.cloud.backup_host.name, **results[0]}

    def _is_upgraded(self, target: str) -> bool:
        # Asked like this, as in a cold upgrade nothing runs now.
        states = hosts.states_of(self.cloud, self.cloud.hosts)
        return all(state.upgraded(target) for state in states.values())


class SyncDatabaseOperator(StepsOperator):
    """Migrate the database with the target's code, on the first host that has it."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Migrate on the way to a newer release; a database that is there already, or newer, is left as it is."""
        if plan.going_back:
            return []
        host = self.cloud.host(plan.hosts[0])
        target = self.cloud.deployment(host, self.cloud.release(plan.target))
        revision = self.clients.database.revision() or "none"
        return [PlacedStep(self.clients.machine(host), steps.sync_database(target, revision))]

    def summary(self, plan: Plan) -> str:
        """Say what would bring the schema to the target."""
        return f"migrate the database to {plan.target}'s newest revision, unless it is there, after heat-status"

    def idle(self, plan: Plan) -> str:
        """Say that the schema stays."""
        return "Heat has no way back in its schema, and the newer one serves the older release too"
