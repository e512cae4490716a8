"""A lab whose users never stop, and what their traffic is like without an upgrade."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.airflow.server import start_airflow
from lab.cloud.model import Lab
from lab.scenarios.under_traffic import control_run
from lab.traffic import Account
from tests.e2e.labs import shared_lab

CONTROL_SECONDS = 60

# Its Airflow starts beside the control run, which both need; who wants neither does without.
lab = shared_lab("e2e-traffic", "package", airflow=False)


@pytest.fixture(scope="package")
def control(lab: Lab) -> Account:
    """Send traffic without an upgrade, and start the lab's Airflow meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        airflow = pool.submit(start_airflow, lab)
        account = control_run(lab, CONTROL_SECONDS).stop()
        airflow.result()
    return account
