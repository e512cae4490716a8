"""The report's drawings, as SVG that stands in the page and needs nothing from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import groupby

from markupsafe import Markup

from heat_upgrade import names
from heat_upgrade.formatting import clock, count, duration
from heat_upgrade.report.axis import TimeAxis, top_of
from heat_upgrade.report.facts import DrainFacts, Report, Sample, TaskFacts, moment

WIDTH = 1000
LEFT, RIGHT = 150, 12
ROW, BAR = 26, 16
FOOT = 22
PANEL, GAP = 78, 30
# What a bar is about, by the beginning of its step's name; the first match counts.
KINDS = (
    ("wait", ("may_", names.DRAIN, names.CONFIRM, "approve", names.AFTER_WAVE, names.WATCH_CANARY)),
    ("check", (names.PREFLIGHT, names.PROVE, names.VERIFY)),
    ("engine", (names.START_ENGINES, names.RETIRE, names.STOP_ENGINES)),
    ("api", (names.LEAVE, names.SWITCH, names.REJOIN, names.STOP_APIS, names.START_APIS)),
    ("api", (names.START_BESIDE, names.FLIP, names.CLOSE)),
)
LEGEND = (("check", "checks"), ("prepare", "preparation"), ("engine", "engines"), ("api", "APIs"), ("wait", "waiting"))
CLOUD_ROW, API_ROW = "whole cloud", "API by probe"
Bar = tuple[TimeAxis, TaskFacts]


def kind_of(step: TaskFacts) -> str:
    """Return what a step is about, which gives its bar its colour."""
    if step.state != "success":
        return "failed"
    return next((kind for kind, names in KINDS if step.name.startswith(names)), "prepare")


def timeline(report: Report, watch: str) -> Markup:
    """
    Draw when each host had which step, below the steps of the whole cloud, and when the API didn't answer.

    :param report: the facts
    :param watch: the task that watches the API, which has a row of its own
    """
    steps = [step for step in report.taken if step.task != watch]
    axis = TimeAxis(report.began, report.ended, LEFT, WIDTH - LEFT - RIGHT)
    rows = [CLOUD_ROW, *dict.fromkeys(host for host in report.hosts)]
    rows += sorted({step.host for step in steps if step.host} - set(rows))
    api = [API_ROW] if report.api and report.api.since else []
    height = ROW * len(rows + api)
    parts = [*_grid(axis, height), *_rows([*rows, *api])]
    for number, row in enumerate(rows):
        host = None if row == CLOUD_ROW else row
        for step in steps:
            if step.host == host:
                parts.append(_bar(axis, step, number * ROW))
    if api:
        parts += _probe(axis, report, len(rows) * ROW)
    return _svg(height + FOOT, parts, f"Timeline of {count(len(report.hosts), 'host')}")


def _rows(names: list[str]) -> Iterator[Markup]:
    for number, name in enumerate(names):
        y = number * ROW
        yield Markup('<line class="row" x1="0" x2="{}" y1="{}" y2="{}"/>').format(WIDTH, y + ROW, y + ROW)
        yield Markup('<text class="name" x="0" y="{}">{}</text>').format(y + 17, _short(name))


def _bar(axis: TimeAxis, step: TaskFacts, y: float) -> Markup:
    begin, end = axis.at(step.began or axis.begin), axis.at(step.ended or axis.end)
    text = f"{step.task}: {clock(step.began)}, {duration(step.seconds)}"
    return _rect(begin, end, y, kind_of(step), text + ("" if step.state == "success" else f", {step.state}"))


def _rect(begin: float, end: float, y: float, kind: str, text: str) -> Markup:
    shape = Markup('<rect class="bar {}" x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="2"><title>{}</title></rect>')
    return shape.format(kind, begin, y + (ROW - BAR) / 2, max(end - begin - 0.5, 2.0), BAR, text)


def _probe(axis: TimeAxis, report: Report, y: float) -> Iterator[Markup]:
    seen = report.api
    if seen is None or seen.since is None or seen.until is None:
        return
    watched = f"watched for {duration(seen.until - seen.since)}, {seen.failed} of {seen.probes} probes failed"
    yield _rect(axis.at(moment(seen.since)), axis.at(moment(seen.until)), y, "up", watched)
    for outage in seen.outages:
        text = f"{clock(moment(outage.began))}: no answer for {duration(outage.seconds)} ({outage.reason})"
        yield _rect(axis.at(moment(outage.began)), axis.at(moment(outage.until)), y, "failed", text)


def drain_plot(drain: DrainFacts) -> Markup:
    """
    Draw how the old side emptied: messages, what old engines held, and the stacks in flight there and on the new side.

    :param drain: the facts; with at least one reading
    """
    samples = drain.samples
    end = max(samples[-1].time, samples[0].time + timedelta(seconds=1))
    axis = TimeAxis(samples[0].time, end, 44, WIDTH - 44 - RIGHT)
    panels: list[tuple[str, Callable[[Sample], int | None]]] = [
        ("messages in the old vhost's queues", lambda sample: sample.messages),
        ("resources and locks held by old engines", lambda sample: sample.held),
    ]
    if drain.by_side:
        panels.append(("stacks in flight on the old side", lambda sample: sample.in_flight))
        panels.append(("stacks in flight on the new side", lambda sample: sample.on_new))
    else:
        panels.append(("stacks in flight", lambda sample: sample.in_flight))
    height = len(panels) * (PANEL + GAP)
    parts = list(_grid(axis, height))
    for number, (title, value) in enumerate(panels):
        parts += _panel(axis, drain, title, value, number * (PANEL + GAP) + GAP)
    return _svg(height + FOOT, parts, "The drain over time")


def _panel(
    axis: TimeAxis, drain: DrainFacts, title: str, value: Callable[[Sample], int | None], y: float
) -> Iterator[Markup]:
    values = [number for sample in drain.samples if (number := value(sample)) is not None]
    top = top_of(values)
    yield Markup('<text class="title" x="{}" y="{}">{}, at most {}</text>').format(44, y - 8, title, max([0, *values]))
    for number, place in ((top, y), (0, y + PANEL)):
        yield Markup('<line class="row" x1="44" x2="{}" y1="{}" y2="{}"/>').format(WIDTH - RIGHT, place, place)
        yield Markup('<text class="value" x="38" y="{}">{}</text>').format(place + 4, number)
    for known, run in groupby(drain.samples, key=lambda sample: value(sample) is not None):
        if known:
            points = [(axis.at(sample.time), y + PANEL * (1 - (value(sample) or 0) / top)) for sample in run]
            # A reading that stands alone would be a line without length.
            points = points if len(points) > 1 else [points[0], (points[0][0] + 2, points[0][1])]
            line = " ".join(f"{x:.1f},{place:.1f}" for x, place in points)
            yield Markup('<polyline class="line" points="{}"/>').format(line)
    if drain.t0 and drain.t0 >= axis.begin:
        x = axis.at(drain.t0)
        yield Markup('<line class="t0" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(x, x, y, y + PANEL)
        yield Markup('<text class="tick" x="{:.1f}" y="{}">T0</text>').format(x + 4, y + 10)


def _grid(axis: TimeAxis, height: float) -> Iterator[Markup]:
    for x, label in axis.ticks():
        yield Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="0" y2="{}"/>').format(x, x, height)
        anchor = "end" if x > WIDTH - 40 else "middle"
        yield Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            x, height + 16, anchor, label
        )


def _svg(height: float, parts: list[Markup], label: str) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, label)
    return head + Markup("\n").join(parts) + Markup("</svg>")


def _short(name: str, longest: int = 20) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
