"""Messages of a run: what they say, whom they reach, and that nothing of it holds up the run."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import requests
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import BaseHook, BaseNotifier, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.notifications import EVENTS, Event
from heat_upgrade.notifications import messages, send
from heat_upgrade.notifications.webhook import WebhookNotifier, headers_of, url_of
from heat_upgrade.preflight.check import Outcome
from heat_upgrade.preflight.run import notifications
from heat_upgrade.run.plan import Plan
from tests.unit._helpers.clouds.broken import DELETE, edited

THIS = f"{__name__}.Kept"
PLAN = Plan("25.0.2", "26.0.2", ("controller-1", "controller-2"), approvals="every host")
DAG, RUN, LOG = "heat_rolling_upgrade__lab", "manual__1", "http://airflow/dags/lab/runs/1/tasks/t"


class Kept(BaseNotifier):
    """Keep what it is asked to send."""

    template_fields = ("text",)
    sent: list[tuple[str, Any]] = []  # noqa: RUF012 -- shared, as each message has a notifier of its own

    def __init__(self, *, text: str = "{{ message.subject }}", fails: bool = False, hangs: bool = False) -> None:
        super().__init__()
        self.text, self.fails, self.hangs = text, fails, hangs

    def notify(self, context: Any) -> None:
        """Keep the text, or fail."""
        if self.hangs:
            threading.Event().wait()
        if self.fails:
            raise ValueError("hunter2")
        self.sent.append((self.text, context["message"]))


@pytest.fixture(autouse=True)
def _empty() -> None:
    Kept.sent.clear()


def cloud(*entries: dict[str, Any]) -> Cloud:
    return Cloud.model_validate(
        {
            **edited({"windows": DELETE, "pending_release": DELETE, "notifications": list(entries)}),
            "name": "lab",
        }
    )


def kept(*events: str, **arguments: Any) -> dict[str, Any]:
    entry = {"kind": "notifier", "notifier": THIS, "arguments": arguments}
    return {**entry, "events": list(events)} if events else entry


def context(task_id: str = "preflight", exception: Any = None) -> Any:
    instance = mock.Mock(dag_id=DAG, run_id=RUN, task_id=task_id, log_url=LOG)
    instance.xcom_pull.side_effect = lambda task_ids: {"preflight": json.loads(json.dumps(PLAN.as_xcom()))}[task_ids]
    task = SimpleNamespace(
        subject="Heat in lab: go on?", body="**So far** ...", generate_link_to_ui_from_context=lambda context: "answer"
    )
    return {"ti": instance, "task": task, "exception": exception, "params": {"dry_run": False}}


def hear(event: Event, **more: Any) -> Any:
    """Return the one message of an event."""
    send.UpgradeNotifier(cloud=cloud(kept()), event=event)(context(**more))
    ((_, message),) = Kept.sent
    return message


class TestMessages:
    """What is said of each event."""

    def test_the_beginning_and_the_end(self) -> None:
        message = hear("started")
        assert message.subject == "Heat in lab: upgrade to 26.0.2 has started"
        assert "The upgrade from 25.0.2 to 26.0.2 on controller-1, controller-2." in message.text
        assert (message.event, message.cloud, message.dag_id, message.run_id) == ("started", "lab", DAG, RUN)
        assert message.link == LOG
        Kept.sent.clear()
        assert hear("done", task_id="verify_cloud").subject == "Heat in lab: upgrade to 26.0.2 is done"

    def test_a_run_over_some_of_the_hosts_says_that_others_are_left(self) -> None:
        message = hear("done", task_id="may_flip")
        assert message.subject == "Heat in lab: this run is done, hosts remain"
        assert "25.0.2 serves all users, for as long as you like" in message.text

    def test_a_question_is_told_with_the_place_to_answer_it(self) -> None:
        message = hear("approval")
        assert message.subject == "Approval wanted. Heat in lab: go on?"
        assert message.text == "**So far** ..."
        assert message.link == "answer"

    def test_an_error_is_told_with_its_text_and_the_next_step(self) -> None:
        message = hear("error", task_id="controller_1.switch_api", exception=AirflowFailException("got X, expected Y"))
        assert message.subject == "Heat in lab: upgrade has stopped at controller_1.switch_api"
        assert message.text.startswith("got X, expected Y\n\n")
        assert "clear the task with all that follows it" in message.text
        assert message.link == LOG

    @pytest.mark.parametrize(
        ("exception", "told"),
        [
            (KeyError("hunter2"), "KeyError (text withheld: it may hold a secret)"),
            (None, "exited without an error message: see the log"),
        ],
    )
    def test_what_nobody_wrote_to_be_read_is_not_told(self, exception: Any, told: str) -> None:
        assert hear("error", exception=exception).text.startswith(told)

    def test_the_wait_for_a_window(self) -> None:
        lab = cloud(kept("window"))
        send.notify(lab, "window", context(), *messages.window(lab, "Waiting until Saturday"))
        ((_, message),) = Kept.sent
        assert message.subject == "Heat in lab: upgrade waits for a maintenance window"
        assert message.text == "Waiting until Saturday"

    def test_a_long_drain_is_told_from_the_triggerer_with_the_last_reading(self) -> None:
        lab = cloud(kept("drain"))
        parcel = send.pack(lab, "drain", context(), *messages.drain(lab, PLAN, 7200))
        send.send_packed(json.loads(json.dumps(parcel)), "waits for  stack 'web'")
        ((_, message),) = Kept.sent
        assert message.subject == "Heat in lab: the drain takes longer than 30 min"
        assert "for 2 h in all" in message.text
        assert message.text.endswith("The last reading:\n\nwaits for  stack 'web'")

    def test_a_text_is_cut_to_a_length_to_read_and_a_subject_to_a_line(self) -> None:
        message = hear("error", exception=AirflowException("x" * 9000))
        assert len(message.text) < messages.LONGEST + 100
        lab = cloud(kept("error"))
        assert send.message_of(lab, "error", context(), "a\r\nBcc: b" + "x" * 999, "").subject == "a Bcc: b" + "x" * 192


class TestSending:
    """Each way gets its events, and none of them holds up the run."""

    def test_each_hears_of_what_it_wants_to(self) -> None:
        lab = cloud(kept("error", text="of errors"), kept(text="of all"), kept("done", text="of the end"))
        for event in ("started", "error"):
            send.notify(lab, event, context(), "subject", "text")
        assert sorted((message.event, text) for text, message in Kept.sent) == [
            ("error", "of all"),
            ("error", "of errors"),
            ("started", "of all"),
        ]

    @pytest.mark.parametrize("event", EVENTS)
    def test_by_default_all_is_told(self, event: Event) -> None:
        assert len(send.notifiers(cloud(kept()), event)) == 1
        assert send.notifiers(cloud(), event) == []
        assert len(send.notifiers(cloud(kept("done")), event)) == (event == "done")

    def test_what_users_wrote_is_no_template(self) -> None:
        send.notify(cloud(kept()), "error", context(), "{{ ti.log_url }}", "text")
        ((text, _),) = Kept.sent
        assert text == "{{ ti.log_url }}"

    def test_a_notifier_that_fails_shows_in_the_log_alone_without_its_secrets(self, caplog: Any) -> None:
        send.notify(cloud(kept(fails=True), kept()), "done", context(), "subject", "text")
        assert len(Kept.sent) == 1
        warned = [record.message for record in caplog.records if record.name == send.__name__]
        assert f"{THIS}: could not send the message 'done': ValueError (text withheld: it may hold a secret)" in warned

    def test_one_that_hangs_holds_up_nobody(self, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
        monkeypatch.setattr(send, "LIMIT", 0.2)
        began = time.monotonic()
        send.notify(cloud(kept(hangs=True), kept()), "done", context(), "subject", "text")
        assert time.monotonic() - began < 5
        assert len(Kept.sent) == 1
        assert "timed out sending the message 'done'" in caplog.text

    def test_a_dry_run_tells_nobody(self) -> None:
        send.UpgradeNotifier(cloud=cloud(kept()), event="done")(context("verify_cloud") | {"params": {"dry_run": True}})
        assert Kept.sent == []

    def test_a_message_that_can_not_be_made_stops_nothing(self) -> None:
        broken = context()
        broken["ti"].xcom_pull.side_effect = RuntimeError
        send.UpgradeNotifier(cloud=cloud(kept()), event="started")(broken)
        assert Kept.sent == []

    def test_an_e_mail_has_templates_of_its_own_alone(self) -> None:
        (entry,) = cloud({"kind": "smtp", "connection": "mail", "to": ["a@example.org"]}).notifications
        notifier = send.notifier_of(entry)
        assert isinstance(notifier, SmtpNotifier)
        message = send.Message("done", "lab", DAG, RUN, "t", "{{ 1 + 1 }}", "<b>{{ 1 }}</b>", LOG)
        notifier.render_template_fields({"message": message})  # type: ignore[typeddict-unknown-key]
        assert notifier.subject == "{{ 1 + 1 }}"
        assert "&lt;b&gt;{{ 1 }}&lt;/b&gt;" in str(notifier.html_content)
        assert f'href="{LOG}"' in str(notifier.html_content)
        assert (notifier.to, notifier.from_email, notifier.smtp_conn_id) == (["a@example.org"], None, "mail")


class TestWebhook:
    """A webhook's connection holds its URL and what authorises it."""

    @pytest.mark.parametrize(
        ("connection", "url"),
        [
            ({"host": "https://example.org/hook/x?y=z"}, "https://example.org/hook/x?y=z"),
            ({"host": "example.org"}, "https://example.org"),
            ({"host": "example.org", "schema": "http", "port": 8080}, "http://example.org:8080"),
        ],
    )
    def test_the_url(self, connection: dict[str, Any], url: str) -> None:
        assert url_of(Connection(conn_id="hook", conn_type="http", **connection)) == url

    @pytest.mark.parametrize("host", ["", "ftp://example.org", "https:///path"])
    def test_another_one_is_refused(self, host: str) -> None:
        with pytest.raises(AirflowException, match="connection hook names no HTTP server"):
            url_of(Connection(conn_id="hook", conn_type="http", host=host))

    def test_the_headers(self) -> None:
        extra = json.dumps({"headers": {"X-Hook": "a"}})
        assert headers_of(Connection(conn_id="hook", conn_type="http", password="t", extra=extra)) == {
            "Authorization": "Bearer t",
            "X-Hook": "a",
        }
        assert headers_of(Connection(conn_id="hook", conn_type="http")) == {}

    def test_an_error_does_not_tell_the_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connection = Connection(conn_id="hook", conn_type="http", host="https://example.org/secret")
        monkeypatch.setattr(BaseHook, "get_connection", lambda _: connection)
        refused = requests.ConnectionError("Max retries exceeded with url: /secret")
        monkeypatch.setattr(requests, "post", mock.Mock(side_effect=refused))
        made: Any = {"message": send.Message("done", "lab", DAG, RUN, "t", "s", "x", LOG)}
        with pytest.raises(AirflowException) as caught:
            WebhookNotifier(conn_id="hook").notify(made)
        assert str(caught.value) == "example.org: ConnectionError"
        assert caught.value.__cause__ is None


class TestPreflight:
    """What preflight says of them."""

    @pytest.fixture(autouse=True)
    def _connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def get(conn_id: str) -> Connection:
            if conn_id != "there":
                raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
            return Connection(conn_id=conn_id, conn_type="http")

        monkeypatch.setattr(BaseHook, "get_connection", get)

    def test_a_cloud_that_tells_nobody_has_no_such_check(self) -> None:
        assert notifications("notifications", ()) == []

    def test_notifiers_that_work_pass(self) -> None:
        entries = cloud(kept(), {"kind": "webhook", "connection": "there"}).notifications
        (check,) = notifications("notifications", entries)
        assert (check.outcome, check.finding) == (Outcome.PASSED, f"{THIS}, webhook by there")

    @pytest.mark.parametrize(
        ("entry", "words"),
        [
            ({"kind": "webhook", "connection": "gone"}, "webhook by gone: The conn_id `gone` isn't defined"),
            ({"kind": "smtp", "connection": "gone", "to": ["a@b.org"]}, "smtp to a@b.org: The conn_id `gone`"),
            ({"kind": "notifier", "notifier": "no.such.Notifier"}, "no.such.Notifier can't be imported"),
            ({"kind": "notifier", "notifier": "json.JSONDecoder"}, "json.JSONDecoder is no BaseNotifier"),
            ({"kind": "notifier", "notifier": "json.Missing"}, "json.Missing is no BaseNotifier"),
            (kept(speed=1), f"{THIS} doesn't take its arguments"),
        ],
    )
    def test_others_are_a_warning_and_stop_nothing(self, entry: dict[str, Any], words: str) -> None:
        (check,) = notifications("notifications", cloud(kept(), entry).notifications)
        assert check.outcome is Outcome.WARNED
        assert words in check.finding
        assert "mend them, else nobody is told that way" in check.finding
