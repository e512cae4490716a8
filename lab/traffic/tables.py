"""Accounts side by side, for people."""

from collections.abc import Callable, Iterator

from tabulate import tabulate  # type: ignore[import-untyped]

from lab.traffic.account import Account
from lab.traffic.ledger import Requests, Sides
from lab.traffic.moments import CHANGES, READS, Moments, crossed, gate_delay, longest, parted, usual


def table(*accounts: Account) -> str:
    """Show accounts side by side.

    :param accounts: one column each.
    """
    kinds = sorted({kind for account in accounts for kind in account.stacks.failure_kinds})
    rows = [[title, *(value(account) for account in accounts)] for title, value in _ROWS.items()]
    rows += [[f"  {kind}", *(len(a.stacks.failure_kinds.get(kind, ())) for a in accounts)] for kind in kinds]
    headers = ["", *(account.label for account in accounts)]
    return str(tabulate(rows, headers=headers, disable_numparse=True))


def moments_table(upgrade: Account, control: Account, moments: Moments) -> str:
    """Show the longest answers at an upgrade's moments beside the control run's, and who answered when.

    :param upgrade: the run during which the upgrade happened.
    :param control: the same traffic on the same cloud without an upgrade.
    :param moments: of the upgrade.
    """
    windows = dict(moments.windows())
    rows = [
        [kind, control.requests.medians.get(kind), usual(control, kind)]
        + [longest(upgrade, kind, window) for window in windows.values()]
        for kind in (*CHANGES, *READS)
    ]
    headers = ["longest answer, s", "control, median", "control, longest", *windows]
    lines = [str(tabulate(rows, headers=headers, floatfmt=".2f", missingval="-")), "", *_phases(upgrade, moments)]
    if moments.flip:
        lines.append(f"stacks changed just before the flip and again just after it: {parted(upgrade, moments.flip)}")
    if (delay := gate_delay(upgrade, moments)) is not None:
        lines.append(f"from the old side's last work to the gate's opening: {delay:.0f} s")
    lines.append(f"stacks that both sides worked on: {len(crossed(upgrade, moments))}")
    return "\n".join(lines)


def _phases(upgrade: Account, moments: Moments) -> Iterator[str]:
    """Yield how many probes each pair of API and engine answered, from one moment to the next."""
    names = ["before the upgrade", "until the flip", "until the close", "since then"]
    ends = [moments.began, *((w.begin if w else None) for w in (moments.flip, moments.close)), upgrade.ended]
    begin = upgrade.began
    for name, end in zip(names, ends, strict=True):
        if end is not None:
            answers = ((side, _count(side, begin, end)) for side in upgrade.sides)
            told = (f"{count} by API {side.api} and engine {side.engine}" for side, count in answers if count)
            yield f"probes answered {name}: {', '.join(told) or 'none'}"
            begin = end


def _count(side: Sides, begin: float, end: float) -> int:
    return sum(count for second, count in side.answers.items() if begin <= second < end)


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
    "resources whose lock was stolen": lambda a: len(a.stolen),
    "resources created twice": lambda a: len(a.created_twice),
    "orphan sync points": lambda a: a.orphan_sync_points,
    "stacks failed": lambda a: a.stacks.failed,
}


def _with_kinds(requests: Requests) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in requests.failed_by_kind.items())
    return f"{requests.failed} ({kinds})" if kinds else str(requests.failed)


def _releases(account: Account, service: str) -> str:
    seen = account.releases[service]
    return ", ".join(f"{release} {answers.total()}x" for release, answers in seen.items()) or "none"
