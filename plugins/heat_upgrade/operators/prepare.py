"""Install and configure a release beside the running one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade import hosts, steps
from heat_upgrade.operators.base import HostOperator

if TYPE_CHECKING:
    from heat_upgrade.operators.base import Plan


class PrepareHostOperator(HostOperator):
    """Give a host the target's venv, configuration and services; touch no service."""

    def upgrade(self, plan: Plan) -> None:
        """Run the step; what is there already is left as it is."""
        step = steps.prepare(self.source(plan), self.target(plan), keep_config=plan.going_back)
        hosts.hook_for(self.cloud, self.host).run_step(step)
