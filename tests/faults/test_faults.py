"""Whole runs under faults and under traffic: a few, or all of them with HEAT_UPGRADE_FAULTS=full."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.airflow.server import start_airflow
from lab.cloud.bring_up import bring_up, take_down
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.faults.pages import save, write_page
from lab.faults.plans import FULL, SHORT, Plan
from lab.faults.suite import against, carry_out

pytestmark = pytest.mark.timeout(2400)

FULLY = os.environ.get("HEAT_UPGRADE_FAULTS") == "full"
# Two labs, so that the few and the many can run at once.
NAME = "faults" if FULLY else "faults2"


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return the lab that all runs share; a kept one is gone on with where it is."""
    kept = os.environ.get("HEAT_UPGRADE_KEEP_LAB") == NAME
    if not kept:
        take_down(Lab(NAME), wipe=True)
    lab = Lab(NAME, "small")
    failed, wipe = request.session.testsfailed, False
    try:
        bring_up(lab)
        start_airflow(lab)
        yield lab
        wipe = request.session.testsfailed == failed
    finally:
        if not kept:
            take_down(lab, wipe=wipe)


@pytest.mark.parametrize("plan", FULL if FULLY else SHORT, ids=lambda plan: plan.name.replace(" ", "-"))
def test_no_cell_is_lost(lab: Lab, plan: Plan) -> None:
    assert set(answering_releases(lab).values()) == {plan.source}, "the run before has not left the lab on it"
    report = carry_out(lab, plan)
    if FULLY:
        save(report, plan)
        write_page()
    assert against([report]) == []
    assert set(answering_releases(lab).values()) == {plan.target}
