"""Heat's database: the backup and the migration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heat_upgrade import hosts, steps
from heat_upgrade.operators.base import CloudOperator

if TYPE_CHECKING:
    from heat_upgrade.operators.base import Plan

# A dump of a large database is silent for long.
DUMP_SILENCE = 6 * 3600


class BackUpDatabaseOperator(CloudOperator):
    """Dump the database on the backup host, unless this upgrade has done so or nothing is left to upgrade."""

    def upgrade(self, plan: Plan) -> dict[str, Any] | None:
        """Run the step; return where the backup lies."""
        if plan.going_back or self._is_upgraded(plan.target):
            self.log.info("No migration is ahead, so no backup is taken")
            return None
        host = self.cloud.backup_host
        source = self.cloud.deployment(host, self.cloud.release(plan.source))
        step = steps.back_up_database(source, plan.target, self.cloud.backup.directory)
        return {"host": host.name, **hosts.hook_for(self.cloud, host).run_step(step, silence=DUMP_SILENCE)}

    def _is_upgraded(self, target: str) -> bool:
        # Asked like this, as in a cold upgrade nothing runs now.
        states = hosts.states_of(self.cloud, self.cloud.hosts)
        return all(state.upgraded(target) for state in states.values())


class SyncDatabaseOperator(CloudOperator):
    """Migrate the database with the target's code, on the first host that has it."""

    def upgrade(self, plan: Plan) -> None:
        """Run the step; a database that is there already, or newer, is left as it is."""
        from heat_upgrade.hooks.heat_database import HeatDatabaseHook

        if plan.going_back:
            self.log.info("Heat has no way back in its schema, and the newer one serves %s too", plan.target)
            return
        host = self.cloud.host(plan.hosts[0])
        target = self.cloud.deployment(host, self.cloud.release(plan.target))
        revision = HeatDatabaseHook(self.cloud.connections.database).revision() or "none"
        hosts.hook_for(self.cloud, host).run_step(steps.sync_database(target, revision), silence=DUMP_SILENCE)
