"""How often services were started, against how often they should have been."""

from __future__ import annotations

from lab.cloud.host import programs
from lab.cloud.model import Lab, LabHost, Role

Starts = dict[str, dict[str, int]]


class ServiceStarts:
    """
    Counts the starts of a run's services: the new release's once each, and what a reboot brings back.

    :param lab: the lab, before the run.
    :param target: the release that the run brings.
    """

    def __init__(self, lab: Lab, target: str) -> None:
        self._lab = lab
        self._target = target
        self._allowed = lab.service_starts()
        for host in lab.hosts:
            states = programs(host)
            for role in host.roles:
                service = f"heat-{role}-{target}"
                if states.get(service) != "RUNNING":
                    self._allow(host, service, 1)

    def reboots(self, host: LabHost) -> None:
        """Allow for what comes back with a host: the services that run there now."""
        for service, state in programs(host).items():
            if state in ("RUNNING", "STARTING"):
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
