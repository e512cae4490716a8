"""What a probe has seen of the API: how often it answered, and when it didn't. Nothing here asks anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_OUTAGES = 100
# Seconds without a probe, as while the triggerer is down, from which on the API counts as unwatched.
BLIND_AFTER = 20.0


@dataclass
class Outage:
    """
    Failed probes in a row, with no good one between them.

    :param began: when the first of them began, in seconds since the epoch
    :param until: when the next good one began; the end of the latest failed one while there is none
    :param probes: how many failed
    :param reason: what the first one saw
    """

    began: float
    until: float
    probes: int
    reason: str

    @property
    def seconds(self) -> float:
        """Return how long it lasted at most."""
        return self.until - self.began


@dataclass
class Availability:
    """
    The account of a probe.

    :param url: what it asks for
    :param since: when it began, in seconds since the epoch
    :param until: when the latest probe ended
    :param probes: how many there were
    :param failed: how many of them failed
    :param slowest: seconds of the slowest good one
    :param unwatched: seconds without a probe
    :param outages: the first ones, each with its probes
    :param more: further ones, which are only counted
    :param down: whether the latest probe failed
    """

    url: str
    since: float | None = None
    until: float | None = None
    probes: int = 0
    failed: int = 0
    slowest: float = 0.0
    unwatched: float = 0.0
    outages: list[Outage] = field(default_factory=list)
    more: int = 0
    down: bool = False

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Availability:
        """Return the account that was saved."""
        return cls(**{**saved, "outages": [Outage(**outage) for outage in saved["outages"]]})

    def as_xcom(self) -> dict[str, Any]:
        """Return the account as an XCom holds it."""
        return asdict(self)

    @property
    def longest(self) -> Outage | None:
        """Return the longest outage."""
        return max(self.outages, key=lambda outage: outage.seconds, default=None)

    def observe(self, began: float, ended: float, problem: str | None) -> None:
        """
        Take in one more probe.

        :param began: when it began, in seconds since the epoch
        :param ended: when it ended
        :param problem: why it failed; None if it didn't
        """
        blind = self.until is not None and began - self.until > BLIND_AFTER
        if self.until is not None and blind:
            self.unwatched += began - self.until
        if problem is None:
            self._end_outage(began, blind=blind)
            self.slowest = max(self.slowest, ended - began)
        else:
            self._add_failure(began, ended, problem, blind=blind)
        self.since = began if self.since is None else self.since
        self.until, self.down = ended, problem is not None
        self.probes += 1

    def _end_outage(self, began: float, *, blind: bool) -> None:
        # What nobody has watched counts neither as down nor as up.
        if self.down and not self.more and not blind:
            self.outages[-1].until = began

    def _add_failure(self, began: float, ended: float, problem: str, *, blind: bool) -> None:
        self.failed += 1
        if self.down and not blind:
            if not self.more:
                self.outages[-1].until = ended
                self.outages[-1].probes += 1
        elif len(self.outages) < MOST_OUTAGES:
            self.outages.append(Outage(began, ended, 1, problem))
        else:
            self.more += 1
