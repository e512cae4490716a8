"""Airflow's own processes, killed."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import requests
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from lab.cloud.model import Lab
from lab.faults.fault import Fault, Scene
from lab.faults.task import Task
from lab.http import local_session
from lab.processes import children, send_signal


class TaskKilled(Fault):
    """The process of a task gets SIGKILL, as from the kernel when memory is short."""

    name = "task process killed"
    process = True
    wait = False

    def strike(self, scene: Scene) -> None:
        """Kill it; whatever step it has begun on a host is on its own now."""
        assert scene.attempt.pid
        os.kill(scene.attempt.pid, signal.SIGKILL)


class ComponentKilled(Fault):
    """
    A component of Airflow gets SIGKILL; supervisord starts it again.

    :param component: scheduler, triggerer or api-server.
    """

    def __init__(self, component: str) -> None:
        self.name = f"{component} killed"
        self._component = component
        self._killed = 0.0

    def strike(self, scene: Scene) -> None:
        """Kill it, with the scheduler's idle workers: nobody would ever give them work again."""
        self._killed = time.time()
        pid = component_pid(scene.lab, self._component)
        workers = children(pid) if self._component == "scheduler" else []
        os.kill(pid, signal.SIGKILL)
        send_signal([worker for worker in workers if b"<idle>" in _title(worker)], signal.SIGKILL)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether its successor has sent a heartbeat."""
        try:
            health = local_session().get(f"{lab.airflow_url}/api/v2/monitor/health", timeout=5)
            health.raise_for_status()
        except requests.RequestException:
            return False
        if self._component == "api-server":
            return True
        part: dict[str, str | None] = health.json().get(self._component) or {}
        heartbeat = part.get(f"latest_{self._component}_heartbeat")
        return heartbeat is not None and datetime.fromisoformat(heartbeat).timestamp() > self._killed + 1


def component_pid(lab: Lab, component: str) -> int:
    """Return the process of a component, as its supervisord knows it."""
    transport = SupervisorTransport(None, None, f"unix://{lab.airflow_home / 'supervisor.sock'}")
    supervisor: Any = ServerProxy("http://127.0.0.1", transport=transport).supervisor
    return int(supervisor.getProcessInfo(component)["pid"])


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
