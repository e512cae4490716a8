"""Which stacks are stranded, and what brings each of them to an end. Nothing here reads or changes anything."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from heat_upgrade.readings import IN_PROGRESS, Hold, Unavailable, UnfinishedStack

# What makes engines take up a stack that nobody works on. Heat refuses to update one that is being deleted.
TAKE_UP = "update it through the API (openstack stack update --existing), or delete it again if it was being deleted"
_DELETE = "DELETE"
# Heat refuses to update what is suspended, an update would not wake up what has not been resumed yet, and a check is
# no reason to change anything: these are begun again.
_BEGUN_AGAIN = {"SUSPEND": "suspend", "RESUME": "resume", "CHECK": "check"}
_CANCELLED = ("CREATE", "UPDATE")


class Choice(StrEnum):
    """What an operator can have done with stranded stacks, as the question offers it."""

    UPDATE = "Update"
    CANCEL = "Cancel without rollback"
    LEAVE = "Leave as they are"


@dataclass(frozen=True)
class StrandedStack:
    """
    A stack as its owner knows it, with nested ones that are in progress too; nobody works on any of them.

    :param since: when its action began, in UTC
    :param left: resources that are not done, those of nested stacks too
    :param nested: the nested stacks in progress
    :param fingerprint: changes as soon as somebody works on any of them
    """

    id: str
    name: str
    project: str
    action: str
    status: str
    convergence: bool
    since: str
    left: int
    nested: tuple[str, ...]
    fingerprint: str

    @classmethod
    def from_xcom(cls, row: dict[str, Any]) -> StrandedStack:
        """Return the stack that an XCom holds."""
        return cls(**{**row, "nested": tuple(row["nested"])})

    def as_xcom(self) -> dict[str, Any]:
        """Return the stack as an XCom holds it."""
        return {**asdict(self), "nested": list(self.nested)}

    def __str__(self) -> str:
        """Name the stack as its owner knows it."""
        return f"stack {self.name!r} ({self.id}, project {self.project})"


@dataclass(frozen=True)
class Call:
    """A request to Heat's API, below the project."""

    method: str
    path: str
    body: dict[str, Any] | None = None


def find_stranded(
    stacks: Collection[UnfinishedStack], holds: Iterable[Hold], live: Collection[str], unchanged_for: float
) -> list[StrandedStack]:
    """
    Return the roots in whose trees something is in progress and nobody works, oldest first.

    :param stacks: every stack in progress, and every one above such a stack
    :param holds: what engines hold
    :param live: ids of the engines that are alive
    :param unchanged_for: seconds that nothing in the tree has changed
    """
    held: dict[str, list[Hold]] = defaultdict(list)
    for hold in holds:
        held[hold.stack_id].append(hold)
    trees = [(root, members) for root, members in _trees(stacks) if any(s.status == IN_PROGRESS for s in members)]
    stranded = [
        _stranded(root, members, held)
        for root, members in trees
        if not any(_worked_on(stack, held[stack.id], members, live, unchanged_for) for stack in members)
    ]
    return sorted(stranded, key=lambda stack: (stack.since, stack.name))


def _trees(stacks: Collection[UnfinishedStack]) -> Iterable[tuple[UnfinishedStack, list[UnfinishedStack]]]:
    by_id = {stack.id: stack for stack in stacks}
    members: dict[str, list[UnfinishedStack]] = defaultdict(list)
    for stack in stacks:
        root = stack
        while root.owner_id in by_id:
            root = by_id[root.owner_id]
        members[root.id].append(stack)
    return ((by_id[root], tree) for root, tree in members.items())


def _worked_on(
    stack: UnfinishedStack,
    holds: list[Hold],
    tree: list[UnfinishedStack],
    live: Collection[str],
    unchanged_for: float,
) -> bool:
    # An engine that waits for a nested stack does nothing by itself: what counts is whether anybody works on that one.
    waits_for = {member.id for member in tree if member.status == IN_PROGRESS}
    works = any(hold.engine_id in live and hold.works_on not in waits_for for hold in holds)
    return works or stack.idle is None or stack.idle < unchanged_for


def _stranded(root: UnfinishedStack, tree: list[UnfinishedStack], held: dict[str, list[Hold]]) -> StrandedStack:
    unfinished = [stack for stack in tree if stack.status == IN_PROGRESS]
    nested = tuple(f"{stack.name} ({stack.action})" for stack in unfinished if stack is not root)
    since = min(stack.since for stack in unfinished if stack.since)
    return StrandedStack(
        id=root.id,
        name=root.name,
        project=root.project,
        action=root.action,
        status=root.status,
        convergence=root.convergence,
        since=f"{since:%Y-%m-%d %H:%M:%S}",
        left=sum(stack.left for stack in unfinished),
        nested=nested,
        fingerprint=_fingerprint(tree, held),
    )


def _fingerprint(tree: list[UnfinishedStack], held: dict[str, list[Hold]]) -> str:
    state = sorted(
        (s.id, s.action, s.status, s.traversal or "", str(s.since), s.left, sorted(map(str, held[s.id]))) for s in tree
    )
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def unchanged(stacks: Iterable[StrandedStack], before: Iterable[StrandedStack]) -> list[StrandedStack]:
    """
    Return the stacks on which nobody has worked since an earlier look.

    :param stacks: what is stranded now
    :param before: what was stranded then
    """
    fingerprints = {stack.id: stack.fingerprint for stack in before}
    return [stack for stack in stacks if fingerprints.get(stack.id) == stack.fingerprint]


def way_out(stack: StrandedStack, choice: Choice) -> Call | Unavailable:
    """
    Return the request that brings a stack to an end, or why there is none and what to do instead.

    :param stack: the stack
    :param choice: what the operator wants
    """
    path = f"/stacks/{stack.name}/{stack.id}"
    if choice is Choice.CANCEL:
        return _cancel(stack, path)
    if stack.action == _DELETE:
        return Call("DELETE", path)
    if not stack.convergence:
        return Unavailable(
            "it is a legacy stack (no convergence), of which an update would take the template before: an engine's "
            f"start marks it FAILED, or, with all engines stopped, `heat-manage reset_stack_status {stack.id}`"
        )
    if stack.action == "ADOPT":
        return Unavailable(
            "an update would make anew what has not been adopted yet: its owner abandons the stack and adopts it again"
        )
    if action := _BEGUN_AGAIN.get(stack.action):
        return Call("POST", f"{path}/actions", {action: None})
    # With nothing in it: template, parameters, files and tags stay.
    return Call("PATCH", path, {})


def _cancel(stack: StrandedStack, path: str) -> Call | Unavailable:
    if not stack.convergence:
        return Unavailable(
            "Heat cancels a legacy stack (no convergence) only through the engine that works on it, which is gone"
        )
    if stack.status != IN_PROGRESS or stack.action not in _CANCELLED:
        return Unavailable(
            f"Heat cancels only a create or an update that is in progress, not {stack.action}_{stack.status}"
        )
    return Call("POST", f"{path}/actions", {"cancel_without_rollback": None})
