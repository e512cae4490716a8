"""What users felt of an upgrade at its particular moments, and how soon it went on once the old side was done."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from lab.traffic.account import Account
from lab.traffic.work import EVERY

HELD = 2.0  # seconds that the flip, or the close, may hold what changes a stack
# Reads are never held. Heat answers at every half second here; all hosts at work at once may cost one or two more.
READ = 1.0
ROUND = 2.0  # seconds around the flip in which an answer of one side may still come after one of the other
GATE = 15.0  # seconds from the last work of the old side to the opening of the drain's gate
SOON = 5.0  # seconds between two changes by one user that a moment has parted
CHANGES = ("create", "update", "delete", "signal", "cfn signal")
READS = ("show", "list", "resources", "build_info", "cfn")


@dataclass(frozen=True)
class Window:
    """A time from its begin to its end, in seconds since the epoch."""

    begin: float
    end: float


@dataclass(frozen=True)
class Moments:
    """When an upgrade did what users may feel; None is what it did not do, or not yet.

    :param began: when its run began, in seconds since the epoch.
    :param flip: in which the flip took place.
    :param gate: when the drain's gate opened, in seconds since the epoch.
    :param close: in which the close took place.
    """

    began: float
    flip: Window | None = None
    gate: float | None = None
    close: Window | None = None

    def windows(self) -> Iterator[tuple[str, Window]]:
        """Yield the windows in which changes may be held, with their names."""
        for name, window in (("flip", self.flip), ("close", self.close)):
            if window:
                yield name, window


def longest(account: Account, kind: str, window: Window) -> float | None:
    """Return the longest answer, in seconds, to a request that was under way in a window; None where there was none.

    :param account: of the run.
    :param kind: the kind of request.
    :param window: the window.
    """
    seconds = account.requests.longest.get(kind, {})
    # A second stands for the longest of those that were sent in it.
    under_way = [took for sent, took in seconds.items() if sent < window.end and sent + 1 + took > window.begin]
    return max(under_way, default=None)


def usual(control: Account, kind: str) -> float:
    """Return the longest answer to a kind of request, in seconds, of a whole run; 0 where there was none.

    :param control: of a run without an upgrade.
    :param kind: the kind of request.
    """
    return max(control.requests.longest.get(kind, {}).values(), default=0.0)


def gate_delay(account: Account, moments: Moments) -> float | None:
    """Return how many seconds the drain's gate stayed closed after the old side's last work; None where none was seen.

    Before the flip the gate has nothing to open for. A look a second tells no less than a second.

    :param account: of the run; it has to begin before the upgrade does.
    :param moments: of the upgrade.
    """
    old = account.work.engines_before(moments.began)
    seen = [span.last for held in account.work.stacks.values() for engine, span in held.items() if engine in old]
    if moments.gate is None or not seen:
        return None
    return moments.gate - max(*seen, moments.flip.end if moments.flip else 0.0)


def crossed(account: Account, moments: Moments) -> list[str]:
    """Return the stacks that an engine of the old side was still at after one of the new side had begun with them.

    :param account: of the run; it has to begin before the upgrade does.
    :param moments: of the upgrade.
    """
    old = account.work.engines_before(moments.began)
    names = []
    for name, held in account.work.stacks.items():
        before = [span.last for engine, span in held.items() if engine in old]
        after = [span.first for engine, span in held.items() if engine not in old]
        if before and after and max(before) > min(after):
            names.append(name)
    return sorted(names)


def mixed(account: Account, moments: Moments) -> list[int]:
    """Return the seconds of an upgrade, the flip's own left out, in which users met more than one release.

    :param account: of the run.
    :param moments: of the upgrade.
    """
    end = moments.close.end if moments.close else account.ended
    flip = Window(moments.flip.begin - ROUND, moments.flip.end + ROUND) if moments.flip else Window(end, end)
    seconds = {
        second
        for service in account.releases.values()
        for second, releases in Counter(second for answers in service.values() for second in answers).items()
        if releases > 1 and moments.began <= second < end and not flip.begin - 1 < second < flip.end
    }
    return sorted(seconds)


def parted(account: Account, window: Window) -> int:
    """Return how many stacks their users changed just before some moment of a window and again just after it.

    :param account: of the run.
    :param window: the window.
    """
    return max(_parted(account, moment) for moment in range(int(window.begin), int(window.end) + 1))


def _parted(account: Account, moment: float) -> int:
    return sum(
        any(first < moment <= second <= first + SOON for first, second in pairwise(times))
        for times in account.touched.values()
    )


def judge_moments(upgrade: Account, control: Account, moments: Moments, *, alone: bool = True) -> list[str]:
    """Return what speaks against an upgrade at its particular moments; nothing if it holds.

    The rule: while the flip and the close last, no change takes more than 2 s longer than the longest of its kind in
    the control run, and no read is slower than without an upgrade; the drain's gate opens at most 15 s after the old
    side's last work, and not before; no stack was worked on by both sides; users meet the two releases at once at no
    moment but the flip; and the traffic was there to show it.

    :param upgrade: the run during which the upgrade happened.
    :param control: the same traffic on the same cloud without an upgrade.
    :param moments: of the upgrade.
    :param alone: whether nothing else was at work on the machine; else how long things took says more of that, and
        isn't judged.
    """
    reasons: list[str] = []
    if alone:
        reasons += [reason for name, window in moments.windows() for reason in _held(upgrade, control, name, window)]
    if both := crossed(upgrade, moments):
        reasons.append(f"{len(both)} stacks were worked on by both sides: {', '.join(both[:5])}")
    if seconds := mixed(upgrade, moments):
        reasons.append(
            f"both releases answered in {len(seconds)} seconds apart from the flip, the first at {seconds[0]}"
        )
    if moments.flip and not parted(upgrade, moments.flip):
        reasons.append("no user changed a stack just before the flip and again just after it: it proves nothing")
    return reasons + _gate(upgrade, moments, GATE if alone else float("inf"))


def _held(upgrade: Account, control: Account, name: str, window: Window) -> Iterator[str]:
    for kinds, bound in ((CHANGES, HELD), (READS, READ)):
        for kind in kinds:
            took, without = longest(upgrade, kind, window), usual(control, kind)
            if took is not None and took - without > bound:
                yield (
                    f"a {kind} took {took:.1f} s at the {name}, expected at most {without + bound:.1f} s: "
                    f"{bound:g} s more than the longest without an upgrade"
                )


def _gate(upgrade: Account, moments: Moments, bound: float) -> list[str]:
    delay = gate_delay(upgrade, moments)
    if delay is not None and delay < -EVERY:
        return [f"the old side was at work for {-delay:.0f} s after the drain's gate had opened"]
    if delay is not None and delay > bound:
        return [f"the drain's gate opened {delay:.0f} s after the old side's last work, expected at most {bound:g} s"]
    return []
