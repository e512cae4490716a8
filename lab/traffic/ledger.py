"""What the traffic's requests came to."""

import threading
import time
from collections import Counter

from pydantic import BaseModel

WINDOW = 10  # seconds over which the slowest pace of the probes is taken
DETAILS = 2000  # how many failures are kept in full: whoever causes an outage tells by them what it cost


class Failure(BaseModel):
    """A request that failed; `at` is when it was sent."""

    at: float
    kind: str
    error: str
    seconds: float


class Seen(BaseModel):
    """How often and when a release answered."""

    answers: int
    first: float
    last: float


class Requests(BaseModel):
    """The sum of all requests; times are seconds since the epoch."""

    sent: int = 0
    failed: int = 0
    by_kind: dict[str, int] = {}
    failed_by_kind: dict[str, int] = {}
    failures: list[Failure] = []
    probes_per_second: float = 0.0
    slowest_probes_per_second: float = 0.0
    probe_seconds_median: float = 0.0
    probe_seconds_worst: float = 0.0


class Ledger:
    """Counts requests as they end; any thread may write into it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._probes: list[tuple[float, float]] = []
        self.releases: dict[str, dict[str, Seen]] = {"api": {}, "engine": {}}

    def __str__(self) -> str:
        """Say how many requests there were, in a line."""
        with self._lock:
            return f"{self._kinds.total()} requests, {len(self._failures)} failed"

    def answered(self, kind: str, seconds: float, *, probe: bool = False) -> None:
        """Note a request that was answered as it should be.

        :param kind: what was asked.
        :param seconds: how long the answer took.
        :param probe: it counts as a probe of the API.
        """
        with self._lock:
            self._kinds[kind] += 1
            if probe:
                self._probes.append((time.time(), seconds))

    def failed(self, kind: str, error: str, seconds: float) -> None:
        """Note a request that failed.

        :param kind: what was asked.
        :param error: what came instead of an answer.
        :param seconds: how long that took.
        """
        with self._lock:
            self._kinds[kind] += 1
            self._failures.append(Failure(at=time.time() - seconds, kind=kind, error=error, seconds=round(seconds, 3)))

    def release(self, service: str, revision: str) -> None:
        """Note which release of a service answered.

        :param service: `api` or `engine`.
        :param revision: what it calls itself.
        """
        now = time.time()
        with self._lock:
            seen = self.releases[service].setdefault(revision, Seen(answers=0, first=now, last=now))
            seen.answers += 1
            seen.last = now

    def requests(self, began: float, ended: float) -> Requests:
        """Sum up.

        :param began: when the first probe was due, in seconds since the epoch.
        :param ended: when the last one was.
        """
        with self._lock:
            times = sorted(seconds for _, seconds in self._probes) or [0.0]
            return Requests(
                sent=self._kinds.total(),
                failed=len(self._failures),
                by_kind=dict(sorted(self._kinds.items())),
                failed_by_kind=dict(Counter(failure.kind for failure in self._failures)),
                failures=self._failures[:DETAILS],
                probes_per_second=round(len(self._probes) / max(ended - began, 1.0), 1),
                slowest_probes_per_second=slowest_pace([at for at, _ in self._probes], began, ended),
                probe_seconds_median=round(times[len(times) // 2], 3),
                probe_seconds_worst=round(times[-1], 3),
            )


def slowest_pace(moments: list[float], began: float, ended: float) -> float:
    """Find the slowest pace over any whole window of a run.

    :param moments: when something happened, in seconds.
    :param began: where the first window starts.
    :param ended: no window reaches beyond.
    """
    windows = int((ended - began) // WINDOW)
    if windows < 1:
        return round(len(moments) / max(ended - began, 1.0), 1)
    counts = Counter(int((moment - began) // WINDOW) for moment in moments)
    return round(min(counts[window] for window in range(windows)) / WINDOW, 1)
