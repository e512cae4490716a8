"""Runs that take their time before the flip, under traffic: users notice nothing of it, however long it lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, dag_id, finished, run_upgrade
from lab.cloud.model import Lab
from lab.scenarios.under_traffic import under_traffic
from lab.traffic import Account
from lab.traffic.moments import Moments
from tests.e2e.labs import answer, explain, in_front, programs, side, there_or_back
from tests.moments import assert_holds

# Ten minutes, and a run of some more; the last stacks may take three.
pytestmark = [pytest.mark.timeout(2400), pytest.mark.long]

SECOND_HOST, FLIP = "approve-wave-2", "approve_flip"
PATIENCE = 600.0  # seconds for the first part of a run on a busy machine
# Seconds for which the cloud stands half-swept, or swept, in all.
STANDS = [pytest.param(60, id="a-minute"), pytest.param(600, id="ten-minutes")]


@dataclass(frozen=True)
class Stand:
    """
    A moment at which a run takes its time.

    :param answering: the release that users meet.
    :param in_front: the release of each host's API that is in front.
    """

    answering: str
    in_front: dict[str, str]


@pytest.fixture
def move(lab: Lab, control: Account) -> tuple[str, str]:
    """Return from which release to which a run goes, wherever the one before has left the lab."""
    return there_or_back(lab)


def stand(lab: Lab, seconds: float) -> Iterator[Stand]:
    """Let time pass, for it is what is asked for here; look at its begin and its end."""
    yield Stand(side(lab), in_front(lab))
    threading.Event().wait(seconds)
    yield Stand(side(lab), in_front(lab))


@pytest.mark.parametrize("seconds", STANDS)
def test_every_question_may_be_answered_late(
    lab: Lab, api: AirflowApi, control: Account, move: tuple[str, str], seconds: int
) -> None:
    source, target = move
    dag, stands = dag_id(lab), dict[str, list[Stand]]()

    def upgrade() -> DagRun:
        api.wait_for_dag(dag)
        run = api.trigger(dag, {"target_release": target, "approvals": "every host"})
        for question in (SECOND_HOST, FLIP):
            api.wait_for_task(dag, run, question, ["awaiting_input"], timeout=PATIENCE)
            stands[question] = list(stand(lab, seconds / 2))
            answer(api, dag, run, question, "Approve", timeout=PATIENCE)
        return finished(api, dag, run, api.wait_for_run(dag, run, timeout=PATIENCE))

    run, traffic = under_traffic(lab, f"late answers {seconds}", upgrade)

    assert run.state == "success", explain(api, run)
    first, *others = (host.name for host in lab.hosts_with("api"))
    half_swept = Stand(source, {first: target} | dict.fromkeys(others, source))
    assert stands == {SECOND_HOST: [half_swept] * 2, FLIP: [Stand(source, dict.fromkeys([first, *others], target))] * 2}
    assert side(lab) == target
    assert programs(lab, source) == []
    assert_holds(traffic, control, run.moments)


@pytest.mark.parametrize("seconds", STANDS)
def test_a_cloud_may_be_left_half_swept(
    lab: Lab, api: AirflowApi, control: Account, move: tuple[str, str], seconds: int
) -> None:
    source, target = move
    first_host, *other_hosts = (host.name for host in lab.hosts)
    stands: list[Stand] = []

    def part(hosts: list[str], then: Callable[[], None] = lambda: None) -> DagRun:
        run = run_upgrade(lab, {"target_release": target, "hosts": hosts})
        assert run.state == "success", explain(api, run)
        then()
        return run

    def upgrade() -> tuple[DagRun, DagRun]:
        return part([first_host], lambda: stands.extend(stand(lab, seconds))), part(other_hosts)

    (begun, done), traffic = under_traffic(lab, f"half-swept {seconds}", upgrade)

    assert api.task_states(begun.dag_id, begun.run_id)["may_flip"] == "skipped"
    assert begun.moments == Moments(begun.moments.began)
    assert stands == [Stand(source, {first_host: target} | dict.fromkeys(other_hosts, source))] * 2
    assert side(lab) == target
    assert programs(lab, source) == []
    # The new side was there from the first part on.
    assert_holds(traffic, control, replace(done.moments, began=begun.moments.began))
