"""Heat's database: the backup and the migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade import hosts
from heat_upgrade.operators.job import JobOperator
from heat_upgrade.remote import steps

if TYPE_CHECKING:
    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.remote.step import Step
    from heat_upgrade.run.plan import Plan


class BackUpDatabaseOperator(JobOperator):
    """Dump the database on the backup host, unless this upgrade has done so or nothing is left to upgrade."""

    idle = "no migration is ahead, so no backup is taken"

    def does(self, plan: Plan) -> str:
        """Say where the dump would lie."""
        return f"dump the database into {self.cloud.backup.directory}, unless a fresh dump for {plan.target} is there"

    def work(self, plan: Plan) -> tuple[Host, Step] | None:
        """Return the step where a migration is ahead."""
        if plan.going_back or self._is_upgraded(plan.target):
            self.log.info(self.idle)
            return None
        host = self.cloud.backup_host
        source = self.cloud.deployment(host, self.cloud.release(plan.source))
        return host, steps.back_up_database(source, plan.target, self.cloud.backup.directory)

    def finish(self, plan: Plan, results: dict[str, str]) -> dict[str, str]:
        """Return where the backup lies."""
        return {"host": self.cloud.backup_host.name, **results}

    def _is_upgraded(self, target: str) -> bool:
        # Asked like this, as in a cold upgrade nothing runs now.
        states = hosts.states_of(self.cloud, self.cloud.hosts)
        return all(state.upgraded(target) for state in states.values())


class SyncDatabaseOperator(JobOperator):
    """Migrate the database with the target's code, on the first host that has it."""

    idle = "Heat has no way back in its schema, and the newer one serves the older release too"

    def does(self, plan: Plan) -> str:
        """Say what would bring the schema to the target."""
        return f"migrate the database to {plan.target}'s newest revision, unless it is there, after heat-status"

    def work(self, plan: Plan) -> tuple[Host, Step] | None:
        """Return the step; a database that is there already, or newer, is left as it is."""
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        if plan.going_back:
            self.log.info(self.idle)
            return None
        host = self.cloud.host(plan.hosts[0])
        target = self.cloud.deployment(host, self.cloud.release(plan.target))
        revision = HeatDatabaseHook(self.cloud.connections.database).revision() or "none"
        return host, steps.sync_database(target, revision)
