"""Small clouds for whole runs of the upgrade, and what tests read there past the product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import requests

from lab.airflow.client import AirflowApi, TaskStates
from lab.airflow.dag_run import DagRun, failed_logs, run_upgrade
from lab.airflow.server import start_airflow
from lab.cloud.bring_up import bring_up, take_down
from lab.cloud.host import programs as host_programs
from lab.cloud.model import RELEASES, Lab, LabHost
from lab.cloud.rabbitmq import management_get
from lab.cloud.status import answering_releases
from lab.http import local_session

OLD, NEW, NEXT = RELEASES
OLD_VHOST, NEW_VHOST, NEXT_VHOST = RELEASES.values()
# The lab of the stories in lifecycle/.
LIFE = "e2e-life"

Starts = dict[str, dict[str, int]]


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


def beside(host: LabHost, *releases: str) -> dict[str, int]:
    """Return how often a host has started each API beside another release's if it was once, for some releases."""
    return {f"heat-{role}-{release}-beside": 1 for release in releases for role in host.apis}


def started_since(before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]) -> Starts:
    """Return how often each host has started each service from one look to another, but for those that it hasn't."""
    return {
        host: {
            name: count - before[host].get(name, 0) for name, count in now.items() if count != before[host].get(name)
        }
        for host, now in after.items()
    }


def enabled(lab: Lab) -> dict[str, set[str]]:
    """Return, for each host, the services that its next boot starts."""
    return {
        host.name: {
            file.stem
            for file in (host.root / "etc/supervisor.d").glob("*.conf")
            if "\nautostart=false\n" not in file.read_text(encoding="utf-8").replace(" ", "")
        }
        for host in lab.hosts
    }


def side(lab: Lab) -> str:
    """Return the release that every API of a lab answers users with, and an engine of it behind each."""
    (release,) = set(answering_releases(lab).values())
    return release


def there_or_back(lab: Lab) -> tuple[str, str]:
    """Return from which of the first two releases to which a lab can go, wherever the story before has left it."""
    source = side(lab)
    return source, OLD if source == NEW else NEW


def send_as(lab: Lab, project: str, method: str, path: str, body: Any = None) -> requests.Response:
    """Send Heat a request of a project's user; it has to be answered well."""
    url = lab.endpoint.replace("/admin", f"/{project}") + path
    answer = local_session().request(method, url, json=body, headers={"X-Auth-Project": project}, timeout=90)
    answer.raise_for_status()
    return answer


def next_move(lab: Lab) -> tuple[str, str]:
    """Return from which release to which a lab can be upgraded; one on the last release goes back first."""
    releases = list(RELEASES)
    if side(lab) == releases[-1]:
        assert run_upgrade(lab, {"target_release": releases[-2]}).state == "success"
    source = side(lab)
    return source, releases[releases.index(source) + 1]


def in_front(lab: Lab) -> dict[str, str]:
    """Return, for each host with an API, the release of the API that listens where users come, whoever answers."""
    found = {}
    for host in lab.hosts_with("api"):
        running = {name for name, state in host_programs(host).items() if state == "RUNNING"}
        found[host.name] = ", ".join(release for release in RELEASES if f"heat-api-{release}" in running)
    return found


def answer(api: AirflowApi, dag: str, run: str, task: str, option: str, *, timeout: float) -> None:
    """Answer what a task asks, once more if Airflow has lost the answer and asks again."""

    def over(tasks: TaskStates) -> bool:
        if tasks[task] == "awaiting_input":
            return not api.question(dag, run, task)["response_received"]
        return tasks[task] in ("success", "failed")

    asked = True
    while asked:
        api.answer(dag, run, task, option)
        api.wait_for_run(dag, run, timeout=timeout, until=over)
        asked = api.task_states(dag, run)[task] == "awaiting_input"
