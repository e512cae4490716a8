"""The deployment of docker-compose.yaml, with the lab's cloud beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.airflow.client import AirflowApi
from lab.cloud.model import PROJECT_ROOT
from lab.compose.cloud import NAME, ComposeCloud
from lab.compose.engine import start_engine, stop_engine
from lab.compose.images import docker, ensure_images, proxy_arguments
from lab.processes import LabError, exclusive, run, wait_until

PROJECT = "heat-upgrade-lab"
AIRFLOW_PORT = 18080
_UP = 600.0


@dataclass
class Deployment:
    """
    Airflow and the lab's cloud under Compose.

    :param cloud: the cloud.
    :param workers: how many Celery workers.
    """

    cloud: ComposeCloud = field(default_factory=ComposeCloud)
    workers: int = 2
    engine: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where Airflow is."""
        return f"http://127.0.0.1:{AIRFLOW_PORT}"

    @property
    def login(self) -> tuple[str, str]:
        """The user name and the password that `make env` has made up."""
        values = self._values()
        return values["AIRFLOW_ADMIN"], values["AIRFLOW_ADMIN_PASSWORD"]

    def api(self) -> AirflowApi:
        """Return a client of Airflow."""
        return AirflowApi(self.url, *self.login)

    def up(self) -> None:
        """
        Build the images, start everything and wait until all of it is healthy.

        :raises LabError: if there is no engine, or a part of it doesn't come up.
        """
        with exclusive(self.cloud.state.with_name("compose.lock")):
            self.engine = start_engine()
            self._write_environment()
            with _phase("images"):
                ensure_images(self.engine)
                self.compose("build", *proxy_arguments())
            self.cloud.write()
            with _phase("all is healthy"):
                self.compose("up", "--detach", "--scale", f"worker={self.workers}")
                wait_until(lambda: not self.unwell(), what="all containers are healthy", timeout=_UP)

    def down(self) -> None:
        """Remove all of it, with its volumes and its folder; and end the engine, if it is the lab's own."""
        with exclusive(self.cloud.state.with_name("compose.lock")):
            if self.cloud.state.exists():
                self.engine = start_engine()
                self._write_environment()
                self.compose("down", "--volumes", "--timeout", "5")
                shutil.rmtree(self.cloud.state)
            stop_engine()

    def compose(self, *arguments: str) -> str:
        """
        Run Compose, version 2 or 1.29, and return what it prints.

        :raises LabError: if it fails, with the end of what it said.
        """
        environment = {
            **os.environ,
            **self.engine,
            **self._values(),
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_PROFILES": "lab",
            "COMPOSE_PROJECT_NAME": PROJECT,
            "AIRFLOW_PORT": str(AIRFLOW_PORT),
            "AIRFLOW_URL": self.url,
            "CLOUDS_DIR": str(self.cloud.clouds),
            "SECRETS_DIR": str(self.cloud.airflow_secrets),
            "LAB_DIR": str(self.cloud.state),
        }
        command = [*_compose(), "--file", str(PROJECT_ROOT / "docker-compose.yaml"), *arguments]
        return run(command, what=f"compose {arguments[0]}", env=environment)

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """
        Return what Docker knows of the deployment's containers.

        :param service: only those of this service.
        """
        labels = [f"label=com.docker.compose.project={PROJECT}"]
        labels += [f"label=com.docker.compose.service={service}"] if service else []
        filters = [word for label in labels for word in ("--filter", label)]
        ids = docker(["ps", "--all", "--quiet", *filters], self.engine).split()
        found: list[dict[str, Any]] = json.loads(docker(["inspect", *ids], self.engine)) if ids else []
        return found

    def run_on(self, container: str, *command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a command in a container of one name and return how it ended."""
        (found,) = self.containers(container)
        return subprocess.run(
            ["docker", "exec", "--user", user, found["Id"], *command],
            env={**os.environ, **self.engine},
            capture_output=True,
            text=True,
            check=False,
        )

    def unwell(self) -> list[str]:
        """Return the names of the containers that are not as they should be."""
        return [container["Name"] for container in self.containers() if not is_well(container["State"])]

    def _values(self) -> dict[str, str]:
        lines = (
            self._environment_file.read_text(encoding="utf-8").splitlines() if self._environment_file.exists() else ()
        )
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    @property
    def _environment_file(self) -> Path:
        return self.cloud.state / "environment"

    def _write_environment(self) -> None:
        self.cloud.state.mkdir(parents=True, exist_ok=True)
        run([sys.executable, PROJECT_ROOT / "deploy/env", self._environment_file], what="make up keys and passwords")


def stop_deployment() -> None:
    """Remove the deployment, if it was ever brought up in this checkout."""
    deployment = Deployment()
    if deployment.cloud.state.exists():
        deployment.down()
        print("the deployment under Compose is removed")


def is_well(state: dict[str, Any]) -> bool:
    """
    Tell whether a container is as it should be: healthy, or over and done without an error.

    :param state: what Docker says of it.
    """
    if state["Status"] == "exited":
        return bool(state["ExitCode"] == 0)
    return bool(state.get("Health", {}).get("Status") == "healthy")


def dag_id() -> str:
    """Return the id of the cloud's upgrade."""
    return f"heat_rolling_upgrade__{NAME}"


def _compose() -> Sequence[str]:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    if not shutil.which("docker-compose"):
        raise LabError(
            "neither `docker compose` nor docker-compose is there: on Debian, `apt-get install docker-compose`"
        )
    return ["docker-compose"]


@contextmanager
def _phase(name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    print(f"  {time.monotonic() - begun:5.1f} s  {name}", flush=True)
