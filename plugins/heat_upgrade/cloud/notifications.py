"""Who is notified of what during a run: the cloud file's section ``notifications``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from heat_upgrade.cloud.fields import ConnectionId, EmailAddress, ImportPath, NotifierArguments, rule
from heat_upgrade.cloud.sections import Section

Event = Literal["started", "approval", "window", "error", "drain", "done"]
EVENTS: tuple[Event, ...] = get_args(Event)
Events = Annotated[tuple[Event, ...], rule(bool, f"at least one of {', '.join(EVENTS)}", "delete the key for all")]


class Smtp(Section):
    """An e-mail; the connection holds the server, its password and, unless ``from`` is here, the sender."""

    kind: Literal["smtp"]
    connection: ConnectionId
    to: Annotated[tuple[EmailAddress, ...], rule(bool, "at least one address", "write for example [heat@example.org]")]
    sender: EmailAddress | None = Field(default=None, alias="from")
    events: Events = EVENTS

    def __str__(self) -> str:
        """Name it for a log."""
        return f"smtp to {', '.join(self.to)}"


class Webhook(Section):
    """An HTTP POST; the connection holds the URL and what authorises it."""

    kind: Literal["webhook"]
    connection: ConnectionId
    events: Events = EVENTS

    def __str__(self) -> str:
        """Name it for a log."""
        return f"webhook by {self.connection}"


class Notifier(Section):
    """Any other of Airflow's notifiers, by its name."""

    kind: Literal["notifier"]
    notifier: ImportPath
    arguments: NotifierArguments = Field(default_factory=dict[str, Any])
    events: Events = EVENTS

    def __str__(self) -> str:
        """Name it for a log."""
        return self.notifier


Notification = Annotated[Smtp | Webhook | Notifier, Field(discriminator="kind")]
