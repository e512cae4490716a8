"""A run that asks before every host: no, no answer, yes; servers are told of it; a run back asks once, in the UI."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from lab.airflow.browser import AirflowUi
from lab.airflow.client import AirflowApi, TaskStates
from lab.airflow.dag_run import dag_id
from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.processes import wait_until
from tests.e2e.before_upgrade.sinks import MAIL_PASSWORD, PATH, TOKEN, Sinks
from tests.e2e.labs import NEW, OLD, programs

pytestmark = pytest.mark.timeout(900)

PATIENCE = 300.0  # seconds for one step on a busy machine
SWITCH, SECOND_HOST, RETIRE = "approve_switch", "approve-wave-2", "approve_retire"
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
    back: str = ""
    page: str = ""
    complaints: list[str] = field(default_factory=list)
    engines: dict[str, set[str]] = field(default_factory=dict)
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, TaskStates] = field(default_factory=dict)
    releases: dict[str, set[str]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)

    def asked(self, step: str, task_id: str) -> None:
        """Wait for a question, and keep it and what answers meanwhile."""
        self.api.wait_for_task(dag_id(self.lab), self.run, task_id, ["awaiting_input"], timeout=PATIENCE)
        self.questions[step] = self.api.question(dag_id(self.lab), self.run, task_id)
        self.releases[step] = set(answering_releases(self.lab).values())

    def answer(self, task_id: str, option: str) -> None:
        """Answer, once more if Airflow has lost it and asks again."""
        asked = True
        while asked:
            self.api.answer(dag_id(self.lab), self.run, task_id, option)
            self.api.wait_for_run(
                dag_id(self.lab), self.run, timeout=PATIENCE, until=lambda tasks: self._over(tasks, task_id)
            )
            asked = self.api.task_states(dag_id(self.lab), self.run)[task_id] == "awaiting_input"

    def _over(self, tasks: TaskStates, task_id: str) -> bool:
        if tasks[task_id] == "awaiting_input":
            return not self.api.question(dag_id(self.lab), self.run, task_id)["response_received"]
        return tasks[task_id] in ("success", "failed")

    def ends(self, step: str, task_id: str = "") -> None:
        """Wait for the run's end, and keep its states."""
        state = self.api.wait_for_run(dag_id(self.lab), self.run, timeout=PATIENCE)
        self.states[step] = {"run": state, **self.api.task_states(dag_id(self.lab), self.run)}
        self.releases[step] = set(answering_releases(self.lab).values())
        if task_id:
            self.logs[step] = self.api.log(dag_id(self.lab), self.run, task_id)

    def clear(self) -> None:
        """Clear the first question and all that follows it."""
        self.api.clear_tasks(dag_id(self.lab), self.run, [SWITCH])


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

    story.asked("first", SWITCH)
    story.answer(SWITCH, "Reject")
    story.ends("rejected", SWITCH)

    write_cloud(lab, approvals={"timeout": 3})
    story.clear()
    story.ends("late", SWITCH)

    write_cloud(lab, approvals={"timeout": 600})
    story.clear()
    story.asked("again", SWITCH)
    story.answer(SWITCH, "Approve")
    story.asked("second host", SECOND_HOST)
    story.answer(SECOND_HOST, "Approve")
    story.ends("approved", "wait_until_drained")
    _go_back(story)
    wait_until(lambda: sum("is done" in mail for mail in told.letters()) == 2, what="both ends are told")
    return story


def _go_back(story: Story) -> None:
    """Go back in a run that is answered in the UI, as people do."""
    lab, api, dag = story.lab, story.api, dag_id(story.lab)
    story.back = api.trigger(dag, {"target_release": OLD, "approvals": "before the old engines stop"})
    api.wait_for_task(dag, story.back, RETIRE, ["awaiting_input"], timeout=PATIENCE)
    story.releases["before the engines stop"] = set(answering_releases(lab).values())
    story.engines["before the engines stop"] = {release for release in (OLD, NEW) if programs(lab, release)}
    with AirflowUi(lab) as ui:
        story.page = ui.answer(dag, story.back, RETIRE, "Approve")
        story.complaints = ui.complaints()
    assert api.wait_for_run(dag, story.back, timeout=PATIENCE) == "success", api.task_states(dag, story.back)


AFTER_SWITCH = {"may_switch", "controller_1.leave_rotation", SECOND_HOST, "wait_until_drained", "retire.controller_1"}


def test_the_question_shows_what_was_done_and_what_comes_next(story: Story) -> None:
    question = story.questions["first"]
    assert question["subject"] == f"Heat in {story.lab.name}: switch the APIs to {NEW}?"
    assert question["options"] == ["Approve", "Reject"]
    for host in ("controller-1", "controller-2"):
        assert f"| {host} | yes | {OLD}, {NEW} | {OLD} | to move |" in question["body"]
    assert "No stack is in progress" in question["body"]
    assert "You are asked again before each further host" in question["body"]
    assert story.releases["first"] == {OLD}


@pytest.mark.parametrize("step", ["rejected", "late"])
def test_without_approval_nothing_runs_any_more(step: str, story: Story) -> None:
    states = story.states[step]
    assert states["run"] == "failed"
    assert states[SWITCH] == "failed"
    assert {states[task] for task in AFTER_SWITCH} == {"upstream_failed"}
    assert story.releases[step] == {OLD}


def test_the_log_says_who_has_stopped_the_run(story: Story) -> None:
    assert "Rejected by admin: the run stops here. Every API still serves as before" in story.logs["rejected"]
    assert "Nobody answered within 3 s, which counts as Reject: the run stops here" in story.logs["late"]
    assert "clear this task with all that follows it" in story.logs["late"]


def test_after_a_rejection_it_is_asked_again_and_goes_on(story: Story) -> None:
    assert "response_received" in story.questions["again"]
    assert not story.questions["again"]["response_received"]
    assert story.states["approved"]["run"] == "success"
    assert story.releases["approved"] == {NEW}


def test_between_the_hosts_it_asks_and_both_releases_serve_meanwhile(story: Story) -> None:
    body = story.questions["second host"]["body"]
    assert f"| controller-1 | yes | {OLD}, {NEW} | {NEW} | moved |" in body
    assert f"| controller-2 | yes | {OLD}, {NEW} | {OLD} | to move |" in body
    assert "answer within minutes" in body
    assert story.releases["second host"] == {OLD, NEW}
    assert story.states["approved"][SECOND_HOST] == "success"


def test_before_the_old_engines_stop_it_is_asked_in_the_ui(story: Story) -> None:
    assert story.complaints == []
    assert f"stop the engines of {NEW}?" in story.page
    assert "No stack is in progress" in story.page
    # The APIs have moved, and nobody waits for the engines that are left.
    assert story.releases["before the engines stop"] == {OLD}
    assert story.engines["before the engines stop"] == {OLD, NEW}
    assert programs(story.lab, NEW) == []


def test_what_is_not_to_be_asked_passes(story: Story) -> None:
    states = story.api.task_states(dag_id(story.lab), story.back)
    assert {states[task] for task in (SWITCH, RETIRE)} == {"success"}
    assert states[SECOND_HOST] == "skipped"
    assert set(answering_releases(story.lab).values()) == {OLD}


def test_the_web_server_hears_of_everything(story: Story) -> None:
    messages = [body for body in story.told.bodies() if body["run_id"] == story.run]
    # Each once, as Airflow may lose an answer that comes at once, and ask again.
    assert list(dict.fromkeys((body["event"], body["task_id"]) for body in messages)) == [
        ("started", "preflight"),
        ("approval", SWITCH),
        ("error", SWITCH),
        ("approval", SECOND_HOST),
        ("drain", "wait_until_drained"),
        ("done", "verify_cloud"),
    ]
    started = messages[0]
    rejected, *_, late = (body for body in messages if body["event"] == "error")
    assert started["dag_id"] == dag_id(story.lab)
    assert f"from {OLD} to {NEW} on controller-1, controller-2" in started["text"]
    assert "Rejected by admin" in rejected["text"]
    assert "clear this task with all that follows it" in rejected["text"]
    link = f"{story.lab.airflow_url}/dags/{dag_id(story.lab)}/runs/"
    assert rejected["link"].startswith(link)
    assert f"/tasks/{SWITCH}" in rejected["link"]
    assert "Nobody answered within 3 s" in late["text"]
    (drain,) = (body for body in messages if body["event"] == "drain")
    assert "old vhost" in drain["text"]


def test_the_mail_server_hears_of_what_it_wants_to(story: Story) -> None:
    letters, heat = story.told.letters(), f"Heat in {story.lab.name}"
    asked = {f"Approval wanted. {heat}: switch the APIs {what}to {NEW}?" for what in ("", "of controller-2 ")}
    ends = {f"{heat}: upgrade to {release} {what}" for release in (NEW, OLD) for what in ("has started", "is done")}
    last = f"Approval wanted. {heat}: stop the engines of {NEW}?"
    assert set(letters) == asked | ends | {last}
    for subject in asked:
        assert f"/tasks/{SWITCH if ' of ' not in subject else SECOND_HOST}/required_actions" in letters[subject]
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
