"""What preflight knows when its checks begin: read from hosts and servers, judged elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heat_upgrade.formatting import duration
from heat_upgrade.hosts import HostState

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Deployment
    from heat_upgrade.cloud.sections import Role
    from heat_upgrade.readings import Unavailable

_UNITS = {"y": 31557600, "month": 2629800, "w": 604800, "d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 0.001}


@dataclass(frozen=True)
class HostFacts:
    """
    What a host has told.

    :param state: what it runs
    :param reported: what the step ``check_host`` reported
    :param login: as whom and where SSH got in
    :param key: where its host key was known from; empty if it wasn't verified
    :param ahead: seconds that its clock is ahead of Airflow's
    """

    state: HostState
    reported: Mapping[str, str] = field(default_factory=dict)
    login: str = ""
    key: str = ""
    ahead: float = 0

    def number(self, name: str) -> float | None:
        """Return a number that was reported, None if it wasn't."""
        text = self.reported.get(name, "")
        return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None

    def configured(self, release: str, key: str) -> str:
        """Return what a release's heat.conf says, empty if it wasn't read."""
        return self.reported.get(f"conf/{release}/{key}", "")

    def schema(self, release: str) -> list[str]:
        """Return the revisions that a release's code knows, oldest first; none where it isn't installed."""
        return self.reported.get(f"schema/{release}", "").split()


@dataclass(frozen=True)
class LongestResource:
    """The resource that took longest, of those that the events tell."""

    seconds: float
    name: str
    type: str
    action: str

    def __str__(self) -> str:
        """Name it and its time."""
        return f"{duration(self.seconds)} ({self.action} of {self.name}, {self.type})"


@dataclass(frozen=True)
class HostCheckContext:
    """
    What is to come, and what a host's checks need from elsewhere.

    :param target: the release that is to come to the host
    :param consumers: for each vhost how many consumers each queue has
    :param rotations: for each API behind an HAProxy its server's state and how it is checked
    :param longest: the resource that took longest, None if there was none
    :param cold: whether all engines and APIs stop before any of the target's starts
    """

    target: Deployment
    consumers: Mapping[str, Mapping[str, int]] | Unavailable
    rotations: Mapping[Role, str | Unavailable]
    longest: LongestResource | Unavailable | None
    cold: bool = False


def seconds(text: str) -> float | None:
    """
    Return a time span of a service manager in seconds: a plain number, or as systemd writes it; None for no limit.

    :param text: such as 3600, 1min 30s or infinity
    :raises ValueError: for anything else
    """
    if text == "infinity":
        return None
    if re.fullmatch(r"\d+", text):
        return float(text)
    words = text.split()
    parts = [re.fullmatch(r"([\d.]+)([a-z]+)", word) for word in words]
    if not words or not all(part and part[2] in _UNITS for part in parts):
        raise ValueError(f"{text!r} is no time span, expected one such as 90, 1min 30s or infinity")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts if part)


def in_units(kib: float) -> str:
    """
    Return an amount of memory or disk for people.

    :param kib: in KiB
    """
    return f"{kib / 1024**2:.1f} GiB" if kib >= 1024**2 / 10 else f"{kib / 1024:.0f} MiB"
