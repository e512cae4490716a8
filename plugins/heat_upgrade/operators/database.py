"""Heat's database: the backup and the migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade import hosts, steps
from heat_upgrade.operators.job import JobOperator

if TYPE_CHECKING:
    from heat_upgrade.cloud import Host
    from heat_upgrade.operators.base import Plan
    from heat_upgrade.remote import Step


class BackUpDatabaseOperator(JobOperator):
    """Dump the database on the backup host, unless this upgrade has done so or nothing is left to upgrade."""

    def work(self, plan: Plan) -> tuple[Host, Step] | None:
        """Return the step where a migration is ahead."""
        if plan.going_back or self._is_upgraded(plan.target):
            self.log.info("No migration is ahead, so no backup is taken")
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

    def work(self, plan: Plan) -> tuple[Host, Step] | None:
        """Return the step; a database that is there already, or newer, is left as it is."""
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        if plan.going_back:
            self.log.info("Heat has no way back in its schema, and the newer one serves %s too", plan.target)
            return None
        host = self.cloud.host(plan.hosts[0])
        target = self.cloud.deployment(host, self.cloud.release(plan.target))
        revision = HeatDatabaseHook(self.cloud.connections.database).revision() or "none"
        return host, steps.sync_database(target, revision)
