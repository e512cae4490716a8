"""A project that goes ahead of all others, under their traffic: taken back twice, then followed by everybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, dag_id, finished
from lab.cloud.mariadb import query
from lab.cloud.model import RELEASES, Lab
from lab.processes import wait_until
from lab.scenarios.under_traffic import under_traffic
from lab.traffic import Account
from tests.e2e.labs import engine_ids, explain, next_move, send_as, side
from tests.moments import assert_holds

pytestmark = [pytest.mark.timeout(2400), pytest.mark.long]

FLIP_CANARY, WATCH, END = "flip_canary", "watch_canary", "end_canary"
CANARY, OTHERS = "c0ffee00c0ffee00c0ffee00c0ffee00", "admin"
PATIENCE = 600.0  # seconds for the first part of a run on a busy machine
# Seconds: longer than what follows a look takes, so that the stack is still in flight then.
WORK = 60
# A check that fails is seen at the next reading; the task that acts on it needs its time on a busy machine.
SEEN_WITHIN = 120.0


@dataclass(frozen=True)
class Look:
    """Who works for whom at a moment: the release of API and engine, and that of the engine that takes a new stack."""

    answering: dict[str, tuple[str, str]]
    working: dict[str, str]


@dataclass(frozen=True)
class Try:
    """A canary of the run: how it was while it lasted, how it ended, and who worked for whom then."""

    ahead: Look
    log: str
    account: dict[str, Any]
    then: Look


@dataclass(frozen=True)
class Story:
    """The run with its canaries, and the others' traffic over all of it."""

    source: str
    target: str
    run: DagRun
    tries: dict[str, Try]
    traffic: Account
    control: Account


class Users:
    """
    Users of two projects.

    :param lab: the lab.
    :param releases: those whose engines may work for them.
    """

    def __init__(self, lab: Lab, *releases: str) -> None:
        self._lab = lab
        self._vhosts = {release: RELEASES[release] for release in releases}
        self._made = 0

    def create(self, project: str, **properties: Any) -> str:
        """Create a stack of one resource."""
        self._made += 1
        template = {
            "heat_template_version": "2021-04-16",
            "resources": {"only": {"type": "OS::Heat::TestResource", "properties": properties}},
        }
        body = {"stack_name": f"canary-{self._made}", "template": template}
        return str(send_as(self._lab, project, "POST", "/stacks", body).json()["stack"]["id"])

    def look(self) -> Look:
        """See who answers each project, and who works on what is new there."""
        info = {project: send_as(self._lab, project, "GET", "/build_info").json() for project in (CANARY, OTHERS)}
        stacks = {project: self.create(project, action_wait_secs={"create": WORK}) for project in info}
        return Look(
            {project: (told["api"]["revision"], told["engine"]["revision"]) for project, told in info.items()},
            {project: self._release_at(stack) for project, stack in stacks.items()},
        )

    def _release_at(self, stack: str) -> str:
        sql = f"SELECT engine_id FROM resource WHERE stack_id = '{stack}' AND engine_id IS NOT NULL"
        wait_until(lambda: bool(query(self._lab, sql)), what=f"an engine is at {stack}")
        ((engine,),) = query(self._lab, sql)
        (release,) = (release for release, vhost in self._vhosts.items() if engine in engine_ids(self._lab, vhost))
        return release

    def unfinished(self) -> list[str]:
        """Return the stacks of these users that are not complete, but for the one that was to fail."""
        rows = query(self._lab, "SELECT name, status FROM stack WHERE name LIKE 'canary-%' AND status <> 'COMPLETE'")
        return [name for name, status in rows if status != "FAILED"]


@pytest.fixture(scope="module")
def story(lab: Lab, api: AirflowApi, control: Account) -> Story:
    source, target = next_move(lab)
    users, dag, tries = Users(lab, source, target), dag_id(lab), dict[str, Try]()

    @contextmanager
    def canary(name: str, run: str) -> Iterator[None]:
        """Look at a canary that is under way, let it be ended, and look again."""
        api.wait_for_task(dag, run, WATCH, ["deferred"], timeout=PATIENCE)
        ahead = users.look()
        yield
        api.wait_for_task(dag, run, END, ["failed", "success"], timeout=SEEN_WITHIN + PATIENCE)
        account = api.xcoms(dag, run, END)["canary"]
        tries[name] = Try(ahead, api.log(dag, run, END), account, users.look())

    def upgrade() -> DagRun:
        api.wait_for_dag(dag)
        run = api.trigger(dag, {"target_release": target, "canary": [CANARY]})
        with canary("a stack fails", run):
            users.create(CANARY, fail=True)
        api.clear_tasks(dag, run, [FLIP_CANARY])
        with canary("somebody rejects it", run):
            api.answer(dag, run, WATCH, "Reject")
        api.clear_tasks(dag, run, [FLIP_CANARY])
        with canary("its time is over", run):
            pass
        return finished(api, dag, run, api.wait_for_run(dag, run, timeout=PATIENCE))

    run, traffic = under_traffic(lab, "canary", upgrade)
    return Story(source, target, run, tries, traffic, control)


TAKEN_BACK = {"a stack fails": "failed", "somebody rejects it": "rejected"}


def test_it_ends_well(lab: Lab, api: AirflowApi, story: Story) -> None:
    assert story.run.state == "success", explain(api, story.run)
    assert side(lab) == story.target


def test_a_canary_s_project_is_on_the_new_side_and_everybody_else_on_the_old_one(story: Story) -> None:
    new, old = story.target, story.source
    assert story.tries
    for name, tried in story.tries.items():
        assert tried.ahead == Look({CANARY: (new, new), OTHERS: (old, old)}, {CANARY: new, OTHERS: old}), name


@pytest.mark.parametrize("name", TAKEN_BACK)
def test_one_that_is_taken_back_leaves_everybody_on_the_old_side(story: Story, name: str) -> None:
    tried, old = story.tries[name], story.source
    assert tried.account["verdict"] == TAKEN_BACK[name]
    assert tried.then == Look(dict.fromkeys((CANARY, OTHERS), (old, old)), dict.fromkeys((CANARY, OTHERS), old))
    assert "was taken back: " in tried.log
    assert "clear flip_canary with all that follows it, and the canary begins again" in tried.log


def test_it_says_why_it_was_taken_back(story: Story) -> None:
    assert "stacks failed" in " ".join(story.tries["a stack fails"].account["errors"])
    assert "rejected by admin" in " ".join(story.tries["somebody rejects it"].account["errors"])


def test_after_its_time_everybody_follows(story: Story) -> None:
    held = story.tries["its time is over"]
    assert (held.account["verdict"], held.account["errors"]) == ("held", [])
    assert held.account["probes"] > 0
    assert "everybody follows" in held.log


def test_what_a_canary_had_in_flight_is_ended_by_the_side_that_had_begun_it(lab: Lab, story: Story) -> None:
    users = Users(lab)
    wait_until(lambda: users.unfinished() == [], what="all of its stacks are complete")


def test_the_report_tells_of_the_canary(api: AirflowApi, story: Story) -> None:
    text = api.report(story.run.dag_id, story.run.run_id)
    assert CANARY in text


def test_nobody_else_notices(story: Story) -> None:
    assert_holds(story.traffic, story.control, story.run.moments)
