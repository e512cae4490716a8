"""What an operator does after a fault: bring the stacks to an end that a killed engine was at, by an update."""

from __future__ import annotations

import requests

from lab.cloud_lab import Lab
from lab.http import local_session
from lab.mariadb import query

# In progress, held by no engine that is alive, and nothing of it has changed for a while; the topmost stack of each.
_STRANDED = """
    SELECT s.id, s.name, s.owner_id FROM stack s
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
    Update each stranded stack as it is, which makes an engine take it up again; return their names.

    :param lab: the lab.
    :param unchanged: seconds without a change after which a stack that no live engine holds counts as stranded.
    """
    roots = [
        (stack_id, name) for stack_id, name, owner in query(lab, _STRANDED.format(unchanged=unchanged)) if not owner
    ]
    revived = []
    for stack_id, name in roots:
        answer = _update(lab, f"stacks/{name}/{stack_id}")
        if answer.ok:
            revived.append(str(name))
    return revived


def _update(lab: Lab, path: str) -> requests.Response:
    return local_session().patch(f"{lab.endpoint}/{path}", json={}, timeout=75)
