"""What an operator does after a fault: bring the stacks to an end that a killed engine was at."""

from __future__ import annotations

from typing import NamedTuple

import requests

from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.rabbitmq import live_engines
from lab.http import local_session
from lab.processes import run, wait_until

# A stack or a resource that nobody has touched for so many seconds is nobody's: the lab's resources take 30 at most.
_LONG = 45
# Seconds that all stacks may take to their ends once they are taken up.
_PATIENCE = 300.0
_STACK = f"""
    SELECT s.id, s.name, s.owner_id, s.action, s.status = 'IN_PROGRESS',
           COALESCE(s.updated_at, s.created_at) < UTC_TIMESTAMP() - INTERVAL {_LONG} SECOND FROM stack s
"""
# In progress, or with a resource that some engine holds; none that is alive does, and nothing has changed for a while.
_STRANDED = (
    _STACK
    + f"""
    WHERE s.deleted_at IS NULL
    AND (s.status = 'IN_PROGRESS'
         OR EXISTS (SELECT 1 FROM resource r WHERE r.stack_id = s.id AND r.engine_id IS NOT NULL))
    AND COALESCE(s.updated_at, s.created_at) < UTC_TIMESTAMP() - INTERVAL {_LONG} SECOND
    AND NOT EXISTS (SELECT 1 FROM resource r WHERE r.stack_id = s.id
                    AND (COALESCE(r.updated_at, r.created_at) >= UTC_TIMESTAMP() - INTERVAL {_LONG} SECOND
                         OR r.engine_id IN ({{alive}})))
"""
)
# At work for a while without a change; what waits for a nested stack in progress may.
_HELD_FOR_LONG = f"""
    SELECT DISTINCT s.id, s.name, r.engine_id FROM resource r JOIN stack s ON s.id = r.stack_id
    WHERE s.deleted_at IS NULL AND r.engine_id IS NOT NULL AND r.status = 'IN_PROGRESS'
    AND COALESCE(r.updated_at, r.created_at) < UTC_TIMESTAMP() - INTERVAL {_LONG} SECOND
    AND NOT EXISTS (SELECT 1 FROM stack n WHERE n.id = r.nova_instance AND n.status = 'IN_PROGRESS')
"""
_IN_PROGRESS = "SELECT name FROM stack WHERE status = 'IN_PROGRESS' AND deleted_at IS NULL"
_HELD = (
    "SELECT r.id FROM resource r JOIN stack s ON s.id = r.stack_id WHERE r.engine_id IS NOT NULL AND deleted_at IS NULL"
)


class Stack(NamedTuple):
    """A stack, whether its action is in progress, and whether that began a while ago."""

    id: str
    name: str
    owner_id: str | None
    action: str
    in_progress: bool
    unchanged: bool


def in_progress(lab: Lab) -> set[str]:
    """Return the names of all the stacks in progress, nested ones too."""
    return {str(name) for (name,) in query(lab, _IN_PROGRESS)}


def bring_to_end(lab: Lab, release: str) -> None:
    """
    Take up what earlier faults have cost until no stack is in progress or held, so that no later run is judged by it.

    :param lab: the lab, without traffic.
    :param release: whose heat-manage to take.
    :raises LabError: if one doesn't come to an end.
    """

    def ended() -> bool:
        if not in_progress(lab) and not query(lab, _HELD):
            return True
        reset_lost(lab, release)
        revive_stranded(lab)
        return False

    wait_until(ended, what="all stacks have come to an end", timeout=_PATIENCE)


def revive_stranded(lab: Lab) -> list[str]:
    """
    Update each stranded stack as it is, or delete it again, so that an engine takes it up; return their names.

    :param lab: the lab.
    """
    alive = ", ".join(f"'{engine}'" for engine in live_engines(lab)) or "''"
    rows = query(lab, _STRANDED.format(alive=alive))
    found = {_in_progress_above(lab, Stack(*row)) for row in rows}
    return [stack.name for stack in found if stack.unchanged and _take_up(lab, stack).ok]


def reset_lost(lab: Lab, release: str) -> list[str]:
    """
    End each stack as failed that an engine holds which lives and has lost it; return their names.

    Nothing else takes it from that engine: Heat steals a lock only from a dead one.

    :param lab: the lab.
    :param release: whose heat-manage to take.
    """
    alive = live_engines(lab)
    rows = query(lab, _HELD_FOR_LONG)
    lost = {stack_id: name for stack_id, name, engine in rows if engine in alive}
    host = lab.hosts[0]
    for stack_id, name in lost.items():
        command = (host.venv(release) / "bin/heat-manage", "--config-file", host.config(release))
        run([*command, "reset_stack_status", stack_id], what=f"heat-manage reset_stack_status of {name}", told="y\n")
    return list(lost.values())


def _in_progress_above(lab: Lab, stack: Stack) -> Stack:
    """Return the topmost stack that a nested one belongs to, if it is in progress; else nothing comes down from it."""
    top = stack
    while top.owner_id:
        rows = query(lab, _STACK + f"WHERE s.deleted_at IS NULL AND s.id = '{top.owner_id}'")
        if not rows:
            break
        top = Stack(*rows[0])
    return top if top.in_progress else stack


def _take_up(lab: Lab, stack: Stack) -> requests.Response:
    url = f"{lab.endpoint}/stacks/{stack.name}/{stack.id}"
    if stack.action == "DELETE":  # which Heat refuses to update
        return local_session().delete(url, timeout=75)
    return local_session().patch(url, json={}, timeout=75)
