"""The lab that several stories share, and their order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.airflow import airflow_client
from lab.airflow_api import AirflowApi
from lab.cloud_lab import Lab
from tests.e2e.labs import fresh_lab

# One after the other they tell the life of one cloud; each works alone as well.
ONE_LIFE = ("test_refusals.py", "test_partial_and_resume.py", "test_going_back.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the stories that share a lab into their order, at the place of the first one."""
    places = [number for number, item in enumerate(items) if item.path.name in ONE_LIFE]
    told = sorted((items[number] for number in places), key=lambda item: ONE_LIFE.index(item.path.name))
    first = places[0] if places else 0
    others = [item for item in items if item.path.name not in ONE_LIFE]
    items[:] = [*others[:first], *told, *others[first:]]


@pytest.fixture(scope="package")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return the lab that the stories of one life share: on the first release until one of them upgrades it."""
    with fresh_lab("e2e-life", request.session) as lab:
        yield lab


@pytest.fixture(scope="package")
def api(lab: Lab) -> AirflowApi:
    """Return a client of the shared lab's Airflow."""
    return airflow_client(lab)
