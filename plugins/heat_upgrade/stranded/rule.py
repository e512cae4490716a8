"""
Which stacks are stranded, and what brings each of them to an end. Nothing here connects to anything.

A stack is stranded when it, or a stack nested in it, is in progress, and nobody works on any of them: no engine that is
alive holds anything in the whole tree but what waits for a nested stack of the same tree, and nothing in the tree has
changed for a while. How long is up to what follows. After ``STRANDED_AFTER`` an upgrade doesn't wait for the stack and
says so. After ``END_AFTER`` it may be ended, which replaces a resource that an engine may still be working on.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from heat_upgrade.readings import IN_PROGRESS, HeldRow, Unavailable, UnfinishedStack, Work

# Seconds without a change after which a stack that nobody works on is stranded, and after which it may be ended.
STRANDED_AFTER = 60.0
END_AFTER = 600.0
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
    :param remaining: resources that are not done, those of nested stacks too
    :param nested: the nested stacks in progress
    :param ids: of all stacks in progress, nested ones too
    :param fingerprint: changes as soon as somebody works on any of them
    """

    id: str
    name: str
    project: str
    action: str
    status: str
    convergence: bool
    since: str
    remaining: int
    nested: tuple[str, ...]
    ids: tuple[str, ...]
    fingerprint: str

    @classmethod
    def from_xcom(cls, row: dict[str, Any]) -> StrandedStack:
        """Return the stack that an XCom holds."""
        return cls(**row | {"nested": tuple(row["nested"]), "ids": tuple(row["ids"])})

    def as_xcom(self) -> dict[str, Any]:
        """Return the stack as an XCom holds it."""
        return asdict(self) | {"nested": list(self.nested), "ids": list(self.ids)}

    def __str__(self) -> str:
        """Name the stack as its owner knows it."""
        return f"stack {self.name!r} ({self.id}, project {self.project})"


@dataclass(frozen=True)
class Call:
    """A request to Heat's API, below the project."""

    method: str
    path: str
    body: dict[str, Any] | None = None


def find_stranded(work: Work, unchanged_for: float) -> list[StrandedStack]:
    """
    Return the stranded stacks as their owners know them, oldest first.

    :param work: what there is to work on, and who could
    :param unchanged_for: seconds that nothing in a stack's tree has changed
    """
    trees = [tree for tree in _unattended(work, unchanged_for) if any(_in_progress(stack) for stack in tree.stacks)]
    return sorted(map(_stranded, trees), key=lambda stack: (stack.since, stack.name))


def abandoned(work: Work, unchanged_for: float) -> frozenset[str]:
    """
    Return the ids of all stacks on which nobody works: the stranded ones, and those that dead engines still hold.

    :param work: what there is to work on, and who could
    :param unchanged_for: seconds that nothing in a stack's tree has changed
    """
    trees = _unattended(work, unchanged_for)
    return frozenset(s.id for tree in trees for s in tree.stacks if _in_progress(s) or tree.held[s.id])


class _Tree(NamedTuple):
    """A stack with those nested in it, root first, and what engines hold of each."""

    stacks: list[UnfinishedStack]
    held: Mapping[str, list[HeldRow]]


def _in_progress(stack: UnfinishedStack) -> bool:
    return stack.status == IN_PROGRESS


def _unattended(work: Work, unchanged_for: float) -> Iterator[_Tree]:
    held: dict[str, list[HeldRow]] = defaultdict(list)
    for row in work.held:
        held[row.stack_id].append(row)
    for stacks in _trees(work.stacks):
        quiet = all(stack.idle is not None and stack.idle >= unchanged_for for stack in stacks)
        if quiet and not _worked_on(tree := _Tree(stacks, held), work.live):
            yield tree


def _trees(stacks: Collection[UnfinishedStack]) -> Iterable[list[UnfinishedStack]]:
    by_id = {stack.id: stack for stack in stacks}
    trees: dict[str, list[UnfinishedStack]] = {stack.id: [stack] for stack in stacks if stack.owner_id not in by_id}
    for stack in stacks:
        root = stack
        while root.owner_id in by_id:
            root = by_id[root.owner_id]
        if root is not stack:
            trees[root.id].append(stack)
    return trees.values()


def _worked_on(tree: _Tree, live: Collection[str]) -> bool:
    # An engine that waits for a nested stack does nothing by itself: what counts is whether anybody works on that one.
    waits_for = {stack.id for stack in tree.stacks if _in_progress(stack)}
    rows = (row for stack in tree.stacks for row in tree.held[stack.id])
    return any(row.engine_id in live and row.works_on not in waits_for for row in rows)


def _stranded(tree: _Tree) -> StrandedStack:
    root, unfinished = tree.stacks[0], [stack for stack in tree.stacks if _in_progress(stack)]
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
        remaining=sum(stack.remaining for stack in unfinished),
        nested=nested,
        ids=tuple(stack.id for stack in unfinished),
        fingerprint=_fingerprint(tree),
    )


def _fingerprint(tree: _Tree) -> str:
    state = sorted(
        (s.id, s.action, s.status, s.traversal or "", str(s.since), s.remaining, sorted(map(str, tree.held[s.id])))
        for s in tree.stacks
    )
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def unchanged(stacks: Iterable[StrandedStack], before: Iterable[StrandedStack]) -> list[StrandedStack]:
    """
    Return the stacks on which nobody has worked since an earlier reading.

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
            "an update would create again what has not been adopted yet: its owner abandons the stack and adopts it "
            "again"
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
