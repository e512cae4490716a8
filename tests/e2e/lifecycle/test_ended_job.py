"""A step that goes on by itself on its host: it ends with its task, and outlives Airflow's own trouble."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import dag_id, finished
from lab.cloud.model import Lab
from lab.faults.airflow import component_pid
from lab.faults.task import Task
from lab.faults.watch import step_pids
from lab.processes import wait_until
from tests.e2e.labs import NEW, explain

ENDED, FOLLOWED = "prepare.controller_1", "prepare.controller_2"
PATIENCE = 300.0  # seconds for one step on a busy machine
# A uv that installs nothing before a file is there.
HELD_INSTALLER = """\
#!/bin/sh
if [ "$1 $2" = "pip install" ]; then
    while [ ! -e "{go}" ]; do sleep 0.1; done
fi
exec "{uv}" "$@"
"""


@dataclass(frozen=True)
class Story:
    """
    A task that was marked as failed while its step ran, and one whose follower was killed meanwhile.

    :param at_work: processes of the first one's step before it was marked.
    :param tries: of each task.
    :param installed: how often each task's log tells the end of an installation.
    """

    at_work: list[int]
    tries: dict[str, int]
    installed: dict[str, int]


@pytest.fixture(scope="module")
def story(lab: Lab, api: AirflowApi) -> Story:
    dag, step = dag_id(lab), Task(lab, ENDED)
    with held_installations(lab, api) as go:
        run = api.trigger(dag, {"target_release": NEW})
        for task in (ENDED, FOLLOWED):
            api.wait_for_task(dag, run, task, ["deferred"], timeout=PATIENCE)
            await_follower(api, dag, run, task)
        at_work = step_pids(step)

        api.set_task_state(dag, run, ENDED, "failed")
        wait_until(lambda: not step_pids(step), what="the step ends with its task", timeout=PATIENCE)
        os.kill(component_pid(lab, "triggerer"), signal.SIGKILL)
        go.touch()
        api.wait_for_task(dag, run, FOLLOWED, ["success"], timeout=PATIENCE)
        api.wait_for_run(dag, run, timeout=PATIENCE)

    api.clear_tasks(dag, run, [ENDED], downstream=False)
    state = api.wait_for_run(dag, run, timeout=PATIENCE, until=lambda now: now[ENDED] in ("success", "failed"))
    assert api.task_states(dag, run)[ENDED] == "success", explain(api, finished(api, dag, run, state))
    api.stop_run(dag, run)
    logs = api.logs(dag, run)
    return Story(
        at_work=at_work,
        tries={task["task_id"]: task["try_number"] for task in api.task_instances(dag, run)},
        installed={task: logs[task].count(f"installed openstack-heat {NEW}") for task in (ENDED, FOLLOWED)},
    )


def await_follower(api: AirflowApi, dag: str, run: str, task: str) -> None:
    """Wait until the triggerer has taken the task up: Airflow drops a trigger that it hasn't without a word."""
    starts = f"/{task}/-1/1 (ID"
    wait_until(lambda: starts in api.log(dag, run, task), what=f"the triggerer follows {task}", timeout=PATIENCE)


@contextmanager
def held_installations(lab: Lab, api: AirflowApi) -> Iterator[Path]:
    """Let no host install a release before the file is there that this gives."""
    cloud_file, go, installer = lab.clouds_directory / f"{lab.name}.yaml", lab.state / "go", lab.state / "held-uv"
    before = cloud_file.read_text(encoding="utf-8")
    cloud = yaml.safe_load(before)
    installer.write_text(HELD_INSTALLER.format(go=go, uv=cloud["installer"]["command"]), encoding="utf-8")
    installer.chmod(0o755)
    _write(lab, api, yaml.safe_dump({**cloud, "installer": {**cloud["installer"], "command": str(installer)}}))
    yield go
    _write(lab, api, before)


def _write(lab: Lab, api: AirflowApi, cloud: str) -> None:
    api.wait_for_dag(dag_id(lab))
    (lab.clouds_directory / f"{lab.name}.yaml").write_text(cloud, encoding="utf-8")
    api.reparse(dag_id(lab))


def test_a_task_that_a_user_fails_takes_its_step_along(story: Story) -> None:
    assert story.at_work
    # One more where Airflow had just taken the marked one up once more as it was cleared.
    assert story.tries[ENDED] in (2, 3)
    assert story.installed[ENDED] == 1


def test_a_step_whose_triggerer_dies_is_followed_to_its_end(story: Story) -> None:
    assert story.tries[FOLLOWED] == 1
    assert story.installed[FOLLOWED] >= 1
