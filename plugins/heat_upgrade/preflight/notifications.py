"""Whether whom the cloud file names can be told of the run; nobody is told yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heat_upgrade.exceptions import error_text
from heat_upgrade.notifications.messages import without_secrets
from heat_upgrade.notifications.send import notifier_of
from heat_upgrade.preflight.check import Check, passed, warned

if TYPE_CHECKING:
    from heat_upgrade.cloud.notifications import Notification


def notifications(name: str, entries: Sequence[Notification]) -> list[Check]:
    """
    Check that each notifier can be made and has its connection; one that fails later stops no upgrade either.

    :param name: what is checked
    :param entries: the cloud file's ``notifications``; where there are none, nothing is checked
    """
    if not entries:
        return []
    if problems := [problem for entry in entries if (problem := _problem(entry))]:
        found = "; ".join(problems)
        return [warned(name, f"{found}; expected notifiers that work: mend them, else nobody is told that way")]
    return [passed(name, ", ".join(map(str, entries)))]


def _problem(entry: Notification) -> str | None:
    from airflow.sdk import BaseHook

    try:
        notifier_of(entry)
        if entry.kind != "notifier":
            BaseHook.get_connection(entry.connection)
    except Exception as error:
        return f"{entry}: {without_secrets(error_text(error))}"
    return None
