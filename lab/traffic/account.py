"""The account of a run of the traffic, and what two of them say about an upgrade."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel
from tabulate import tabulate  # type: ignore[import-untyped]

from lab.traffic.history import Event, attempts, failures
from lab.traffic.ledger import Requests, Seen
from lab.traffic.reasons import kind_of

FEWEST_PROBES = 10.0  # a second; with fewer a short outage could slip through


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
    created_twice: list[str]  # resources, as stack/resource
    orphan_sync_points: int
    releases: dict[str, dict[str, Seen]]  # api and engine -> release -> when it answered

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
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def overlap(self, service: str) -> float:
        """Return for how many seconds more than one release of a service answered.

        :param service: `api` or `engine`.
        """
        times = sorted(self.releases.get(service, {}).values(), key=lambda seen: seen.first)
        pairs = pairwise(times)
        return round(sum(max(older.last - newer.first, 0.0) for older, newer in pairs), 1)


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


def verdict(upgrade: Account, control: Account) -> list[str]:
    """Judge an upgrade against a control run; return what speaks against it, nothing if it holds.

    The rule: no request failed; no stack is stuck, or still in progress after the wait; and no kind of
    stack failure happened that the control run of the same traffic doesn't have. What the control run had
    may happen in the upgrade, in any number: it is Heat's own. Nothing else is forgiven. Two runs can only
    be compared if both sent the same traffic, densely enough, and the control run was well itself.

    :param upgrade: the run during which the upgrade happened.
    :param control: the same traffic on the same cloud without an upgrade.
    """
    return [*_comparable(upgrade, control), *_against(upgrade, control)]


def _comparable(upgrade: Account, control: Account) -> list[str]:
    reasons = []
    if upgrade.seed != control.seed:
        reasons.append(f"the runs differ: seed {upgrade.seed} and {control.seed}, expected the same")
    if control.requests.failed or control.stuck or control.unsettled:
        reasons.append(
            f"the cloud is unwell without an upgrade: the control run has {control.requests.failed} failed "
            f"requests, {len(control.stuck)} stuck and {len(control.unsettled)} unsettled stacks"
        )
    for account in (upgrade, control):
        if not account.stacks.begun:
            reasons.append(f"{account.label}: no stack was begun, so it proves nothing")
        if account.requests.probes_per_second < FEWEST_PROBES:
            pace = account.requests.probes_per_second
            reasons.append(f"{account.label}: {pace} probes were answered a second, expected {FEWEST_PROBES:g} or more")
    return reasons


def _against(upgrade: Account, control: Account) -> list[str]:
    reasons = []
    if upgrade.requests.failed:
        first = upgrade.requests.failures[0]
        reasons.append(f"{upgrade.requests.failed} requests failed, the first a {first.kind}: {first.error}")
    if upgrade.stuck:
        reasons.append(f"{len(upgrade.stuck)} stacks are stuck: {_some(upgrade.stuck)}")
    if upgrade.unsettled:
        reasons.append(f"{len(upgrade.unsettled)} stacks are still in progress: {_some(upgrade.unsettled)}")
    for kind, names in upgrade.stacks.failure_kinds.items():
        if kind not in control.stacks.failure_kinds:
            reasons.append(
                f"{len(names)} stacks failed in a way that the control run doesn't have: {kind}: {_some(names)}"
            )
    return reasons


def table(*accounts: Account) -> str:
    """Show accounts side by side.

    :param accounts: one column each.
    """
    kinds = sorted({kind for account in accounts for kind in account.stacks.failure_kinds})
    rows = [[title, *(value(account) for account in accounts)] for title, value in _ROWS.items()]
    rows += [[f"  {kind}", *(len(a.stacks.failure_kinds.get(kind, ())) for a in accounts)] for kind in kinds]
    headers = ["", *(account.label for account in accounts)]
    return str(tabulate(rows, headers=headers, disable_numparse=True))


_ROWS: dict[str, Callable[[Account], object]] = {
    "seconds of traffic": lambda a: f"{a.ended - a.began:.0f}",
    "requests sent": lambda a: a.requests.sent,
    "requests failed": lambda a: _with_kinds(a.requests),
    "probes a second, slowest 10 s": lambda a: (
        f"{a.requests.probes_per_second}, {a.requests.slowest_probes_per_second}"
    ),
    "build_info median, worst": lambda a: (
        f"{a.requests.probe_seconds_median:.2f} s, {a.requests.probe_seconds_worst:.2f} s"
    ),
    "api releases": lambda a: _releases(a, "api"),
    "engine releases": lambda a: _releases(a, "engine"),
    "old and new APIs answered, s": lambda a: a.overlap("api"),
    "stacks begun": lambda a: a.stacks.begun,
    "  complete (deleted since)": lambda a: f"{a.stacks.complete} ({a.stacks.deleted})",
    "  stuck, nested ones too": lambda a: len(a.stuck),
    "  unsettled": lambda a: len(a.unsettled),
    "resources created twice": lambda a: len(a.created_twice),
    "orphan sync points": lambda a: a.orphan_sync_points,
    "stacks failed": lambda a: a.stacks.failed,
}


def _with_kinds(requests: Requests) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in requests.failed_by_kind.items())
    return f"{requests.failed} ({kinds})" if kinds else str(requests.failed)


def _releases(account: Account, service: str) -> str:
    seen = account.releases.get(service, {})
    return ", ".join(f"{release} {times.answers}x" for release, times in seen.items()) or "none"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
