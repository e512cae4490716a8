"""What the tasks around the flip have left for the report, as its facts. Nothing here asks anything."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from heat_upgrade.report.facts import CanaryFacts, FlipFacts, Requests, RouterFacts, moment

# Projects that are named, and letters of what others have written.
MOST_PROJECTS, LONGEST = 20, 200


def flip_facts(left: Any) -> FlipFacts | None:
    """
    Return what is known of a flip.

    :param left: what its task has returned; None where it never did
    """
    if not isinstance(left, Mapping):
        return None
    with suppress(ValidationError):
        return FlipFacts(**{name: left[name] for name in FlipFacts.model_fields if name in left})
    return None


def canary_facts(*left: Any) -> CanaryFacts | None:
    """
    Return what is known of the projects that went ahead.

    :param left: what each of their tasks has returned, if anything; the later ones know better
    """
    known = {name: value for each in left if isinstance(each, Mapping) for name, value in each.items() if value}
    projects = known.get("projects")
    if not isinstance(projects, list | tuple):
        return None
    return CanaryFacts(
        projects=tuple(str(project)[:LONGEST] for project in projects[:MOST_PROJECTS]),
        more=max(0, len(projects) - MOST_PROJECTS),
        began=_time(known.get("began")),
        ended=_time(known.get("ended")),
        verdict=str(known.get("verdict", ""))[:LONGEST],
    )


def _time(value: Any) -> datetime | None:
    """Return a time that somebody has noted: in seconds since the epoch, or as a text."""
    with suppress(ValueError, OverflowError, OSError):
        if isinstance(value, int | float):
            return moment(value)
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time if time.tzinfo else None
    return None


def router_facts(counts: Mapping[str, Mapping[str, float]]) -> tuple[RouterFacts, ...]:
    """
    Return what the routers have done; nothing where none of them has had a request.

    :param counts: by host
    """
    found = tuple(
        RouterFacts(
            host=host,
            here=_requests("here", told),
            beside=_requests("beside", told),
            refused=round(told["refused"]),
            lost=round(told["lost"]),
            held=round(told["held"]),
            longest_held=told["longest_held"],
        )
        for host, told in counts.items()
    )
    return found if any(any(told.values()) for told in counts.values()) else ()


def _requests(side: str, told: Mapping[str, float]) -> Requests:
    return Requests(**{kind: round(told[f"{side}_{kind}"]) for kind in Requests.model_fields})


def total(routers: tuple[RouterFacts, ...]) -> RouterFacts:
    """
    Return what all routers have done together.

    :param routers: of all hosts, at least one
    """

    def together(side: str) -> Requests:
        each = [getattr(router, side) for router in routers]
        return Requests(**{kind: sum(getattr(one, kind) for one in each) for kind in Requests.model_fields})

    return RouterFacts(
        host="all",
        here=together("here"),
        beside=together("beside"),
        refused=sum(router.refused for router in routers),
        lost=sum(router.lost for router in routers),
        held=sum(router.held for router in routers),
        longest_held=max(router.longest_held for router in routers),
    )
