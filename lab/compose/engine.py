"""A Docker engine: the one that answers, else one of the lab's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.cloud.model import PROJECT_ROOT
from lab.processes import LabError, Server, wait_until

_STATE = PROJECT_ROOT / ".state/docker"
_SOCKET = f"unix://{_STATE}/docker.sock"
_OWN = {"DOCKER_HOST": _SOCKET}
_START = 120.0
# Seconds in which it ends its containers.
_END = 60.0


def start_engine() -> dict[str, str]:
    """
    Return the environment in which Docker's client finds an engine, after starting one if none answers.

    :raises LabError: if none answers and none can be started, with the reason.
    """
    found = running_engine()
    if found is None:
        found = _OWN
        _start()
        wait_until(lambda: answers(_OWN), what="dockerd answers", timeout=_START, given_up=_dockerd().failure)
    return found


def running_engine() -> dict[str, str] | None:
    """
    Return the environment in which Docker's client finds an engine, None if none answers.

    :raises LabError: if there is no client.
    """
    return next((environment for environment in ({}, _OWN) if answers(environment)), None)


def stop_engine() -> None:
    """Stop the engine that the lab has started, if it has, with its containers."""
    _dockerd().stop(grace=_END)


def answers(environment: dict[str, str]) -> bool:
    """Tell whether a Docker engine answers in an environment."""
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            env={**os.environ, **environment},
            capture_output=True,
            timeout=30,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError("docker is not installed: on Debian, `apt-get install docker.io docker-compose`") from error
    return asked.returncode == 0


def _dockerd() -> Server:
    return Server("dockerd", _STATE / "dockerd.pid", _STATE / "dockerd.log")


def _start() -> None:
    dockerd = shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/usr/local/sbin")
    if not dockerd:
        raise LabError(
            "no Docker engine answers, and there is no dockerd to start: start one, or on Debian "
            "`apt-get install docker.io docker-compose debootstrap`"
        )
    if os.geteuid() != 0:
        raise LabError(
            "no Docker engine answers, and only root can start one: start it (`systemctl start docker`), or let your "
            "account use it"
        )
    _dockerd().start(_command(Path(dockerd)))


def _command(dockerd: Path) -> Sequence[str | Path]:
    own: list[str | Path] = [
        "--data-root",
        _STATE / "data",
        "--exec-root",
        _STATE / "run",
        "--pidfile",
        _STATE / "own.pid",
    ]
    return [dockerd, *own, "--host", _SOCKET]
