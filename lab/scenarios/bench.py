"""`make bench`: the DAG run's time beside that of a plain script with the same remote commands, in one sitting."""

from __future__ import annotations

import sys

from lab.airflow.dag_run import run_upgrade
from lab.airflow.server import start_airflow
from lab.cloud.model import Lab
from lab.scenarios.compare import on_fresh_lab
from lab.scenarios.plain_script import PlainScript

NAME = "bench"
BOUND = 1.2


def main() -> int:
    """Measure both on a fresh lab without traffic; return 0 if the DAG run is within the bound."""
    script = on_fresh_lab(NAME, "full", lambda lab: PlainScript(lab).run())
    dag = on_fresh_lab(NAME, "full", _dag_seconds)
    ratio = dag / script
    print(f"plain script over ssh   {script:7.1f} s")
    print(f"DAG run, drain apart    {dag:7.1f} s")
    print(f"ratio                   {ratio:7.2f}   at most {BOUND}")
    return 0 if ratio <= BOUND else 1


def _dag_seconds(lab: Lab) -> float:
    start_airflow(lab)
    run = run_upgrade(lab, {"target_release": "26.0.2"})
    if run.state != "success":
        raise SystemExit(f"the DAG run ended as {run.state}, expected success: nothing to compare")
    print(f"the DAG run took {run.seconds:.1f} s, {run.drain_seconds:.1f} s of it in the drain's sensor")
    return run.seconds - run.drain_seconds


if __name__ == "__main__":
    sys.exit(main())
