"""The report as a page and as Markdown: both from the same facts, and nothing in them is taken for markup."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heat_upgrade.formatting import change, clock, count, day, duration, markdown_block, markdown_text
from heat_upgrade.names import DRAIN, WATCH
from heat_upgrade.report.drawings import LEGEND, drain_plot, timeline
from heat_upgrade.report.facts import moment
from heat_upgrade.report.flips import total

if TYPE_CHECKING:
    from jinja2 import Environment

    from heat_upgrade.report.facts import DrainFacts, Report, Sample

TEMPLATES = Path(__file__).parent
# Readings in the Markdown's table, which has no plot.
READINGS = 12


def page(report: Report) -> str:
    """
    Return the report as one HTML page that needs no script and nothing from outside.

    :param report: the facts
    """
    drain = report.drain
    return (
        _environment(escape=True)
        .get_template("report.html.j2")
        .render(
            **_common(report),
            timeline=timeline(report, WATCH) if report.taken else None,
            plot=drain_plot(drain) if drain and drain.samples else None,
            legend=LEGEND,
        )
    )


def markdown(report: Report) -> str:
    """
    Return the report as Markdown.

    :param report: the facts
    """
    return (
        _environment(escape=False)
        .get_template("report.md.j2")
        .render(**_common(report), readings=_spread(report.drain))
    )


def _common(report: Report) -> dict[str, Any]:
    waited = report.step(DRAIN)
    flights = report.drain.stacks if report.drain else ()
    return {
        "report": report,
        "waited": waited.seconds if waited else None,
        "not_ended": [flight for flight in flights if "IN_PROGRESS" in flight.ended],
        # In a cold upgrade T0 is when the last old API has stopped.
        "by_flip": bool(report.flip or (report.drain and report.drain.by_side)),
        "holds": _holds(report),
        "routers": (*report.routers, total(report.routers)) if report.routers else (),
        "long": report.ended - report.began > timedelta(hours=20),
    }


def _holds(report: Report) -> list[tuple[str, float | None, float | None]]:
    """Return how long each host held at the flip and at the close, where any did."""
    flip, close = (each.held if each else {} for each in (report.flip, report.close))
    return [(host, flip.get(host), close.get(host)) for host in dict.fromkeys([*flip, *close])]


def _spread(drain: DrainFacts | None) -> list[Sample]:
    """Return some readings from the first to the last."""
    samples = list(drain.samples) if drain else []
    if len(samples) <= READINGS:
        return samples
    step = (len(samples) - 1) / (READINGS - 1)
    return [samples[round(number * step)] for number in range(READINGS)]


def _environment(*, escape: bool) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape,  # noqa: S701 - Markdown has filters of its own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "clock": clock,
        "day": day,
        "moment": moment,
        "known": lambda number: "?" if number is None else number,
        "plain": markdown_text,
        "block": markdown_block,
    }
    environment.globals |= {"change": change, "count": count}
    return environment
