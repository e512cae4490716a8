"""What an operator does after a fault: bring the stacks to an end that a killed engine was at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import requests

from lab.cloud_lab import RELEASES, Lab, LabHost
from lab.http import local_session
from lab.mariadb import query
from lab.processes import run
from lab.rabbitmq import management_get

# In progress, or with a resource that some engine holds; none that is alive does, and nothing has changed for a while.
_STRANDED = """
    SELECT s.id, s.name, s.owner_id, s.action FROM stack s
    WHERE s.deleted_at IS NULL
    AND (s.status = 'IN_PROGRESS'
         OR EXISTS (SELECT 1 FROM resource r WHERE r.stack_id = s.id AND r.engine_id IS NOT NULL))
    AND COALESCE(s.updated_at, s.created_at) < UTC_TIMESTAMP() - INTERVAL {unchanged} SECOND
    AND NOT EXISTS (SELECT 1 FROM resource r WHERE r.stack_id = s.id
                    AND COALESCE(r.updated_at, r.created_at) >= UTC_TIMESTAMP() - INTERVAL {unchanged} SECOND)
    AND NOT EXISTS (SELECT 1 FROM resource r JOIN service e ON e.engine_id = r.engine_id
                    WHERE r.stack_id = s.id AND e.deleted_at IS NULL
                    AND COALESCE(e.updated_at, e.created_at) >= UTC_TIMESTAMP() - INTERVAL 2 * e.report_interval SECOND)
"""
_OWNER = "SELECT id, name, owner_id, action FROM stack WHERE deleted_at IS NULL AND id = '{stack}'"
# The hosts of engines that are alive and have lost what they hold.
_LOST = """
    SELECT DISTINCT e.engine_id, e.host FROM resource r JOIN service e ON e.engine_id = r.engine_id
    WHERE e.deleted_at IS NULL
    AND COALESCE(r.updated_at, r.created_at) < UTC_TIMESTAMP() - INTERVAL {unchanged} SECOND
    AND COALESCE(e.updated_at, e.created_at) >= UTC_TIMESTAMP() - INTERVAL 2 * e.report_interval SECOND
"""
_IN_PROGRESS = "SELECT name FROM stack WHERE status = 'IN_PROGRESS' AND deleted_at IS NULL"


def in_progress(lab: Lab) -> set[str]:
    """Return the names of all the stacks in progress, nested ones too."""
    return {str(name) for (name,) in query(lab, _IN_PROGRESS)}


def revive_stranded(lab: Lab, unchanged: int) -> list[str]:
    """
    Update each stranded stack as it is, or delete it again, so that an engine takes it up; return their names.

    :param lab: the lab.
    :param unchanged: seconds without a change after which a stack that no live engine holds counts as stranded.
    """
    found = {_root(lab, row) for row in query(lab, _STRANDED.format(unchanged=unchanged))}
    return [str(name) for stack_id, name, _, action in found if _take_up(lab, f"stacks/{name}/{stack_id}", action).ok]


def restart_engines_that_lost_work(lab: Lab, release: str, unchanged: int) -> list[LabHost]:
    """
    Restart each engine of a release that holds resources on which it doesn't work any more; return their hosts.

    :param lab: the lab.
    :param release: the old release; its engines get no new work, so nothing else is lost.
    :param unchanged: seconds after which a resource that nothing has happened to counts as lost.
    """
    queues = management_get(lab, f"queues/{RELEASES[release]}")
    listening = {queue["name"].removeprefix("engine_worker.") for queue in queues if queue.get("consumers")}
    lost = {host for engine, host in query(lab, _LOST.format(unchanged=unchanged)) if engine in listening}
    hosts = [host for host in lab.hosts if host.name in lost]
    for host in hosts:
        control = Path(sys.executable).with_name("supervisorctl")
        restart = ("-c", host.supervisor_conf, "restart", f"heat-engine-{release}")
        run([control, *restart], what=f"restart heat-engine {release} on {host.name}")
    return hosts


def _root(lab: Lab, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the topmost stack that a nested one belongs to and that is still there."""
    while row[2] and (owner := query(lab, _OWNER.format(stack=row[2]))):
        row = owner[0]
    return row


def _take_up(lab: Lab, path: str, action: str) -> requests.Response:
    if action == "DELETE":  # which Heat refuses to update
        return local_session().delete(f"{lab.endpoint}/{path}", timeout=75)
    return local_session().patch(f"{lab.endpoint}/{path}", json={}, timeout=75)
