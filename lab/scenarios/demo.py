"""`make demo`: a real rolling upgrade of a real cloud under traffic, and the verdict on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from lab.airflow.dag_run import DagRun, failed_logs, run_upgrade
from lab.airflow.server import airflow_client, airflow_login, start_airflow
from lab.cloud.bring_up import bring_up, take_down
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases, print_status
from lab.scenarios.under_traffic import CONTROL_SECONDS, control_run, under_traffic
from lab.traffic import Account, judge_moments, moments_table, table, verdict

NAME = "demo"
TARGET = "26.0.2"


def main() -> int:
    """Run the demo; return 0 only if its verdict holds."""
    begun = time.monotonic()
    take_down(Lab(NAME), wipe=True)
    lab = Lab(NAME, "full")
    with phase("a cloud of Heat 25.0.2 on four hosts"):
        bring_up(lab)
    with ThreadPoolExecutor(2) as pool:
        airflow = pool.submit(start_airflow, lab)
        with phase(f"control run: {CONTROL_SECONDS:.0f} s of traffic without an upgrade"):
            traffic = control_run(lab, CONTROL_SECONDS)
        # Its last stacks end while the upgrade prepares the hosts, which no user notices.
        control = pool.submit(traffic.stop)
        airflow.result()
        with phase(f"the upgrade to {TARGET}, under the same traffic"):
            run, upgrade = under_traffic(lab, "upgrade", lambda: run_upgrade(lab, {"target_release": TARGET}))
    return judge(lab, run, control.result(), upgrade, time.monotonic() - begun)


def judge(lab: Lab, run: DagRun, control: Account, upgrade: Account, seconds: float) -> int:
    """Print what happened and the verdict; return the exit status."""
    print(f"\n{table(control, upgrade)}\n\n{moments_table(upgrade, control, run.moments)}\n")
    print_status(lab)
    releases = answering_releases(lab)
    against = verdict(upgrade, control) + judge_moments(upgrade, control, run.moments)
    if run.state != "success":
        against.append(f"the DAG run ended as {run.state}\n{failed_logs(airflow_client(lab), run)}")
    against += [
        f"{host} answers with {found}, expected {TARGET}" for host, found in releases.items() if found != TARGET
    ]
    print(f"\nDAG run {run.seconds:.0f} s, {run.drain_seconds:.0f} s of it waiting for the drain; demo {seconds:.0f} s")
    print("VERDICT:", "it holds" if not against else "it does NOT hold")
    for reason in against:
        print(f"  - {reason}")
    login, password = airflow_login(lab)
    print(f"\nAirflow: {lab.airflow_url}/dags/{run.dag_id}/runs/{run.run_id}   login {login}   password {password}")
    print(f"Heat:    {lab.endpoint}   (no login)\n`make stop` ends everything.")
    return 1 if against else 0


@contextmanager
def phase(title: str) -> Iterator[None]:
    """Print a phase's title, and its time when it is over."""
    begun = time.monotonic()
    print(f"== {title}", flush=True)
    yield
    print(f"== done in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
