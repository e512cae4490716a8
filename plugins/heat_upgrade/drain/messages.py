"""How the drain reports what it waits for: short tables for the log, and messages for the end."""

from __future__ import annotations

from collections.abc import Iterator

from heat_upgrade.drain.rule import Snapshot, Verdict
from heat_upgrade.drain.watch import DrainWatch
from heat_upgrade.readings import Broker, Reading, Unavailable

_LINES = 10


def reading_table(reading: Reading, watch: DrainWatch) -> str:
    """
    Render one reading as a short table for a log.

    :param reading: what was read
    :param watch: the watch that has observed it
    """
    verdict = watch.verdict
    rows = [
        (f"reading {watch.taken}", f"{reading.began:%H:%M:%S} UTC, clean {watch.clean}/{watch.needed}"),
        *_broker_rows(reading.broker),
        ("held", _held_summary(reading)),
        ("in flight", _flight_summary(watch.snapshot)),
        *_listed("failed", verdict.errors),
        *_listed("waits for", verdict.blockers or ((_next_step(watch),))),
        *_listed("note", verdict.notes),
    ]
    return "\n".join(f"{label:<11}{text}" for label, text in rows)


def _next_step(watch: DrainWatch) -> str:
    return "nothing: drained" if watch.drained else f"{watch.needed - watch.clean} more clean readings in a row"


def _broker_rows(broker: Broker | Unavailable) -> Iterator[tuple[str, str]]:
    if isinstance(broker, Unavailable):
        yield "old vhost", "unknown"
        return
    yield "old vhost", f"{broker.vhost!r}" if broker.exists else f"{broker.vhost!r} does not exist any more"
    read = [queue for queue in broker.queues if queue.consumers]
    ready, unacknowledged = sum(q.ready for q in broker.queues), sum(q.unacknowledged for q in broker.queues)
    totals = f"{ready} ready, {unacknowledged} unacknowledged"
    yield "queues", f"{totals} in {len(broker.queues)} queues, {len(read)} of them with a consumer"
    yield "engines", f"old: {len(broker.running_engines)} listening; new: {len(broker.new_engines)} known"


def _held_summary(reading: Reading) -> str:
    if isinstance(reading.broker, Unavailable) or isinstance(reading.database, Unavailable):
        return "unknown"
    rows = reading.held_by_old
    locks = sum(row.resource is None for row in rows)
    return f"by old engines: resources {len(rows) - locks}, stack locks {locks}"


def _flight_summary(snapshot: Snapshot) -> str:
    if snapshot.kept is not None:
        return f"stacks {len(snapshot.waiting)} of {len(snapshot.kept)} that stayed on the old side"
    if snapshot.time is None:
        return f"stacks {len(snapshot.waiting)}, T0 not taken yet"
    return f"stacks {len(snapshot.waiting)} of those at T0 ({snapshot.time:%H:%M:%S} UTC)"


def _listed(label: str, texts: tuple[str, ...], limit: int = _LINES) -> Iterator[tuple[str, str]]:
    for text in texts[:limit]:
        yield label, text
        label = ""
    if len(texts) > limit:
        yield "", f"... and {len(texts) - limit} more"


def timeout_message(verdict: Verdict, timeout: float) -> str:
    """
    Name what is still in the way when the time is up.

    :param verdict: the verdict of the last reading
    :param timeout: seconds that were waited
    """
    reasons = verdict.errors + verdict.blockers or ("too few clean readings in a row",)
    lines = [f"  {text}" for _, text in _listed("", reasons, limit=5 * _LINES)]
    return "\n".join(
        [
            f"The old engines were not drained within {timeout:.0f} s. Still in the way:",
            *lines,
            "No engine was stopped. Fix this, then clear the task to wait again.",
        ]
    )


def failure_message(verdict: Verdict) -> str:
    """
    Return why waiting any longer would be pointless.

    :param verdict: the verdict of the last reading
    """
    return "\n".join(["The old engines can't be drained by waiting:", *(f"  {error}" for error in verdict.errors)])
