"""What each task notes for the report: when it began, and why it failed. Callbacks of the DAGs' tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from heat_upgrade.exceptions import error_text
from heat_upgrade.names import BEGAN, ERROR

if TYPE_CHECKING:
    from airflow.sdk import Context

LONGEST = 8000
_log = logging.getLogger(__name__)


def note_begin(context: Context) -> None:
    """
    Note when a task began, with which try, for which host, and what it does there.

    After a wait in the triggerer the time still is that of the first moment.

    :param context: the task's
    """
    instance, host = context["ti"], getattr(context["task"], "host", None)
    try:
        step = next(part for part in instance.task_id.split(".") if not host or part != host.task_id)
        note = {
            "time": instance.start_date.timestamp(),
            "try": instance.try_number,
            "host": host.name if host else None,
            "step": step,
        }
        instance.xcom_push(key=BEGAN, value=note)
    except Exception as error:
        _log.warning("The report won't know when this task began (%s)", type(error).__name__)


def note_error(context: Context) -> None:
    """Note why a task failed."""
    try:
        context["ti"].xcom_push(key=ERROR, value=error_text(context.get("exception"))[:LONGEST])
    except Exception as trouble:
        _log.warning("The report won't know why this task failed (%s)", type(trouble).__name__)
