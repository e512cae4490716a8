"""Install and configure a release beside the running one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade import hosts
from heat_upgrade.operators.base import HostOperator
from heat_upgrade.operators.job import JobOperator
from heat_upgrade.remote import steps
from heat_upgrade.run.dry_run import Command, Intent

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.remote.step import Step
    from heat_upgrade.run.plan import Plan


class PrepareHostOperator(JobOperator, HostOperator):
    """Give a host the target's venv, configuration and services; touch no service."""

    def work(self, plan: Plan) -> tuple[Host, Step]:
        """Return the step; what is there already is left as it is."""
        return self.host, steps.prepare(self.source(plan), self.target(plan), keep_config=plan.going_back)

    def rehearse(self, plan: Plan, context: Context) -> Intent:
        """Ask the host what is there, and how the new heat.conf would differ from the running release's."""
        host, step = self.work(plan)
        told = hosts.hook_for(self.cloud, host).run_step(steps.preview_prepare(step))
        services = (
            f"write {', '.join(told['services'].split())}"
            if told["services"]
            else "leave the services' files as they are"
        )
        return Intent(
            "; ".join([told["release"], told["config"], services]),
            (Command.of(host.name, step),),
            tuple(line for name, line in told.items() if name.startswith("diff/")),
        )
