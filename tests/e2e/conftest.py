"""The order of the stories that share a lab, and how tests talk to its Airflow."""

from __future__ import annotations

import pytest

from lab.airflow.client import AirflowApi
from lab.airflow.server import airflow_client
from lab.cloud.model import Lab

# One after the other they tell the life of one cloud; each works alone as well.
ORDER = {
    "lifecycle": (
        "test_refusals.py",
        "test_dry_run.py",
        "test_preflight.py",
        "test_ended_job.py",
        "test_partial_and_resume.py",
        "test_going_back.py",
        "test_approvals.py",
        "test_windows.py",
        "test_stranded_stacks.py",
    ),
    "under_traffic": ("test_upgrades.py", "test_slow_sweep.py", "test_canary.py", "test_guide.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the stories of a folder into their order, at the folder's place."""
    for folder, files in ORDER.items():
        places = [number for number, item in enumerate(items) if item.path.parent.name == folder]
        told = sorted((items[number] for number in places), key=lambda item: files.index(item.path.name))
        for number, item in zip(places, told, strict=True):
            items[number] = item


@pytest.fixture(scope="module")
def api(lab: Lab) -> AirflowApi:
    """Return a client of the Airflow of whatever lab the tests have."""
    return airflow_client(lab)
