"""Hooks of a cloud: made where the cloud file says, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from heat_upgrade.clients import Clients
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.hooks.host import HeatHostHook
from tests.unit._helpers.clouds.broken import COMMANDS, GOOD, HAPROXY, edited
from tests.unit._helpers.healthy import CLOUD, NEW

PROJECT = Path(__file__).parents[2]
# What takes its time to import, and what nobody needs to parse a DAG file.
HEAVY = {"requests", "paramiko", "keystoneauth1", "MySQLdb", "fastapi", "airflow.providers.ssh.hooks.ssh"}


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HEAT_SSH", "ssh://heat@")


def where(hook: HeatHostHook) -> tuple[str, int | None, str]:
    return hook.remote_host, hook.port, hook.name


def test_a_host_is_reached_where_the_cloud_file_says() -> None:
    clients = Clients(CLOUD)
    assert where(clients.host(CLOUD.host("controller-1"))) == ("10.0.0.11", 22, "controller-1")
    hook = clients.host(CLOUD.host("controller-2"))
    assert where(hook) == ("10.0.0.12", 2222, "controller-2")
    assert hook.host_key is not None
    assert hook.host_key.get_name() == "ssh-ed25519"
    assert hook.no_host_key_check is False


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (HAPROXY, ("10.0.0.5", 22, "controller-1's load balancer 10.0.0.5")),
        (
            {**COMMANDS, "address": "10.0.0.6", "port": 2200},
            ("10.0.0.6", 2200, "controller-1's load balancer 10.0.0.6"),
        ),
        (COMMANDS, ("10.0.0.11", 22, "controller-1")),
        ({"kind": "healthcheck", "file": "/out"}, ("10.0.0.11", 22, "controller-1")),
    ],
)
def test_a_rotation_is_left_where_it_is_kept(rotation: dict[str, object], expected: tuple[str, int, str]) -> None:
    cloud = Cloud.model_validate({**edited({"rotation": rotation}), "name": "lab"})
    deployment = cloud.deployment(cloud.host("controller-1"), cloud.release(NEW))
    assert where(Clients(cloud).balancer(deployment, "api")) == expected


def test_each_server_is_reached_by_the_connection_that_the_cloud_file_names() -> None:
    clients, named = Clients(CLOUD), CLOUD.connections
    assert clients.rabbitmq.rabbitmq_conn_id == named.rabbitmq
    assert clients.database.get_conn_id() == named.database
    assert clients.api.conn_id == named.api
    assert clients.api_of_project("p1").conn_id == named.api
    assert clients.rabbitmq is clients.rabbitmq


def test_a_dag_file_is_parsed_without_what_connects(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(GOOD))
    files = sorted(map(str, (PROJECT / "dags").glob("*.py")))
    code = (
        "import runpy, sys\n"
        f"made = [name for path in {files!r} for name in runpy.run_path(path) if name.endswith('__lab')]\n"
        f"print(len(made), sorted({HEAVY!r} & set(sys.modules)))"
    )
    environment = {"HEAT_UPGRADE_CLOUDS": str(tmp_path), "PYTHONPATH": str(PROJECT / "plugins"), "HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "4 []"
