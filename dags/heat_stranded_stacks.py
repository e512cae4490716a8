"""One DAG per cloud file: find the stacks that nobody works on any more, and bring them to an end if told to."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param, chain

from heat_upgrade import names
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.dag_factory import cloud_dag, dags_of_clouds
from heat_upgrade.operators.stranded import (
    ApproveStrandedOperator,
    EndStrandedOperator,
    FindStrandedOperator,
    WaitForEndsOperator,
)
from heat_upgrade.stranded.rule import END_AFTER

RUN_PARAMETERS = {
    "unchanged_minutes": Param(
        END_AFTER / 60,
        type="number",
        exclusiveMinimum=0,
        title="Unchanged for (minutes)",
        description="A stack counts as stranded only if nothing in it has changed for this long.",
    ),
    "wait_minutes": Param(
        60,
        type="number",
        exclusiveMinimum=0,
        title="Wait for (minutes)",
        description="How long to wait for the stacks to end before the run fails.",
    ),
}
DOC = Path(__file__).with_suffix(".md").read_text()


def stranded_stacks(cloud: Cloud) -> DAG:
    """Build the DAG that brings one cloud's stranded stacks to an end."""
    with cloud_dag(names.STRANDED_STACKS, cloud, DOC, "stacks") as dag:
        chain(
            FindStrandedOperator(task_id=names.FIND),
            ApproveStrandedOperator(task_id=names.APPROVE),
            EndStrandedOperator(task_id=names.END),
            WaitForEndsOperator(task_id=names.WAIT),
        )
    dag.params.update(RUN_PARAMETERS)
    return dag


globals().update(dags_of_clouds(names.STRANDED_STACKS, stranded_stacks))
