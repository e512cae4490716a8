"""Which fault strikes at which task, in which run: the suite's runs follow one another in the life of one small lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from lab.cloud.model import RELEASES, Lab
from lab.faults.airflow import ComponentKilled, TaskKilled
from lab.faults.fault import Fault
from lab.faults.heat import ApiFails, EngineDies, NeverGreen
from lab.faults.host import A_MINUTE, ConnectionCut, DiskFull, Reboot, SilentIndex
from lab.faults.router import BesideKilled, HostAway, StateTorn, WorkerKilled
from lab.faults.servers import BrokerRestarted, DatabaseRestarted, ManagementDown
from lab.faults.task import Task

FIRST, SECOND, THIRD = RELEASES
HOSTS = ("controller_1", "controller_2")
TASKS = (
    "preflight",
    *(f"prepare.{host}" for host in HOSTS),
    *("back_up_database", "create_vhost", "sync_database"),
    *(f"start_new_engines.{host}" for host in HOSTS),
    "start_beside",
    *(f"{host}.{step}" for host in HOSTS for step in ("leave_rotation", "switch_api", "rejoin_rotation")),
    *("prove_new_side", "may_flip", "flip", "wait_until_drained", "close", "retire"),
    *("verify_cloud", "delete_old_vhost"),
)
Faults = Mapping[str, Sequence[Fault]]
Tasks = Sequence[Task]


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
    faults: Callable[[Tasks], Faults]
    anew: bool = False

    def tasks(self, lab: Lab) -> list[Task]:
        """Return the run's tasks in their order."""
        return [Task(lab, task_id, self.source, self.target) for task_id in TASKS]


def in_turn(*faults: Callable[[], Fault]) -> Callable[[Tasks], Faults]:
    """
    Let one fault strike each task that it can hit; of several, each the next task.

    :param faults: make the faults.
    """

    def plan(tasks: Tasks) -> Faults:
        made = [(task, fault()) for task, fault in zip(tasks, cycle(faults), strict=False)]
        return {task.task_id: [fault] for task, fault in made if fault.applies(task)}

    return plan


def cut(tasks: Tasks) -> Faults:
    """Cut the connection of each task that has one; hit the others, and the gate's wait, by Airflow's own faults."""
    return {
        **in_turn(_killed("scheduler"), _killed("triggerer"))(tasks),
        **in_turn(ConnectionCut)(tasks),
        "controller_2.switch_api": [ConnectionCut(A_MINUTE)],
        "may_flip": [ComponentKilled("api-server")],
        "wait_until_drained": [ConnectionCut(), ComponentKilled("triggerer")],
    }


def each_its_own(_: Tasks) -> Faults:
    """Give each of the tasks that a new release's flaws can stop its own, and the others one of Airflow's."""
    return {
        "preflight": [ComponentKilled("api-server")],
        "back_up_database": [ComponentKilled("triggerer")],
        "sync_database": [ComponentKilled("scheduler")],
        "controller_1.leave_rotation": [ComponentKilled("triggerer")],
        "controller_2.leave_rotation": [ComponentKilled("scheduler")],
        "start_beside": [ComponentKilled("triggerer")],
        "prove_new_side": [ComponentKilled("api-server")],
        "flip": [BesideKilled()],
        "close": [ComponentKilled("scheduler")],
        "prepare.controller_1": [DiskFull()],
        "prepare.controller_2": [SilentIndex()],
        "create_vhost": [ManagementDown()],
        "start_new_engines.controller_1": [EngineDies()],
        "start_new_engines.controller_2": [EngineDies()],
        "may_flip": [ManagementDown()],
        "controller_1.switch_api": [ApiFails()],
        "controller_1.rejoin_rotation": [NeverGreen()],
        "controller_2.switch_api": [ApiFails()],
        "controller_2.rejoin_rotation": [NeverGreen()],
        "wait_until_drained": [ManagementDown()],
        "retire": [ManagementDown()],
        "verify_cloud": [ManagementDown()],
        "delete_old_vhost": [ManagementDown()],
    }


def routers(_: Tasks) -> Faults:
    """
    Let each of the routers' own faults strike where it means most: the flip and the close, while changes are held.

    Of a task's faults all but the last one end a try.
    """
    return {
        "start_beside": [BesideKilled()],
        "controller_1.switch_api": [BesideKilled()],
        "controller_2.switch_api": [BesideKilled()],
        "prove_new_side": [BesideKilled()],
        "may_flip": [StateTorn()],
        "flip": [StateTorn(), HostAway(), WorkerKilled()],
        "wait_until_drained": [BesideKilled(), WorkerKilled()],
        "close": [StateTorn(), HostAway(), WorkerKilled()],
    }


def the_hold(_: Tasks) -> Faults:
    """Take from the flip and the close, while changes are held, what all hosts share, and the task's own process."""
    return {
        "prove_new_side": [StateTorn()],
        "may_flip": [WorkerKilled()],
        "flip": [TaskKilled(), DatabaseRestarted(), BrokerRestarted()],
        "wait_until_drained": [StateTorn()],
        "close": [DatabaseRestarted(held=True), BrokerRestarted(held=True)],
    }


def _killed(component: str) -> Callable[[], Fault]:
    return lambda: ComponentKilled(component)


FULL = (
    Plan("tasks killed", FIRST, SECOND, in_turn(TaskKilled)),
    Plan("scheduler killed", SECOND, THIRD, in_turn(_killed("scheduler"))),
    Plan("connections cut", THIRD, SECOND, cut),
    Plan("flaws", SECOND, THIRD, each_its_own, anew=True),
    Plan("API server and triggerer killed", THIRD, SECOND, in_turn(_killed("api-server"), _killed("triggerer"))),
    Plan("hosts rebooted", SECOND, THIRD, in_turn(Reboot), anew=True),
    Plan("servers restarted", THIRD, SECOND, in_turn(BrokerRestarted, DatabaseRestarted)),
    Plan("routers", SECOND, THIRD, routers),
    Plan("the hold", THIRD, SECOND, the_hold),
)


def _short(_: Tasks) -> Faults:
    return {
        "prepare.controller_1": [TaskKilled()],
        "controller_1.switch_api": [ConnectionCut()],
        "flip": [TaskKilled()],
        "wait_until_drained": [ComponentKilled("triggerer")],
    }


SHORT = (Plan("a few", FIRST, SECOND, _short),)
