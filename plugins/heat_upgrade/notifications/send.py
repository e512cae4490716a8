"""Notify whom the cloud file names of what a run does; whatever goes wrong with that only shows in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowException
from pydantic import TypeAdapter

from heat_upgrade.cloud.notifications import Event, Notification, Smtp, Webhook
from heat_upgrade.exceptions import error_text
from heat_upgrade.formatting import one_line
from heat_upgrade.notifications import messages

if TYPE_CHECKING:
    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud

LONGEST_SUBJECT = 200
# Seconds that all the messages of an event may take together. Airflow ends a task's process 20 s after its end.
LIMIT = 15.0
_HTML = (
    '<pre style="white-space: pre-wrap">{{ message.text | e }}</pre>'
    '<p><a href="{{ message.link | e }}">{{ message.link | e }}</a></p>'
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """
    What is sent; a notifier's templates know it as ``message``.

    :param event: what has happened
    :param cloud: the cloud's name
    :param dag_id: the DAG
    :param run_id: its run
    :param task_id: the task at which it happened
    :param subject: one line
    :param text: all of it, with the next step where there is one
    :param link: where in Airflow's UI to look, or to answer
    """

    event: Event
    cloud: str
    dag_id: str
    run_id: str
    task_id: str
    subject: str
    text: str
    link: str

    def as_json(self) -> dict[str, str]:
        """Return the message for programs; ``text`` alone has all of it, as chats want it."""
        return asdict(self) | {"text": f"{self.subject}\n\n{self.text}\n\n{self.link}"}


class UpgradeNotifier(BaseNotifier):
    """
    Notify of an event of a run: a callback of tasks, and of the questions that they ask.

    :param cloud: the cloud, with its ``notifications``
    :param event: the event
    """

    def __init__(self, *, cloud: Cloud, event: Event, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cloud = cloud
        self.event = event

    def notify(self, context: Context) -> None:
        """Compose the message and send it; a dry run sends none."""
        if context["params"].get("dry_run"):
            return
        try:
            subject, text = messages.COMPOSERS[self.event](self.cloud, context)
            notify(self.cloud, self.event, context, subject, text)
        except Exception:
            # The run goes on, with or without the message.
            self.log.exception("Could not send the message of the event %r", self.event)


def notifiers(cloud: Cloud, event: Event) -> list[UpgradeNotifier]:
    """Return what notifies of an event; none where the cloud file wants nobody notified."""
    wanted = any(event in entry.events for entry in cloud.notifications)
    return [UpgradeNotifier(cloud=cloud, event=event)] if wanted else []


def notify(cloud: Cloud, event: Event, context: Context, subject: str, text: str) -> None:
    """
    Send a message of a task.

    :param cloud: the cloud, with its ``notifications``
    :param event: what has happened
    :param context: the task's
    :param subject: one line
    :param text: all of it
    """
    if cloud.notifications:
        send(cloud.notifications, message_of(cloud, event, context, subject, text), context)


def pack(cloud: Cloud, event: Event, context: Context, subject: str, text: str) -> dict[str, Any]:
    """Return a message of a task and whom to send it to, as a trigger's arguments hold it; no secret."""
    return {
        "message": asdict(message_of(cloud, event, context, subject, text)),
        "entries": [entry.model_dump(mode="json", by_alias=True) for entry in cloud.notifications],
    }


def send_packed(parcel: dict[str, Any], more: str) -> None:
    """
    Send a message from a trigger.

    :param parcel: the message, packed
    :param more: what has become known since, for the end of its text
    """
    message = Message(**parcel["message"])
    entries = TypeAdapter(list[Notification]).validate_python(parcel["entries"])
    send(entries, replace(message, text=f"{message.text}\n\n{messages.without_secrets(more)}"), {})


def message_of(cloud: Cloud, event: Event, context: Context, subject: str, text: str) -> Message:
    """Return a message of a task, without what Airflow knows for a secret."""
    instance: Any = context["ti"]
    link = messages.answer_link(context) if event == "approval" else instance.log_url
    return Message(
        event=event,
        cloud=cloud.name,
        dag_id=instance.dag_id,
        run_id=instance.run_id,
        task_id=instance.task_id,
        subject=one_line(messages.without_secrets(subject))[:LONGEST_SUBJECT],
        text=messages.without_secrets(text),
        link=link,
    )


def send(entries: Sequence[Notification], message: Message, context: Any) -> None:
    """
    Send a message by all ways that want to hear of its event, within the limit.

    :param entries: the cloud file's ``notifications``
    :param message: the message
    :param context: what else a notifier's templates know
    """
    wanted = [entry for entry in entries if message.event in entry.events]
    threads = [
        # They die with the process: one that hangs delays nothing for longer than the limit. Their context has the task
        # to whose log their lines belong.
        Thread(
            target=copy_context().run, args=(_send_one, entry, message, {**context, "message": message}), daemon=True
        )
        for entry in wanted
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LIMIT
    for entry, thread in zip(wanted, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            log.warning("%s: timed out sending the message %r after %.0f s", entry, message.event, LIMIT)


def _send_one(entry: Notification, message: Message, context: Any) -> None:
    try:
        notifier_of(entry)(context)
    except Exception as error:
        log.warning(
            "%s: could not send the message %r: %s", entry, message.event, messages.without_secrets(error_text(error))
        )
    else:
        log.info("%s: sent the message %r", entry, message.event)


def notifier_of(entry: Notification) -> BaseNotifier:
    """
    Return Airflow's notifier for an entry of the cloud file.

    :param entry: the entry
    :raises AirflowException: if there is no such notifier, or it doesn't take its arguments
    """
    if isinstance(entry, Webhook):
        from heat_upgrade.notifications.webhook import WebhookNotifier

        return WebhookNotifier(conn_id=entry.connection)
    if isinstance(entry, Smtp):
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        # Templates: what users have written into a message must be no template itself.
        return SmtpNotifier(
            to=list(entry.to),
            from_email=entry.sender,
            subject="{{ message.subject }}",
            html_content=_HTML,
            smtp_conn_id=entry.connection,
        )
    return _notifier(entry.notifier, entry.arguments)


def _notifier(path: str, arguments: dict[str, Any]) -> BaseNotifier:
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(import_module(module), name, None)
    except ImportError as error:
        todo = "install its package where Airflow runs, or correct the path"
        raise AirflowException(f"{path} can't be imported ({error}), expected a notifier: {todo}") from None
    if not (isinstance(kind, type) and issubclass(kind, BaseNotifier)):
        raise AirflowException(f"{path} is no BaseNotifier, expected one: correct the path")
    try:
        notifier: BaseNotifier = kind(**arguments)
    except TypeError as error:
        raise AirflowException(f"{path} doesn't take its arguments ({error}): see its documentation") from None
    return notifier
