"""`make bench`: the DAG run's time beside a plain script's with the same commands, and that of a run without work."""

from __future__ import annotations

import sys

from lab.airflow.dag_run import DagRun, run_upgrade
from lab.airflow.server import start_airflow
from lab.cloud.model import Lab
from lab.scenarios.compare import on_fresh_lab
from lab.scenarios.plain_script import PlainScript

NAME = "bench"
BOUND = 1.2
IDLE_BOUND = 60.0  # seconds
TARGET = {"target_release": "26.0.2"}


def main() -> int:
    """Measure all on fresh labs without traffic; return 0 if both runs are within their bounds."""
    script = on_fresh_lab(NAME, "full", lambda lab: PlainScript(lab).run())
    dag, idle = on_fresh_lab(NAME, "full", _dag_seconds)
    ratio = dag / script
    print(f"plain script over ssh    {script:7.1f} s")
    print(f"DAG run, drain apart     {dag:7.1f} s")
    print(f"ratio                    {ratio:7.2f}   at most {BOUND}")
    print(f"a run with nothing to do {idle:7.1f} s at most {IDLE_BOUND:.0f} s")
    return 0 if ratio <= BOUND and idle <= IDLE_BOUND else 1


def _dag_seconds(lab: Lab) -> tuple[float, float]:
    start_airflow(lab)
    run, idle = _successful(lab), _successful(lab)
    print(f"the DAG run took {run.seconds:.1f} s, {run.drain_seconds:.1f} s of it in the drain's sensor")
    return run.seconds - run.drain_seconds, idle.seconds


def _successful(lab: Lab) -> DagRun:
    run = run_upgrade(lab, TARGET)
    if run.state != "success":
        raise SystemExit(f"the DAG run ended as {run.state}, expected success: nothing to compare")
    return run


if __name__ == "__main__":
    sys.exit(main())
