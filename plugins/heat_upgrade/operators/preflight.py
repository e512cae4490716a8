"""Everything that is checked before anything is touched."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from heat_upgrade.exceptions import TransientError
from heat_upgrade.operators.base import CloudOperator, other_runs
from heat_upgrade.operators.gates import DELAY, canary_time
from heat_upgrade.preflight.check import failures, may_pass, table
from heat_upgrade.preflight.survey import Survey
from heat_upgrade.problems import ProblemsError
from heat_upgrade.read_only import read_only
from heat_upgrade.run.parameters import COLD, ROLLING, RunParameters

if TYPE_CHECKING:
    from airflow.sdk import Context


class BrokenCloudOperator(BaseOperator):
    """
    Fail with what is wrong with a cloud file.

    :param problems: the message, with every problem
    """

    def __init__(self, *, problems: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Context) -> None:
        """Refuse to start."""
        raise AirflowFailException(f"the cloud file can't be used, nothing was touched:\n{self.problems}")


class PreflightOperator(CloudOperator):
    """
    Check parameters, hosts, RabbitMQ and the database; give the later tasks their plan.

    :param cold: whether the run is a cold upgrade
    """

    def __init__(self, *, cold: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cold = cold

    def execute(self, context: Context) -> dict[str, Any]:
        """Make every check, show them in one table and refuse to go on if one failed."""
        params = dict(context["params"])
        if context["dag_run"].run_type == "scheduled":
            params["target_release"] = self.cloud.pending_release
        try:
            parameters = RunParameters.parse(params, self.cloud, COLD if self.cold else ROLLING)
        except ProblemsError as invalid:
            raise AirflowFailException(str(invalid)) from None
        with read_only(self.task_id):
            survey = Survey.take(self.cloud, parameters, cold=self.cold)
            required = self._required(survey)
            groups = survey.checks(other_runs=other_runs(context, self.cloud), required=required)
        self.log.info("Preflight of %s\n%s", self.cloud.name, table(groups))
        if wrong_ones := failures(groups):
            kind = TransientError if may_pass(groups) else AirflowFailException
            raise kind(
                "preflight failed, nothing was touched; fix each of these, then clear this task:\n"
                + "\n".join(wrong_ones)
            )
        return survey.plan().as_xcom()

    def _required(self, survey: Survey) -> timedelta:
        """Return how long a window has to stay open for what users notice."""
        windows = self.cloud.windows
        if windows is None or not survey.remaining:
            return timedelta()
        if self.cold:
            return timedelta(seconds=windows.seconds_per_outage)
        return DELAY + canary_time(self.cloud, survey.canary)
