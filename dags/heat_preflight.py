"""One DAG per cloud file: the checks that an upgrade begins with, to be run on any day. It changes nothing."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG

from heat_upgrade import dag_params, names
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.dag_factory import cloud_dag, dags_of_clouds
from heat_upgrade.operators.preflight import PreflightOperator

DOC = Path(__file__).with_suffix(".md").read_text()


def preflight(cloud: Cloud) -> DAG:
    """Build the DAG that checks one cloud."""
    with cloud_dag(names.PREFLIGHT_ALONE, cloud, DOC, "preflight") as dag:
        PreflightOperator(task_id=names.PREFLIGHT)
    dag.params.update({"target_release": dag_params.target_release(cloud)})
    return dag


globals().update(dags_of_clouds(names.PREFLIGHT_ALONE, preflight))
