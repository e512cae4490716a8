"""Outages of what all hosts share: RabbitMQ, its management API, MariaDB."""

from __future__ import annotations

import signal

import requests

from lab.cloud.bring_up import build_info
from lab.cloud.host import programs
from lab.cloud.mariadb import answers, start_mariadb
from lab.cloud.model import Lab
from lab.cloud.rabbitmq import live_engines, management_get, start_management, start_rabbitmq, stop_management
from lab.faults.fault import Fault, Scene
from lab.faults.host import serves_users
from lab.faults.task import Task
from lab.processes import send_signal, wait_until

# A task that hasn't met the outage by then doesn't need the server.
OUTAGE_SECONDS = 8.0


class Outage(Fault):
    """
    A server is away while a task is at work: the task is held until the server is away for sure.

    :param held: whether to strike a close while changes are held.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.held = held

    def strike(self, scene: Scene) -> None:
        """Stop the server, let the task run into it, start the server."""
        held = [scene.attempt.pid] if scene.attempt.pid and scene.attempt.state == "running" else []
        send_signal(held, signal.SIGSTOP)
        try:
            self.stop(scene.lab)
        finally:
            send_signal(held, signal.SIGCONT)
        try:
            scene.watch.await_end_of_try(scene.task, scene.attempt, OUTAGE_SECONDS)
        finally:
            self.start(scene.lab)

    def stop(self, lab: Lab) -> None:
        """Stop the server."""
        raise NotImplementedError

    def start(self, lab: Lab) -> None:
        """Start the server and wait until it serves."""
        raise NotImplementedError


class ManagementDown(Outage):
    """RabbitMQ's management API is stopped; the broker itself serves on."""

    name = "management API down"

    def applies(self, task: Task) -> bool:
        """Only some tasks ask it."""
        return task.kind in {
            *("preflight", "create_vhost", "start_new_engines", "may_flip", "wait_until_drained", "retire"),
            *("verify_cloud", "delete_old_vhost"),
        }

    def stop(self, lab: Lab) -> None:
        """Stop the plugin."""
        stop_management(lab)

    def start(self, lab: Lab) -> None:
        """Start the plugin."""
        start_management(lab)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether it answers."""
        try:
            return bool(management_get(lab, "overview"))
        except requests.RequestException:
            return False


class BrokerRestarted(Outage):
    """RabbitMQ is restarted: what engines had in memory of it is lost."""

    name = "broker restarted"
    costs = True
    ends_engines = True

    def stop(self, lab: Lab) -> None:
        """Stop the broker."""
        lab.server("rabbitmq").stop(grace=30)

    def start(self, lab: Lab) -> None:
        """Start the broker."""
        start_rabbitmq(lab)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether all engines and APIs are back on it."""
        return _heat_serves(lab)


class DatabaseRestarted(Outage):
    """MariaDB is restarted."""

    name = "MariaDB restarted"
    costs = True
    ends_engines = True

    def stop(self, lab: Lab) -> None:
        """Stop the server."""
        lab.server("mariadb").stop(grace=30)

    def start(self, lab: Lab) -> None:
        """Start the server."""
        start_mariadb(lab)
        wait_until(lambda: answers(lab), what="MariaDB answers")

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether Heat answers out of it."""
        return _heat_serves(lab)


def _heat_serves(lab: Lab) -> bool:
    running = {host: [name for name, state in programs(host).items() if state == "RUNNING"] for host in lab.hosts}
    engines = sum(name.startswith("heat-engine") for names in running.values() for name in names)
    try:
        if len(live_engines(lab)) < engines:
            return False
    except requests.RequestException:
        return False
    with_api = [host for host, names in running.items() if serves_users(names)]
    return all(build_info(host) for host in with_api)
