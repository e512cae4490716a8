"""Install and configure a release beside the running one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from heat_upgrade.operators.steps import HostOperator
from heat_upgrade.remote import steps

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.remote.step import PlacedStep
    from heat_upgrade.run.dry_run import PlannedAction
    from heat_upgrade.run.plan import Plan


class PrepareHostOperator(HostOperator):
    """Give a host the target's venv, configuration and services; touch no service."""

    def steps(self, plan: Plan) -> list[PlacedStep]:
        """Prepare the host; what is there already is left as it is."""
        return self.here(steps.prepare(self.source(plan), self.target(plan), keep_config=plan.going_back))

    def summary(self, plan: Plan) -> str:
        """Name both releases."""
        return f"install and configure {plan.target} beside {plan.source}"

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Also ask the host what is there, and how the new heat.conf would differ from the running release's."""
        ((machine, step),) = self.steps(plan)
        found = self.clients.connect(machine).run_step(steps.preview_prepare(step))
        services = ", ".join(found["services"].split())
        files = f"write {services}" if services else "leave the services' files as they are"
        return replace(
            super().preview(plan, context),
            summary="; ".join([found["release"], found["config"], files]),
            diff=tuple(line for name, line in found.items() if name.startswith("diff/")),
        )
