"""A lab before an upgrade: checked, cleaned up, and on time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.airflow import airflow_client
from lab.airflow_api import AirflowApi
from lab.cloud_lab import Lab
from tests.e2e.labs import fresh_lab


@pytest.fixture(scope="package")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return the lab that the stories share: on the first release , where engines come and go."""
    with fresh_lab("e2e-night", request.session) as lab:
        yield lab


@pytest.fixture(scope="package")
def api(lab: Lab) -> AirflowApi:
    """Return a client of the lab's Airflow."""
    return airflow_client(lab)
