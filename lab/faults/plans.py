"""Which fault strikes at which task, in which run: the suite's runs follow one another in the life of one small lab."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.cloud_lab import RELEASES, Lab
from lab.faults.airflow import ComponentKilled, TaskKilled
from lab.faults.fault import Fault
from lab.faults.heat import ApiFails, EngineDies, NeverGreen
from lab.faults.host import ConnectionCut, DiskFull, Reboot, SilentIndex
from lab.faults.servers import BrokerRestarted, DatabaseRestarted, ManagementDown
from lab.faults.task import Task

FIRST, SECOND, THIRD = RELEASES
HOSTS = ("controller_1", "controller_2")
TASKS = (
    "preflight",
    *(f"prepare.{host}" for host in HOSTS),
    *("back_up_database", "create_vhost", "sync_database"),
    *(f"start_new_engines.{host}" for host in HOSTS),
    "may_switch",
    *(f"{host}.{step}" for host in HOSTS for step in ("leave_rotation", "switch_api", "rejoin_rotation")),
    "wait_until_drained",
    *(f"retire.{host}" for host in HOSTS),
    *("verify_cloud", "delete_old_vhost"),
)
Faults = Mapping[str, Sequence[Fault]]


@dataclass(frozen=True)
class Plan:
    """
    One run of the suite.

    :param name: what it is called.
    :param source: the release that the lab is on before.
    :param target: the release that it is on afterwards.
    :param faults: makes the faults of each task.
    :param anew: whether the target is installed anew, though it has served in the lab before.
    """

    name: str
    source: str
    target: str
    faults: Callable[[Lab], Faults]
    anew: bool = False


def at_every_task(*faults: Callable[[], Fault]) -> Callable[[Lab], Faults]:
    """Let each of some faults strike every task that it can hit."""
    return at(TASKS, *faults)


def at(tasks: Iterable[str], *faults: Callable[[], Fault]) -> Callable[[Lab], Faults]:
    """
    Let each of some faults strike each of some tasks, where it can hit it.

    :param tasks: their ids.
    :param faults: make the faults.
    """
    chosen = tuple(tasks)

    def plan(lab: Lab) -> Faults:
        made = {task: [fault() for fault in faults] for task in chosen}
        return {task: [fault for fault in those if fault.applies(Task(lab, task))] for task, those in made.items()}

    return plan


def each_its_own(lab: Lab) -> Faults:
    """Give each of the tasks that a new release's flaws can stop its own."""
    return {
        "prepare.controller_1": [DiskFull()],
        "prepare.controller_2": [SilentIndex()],
        "create_vhost": [ManagementDown()],
        "start_new_engines.controller_1": [EngineDies()],
        "start_new_engines.controller_2": [EngineDies()],
        "may_switch": [ManagementDown()],
        "controller_1.switch_api": [ApiFails()],
        "controller_1.rejoin_rotation": [NeverGreen()],
        "controller_2.switch_api": [ApiFails()],
        "controller_2.rejoin_rotation": [NeverGreen()],
        "wait_until_drained": [ManagementDown()],
        "retire.controller_1": [ManagementDown()],
        "verify_cloud": [ManagementDown()],
        "delete_old_vhost": [ManagementDown()],
    }


def _component(name: str) -> Callable[[], Fault]:
    return lambda: ComponentKilled(name)


SHARED = ("preflight", "back_up_database", "sync_database", "wait_until_drained", "verify_cloud", "delete_old_vhost")
FULL = (
    Plan("tasks killed", FIRST, SECOND, at_every_task(TaskKilled)),
    Plan("connections cut", SECOND, THIRD, at_every_task(ConnectionCut)),
    Plan("Airflow killed", THIRD, SECOND, at_every_task(*map(_component, ("scheduler", "api-server", "triggerer")))),
    Plan("servers restarted", SECOND, FIRST, at(TASKS[3:], BrokerRestarted, DatabaseRestarted)),
    Plan("flaws", FIRST, SECOND, each_its_own, anew=True),
    Plan("hosts rebooted", SECOND, THIRD, at_every_task(Reboot), anew=True),
)


def _short(lab: Lab) -> Faults:
    return {
        "prepare.controller_1": [TaskKilled()],
        "controller_1.switch_api": [ConnectionCut()],
        "wait_until_drained": [ComponentKilled("triggerer")],
    }


SHORT = (Plan("a few", FIRST, SECOND, _short),)
