"""`make compare`: Heat's upgrade guide by the letter and this upgrade, in the same lab under the same traffic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from lab.airflow.dag_run import DagRun, run_upgrade
from lab.airflow.server import start_airflow
from lab.cloud.bring_up import bring_up, take_down
from lab.cloud.model import FIRST_RELEASE, Lab, Size
from lab.scenarios.guide import Guide
from lab.scenarios.under_traffic import CONTROL_SECONDS, control_run, under_traffic
from lab.traffic import Account, judge_moments, table, verdict

Result = TypeVar("Result")

NAME = "compare"
TARGET = "26.0.2"


def main() -> int:
    """Run both and print them side by side; return 0 if this upgrade lost nothing."""
    guide = on_fresh_lab(NAME, "full", by_the_guide)
    run, control, dag = on_fresh_lab(NAME, "full", by_the_dag)
    print(f"\n{table(control, guide, dag)}")
    against = verdict(dag, control) + judge_moments(dag, control, run.moments)
    print("VERDICT on this DAG:", "it holds" if not against else "it does NOT hold")
    for reason in against:
        print(f"  - {reason}")
    return 1 if against else 0


def on_fresh_lab(name: str, size: Size, upgrade: Callable[[Lab], Result]) -> Result:
    """
    Bring up a lab with the first release, upgrade it and remove it.

    :param name: the lab's name.
    :param size: how many hosts it has.
    :param upgrade: upgrades it and says how that went.
    """
    take_down(Lab(name), wipe=True)
    lab = Lab(name, size)
    try:
        bring_up(lab)
        return upgrade(lab)
    finally:
        take_down(lab, wipe=True)


def by_the_guide(lab: Lab, source: str = FIRST_RELEASE, target: str = TARGET) -> Account:
    """Upgrade a lab the guide's way, under traffic."""
    seconds, account = under_traffic(lab, "the guide", Guide(lab, source, target).run)
    print(f"the guide's way took {seconds:.0f} s")
    return account


def by_the_dag(lab: Lab) -> tuple[DagRun, Account, Account]:
    """Upgrade a lab by the DAG, under traffic; return the run, and the accounts of a control run and of the upgrade."""
    start_airflow(lab)
    control = control_run(lab, CONTROL_SECONDS).stop()
    run, account = under_traffic(lab, "this DAG", lambda: run_upgrade(lab, {"target_release": TARGET}))
    print(f"the DAG run took {run.seconds:.0f} s and ended as {run.state}")
    return run, control, account


if __name__ == "__main__":
    sys.exit(main())
