"""Small clouds for whole runs of the upgrade, and what tests read there past the product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, failed_logs
from lab.airflow.server import start_airflow
from lab.cloud.bring_up import bring_up, take_down
from lab.cloud.model import RELEASES, Lab, LabHost
from lab.cloud.rabbitmq import management_get

OLD, NEW, NEXT = RELEASES
OLD_VHOST, NEW_VHOST, NEXT_VHOST = RELEASES.values()


@contextmanager
def fresh_lab(name: str, session: pytest.Session, *, airflow: bool = True) -> Iterator[Lab]:
    """
    Give tests a new lab; if one of them fails, only stop it: its files say why.

    :param name: the lab's name.
    :param session: the tests'.
    :param airflow: whether its Airflow runs from the beginning.
    """
    take_down(Lab(name), wipe=True)
    lab = Lab(name, "small")
    failed, wipe = session.testsfailed, False
    try:
        bring_up(lab)
        if airflow:
            start_airflow(lab)
        yield lab
        wipe = session.testsfailed == failed
    finally:
        take_down(lab, wipe=wipe)


def shared_lab(name: str, scope: Literal["module", "package"], *, airflow: bool = True) -> Any:
    """
    Return the fixture of a lab that the tests of a module or of a folder share.

    :param name: the lab's name.
    :param scope: who shares it.
    :param airflow: whether its Airflow runs from the beginning.
    """

    @pytest.fixture(scope=scope)
    def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
        with fresh_lab(name, request.session, airflow=airflow) as lab:
            yield lab

    return lab


def explain(api: AirflowApi, run: DagRun) -> str:
    """Return what a run that should have ended well has to say for itself."""
    return f"run {run.run_id} ended as {run.state}\n{failed_logs(api, run)}"


def messages(lab: Lab, vhost: str) -> dict[str, int]:
    """Return how many messages each queue of a vhost holds, read live."""
    queues = management_get(lab, f"queues/{vhost}?disable_stats=true&enable_queue_totals=true")
    return {queue["name"]: queue["messages"] for queue in queues}


def consumed_queues(lab: Lab, vhost: str) -> set[str]:
    """Return the names of the queues of a vhost that somebody reads."""
    return {consumer["queue"]["name"] for consumer in management_get(lab, f"consumers/{vhost}")}


def engine_ids(lab: Lab, vhost: str) -> set[str]:
    """Return the ids of all the engines that ever served a vhost."""
    return {name.partition(".")[2] for name in messages(lab, vhost) if name.startswith("heat-engine-listener.")}


def programs(lab: Lab, release: str) -> list[str]:
    """Return the command lines of the processes that run a release of Heat on the lab's hosts."""
    venvs = [f"{host.venv(release)}/" for host in lab.hosts]
    lines = [line.replace("\0", " ") for line in _command_lines()]
    return [line for line in lines if any(venv in line for venv in venvs)]


def _command_lines() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended
            continue


def services(host: LabHost, *releases: str) -> dict[str, int]:
    """Return how often a host has started each of its services if it was once, for some releases."""
    return {f"heat-{role}-{release}": 1 for release in releases for role in host.roles}
