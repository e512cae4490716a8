"""What is checked of the run as a whole: whether it may begin now, where it goes, and whether messages get out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from heat_upgrade.exceptions import error_text
from heat_upgrade.formatting import duration
from heat_upgrade.notifications.messages import without_secrets
from heat_upgrade.notifications.send import notifier_of
from heat_upgrade.preflight.check import Check, failed, judge, passed, warned

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.notifications import Notification
    from heat_upgrade.cloud.sections import Windows
    from heat_upgrade.readings import Unavailable
    from heat_upgrade.run.move import Move
    from heat_upgrade.run.parameters import RunParameters


@dataclass(frozen=True)
class RunFacts:
    """
    What is known of the run as a whole.

    :param move: from which release it goes to which, or why there is no such move
    :param cold: whether it is a cold upgrade
    :param other_runs: the DAGs that have a run over the cloud meanwhile
    :param required: how long a window has to stay open for what users notice
    :param now: when it is checked, in UTC
    """

    move: Move | Unavailable
    cold: bool
    other_runs: Sequence[str]
    required: timedelta
    now: datetime


def check_run(cloud: Cloud, parameters: RunParameters, facts: RunFacts) -> list[Check]:
    """
    Make every check of the run.

    :param cloud: the cloud
    :param parameters: what the run is to do
    :param facts: what is known of it
    """
    return [
        alone("one run at a time", facts.other_runs),
        judge("move", facts.move, partial(move, hosts=parameters.hosts, cold=facts.cold)),
        window("window", cloud.windows, facts.required, facts.now, ignored=parameters.ignore_windows),
        *notifications("notifications", cloud.notifications),
    ]


def alone(name: str, other_runs: Sequence[str]) -> Check:
    """Check that no other run works on the cloud."""
    if other_runs:
        return failed(
            name,
            f"{', '.join(other_runs)} has a run in progress, expected one run over a cloud at a time: see that one to "
            "its end, or mark it as failed, then trigger this one again",
        )
    return passed(name, "no other upgrade of this cloud is in progress")


def move(name: str, found: Move, *, hosts: Sequence[str], cold: bool) -> Check:
    """Say from which release the run goes to which, and on which hosts."""
    kind = "GOING BACK" if found.going_back else "cold upgrade" if cold else "upgrade"
    return passed(name, f"{kind} from {found.source.version} to {found.target.version} on {', '.join(hosts)}")


def window(name: str, windows: Windows | None, needed: timedelta, now: datetime, *, ignored: bool) -> Check:
    """
    Check that a maintenance window has room for what users notice; a run waits for one by itself.

    :param name: what is checked
    :param windows: the cloud's windows, None if it has none
    :param needed: how long one has to stay open
    :param now: the moment
    :param ignored: whether the run doesn't wait for one
    """
    if windows is None:
        return passed(name, "the cloud file has none, so a run waits for none")
    calendar = windows.calendar
    room = calendar.room(now)
    told = f"{duration(needed)} are needed"
    if room >= needed:
        return passed(name, f"one is open for another {duration(room)}, {told}")
    if ignored:
        return warned(name, f"none is open for long enough, {told}; expected one, but ignore_windows asks not to wait")
    if period := calendar.next_with_room(now, needed):
        opens = f"{period.start:%Y-%m-%d %H:%M} UTC for {duration(period.length)}"
        return passed(name, f"the next one opens at {opens}, {told}; the run waits for it before users are touched")
    return failed(
        name,
        f"the longest one to come is open for {duration(calendar.longest(now))}, {told}: lengthen a window in the "
        "cloud file, or trigger the run with ignore_windows",
    )


def notifications(name: str, entries: Sequence[Notification]) -> list[Check]:
    """
    Check that each notifier can be made and has its connection; one that fails later stops no upgrade either.

    :param name: what is checked
    :param entries: the cloud file's ``notifications``; where there are none, nothing is checked
    """
    if not entries:
        return []
    if problems := [problem for entry in entries if (problem := _problem(entry))]:
        found = "; ".join(problems)
        return [warned(name, f"{found}; expected notifiers that work: mend them, else nobody is told that way")]
    return [passed(name, ", ".join(map(str, entries)))]


def _problem(entry: Notification) -> str | None:
    from airflow.sdk import BaseHook

    try:
        notifier_of(entry)
        if entry.kind != "notifier":
            BaseHook.get_connection(entry.connection)
    except Exception as error:
        return f"{entry}: {without_secrets(error_text(error))}"
    return None
