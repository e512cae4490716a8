"""Install and configure a release beside the running one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade import steps
from heat_upgrade.operators.base import HostOperator
from heat_upgrade.operators.job import JobOperator

if TYPE_CHECKING:
    from heat_upgrade.cloud import Host
    from heat_upgrade.operators.base import Plan
    from heat_upgrade.remote import Step


class PrepareHostOperator(JobOperator, HostOperator):
    """Give a host the target's venv, configuration and services; touch no service."""

    def work(self, plan: Plan) -> tuple[Host, Step]:
        """Return the step; what is there already is left as it is."""
        return self.host, steps.prepare(self.source(plan), self.target(plan), keep_config=plan.going_back)
