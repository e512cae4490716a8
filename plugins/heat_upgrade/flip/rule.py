"""
Which release's side works on which stack, and what a flip changes about that. Nothing here reads or writes anything.

The invariant: at no moment do the APIs of two hosts send one stack's changes to two sides. So a flip has three phases,
each of them over on every host before the next one begins on any. *Hold*: changes wait, and those under way are done; a
host that stays alone goes on as before when its bound is over, for nothing has moved. *Prepare*: every host knows what
is to come, and waits for as long as it takes, or refuses; it never goes on by itself. *Release*. So hosts that are free
tell what the prepared ones have to be brought to; and where all are prepared, nothing was changed since any was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.readings import StackInTree


@dataclass(frozen=True)
class Sides:
    """
    Which release's side a request belongs to: its stack's, else its project's, else the default.

    :param default: the release whose side takes what no other rule names
    :param projects: the side of a project's new stacks, by the project's id, where it isn't the default
    :param stacks: the side of each stack that is in flight elsewhere than its project's rule says, by its id
    :param closed: whether the other side is over, so that nothing is handed over any more
    """

    default: str
    projects: Mapping[str, str] = field(default_factory=dict)
    stacks: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False

    def of_project(self, project: str) -> str:
        """
        Return the side of a project's new stacks.

        :param project: the project's id
        """
        return self.projects.get(project, self.default)

    def as_json(self) -> dict[str, Any]:
        """Return it as a host's state file holds it."""
        return {**asdict(self), "projects": dict(self.projects), "stacks": dict(self.stacks)}

    @classmethod
    def of_json(cls, saved: Mapping[str, Any]) -> Sides:
        """
        Read it from what a host's state file holds.

        :param saved: the file's content
        """
        return cls(saved["default"], saved["projects"], saved["stacks"], saved["closed"])

    def __str__(self) -> str:
        """Tell in words by what is decided."""
        listed = f", {len(self.stacks)} stacks elsewhere" if self.stacks else ""
        projects = f", {len(self.projects)} projects apart" if self.projects else ""
        return f"{self.default}{' alone' if self.closed else ''}{projects}{listed}"


@dataclass(frozen=True)
class HostSides:
    """
    What the router of one host knows.

    :param host: the host's name
    :param sides: by what it decides, or will once it is released
    :param prepared: whether it waits to be released, and goes on by itself never
    """

    host: str
    sides: Sides
    prepared: bool = False


@dataclass(frozen=True)
class Goal:
    """
    Where a flip goes.

    :param default: the release whose side is to be the default
    :param projects: the sides of the projects whose new stacks are to go elsewhere
    :param closed: whether nothing may be left on any other side
    """

    default: str
    projects: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False

    def reached_by(self, sides: Sides) -> bool:
        """
        Tell whether a host that decides by these sides has arrived.

        :param sides: the sides
        """
        return (sides.default, dict(sides.projects), sides.closed) == (self.default, dict(self.projects), self.closed)


def sides_to_finish(states: Sequence[HostSides], goal: Goal) -> Sides | None:
    """
    Return what prepared hosts have to be brought to before anything else; None where no host is prepared.

    :param states: what the router of every API's host knows
    :param goal: where the flip goes; among hosts of which none has moved, the one that is there already decides
    :raises UpgradeError: when free hosts disagree, which no flip leaves behind
    """
    free = [state for state in states if not state.prepared]
    _refuse_apart(free)
    prepared = [state.sides for state in states if state.prepared]
    if not prepared:
        return None
    if free:
        return free[0].sides
    return next((sides for sides in prepared if goal.reached_by(sides)), prepared[0])


def _refuse_apart(states: Iterable[HostSides]) -> None:
    by_sides: dict[str, list[str]] = {}
    for state in states:
        by_sides.setdefault(repr(state.sides), []).append(f"{state.host}: {state.sides}")
    if len(by_sides) > 1:
        found = "; ".join(hosts[0] for hosts in by_sides.values())
        raise UpgradeError(
            f"the hosts' routers disagree ({found}), expected the same on all of them, as every flip leaves it: see "
            "docs/flip.md for how to bring them together, then clear this task"
        )


def sides_after(now: Sides, goal: Goal, stacks: Collection[StackInTree]) -> Sides:
    """
    Return by what to decide after a flip: whatever is in flight stays where it is worked on.

    A tree of stacks stays together: its parents go on working on children that are done by themselves.

    :param now: by what is decided before the flip
    :param goal: where it goes
    :param stacks: the stacks in flight, with all those above and below them
    """
    after = Sides(goal.default, goal.projects, closed=goal.closed)
    elsewhere: dict[str, str] = {}
    for root, members in _trees(stacks).items():
        side = _side_of_tree(now, root, members)
        if any(member.in_progress for member in members) and side != after.of_project(root.project):
            elsewhere |= {member.id: side for member in members}
    return Sides(goal.default, goal.projects, elsewhere, goal.closed)


def _side_of_tree(now: Sides, root: StackInTree, members: Iterable[StackInTree]) -> str:
    listed = [now.stacks[member.id] for member in members if member.id in now.stacks]
    return listed[0] if listed else now.of_project(root.project)


def _trees(stacks: Iterable[StackInTree]) -> dict[StackInTree, list[StackInTree]]:
    by_id = {stack.id: stack for stack in stacks}
    trees: dict[StackInTree, list[StackInTree]] = {}
    for stack in by_id.values():
        root = stack
        while root.owner_id in by_id:
            root = by_id[root.owner_id]
        trees.setdefault(root, []).append(stack)
    return trees
