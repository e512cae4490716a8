"""The report as a page and as Markdown: both from the same facts, and nothing in them is taken for markup."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heat_upgrade.names import DRAIN, WATCH
from heat_upgrade.report import words
from heat_upgrade.report.drawings import LEGEND, drain_plot, timeline
from heat_upgrade.report.facts import moment

if TYPE_CHECKING:
    from jinja2 import Environment

    from heat_upgrade.report.facts import Drain, Report, Sample

TEMPLATES = Path(__file__).parent
# Readings in the Markdown's table, which has no plot.
READINGS = 12
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>&~-])")


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


def plain(text: object) -> str:
    """
    Return any text as Markdown that shows it as it is, on one line.

    :param text: what users may have given
    """
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def block(text: str) -> str:
    """
    Return a text with lines as a block of Markdown that it can't end by itself.

    :param text: what went wrong
    """
    return "\n".join(f"    {line}" for line in text.splitlines())


def _common(report: Report) -> dict[str, Any]:
    waited = report.step(DRAIN)
    flights = report.drain.stacks if report.drain else ()
    return {
        "report": report,
        "waited": waited.seconds if waited else None,
        "not_ended": [flight for flight in flights if "IN_PROGRESS" in flight.ended],
        "long": report.ended - report.began > timedelta(hours=20),
    }


def _spread(drain: Drain | None) -> list[Sample]:
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
        "duration": words.duration,
        "clock": words.clock,
        "day": words.day,
        "moment": moment,
        "plain": plain,
        "block": block,
    }
    environment.globals |= {"change": words.change, "count": words.count}
    return environment
