"""What happens to a host: its SSH connections cut, a reboot, a full disk, a package index that doesn't answer."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterable

from lab.cloud.bring_up import build_info
from lab.cloud.haproxy import BACKENDS, server_states
from lab.cloud.host import boot, cut_power, greets, programs, start_sshd, stop_sshd
from lab.cloud.model import Lab, LabHost
from lab.cloud.rabbitmq import live_engines
from lab.faults.fault import Fault, Scene, StandingFault
from lab.faults.task import Task
from lab.processes import run

# Shorter than a retry's delay, so that one retry is enough.
SSHD_DOWN_SECONDS = 6.0
A_MINUTE = 60.0
OFF_SECONDS = 4.0
_INDEX_PORT = 28999
# Heat takes 190 MB.
_DISK = "24m"


class ConnectionCut(Fault):
    """
    A host's sshd is stopped with all its connections, and comes back after a while.

    :param seconds: how long it is away.
    """

    name = "SSH cut, sshd down"
    wait = False

    def __init__(self, seconds: float = SSHD_DOWN_SECONDS) -> None:
        self._seconds = seconds

    def applies(self, task: Task) -> bool:
        """Only a task with a remote step has a connection."""
        return task.step is not None

    def strike(self, scene: Scene) -> None:
        """Stop it, let the time pass, start it."""
        host = scene.task.ssh_host
        stop_sshd(host)
        threading.Event().wait(self._seconds)
        start_sshd(host)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether sshd answers."""
        return greets(task.ssh_host)


class Reboot(Fault):
    """A host loses all its processes at once and comes back after a while with what is enabled there."""

    name = "host rebooted"
    costs = True
    ends_engines = True

    def restarts(self, task: Task) -> list[str]:
        """Return what runs there now."""
        return [service for service, state in programs(task.host).items() if state in ("RUNNING", "STARTING")]

    def strike(self, scene: Scene) -> None:
        """Kill everything on the host, let the time pass, start what a boot starts."""
        host = scene.task.host
        cut_power(host)
        threading.Event().wait(OFF_SECONDS)
        boot(host)

    def healthy(self, lab: Lab, task: Task) -> bool:
        """Tell whether everything that the boot has started serves again."""
        states = programs(task.host)
        if not states or not greets(task.host) or {"STARTING", "BACKOFF", "STOPPING"} & set(states.values()):
            return False
        running = [name for name, state in states.items() if state == "RUNNING"]
        return _engines_listen(lab) and _apis_answer(lab, task.host, running)


def _engines_listen(lab: Lab) -> bool:
    running = [name for host in lab.hosts for name, state in programs(host).items() if state == "RUNNING"]
    return len(live_engines(lab)) >= sum(name.startswith("heat-engine") for name in running)


def serves_users(running: Iterable[str]) -> bool:
    """
    Tell whether a heat-api is among running programs that users reach, rather than one beside another.

    :param running: the programs' names.
    """
    return any(name.startswith("heat-api-2") and not name.endswith("-beside") for name in running)


def _apis_answer(lab: Lab, host: LabHost, running: list[str]) -> bool:
    if not serves_users(running):
        return True
    states = server_states(lab)
    out = host.rotation_file.exists()
    up = out or all(states[f"{BACKENDS[role]}/{host.name}"].startswith(("UP", "DRAIN")) for role in host.apis)
    return up and build_info(host) is not None


class DiskFull(StandingFault):
    """The disk under the new release's venv is full before the release is installed."""

    name = "disk full"

    def applies(self, task: Task) -> bool:
        """Only an installation fills a disk."""
        return task.kind == "prepare"

    def lay(self, lab: Lab, task: Task, target: str) -> None:
        """Mount a file system that is too small where the venv will be."""
        venv = task.host.venv(target)
        venv.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", venv], what=f"mount a small disk on {venv}")

    def mend(self, lab: Lab, task: Task, target: str) -> None:
        """Unmount it."""
        venv = task.host.venv(target)
        if venv.is_mount():
            run(["umount", venv], what=f"unmount {venv}")


class SilentIndex(StandingFault):
    """The package index takes connections and never answers."""

    name = "package index silent"

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}

    def applies(self, task: Task) -> bool:
        """Only an installation asks it."""
        return task.kind == "prepare"

    def lay(self, lab: Lab, task: Task, target: str) -> None:
        """Listen and leave it at that; send the host's installer there, with no cache to fall back to."""
        host = task.host
        index = socket.create_server((host.address, _INDEX_PORT))
        self._sockets[task.task_id] = index
        url = f"http://{host.address}:{_INDEX_PORT}/simple"
        host.environment.write_text(f"UV_DEFAULT_INDEX={url}\nUV_NO_CACHE=1\nUV_HTTP_TIMEOUT=3\n", encoding="utf-8")
        stop_sshd(host)
        start_sshd(host)

    def mend(self, lab: Lab, task: Task, target: str) -> None:
        """Let the host find its index again."""
        if listening := self._sockets.pop(task.task_id, None):
            listening.close()
            task.host.environment.unlink()
            stop_sshd(task.host)
            start_sshd(task.host)


def forget_release(lab: Lab, release: str) -> None:
    """
    Remove a release that doesn't run from all hosts, so that the next run installs it anew.

    :param lab: the lab.
    :param release: the release.
    """
    for host in lab.hosts:
        shutil.rmtree(host.venv(release), ignore_errors=True)
        shutil.rmtree(host.config(release).parent, ignore_errors=True)
