"""What an operator does after a fault: bring the stacks to an end that a killed engine was at."""

from __future__ import annotations

import requests

from lab.cloud_lab import Lab
from lab.http import local_session
from lab.mariadb import query

# In progress, held by no engine that is alive, and nothing of it has changed for a while; the topmost stack of each.
_STRANDED = """
    SELECT s.id, s.name, s.owner_id, s.action FROM stack s
    WHERE s.status = 'IN_PROGRESS' AND s.deleted_at IS NULL
    AND COALESCE(s.updated_at, s.created_at) < UTC_TIMESTAMP() - INTERVAL {unchanged} SECOND
    AND NOT EXISTS (SELECT 1 FROM resource r WHERE r.stack_id = s.id
                    AND COALESCE(r.updated_at, r.created_at) >= UTC_TIMESTAMP() - INTERVAL {unchanged} SECOND)
    AND NOT EXISTS (SELECT 1 FROM resource r JOIN service e ON e.engine_id = r.engine_id
                    WHERE r.stack_id = s.id AND e.deleted_at IS NULL
                    AND COALESCE(e.updated_at, e.created_at) >= UTC_TIMESTAMP() - INTERVAL 2 * e.report_interval SECOND)
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
    found = query(lab, _STRANDED.format(unchanged=unchanged))
    roots = [(f"stacks/{name}/{stack_id}", name, action) for stack_id, name, owner, action in found if not owner]
    return [str(name) for path, name, action in roots if _take_up(lab, path, str(action)).ok]


def _take_up(lab: Lab, path: str, action: str) -> requests.Response:
    if action == "DELETE":  # which Heat refuses to update
        return local_session().delete(f"{lab.endpoint}/{path}", timeout=75)
    return local_session().patch(f"{lab.endpoint}/{path}", json={}, timeout=75)
