"""What a fault is: how it comes, how it goes, and when all is well again."""

from __future__ import annotations

from dataclasses import dataclass

from lab.cloud.model import Lab, Role
from lab.faults.task import Task
from lab.faults.watch import Attempt, RunWatch


@dataclass(frozen=True)
class Scene:
    """
    Where a fault strikes.

    :param lab: the lab.
    :param watch: looks at the run.
    :param task: the task that is at work.
    :param attempt: its try.
    """

    lab: Lab
    watch: RunWatch
    task: Task
    attempt: Attempt


class Fault:
    """
    A fault that strikes a task at work and passes.

    ``name`` is what the matrix calls it. ``costs`` tells whether it takes from the cloud's users what no upgrade can
    give back: the requests that failed while it lasted, and what they were about. ``ends_engines`` tells whether it
    takes the stacks from them that an engine was at, or the messages about them: another engine may take those up.
    """

    name: str
    costs = False
    ends_engines = False
    # Strikes a task while its process runs, not while it waits in the triggerer.
    process = False
    # Strikes the gate while it waits in the triggerer, not while its step runs.
    wait = True
    # Strikes the close while changes are held, not while the APIs beside stop; the flip is struck then in any case.
    held = False

    def applies(self, task: Task) -> bool:
        """Tell whether it can hit a task."""
        return True

    def restarts(self, task: Task) -> list[str]:
        """Return the services on the task's host that come back by themselves; asked right before it strikes."""
        return []

    def strike(self, scene: Scene) -> None:
        """Let it happen and take its cause away, if it doesn't pass by itself."""
        raise NotImplementedError(f"{type(self).__name__} has to say how it strikes")

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether what it has hit is well again."""
        return True


class StandingFault(Fault):
    """A cause that is there before its task begins and stays until somebody takes it away."""

    # The task after whose end it is laid, on the same host; none before the run.
    after: str | None = None
    # The service that can't do its work and is started once more when the cause is gone.
    starts_again: Role | None = None

    def lay(self, lab: Lab, task: Task, target: str) -> None:
        """
        Put the cause there.

        :param lab: the lab.
        :param task: the task that will meet it.
        :param target: the release that the run brings.
        """
        raise NotImplementedError(f"{type(self).__name__} has to say how it is laid")

    def mend(self, lab: Lab, task: Task, target: str) -> None:
        """Take the cause away; also where it was never laid."""
        raise NotImplementedError(f"{type(self).__name__} has to say how it is mended")
