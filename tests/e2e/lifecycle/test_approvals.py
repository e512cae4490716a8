"""A run that asks at every host and the flip: no, no answer, yes; and servers are told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from lab.airflow.client import AirflowApi, TaskStates
from lab.airflow.dag_run import dag_id
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.processes import wait_until
from tests.e2e.labs import NEW, OLD, answer, in_front
from tests.e2e.lifecycle.sinks import MAIL_PASSWORD, PATH, TOKEN, Sinks

pytestmark = pytest.mark.timeout(1800)

PATIENCE = 300.0  # seconds for one step on a busy machine
SECOND_HOST, FLIP = "approve-wave-2", "approve_flip"
NOTIFICATIONS = [
    {
        "kind": "smtp",
        "connection": "night_mail",
        "to": ["night@example.org"],
        "events": ["started", "approval", "done"],
    },
    {"kind": "webhook", "connection": "night_hook"},
    {"kind": "webhook", "connection": "night_nobody"},
]


@dataclass
class Story:
    """What was asked, told and left behind at each step."""

    lab: Lab
    api: AirflowApi
    told: Sinks
    run: str = ""
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, TaskStates] = field(default_factory=dict)
    releases: dict[str, set[str]] = field(default_factory=dict)
    in_front: dict[str, dict[str, str]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)

    def asked(self, step: str, task_id: str) -> None:
        """Wait for a question, and keep it and what answers meanwhile."""
        self.api.wait_for_task(dag_id(self.lab), self.run, task_id, ["awaiting_input"], timeout=PATIENCE)
        self.questions[step] = self.api.question(dag_id(self.lab), self.run, task_id)
        self._look(step)

    def answer(self, task_id: str, option: str) -> None:
        """Answer, once more if Airflow has lost it and asks again."""
        answer(self.api, dag_id(self.lab), self.run, task_id, option, timeout=PATIENCE)

    def ends(self, step: str, task_id: str = "") -> None:
        """Wait for the run's end, and keep its states."""
        state = self.api.wait_for_run(dag_id(self.lab), self.run, timeout=PATIENCE)
        self.states[step] = {"run": state, **self.api.task_states(dag_id(self.lab), self.run)}
        self._look(step)
        if task_id:
            self.logs[step] = self.api.log(dag_id(self.lab), self.run, task_id)

    def clear(self, task_id: str) -> None:
        """Clear a question and all that follows it."""
        self.api.clear_tasks(dag_id(self.lab), self.run, [task_id])

    def _look(self, step: str) -> None:
        self.releases[step] = set(answering_releases(self.lab).values())
        self.in_front[step] = in_front(self.lab)


def write_cloud(lab: Lab, **sections: Any) -> None:
    file = lab.clouds_directory / f"{lab.name}.yaml"
    cloud = yaml.safe_load(file.read_text(encoding="utf-8"))
    cloud["drain"]["warn_after"] = 1
    partial = file.with_suffix(".partial")
    partial.write_text(yaml.safe_dump({**cloud, **sections}, sort_keys=False), encoding="utf-8")
    partial.replace(file)


@pytest.fixture(scope="module")
def story(lab: Lab, api: AirflowApi, told: Sinks) -> Story:
    story, dag = Story(lab, api, told), dag_id(lab)
    api.wait_for_dag(dag)
    write_cloud(lab, notifications=NOTIFICATIONS, approvals={"timeout": 600})
    api.reparse(dag)
    story.run = api.trigger(dag, {"target_release": NEW, "approvals": "every host"})

    story.asked("second host", SECOND_HOST)
    story.answer(SECOND_HOST, "Reject")
    story.ends("rejected", SECOND_HOST)

    write_cloud(lab, approvals={"timeout": 3})
    story.clear(SECOND_HOST)
    story.ends("late", SECOND_HOST)

    write_cloud(lab, approvals={"timeout": 600})
    story.clear(SECOND_HOST)
    story.asked("again", SECOND_HOST)
    story.answer(SECOND_HOST, "Approve")
    story.asked("flip", FLIP)
    story.answer(FLIP, "Reject")
    story.ends("flip rejected", FLIP)

    story.clear(FLIP)
    story.asked("flip again", FLIP)
    story.answer(FLIP, "Approve")
    story.ends("approved", "wait_until_drained")
    wait_until(lambda: any("is done" in mail for mail in told.letters()), what="the end is told")
    return story


FIRST_IN_FRONT = {"controller-1": NEW, "controller-2": OLD}
BOTH_IN_FRONT = {"controller-1": NEW, "controller-2": NEW}
AFTER_FLIP = {"may_flip", "flip", "wait_until_drained", "approve_retire", "close", "retire", "verify_cloud"}
AFTER_SECOND_HOST = {"controller_2.leave_rotation", "controller_2.switch_api", "prove_new_side", FLIP, *AFTER_FLIP}
# Each end without an approval: the question, what doesn't run after it, and which APIs are in front by then.
UNAPPROVED = {
    "rejected": (SECOND_HOST, AFTER_SECOND_HOST, FIRST_IN_FRONT),
    "late": (SECOND_HOST, AFTER_SECOND_HOST, FIRST_IN_FRONT),
    "flip rejected": (FLIP, AFTER_FLIP, BOTH_IN_FRONT),
}


def test_between_the_hosts_it_shows_what_was_done_and_what_comes_next(story: Story) -> None:
    question = story.questions["second host"]
    assert question["subject"] == f"Heat in {story.lab.name}: switch the APIs of controller-2 to {NEW}?"
    assert question["options"] == ["Approve", "Reject"]
    assert f"| controller-1 | yes | {OLD}, {NEW} | {NEW} | moved |" in question["body"]
    assert f"| controller-2 | yes | {OLD}, {NEW} | {OLD} | to move |" in question["body"]
    assert "No stack is in progress" in question["body"]
    assert f"the APIs of {NEW} get in front on controller-2, and no others yet" in question["body"]
    assert f"Users stay with {OLD}, however long the answer takes" in question["body"]


def test_before_the_flip_it_asks_for_the_users(story: Story) -> None:
    question = story.questions["flip"]
    assert question["subject"] == f"Heat in {story.lab.name}: send users to {NEW}?"
    for host in ("controller-1", "controller-2"):
        assert f"| {host} | yes | {OLD}, {NEW} | {NEW} | moved |" in question["body"]
    assert f"what is new goes to {NEW} from one moment on" in question["body"]
    assert f"Every request is served by {OLD}, as before" in question["body"]


def test_no_answer_has_to_be_given_within_minutes(story: Story) -> None:
    for question in story.questions.values():
        assert "within minutes" not in question["body"]


def test_until_the_flip_every_answer_is_the_old_release_s_however_many_apis_have_moved(story: Story) -> None:
    for step in ("second host", "again"):
        assert (story.releases[step], story.in_front[step]) == ({OLD}, FIRST_IN_FRONT), step
    for step in ("flip", "flip again"):
        assert (story.releases[step], story.in_front[step]) == ({OLD}, BOTH_IN_FRONT), step


@pytest.mark.parametrize("step", UNAPPROVED)
def test_without_approval_nothing_runs_any_more(step: str, story: Story) -> None:
    question, after, front = UNAPPROVED[step]
    states = story.states[step]
    assert states["run"] == "failed"
    assert states[question] == "failed"
    assert {states[task] for task in after} == {"upstream_failed"}
    assert story.releases[step] == {OLD}
    assert story.in_front[step] == front


def test_the_log_says_who_has_stopped_the_run(story: Story) -> None:
    half_swept = f"The cloud stays half-swept, and every request is served by {OLD} as before"
    assert f"Rejected by admin: the run stops here. {half_swept}" in story.logs["rejected"]
    assert f"Nobody answered within 3 s, which counts as Reject: the run stops here. {half_swept}" in story.logs["late"]
    assert "clear this task with all that follows it" in story.logs["late"]
    swept = f"Every request is served by {OLD}, as before: the APIs of {NEW} hand it over"
    assert f"Rejected by admin: the run stops here. {swept}" in story.logs["flip rejected"]


def test_after_a_rejection_it_is_asked_again_and_goes_on(story: Story) -> None:
    for step in ("again", "flip again"):
        assert "response_received" in story.questions[step]
        assert not story.questions[step]["response_received"]
    assert {story.states["approved"][task] for task in ("run", SECOND_HOST, FLIP)} == {"success"}
    assert story.releases["approved"] == {NEW}


def test_the_web_server_hears_of_everything(story: Story) -> None:
    messages = [body for body in story.told.bodies() if body["run_id"] == story.run]
    # Each once, as Airflow may lose an answer that comes at once, and ask again.
    assert list(dict.fromkeys((body["event"], body["task_id"]) for body in messages)) == [
        ("started", "preflight"),
        ("approval", SECOND_HOST),
        ("error", SECOND_HOST),
        ("approval", FLIP),
        ("error", FLIP),
        ("drain", "wait_until_drained"),
        ("done", "verify_cloud"),
    ]
    started = messages[0]
    rejected, *_, late = (body for body in messages if (body["event"], body["task_id"]) == ("error", SECOND_HOST))
    assert started["dag_id"] == dag_id(story.lab)
    assert f"from {OLD} to {NEW} on controller-1, controller-2" in started["text"]
    assert "Rejected by admin" in rejected["text"]
    assert "clear this task with all that follows it" in rejected["text"]
    link = f"{story.lab.airflow_url}/dags/{dag_id(story.lab)}/runs/"
    assert rejected["link"].startswith(link)
    assert f"/tasks/{SECOND_HOST}" in rejected["link"]
    assert "Nobody answered within 3 s" in late["text"]
    (drain,) = (body for body in messages if body["event"] == "drain")
    assert "old vhost" in drain["text"]


def test_the_mail_server_hears_of_what_it_wants_to(story: Story) -> None:
    letters, heat = story.told.letters(), f"Heat in {story.lab.name}"
    asked = {
        f"Approval wanted. {heat}: switch the APIs of controller-2 to {NEW}?": SECOND_HOST,
        f"Approval wanted. {heat}: send users to {NEW}?": FLIP,
    }
    ends = {f"{heat}: upgrade to {NEW} {what}" for what in ("has started", "is done")}
    assert set(letters) == asked.keys() | ends
    for subject, task in asked.items():
        assert f"/tasks/{task}/required_actions" in letters[subject]
        assert "| controller-1 | yes |" in letters[subject]
    assert {(mail["To"], mail["From"]) for mail in story.told.mails} == {("night@example.org", "heat@example.org")}


def test_secrets_reach_the_servers_and_nobody_else(story: Story) -> None:
    assert set(story.told.logins) == {f"\0heat\0{MAIL_PASSWORD}"}
    assert {(path, headers["Authorization"], headers["X-Hook"]) for path, headers, _ in story.told.posts} == {
        (PATH, f"Bearer {TOKEN}", TOKEN)
    }
    logs = "\n".join(story.api.logs(dag_id(story.lab), story.run).values())
    messages = json.dumps([story.told.bodies(), story.told.letters()])
    for secret in (MAIL_PASSWORD, TOKEN, PATH):
        assert secret not in logs
        assert secret not in messages


def test_a_server_that_does_not_answer_only_shows_in_the_log(story: Story) -> None:
    log = story.api.log(dag_id(story.lab), story.run, "preflight")
    assert "webhook by night_nobody: could not send the message 'started': 127.0.0.1: ConnectionError" in log
    assert "webhook by night_hook: sent the message 'started'" in log
