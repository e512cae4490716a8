"""DAG files as Airflow loads them, for clouds of many shapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from graphlib import TopologicalSorter
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from airflow.api_fastapi.core_api.services.ui.task_group import task_group_to_dict, task_group_to_dict_grid
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from tests.unit._helpers.clouds.broken import GOOD

PROJECT = Path(__file__).parents[3]
BOTH = ["engine", "api"]
LoadDags = Callable[..., DagBag]


def cloud_file(roles: list[list[str]], waves: list[Any] | None = None, **edits: Any) -> dict[str, Any]:
    """Return a cloud file with a host for each list of roles."""
    hosts = [
        {"name": f"controller-{number}", "address": f"10.1.{number // 200}.{number % 200 + 1}", "roles": list(host)}
        for number, host in enumerate(roles, start=1)
    ]
    at_any_time = {key: value for key, value in GOOD.items() if key not in ("windows", "pending_release")}
    return {**at_any_time, "hosts": hosts, "waves": waves or [1], "backup": {}, **edits}


def loader(dag_file: str, clouds: Path, monkeypatch: pytest.MonkeyPatch) -> LoadDags:
    """Return what loads a DAG file as Airflow does, for some cloud files."""

    def load_dags(**files: Mapping[str, Any] | str) -> DagBag:
        monkeypatch.setenv("HEAT_UPGRADE_CLOUDS", str(clouds))
        for name, content in files.items():
            text = content if isinstance(content, str) else yaml.safe_dump(content)
            (clouds / f"{name}.yaml").write_text(text)
        return DagBag(dag_folder=PROJECT / "dags" / dag_file)

    return load_dags


def stored(dag: DAG) -> Any:
    """Return a DAG as Airflow has it back from its database."""
    return DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))


def drawn_order(dag: DAG) -> dict[str, int]:
    """Return the place of each task and group on the top level, once the UI has sorted and drawn them all."""
    root = stored(dag).task_group
    groups = root.get_task_group_dict()
    sorted_ids = [child.node_id for child in root.topological_sort(group_dict=groups)]
    for draw in (task_group_to_dict, task_group_to_dict_grid):
        drawn = draw(root, group_dict=groups)
        assert {node["id"] for node in drawn["children"]} >= set(sorted_ids)
    return {node: place for place, node in enumerate(sorted_ids)}


def before(dag: DAG, task_id: str) -> set[str]:
    """Return every task that has to end before this one starts."""
    ancestors = _ancestors(_Same(dag))[task_id]
    return {other for number, other in enumerate(dag.task_dict) if ancestors >> number & 1}


class _Same(NamedTuple):
    """A DAG that equals only itself: to Airflow those of two clouds with the same tasks are equal."""

    dag: DAG

    def __hash__(self) -> int:
        return id(self.dag)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.dag is other.dag


@lru_cache(maxsize=1)
def _ancestors(same: _Same) -> dict[str, int]:
    """Return the tasks before each task, a bit for each: between two groups of 200 hosts are 40000 arrows."""
    upstream = {task_id: task.upstream_task_ids for task_id, task in same.dag.task_dict.items()}
    bits = {task_id: 1 << number for number, task_id in enumerate(upstream)}
    found: dict[str, int] = {}
    for task_id in TopologicalSorter(upstream).static_order():
        found[task_id] = reduce(or_, (bits[up] | found[up] for up in upstream[task_id]), 0)
    return found


class Shape(NamedTuple):
    """A cloud's hosts and waves, and how many hosts each wave then has."""

    name: str
    roles: list[list[str]]
    waves: list[Any]
    sizes: list[int]


SHAPES = [
    Shape("one-host", [BOTH], [1], [1]),
    Shape("engine-only-host", [["engine"], ["api"], BOTH], [1], [1, 1]),
    Shape("api-only-hosts", [BOTH, ["api"], ["api-cfn", "api"]], [2], [2, 1]),
    Shape("api-cfn-only-host", [BOTH, ["api-cfn"], ["engine", "api-cfn", "api"]], [1], [1, 1, 1]),
    Shape("engines-and-apis-apart", [["engine"], ["engine"], ["api"], ["api"], ["api"]], [1, 2], [1, 2]),
    Shape("4-hosts-one-by-one", [BOTH] * 4, [1], [1, 1, 1, 1]),
    Shape("4-hosts-in-waves", [BOTH] * 4, [1, 2, "50%"], [1, 2, 1]),
    Shape("11-hosts-in-waves", [BOTH] * 11, [1, 2, "50%"], [1, 2, 6, 2]),
    Shape("all-at-once", [BOTH] * 4, ["100%"], [4]),
    Shape("200-hosts-one-by-one", [BOTH] * 200, [1], [1] * 200),
    Shape("200-hosts-in-waves", [BOTH] * 200, [1, 2, "50%"], [1, 2, 100, 97]),
]


def with_role(shape: Shape, *roles: str) -> list[str]:
    """Return the task ids of the hosts with one of the roles, in the order of the file."""
    return [f"controller_{n}" for n, host in enumerate(shape.roles, start=1) if set(roles) & set(host)]
