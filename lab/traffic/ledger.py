"""What the traffic's requests came to."""

import threading
import time
from collections import Counter, defaultdict

from pydantic import BaseModel

WINDOW = 10  # seconds over which the slowest pace of the probes is taken
DETAILS = 2000  # how many failures are kept in full: whoever causes an outage tells by them what it cost


PROBE = "build_info"


class Failure(BaseModel):
    """A request that failed; `at` is when it was sent."""

    at: float
    kind: str
    error: str
    seconds: float


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
    medians: dict[str, float] = {}  # kind -> seconds
    longest: dict[str, dict[int, float]] = {}  # kind -> the second it was sent in -> the longest answer in seconds


class Sides(BaseModel):
    """Which releases of API and engine answered together: second -> how many answers."""

    api: str
    engine: str
    answers: dict[int, int] = {}


class Ledger:
    """Counts requests as they end; any thread may write into it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)  # when sent, seconds
        self._failures: list[Failure] = []
        self._sides: dict[tuple[str, str], Counter[int]] = {}

    def __str__(self) -> str:
        """Say how many requests there were, in a line."""
        with self._lock:
            return f"{self._sent()} requests, {len(self._failures)} failed"

    def answered(self, kind: str, seconds: float) -> None:
        """Note a request that was answered as it should be.

        :param kind: what was asked.
        :param seconds: how long the answer took.
        """
        with self._lock:
            self._answers[kind].append((time.time() - seconds, seconds))

    def failed(self, kind: str, error: str, seconds: float) -> None:
        """Note a request that failed.

        :param kind: what was asked.
        :param error: what came instead of an answer.
        :param seconds: how long that took.
        """
        with self._lock:
            self._failures.append(Failure(at=time.time() - seconds, kind=kind, error=error, seconds=round(seconds, 3)))

    def release(self, api: str, engine: str) -> None:
        """Note which releases have answered a probe.

        :param api: what the API calls itself.
        :param engine: what the engine that the API has asked calls itself.
        """
        with self._lock:
            self._sides.setdefault((api, engine), Counter())[int(time.time())] += 1

    def sides(self) -> list[Sides]:
        """Return which releases have answered together."""
        with self._lock:
            return [Sides(api=api, engine=engine, answers=seen) for (api, engine), seen in self._sides.items()]

    def requests(self, began: float, ended: float) -> Requests:
        """Sum up.

        :param began: when the first probe was due, in seconds since the epoch.
        :param ended: when the last one was.
        """
        with self._lock:
            sent = Counter({kind: len(answers) for kind, answers in self._answers.items()})
            failed = Counter(failure.kind for failure in self._failures)
            probes = self._answers.get(PROBE, [])
            moments = [at + seconds for at, seconds in probes]
            return Requests(
                sent=self._sent(),
                failed=len(self._failures),
                by_kind=dict(sorted((sent + failed).items())),
                failed_by_kind=dict(failed),
                failures=self._failures[:DETAILS],
                probes_per_second=round(len(probes) / max(ended - began, 1.0), 1),
                slowest_probes_per_second=slowest_pace(moments, began, ended),
                probe_seconds_median=_median(probes),
                probe_seconds_worst=round(max((seconds for _, seconds in probes), default=0.0), 3),
                medians={kind: _median(answers) for kind, answers in sorted(self._answers.items())},
                longest={kind: _longest(answers) for kind, answers in sorted(self._answers.items())},
            )

    def _sent(self) -> int:
        return sum(map(len, self._answers.values())) + len(self._failures)


def _median(answers: list[tuple[float, float]]) -> float:
    seconds = sorted(seconds for _, seconds in answers) or [0.0]
    return round(seconds[len(seconds) // 2], 3)


def _longest(answers: list[tuple[float, float]]) -> dict[int, float]:
    longest: dict[int, float] = {}
    for at, seconds in sorted(answers):
        longest[int(at)] = max(longest.get(int(at), 0.0), round(seconds, 3))
    return longest


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
