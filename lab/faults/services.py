"""How often services were started, against how often they should have been."""

from __future__ import annotations

from collections.abc import Sequence

from lab.cloud.host import programs
from lab.cloud.model import Lab, LabHost, Role

Starts = dict[str, dict[str, int]]


class ServiceStarts:
    """
    Counts the starts of a run's services: once each of the new release's and of the old APIs beside, and what comes
    back by itself.

    :param lab: the lab, before the run.
    :param source: the release that the run comes from.
    :param target: the release that it brings.
    """

    def __init__(self, lab: Lab, source: str, target: str) -> None:
        self._lab = lab
        self._target = target
        self._allowed = lab.service_starts()
        for host in lab.hosts:
            states = programs(host)
            services = [f"heat-{role}-{target}" for role in host.roles]
            services += [f"heat-{role}-{source}-beside" for role in host.apis]
            self.restarts(host, [service for service in services if states.get(service) != "RUNNING"])

    def restarts(self, host: LabHost, services: Sequence[str]) -> None:
        """Allow for services that start once more."""
        for service in services:
            self._allow(host, service, 1)

    def forgive(self, host: LabHost, role: Role) -> None:
        """Allow a service of the new release that was started there in vain once more."""
        service = f"heat-{role}-{self._target}"
        self._allowed[host.name][service] = host.service_starts().get(service, 0) + 1

    def flaws(self) -> list[str]:
        """Return which services were started more often than they should have been since the last call."""
        flaws = []
        for name, starts in self._lab.service_starts().items():
            for service, count in starts.items():
                allowed = self._allowed[name].get(service, 0)
                if count > allowed:
                    flaws.append(f"{service} was started {count} times on {name}, expected {allowed}")
                    self._allowed[name][service] = count
        return flaws

    def _allow(self, host: LabHost, service: str, more: int) -> None:
        allowed = self._allowed[host.name]
        allowed[service] = allowed.get(service, 0) + more
