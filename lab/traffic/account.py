"""The account of a run of the traffic."""

from collections import Counter
from pathlib import Path

from pydantic import BaseModel

from lab.traffic.history import Event, attempts, failures
from lab.traffic.ledger import Requests, Sides
from lab.traffic.reasons import kind_of
from lab.traffic.work import Work


class Stacks(BaseModel):
    """What became of the stacks that users created."""

    begun: int = 0
    complete: int = 0
    deleted: int = 0  # of the complete and failed ones
    failed: int = 0
    in_progress: int = 0
    failure_kinds: dict[str, list[str]] = {}  # kind -> the names of the stacks that it hit


class Account(BaseModel):
    """All that a run of the traffic saw; times are seconds since the epoch."""

    label: str
    seed: int
    began: float
    ended: float
    settled_after: float
    requests: Requests
    stacks: Stacks
    stuck: list[str]  # stacks in progress that nobody works on; nested ones too
    unsettled: list[str]  # stacks that somebody still worked on when the wait for them was over
    stolen: list[str]  # resources whose lock was stolen from an engine, as stack/resource; nested ones too
    created_twice: list[str]  # resources that were created again though nobody had asked for it
    orphan_sync_points: int
    sides: list[Sides]
    touched: dict[str, list[float]] = {}  # stack -> when its user sent a change
    work: Work = Work()

    @classmethod
    def load(cls, path: Path) -> "Account":
        """Read an account from its file.

        :param path: as written by `save`.
        """
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def save(self, path: Path) -> None:
        """Write the account as JSON.

        :param path: the file.
        """
        path.write_text(self.model_dump_json() + "\n", encoding="utf-8")

    @property
    def releases(self) -> dict[str, dict[str, Counter[int]]]:
        """Return, for `api` and `engine`, each release that answered: second -> how often."""
        releases: dict[str, dict[str, Counter[int]]] = {"api": {}, "engine": {}}
        for side in self.sides:
            for service, release in (("api", side.api), ("engine", side.engine)):
                releases[service].setdefault(release, Counter()).update(side.answers)
        return releases

    def overlap(self, service: str) -> int:
        """Return in how many seconds more than one release of a service answered.

        :param service: `api` or `engine`.
        """
        seconds = Counter(second for answers in self.releases[service].values() for second in answers)
        return sum(releases > 1 for releases in seconds.values())


def sum_up(stacks: dict[str, tuple[str, str]], events: dict[str, list[Event]], *, prefix: str) -> Stacks:
    """Sum up what became of the stacks.

    :param stacks: name and status by id.
    :param events: each stack's own events, by its id.
    :param prefix: what the names of the stacks begin with.
    """
    total = Stacks(begun=len(stacks))
    kinds: dict[str, set[str]] = {}
    for stack_id, (name, status) in stacks.items():
        tried = attempts(events.get(stack_id, []))
        broken = failures(tried)
        for attempt in broken:
            kinds.setdefault(kind_of(attempt.action, attempt.reason, prefix=prefix), set()).add(name)
        total.failed += bool(broken)
        total.in_progress += status == "IN_PROGRESS" and not broken
        total.deleted += bool(tried) and (tried[-1].action, tried[-1].status) == ("DELETE", "COMPLETE")
    total.complete = total.begun - total.failed - total.in_progress
    total.failure_kinds = {kind: sorted(names) for kind, names in sorted(kinds.items())}
    return total
