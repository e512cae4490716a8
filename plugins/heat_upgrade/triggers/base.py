"""What a trigger keeps with its task while it waits, so that a restart of the triggerer doesn't lose it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from heat_upgrade import compat
from heat_upgrade.names import HISTORY

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

# Seconds: no wait is held up for longer by what only a report needs.
PATIENCE = 10.0
_log = logging.getLogger(__name__)


async def keep(trigger: BaseTrigger, course: dict[str, Any]) -> None:
    """
    Store what a trigger has seen so far as an XCom of its task; do without where that fails.

    :param trigger: the trigger
    :param course: what it has seen
    """
    if (task := _task(trigger)) is None:
        return
    try:
        await asyncio.wait_for(compat.store_xcom(task, HISTORY, course), PATIENCE)
    except Exception as error:
        _log.warning("What the report would show of this wait can't be stored (%s): going on", type(error).__name__)


async def kept(trigger: BaseTrigger) -> dict[str, Any] | None:
    """
    Return what a trigger has stored before a restart; None where it hasn't, or nobody can tell.

    :param trigger: the trigger
    """
    if (task := _task(trigger)) is None:
        return None
    try:
        course = await asyncio.wait_for(compat.stored_xcom(task, HISTORY), PATIENCE)
    except Exception as error:
        _log.warning("What this wait has stored before can't be read (%s): beginning anew", type(error).__name__)
        return None
    return course if isinstance(course, dict) else None


def _task(trigger: BaseTrigger) -> dict[str, str] | None:
    instance = trigger.task_instance
    if instance is None:
        return None
    return {"dag_id": instance.dag_id, "task_id": instance.task_id, "run_id": instance.run_id}
