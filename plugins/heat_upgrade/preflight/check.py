"""The outcome of a check, and the table of them all."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from heat_upgrade.readings import Unavailable

T = TypeVar("T")

# Seconds between a host's clock and ours. Heat compares times of its hosts; a stack counts as stranded after 60 s.
CLOCK_WARNS, CLOCK_FAILS = 2.0, 30.0

_NAME_WIDTH = 18
_FINDING_WIDTH = 100


class Outcome(StrEnum):
    """How a check ended; one that can't be made yet says when it will be."""

    PASSED = "passed"
    SKIPPED = "skipped"
    WARNED = "warned"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Check:
    """
    The outcome of one check.

    :param name: what was checked
    :param outcome: how it ended
    :param finding: what was found; where it isn't as it should be, also what was expected and what to do
    :param may_pass: whether a failure may pass by itself
    """

    name: str
    outcome: Outcome
    finding: str
    may_pass: bool = False


def passed(name: str, finding: str) -> Check:
    """Return a check that found what it should."""
    return Check(name, Outcome.PASSED, finding)


def skipped(name: str, finding: str) -> Check:
    """Return a check that couldn't be made, with the reason."""
    return Check(name, Outcome.SKIPPED, finding)


def warned(name: str, finding: str) -> Check:
    """Return a check that found what an operator should know and what doesn't stop an upgrade."""
    return Check(name, Outcome.WARNED, finding)


def failed(name: str, finding: str) -> Check:
    """Return a check that found what an upgrade must not begin with."""
    return Check(name, Outcome.FAILED, finding)


def unavailable(name: str, reading: Unavailable) -> Check:
    """Return a check of what couldn't be read: it fails, unless nobody has asked for it."""
    if not reading.asked:
        return skipped(name, reading.reason)
    return Check(name, Outcome.FAILED, reading.reason, may_pass=reading.retryable)


def judge(name: str, reading: T | Unavailable, verdict: Callable[[str, T], Check]) -> Check:
    """
    Return a check of what was read; what couldn't be read fails.

    :param name: what is checked
    :param reading: what was read
    :param verdict: says, for the name and what was read, what it means
    """
    if isinstance(reading, Unavailable):
        return unavailable(name, reading)
    return verdict(name, reading)


def check_clock(name: str, ahead: float, todo: str) -> Check:
    """
    Check a clock against Airflow's.

    :param name: what is checked
    :param ahead: seconds that it is ahead
    :param todo: what to do if it is far off
    """
    off = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} Airflow's"
    if abs(ahead) <= CLOCK_WARNS:
        return passed(name, off)
    verdict = failed if abs(ahead) > CLOCK_FAILS else warned
    return verdict(name, f"{off}, expected at most {CLOCK_WARNS:g} s: {todo}")


Groups = Mapping[str, Sequence[Check]]


def table(groups: Groups) -> str:
    """
    Render all checks for a log, and count them.

    :param groups: the checks by what was asked: a host, a server
    """
    lines = [line for group, checks in groups.items() for line in (group, *_rows(checks))]
    outcomes = Counter(check.outcome for checks in groups.values() for check in checks)
    counts = ", ".join(f"{outcomes[outcome]} {outcome.lower()}" for outcome in Outcome)
    return "\n".join([*lines, f"{outcomes.total()} checks: {counts}"])


def _rows(checks: Iterable[Check]) -> Iterable[str]:
    for check in checks:
        head = f"  {check.outcome:<8} {check.name:<{_NAME_WIDTH}} "
        # A path, an id or a command is looked for in the log as one piece.
        yield from textwrap.wrap(
            check.finding,
            width=len(head) + _FINDING_WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [head.rstrip()]


def failures(groups: Groups) -> list[str]:
    """
    Return a line for each check that failed.

    :param groups: the checks by what was asked
    """
    return [f"{group}, {check.name}: {check.finding}" for group, check in _failed(groups)]


def may_pass(groups: Groups) -> bool:
    """
    Tell whether all that failed may pass by itself.

    :param groups: the checks by what was asked
    """
    return all(check.may_pass for _, check in _failed(groups))


def _failed(groups: Groups) -> Iterator[tuple[str, Check]]:
    for group, checks in groups.items():
        for check in checks:
            if check.outcome is Outcome.FAILED:
                yield group, check
