"""Stacks that lost their engines at work: found, shown, and brought to an end as an operator says."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from heat_upgrade.stranded.rule import Choice
from lab.airflow.client import AirflowApi
from lab.airflow.server import airflow_client
from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.rabbitmq import live_engines
from lab.processes import wait_until
from lab.traffic.shapes import group
from tests.e2e.labs import LIFE, in_front, send_as

DAG = f"heat_stranded_stacks__{LIFE}"
OTHER_PROJECT = "c0ffee00c0ffee00c0ffee00c0ffee00"
# Seconds: long enough to be met in the middle, short enough to be waited for once more.
WORK = 15
UNCHANGED = 10
PARAMETERS = {"unchanged_minutes": UNCHANGED / 60, "wait_minutes": 3}
PATIENCE = 300.0  # seconds, for a busy machine


def work(value: str = "first", *, create: int = 0, update: int = 0, delete: int = 0, **more: Any) -> dict[str, Any]:
    waits = {"create": create, "update": update, "delete": delete}
    return {"type": "OS::Heat::TestResource", "properties": {"value": value, "action_wait_secs": waits}, **more}


def template(**resources: Any) -> dict[str, Any]:
    return {"heat_template_version": "2021-04-16", "resources": resources}


CHAIN = template(one=work(create=WORK), two=work(depends_on="one"), three=work(depends_on="two"))
CREATED = {
    "chain": CHAIN,
    "wide": template(**{f"part-{number}": work(create=WORK) for number in range(4)}),
    "nested": template(outer=group(2, work(create=WORK))),
    "spared": CHAIN,
    "taken-up": CHAIN,
}
SLOW = {"updated": template(one=work(update=WORK)), "deleted": template(one=work(delete=WORK))}
STRANDED = {*CREATED, *SLOW}


@dataclass
class Users:
    """The owners of the stacks; what is not theirs alone is read in the database."""

    lab: Lab
    ids: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, name: str, body: Any = None) -> requests.Response:
        project = OTHER_PROJECT if name == "wide" else "admin"
        path = f"/stacks/{name}/{self.ids[name]}" if name in self.ids else "/stacks"
        return send_as(self.lab, project, method, path, body)

    def create(self, name: str, template: Any) -> None:
        self.ids[name] = self.send("POST", name, {"stack_name": name, "template": template}).json()["stack"]["id"]

    def states(self) -> dict[str, str]:
        """Return each stack's state, by name."""
        rows = query(self.lab, "SELECT name, action, status FROM stack WHERE owner_id IS NULL AND deleted_at IS NULL")
        return {name: f"{action}_{status}" for name, action, status in rows}

    def traversals(self) -> set[tuple[Any, ...]]:
        """Return what changes in stacks when somebody works on them."""
        return set(query(self.lab, "SELECT id, action, status, current_traversal, updated_at FROM stack"))

    def held(self, *, but_by: Collection[str] = ()) -> set[str]:
        """Return the names of the stacks of which an engine holds a resource that is no nested stack."""
        rows = query(
            self.lab,
            "SELECT s.name, r.engine_id FROM resource r JOIN stack s ON s.id = r.stack_id"
            " WHERE r.engine_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM stack n WHERE n.id = r.nova_instance)",
        )
        return {name.partition("-outer-")[0] for name, engine in rows if engine not in but_by}

    def quiet(self) -> bool:
        """Tell whether no event was written for as long as a stranded stack has to be unchanged."""
        ((seconds,),) = query(self.lab, "SELECT TIMESTAMPDIFF(SECOND, MAX(created_at), UTC_TIMESTAMP()) FROM event")
        return int(seconds) > UNCHANGED


def engine_pids(lab: Lab) -> list[int]:
    """Return the processes of the engines: each master, then its workers, whose title names no path."""
    (release,) = set(in_front(lab).values())
    commands = [f"{host.venv(release)}/bin/heat-engine" for host in lab.hosts]
    files = Path("/proc").glob("[0-9]*/cmdline")
    masters = [int(file.parent.name) for file in files if any(command in title(file) for command in commands)]
    children = [file for pid in masters for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [*masters, *(int(pid) for file in children for pid in file.read_text(encoding="ascii").split())]


def title(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return ""


def kill_engines(lab: Lab) -> set[str]:
    """Kill every engine at once, as a power cut would, wait until new ones listen in their place; return the dead."""
    dead = live_engines(lab)
    pids = engine_pids(lab)
    assert len(pids) == 2 * len(lab.hosts), pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: len(live_engines(lab)) == len(lab.hosts) and not live_engines(lab) & dead, what="new engines listen"
    )
    return dead


@dataclass
class Story:
    """What was asked, and what became of the stacks."""

    users: Users
    api: AirflowApi
    runs: dict[str, str] = field(default_factory=dict)
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, dict[str, str]] = field(default_factory=dict)

    def begin(self, name: str) -> bool:
        """Start a run and wait until it asks; False if it ends without."""
        self.runs[name] = self.api.trigger(DAG, PARAMETERS)
        asks = self._wait(name, lambda tasks: tasks["approve"] == "awaiting_input")
        if asks:
            self.questions[name] = self.api.question(DAG, self.runs[name], "approve")
        return asks

    def answer(self, name: str, option: Choice, leave_alone: list[str]) -> None:
        """Answer, wait for the run's end, and note the stacks' states then."""
        asked = True
        while asked:  # An answer that is faster than Airflow's scheduler is lost: the task is retried, and asks again.
            self.api.answer(DAG, self.runs[name], "approve", option, {"leave_alone": leave_alone})
            asked = self._wait(name, lambda tasks: tasks["approve"] == "awaiting_input" and self._unanswered(name))
        self.states[name] = self.users.states()

    def _unanswered(self, name: str) -> bool:
        return not self.api.question(DAG, self.runs[name], "approve")["response_received"]

    def _wait(self, name: str, until: Any) -> bool:
        return self.api.wait_for_run(DAG, self.runs[name], timeout=PATIENCE, until=until) == "running"

    def tasks(self, name: str) -> dict[str, str]:
        return self.api.task_states(DAG, self.runs[name])

    def log(self, name: str, task_id: str) -> str:
        return self.api.log(DAG, self.runs[name], task_id)


@pytest.fixture(scope="module")
def story(lab: Lab) -> Story:
    users = Users(lab)
    strand(lab, users)
    story = Story(users, airflow_client(lab))
    story.api.wait_for_dag(DAG)

    before = users.traversals()
    story.begin("left")
    story.answer("left", Choice.LEAVE, [])
    assert users.traversals() == before

    story.begin("updated")
    users.send("PATCH", "taken-up", {})
    story.answer("updated", Choice.UPDATE, [users.ids["spared"]])

    story.begin("cancelled")
    story.answer("cancelled", Choice.CANCEL, [])
    story.begin("nothing left")
    return story


def strand(lab: Lab, users: Users) -> None:
    """Have engines die while they work on stacks, and one stack be worked on by those that come after."""
    for name, body in SLOW.items():
        users.create(name, body)
    wait_until(lambda: set(users.states().values()) == {"CREATE_COMPLETE"}, what="the first stacks are complete")
    for name, body in CREATED.items():
        users.create(name, body)
    users.send("PUT", "updated", {"template": template(one=work("second", update=WORK))})
    users.send("DELETE", "deleted")
    wait_until(lambda: users.held() >= STRANDED, what="engines work on every stack", timeout=WORK)
    dead = kill_engines(lab)
    users.create("busy", template(one=work(create=1000)))
    # A part of a stack whose message still lay in its queue is made by the new engines: they have to be done with it.
    wait_until(lambda: users.held(but_by=dead) == {"busy"} and users.quiet(), what="nothing changes any more")


def names_in(question: dict[str, Any]) -> set[str]:
    rows = [row.strip("| ").split(" | ") for row in question["body"].splitlines() if row.startswith("| ")]
    return {row[0] for row in rows[2:] if not row[0].startswith("in it")}


def test_the_question_names_each_stranded_stack_and_no_other(story: Story) -> None:
    assert names_in(story.questions["left"]) == STRANDED
    body = story.questions["left"]["body"]
    assert f"| {OTHER_PROJECT} | CREATE IN_PROGRESS |" in body
    assert "| UPDATE IN_PROGRESS |" in body
    assert "| DELETE IN_PROGRESS |" in body
    assert "in it: nested-outer-" in body
    for name in STRANDED:
        assert story.users.ids[name] in story.log("left", "find")


def test_what_somebody_works_on_is_left_out(story: Story) -> None:
    for question in story.questions.values():
        assert "busy" not in question["body"]
    assert story.users.states()["busy"] == "CREATE_IN_PROGRESS"


def test_without_approval_nothing_is_done(story: Story) -> None:
    assert story.api.run_state(DAG, story.runs["left"]) == "success"
    assert story.tasks("left") == {"find": "success", "approve": "skipped", "end": "skipped", "wait": "skipped"}
    assert {story.states["left"][name] for name in STRANDED} == {
        "CREATE_IN_PROGRESS",
        "UPDATE_IN_PROGRESS",
        "DELETE_IN_PROGRESS",
    }


def test_an_update_ends_each_of_them(story: Story) -> None:
    assert story.api.run_state(DAG, story.runs["updated"]) == "success", story.log("updated", "wait")
    states = story.states["updated"]
    ended = STRANDED - {"spared", "deleted"}
    assert {name: states[name] for name in ended} == dict.fromkeys(ended, "UPDATE_COMPLETE")
    assert "deleted" not in states
    told = {**dict.fromkeys(ended - {"taken-up"}, "UPDATE_COMPLETE"), "deleted": "deleted"}
    table = story.log("updated", "wait")
    for name, end in told.items():
        # Airflow adds fields of its own behind the table's last line.
        assert re.search(rf"^{name} .* {end}(?= level=|$)", table, re.MULTILINE), table


def test_what_its_owner_has_taken_up_since_is_left_to_them(story: Story) -> None:
    assert "it has been taken up since it was found" in story.log("updated", "end")
    assert "it has been taken up since it was found" in story.log("updated", "wait")


def test_the_resources_are_made_in_their_owner_s_project(story: Story) -> None:
    rows = query(story.users.lab, "SELECT DISTINCT tenant FROM stack WHERE name = 'wide'")
    assert rows == ((OTHER_PROJECT,),)


def test_what_was_to_be_left_alone_was_and_is_what_the_next_run_finds(story: Story) -> None:
    assert story.states["updated"]["spared"] == "CREATE_IN_PROGRESS"
    assert names_in(story.questions["cancelled"]) == {"spared"}


def test_a_cancel_ends_it_as_failed(story: Story) -> None:
    assert story.api.run_state(DAG, story.runs["cancelled"]) == "success"
    assert story.states["cancelled"]["spared"] == "CREATE_FAILED"
    assert "CREATE_FAILED: Stack CREATE cancelled" in story.log("cancelled", "wait")


def test_once_nothing_is_stranded_a_run_asks_nobody(story: Story) -> None:
    assert "nothing left" not in story.questions
    assert set(story.tasks("nothing left").values()) == {"skipped"}
    assert story.api.run_state(DAG, story.runs["nothing left"]) == "success"
