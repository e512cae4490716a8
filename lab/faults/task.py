"""What a task of the upgrade works on: its step on a host, told by its name. Nothing here looks at anything."""

from __future__ import annotations

from dataclasses import dataclass

from lab.cloud.model import RELEASES, Lab, LabHost

GATE = "wait_until_drained"
PROVE, FLIP, CLOSE = "prove_new_side", "flip", "close"
_LOOK = "look"
# The script in remote/scripts that is at work in the middle of each kind of task, in one for all hosts on the first of
# them; the others only talk to RabbitMQ.
_STEPS = {
    "preflight": _LOOK,
    "prepare": "prepare",
    "back_up_database": "back_up_database",
    "sync_database": "sync_database",
    "start_new_engines": "start_engine",
    "start_beside": "start_api",
    "leave_rotation": "leave_rotation",
    "switch_api": "switch_api",
    "rejoin_rotation": "rejoin_rotation",
    PROVE: "route",
    "may_flip": _LOOK,
    FLIP: "route",
    GATE: _LOOK,
    CLOSE: "close_router",
    "retire": "stop_engine",
    "verify_cloud": _LOOK,
}
# The run's last task, which fails with the run.
REPORT = "report"
# The schema stays as it is on the way back.
_FORWARD_ONLY = ("back_up_database", "sync_database")
_ORDER = list(RELEASES)


@dataclass(frozen=True)
class Task:
    """
    One task of a run.

    :param lab: the lab.
    :param task_id: as Airflow knows it, for example ``prepare.controller_1``.
    :param source: the release that the run comes from.
    :param target: the release that it brings.
    """

    lab: Lab
    task_id: str
    source: str = _ORDER[0]
    target: str = _ORDER[1]

    @property
    def going_back(self) -> bool:
        """Whether the run goes to an older release."""
        return _ORDER.index(self.target) < _ORDER.index(self.source)

    @property
    def kind(self) -> str:
        """What it does, whichever host it is for: ``prepare``, ``switch_api``."""
        parts = self.task_id.split(".")
        return next((part for part in parts if not self._names_host(part)), self.task_id)

    @property
    def host(self) -> LabHost:
        """The host that it is for; the first one for a task of the whole cloud, which is at work there, too."""
        for part in self.task_id.split("."):
            if self._names_host(part):
                return self.lab.host(part.replace("_", "-"))
        return self.lab.hosts[0]

    @property
    def step(self) -> str | None:
        """The remote step in the middle of it; None where it runs none."""
        return None if self.going_back and self.kind in _FORWARD_ONLY else _STEPS.get(self.kind)

    @property
    def only_looks(self) -> bool:
        """Whether its step is over before anything could strike it."""
        return self.step == _LOOK and self.task_id != GATE

    @property
    def ssh_host(self) -> LabHost:
        """The host on which its step runs: a balancer takes a host out of rotation at the balancer's."""
        at_balancer = self.kind in ("leave_rotation", "rejoin_rotation") and self.host.rotation == "haproxy"
        return self.lab.balancer if at_balancer else self.host

    def _names_host(self, part: str) -> bool:
        return any(part == host.name.replace("-", "_") for host in self.lab.hosts)
