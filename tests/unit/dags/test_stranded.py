"""The DAG of stranded stacks: Airflow loads it for every cloud, and nothing acts before somebody has answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, TriggerRule
from airflow.serialization.serialized_objects import DagSerialization

from tests.unit._helpers.clouds.broken import GOOD

PROJECT = Path(__file__).parents[3]
DAG_FILE = PROJECT / "dags" / "heat_stranded_stacks.py"


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    monkeypatch.setenv("HEAT_UPGRADE_CLOUDS", str(tmp_path))
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(GOOD))
    (tmp_path / "bad.yaml").write_text("hosts: [")
    bag = DagBag(dag_folder=DAG_FILE)
    assert bag.import_errors == {}
    assert set(bag.dags) == {"heat_stranded_stacks__lab", "heat_stranded_stacks__bad"}
    assert [task.task_id for task in bag.dags["heat_stranded_stacks__bad"].tasks] == ["preflight"]
    return bag.dags["heat_stranded_stacks__lab"]


def test_the_question_stands_between_finding_and_acting(dag: DAG) -> None:
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == {
        "find": set(),
        "approve": {"find"},
        "end": {"approve"},
        "wait": {"end"},
    }
    # A skip and a failure both keep what follows from running.
    assert {task.trigger_rule for task in dag.tasks} == {TriggerRule.ALL_SUCCESS}


def test_the_forms(dag: DAG) -> None:
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert stored.params.dump() == {"unchanged_minutes": 10, "wait_minutes": 60}
    for name in stored.params:
        assert stored.params.get_param(name).schema["exclusiveMinimum"] == 0
    assert dag.get_task("approve").params.dump() == {"leave_alone": []}


def test_clients_of_servers_are_not_imported_with_the_dag_file(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(GOOD))
    code = (
        "import airflow.dag_processing.dagbag, airflow.sdk, importlib.util, sys\n"
        "import airflow.providers.standard.operators.hitl\n"
        "before = set(sys.modules)\n"
        f"spec = importlib.util.spec_from_file_location('dag_file', {str(DAG_FILE)!r})\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "plugins"), str(PROJECT)]),
        "HEAT_UPGRADE_CLOUDS": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    packages = set(done.stdout.splitlines()[-1].split())
    assert "heat_upgrade" in packages
    assert not packages & {"MySQLdb", "keystoneauth1", "requests", "paramiko"}
