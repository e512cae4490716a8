"""One run of the suite under traffic, its report, and the page of all reports."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lab.airflow.client import AirflowApiError
from lab.cloud.model import Lab
from lab.faults.campaign import Campaign
from lab.faults.host import forget_release
from lab.faults.matrix import Report, beyond, unexplained
from lab.faults.operator import bring_to_end
from lab.faults.plans import Plan
from lab.faults.strikes import Strikes
from lab.processes import LabError
from lab.scenarios.under_traffic import under_traffic
from lab.traffic import Account


def carry_out(lab: Lab, plan: Plan) -> Report:
    """
    Drive one run through its faults while users keep creating stacks, and report what became of each task.

    :param lab: the lab, on the plan's source; Airflow runs there.
    :param plan: the plan.
    """
    bring_to_end(lab, plan.source)
    if plan.anew:
        forget_release(lab, plan.target)
    tasks = plan.tasks(lab)
    faults = plan.faults(tasks)
    struck = {task: faults.get(task.task_id, ()) for task in tasks}
    campaign = Campaign(lab, plan.source, plan.target, struck)
    report = Report(f"{plan.name}: {plan.source} to {plan.target}", campaign.cells, campaign.strikes.missed)
    begun = time.monotonic()
    report.broken, account = under_traffic(lab, f"faults {plan.name}", lambda: _follow(campaign))
    report.seconds = time.monotonic() - begun
    judge(report, campaign.strikes, account)
    return report


def _follow(campaign: Campaign) -> str:
    """Follow a run; return why it was given up, if it was: what has been seen until then is reported, too."""
    try:
        campaign.follow()
    except (LabError, AirflowApiError) as error:
        return str(error)
    return ""


def judge(report: Report, strikes: Strikes, account: Account) -> None:
    """
    Note what users saw of a run, apart from what its faults explain.

    :param report: of the run.
    :param strikes: the faults.
    :param account: of the traffic.
    """
    report.sent, report.failed = account.requests.sent, account.requests.failed
    report.unexplained = unexplained(account.requests.failures, strikes.windows)
    stuck = {*account.stuck, *account.unsettled}
    report.stranded = sorted(stuck & strikes.touched)
    report.stuck = sorted(stuck - strikes.touched)
    report.crossed = beyond({*account.stolen, *account.created_twice}, strikes.taken_up)


def against(reports: Sequence[Report]) -> list[str]:
    """Return what speaks against runs under faults; nothing if all went as it should."""
    reasons = []
    for report in reports:
        reasons += [f"{report.title}: given up: {report.broken}"] if report.broken else []
        reasons += [f"{report.title}: lost: {cell}" for cell in report.lost]
        reasons += [f"{report.title}: missed: {cell}" for cell in report.missed]
        reasons += [f"{report.title}: a {f.kind} failed: {f.error}" for f in report.unexplained[:5]]
        reasons += [f"{report.title}: stuck: {name}" for name in report.stuck]
        reasons += [f"{report.title}: worked on by two engines: {name}" for name in report.crossed]
    return reasons
