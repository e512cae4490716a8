"""Airflow's APIs that aren't public are used in one file, and are where it says."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from airflow.models.xcom import XComModel
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.xcom import XCom

import heat_upgrade
from heat_upgrade import compat

PACKAGE = Path(heat_upgrade.__path__[0])
# Airflow's "Public Interface": the task SDK, triggers, timetables, plugins, and the providers.
PUBLIC = (
    "airflow.sdk",
    "airflow.sdk.exceptions",
    "airflow.sdk.types",
    "airflow.triggers.base",
    "airflow.timetables.base",
    "airflow.plugins_manager",
)
TASK = {"dag_id": "d", "run_id": "r", "task_id": "t"}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.split(".")[0] == "airflow")


def test_every_other_file_makes_do_with_the_public_ones() -> None:
    private = {
        f"{file.relative_to(PACKAGE)}: {name}"
        for file in PACKAGE.rglob("*.py")
        if file.name != "compat.py"
        for name in imported(file)
        if name not in PUBLIC and not name.startswith("airflow.providers.")
    }
    assert not private


def test_a_trigger_is_told_the_states_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = mock.create_autospec(RuntimeTaskInstance.get_task_states, return_value={"r": {"t": None}})
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", asked)
    assert compat.task_states("d", "r") == {"t": None}
    assert compat.task_states("d", "another") == {}
    assert asked.call_args.kwargs == {"run_ids": ["another"]}


def test_a_task_instance_tells_of_ended_tasks() -> None:
    signature = inspect.signature(RuntimeTaskInstance.get_task_breadcrumbs)
    crumbs = [{"task_id": "t", "state": "success", "duration": 2.5}]
    instance = SimpleNamespace(
        dag_id="d", run_id="r", get_task_breadcrumbs=lambda *given: signature.bind(*given) and crumbs
    )
    assert compat.ended_tasks(instance) == crumbs


def test_a_trigger_keeps_an_xcom_with_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, object] = {}

    async def store(key: str, value: object, **task: object) -> None:
        inspect.signature(XCom.aset).bind(key, value, **task)
        kept[key] = value, task

    async def read(*, key: str, **task: object) -> object:
        inspect.signature(XCom.aget_one).bind(key=key, **task)
        return kept[key]

    monkeypatch.setattr(XCom, "aset", store)
    monkeypatch.setattr(XCom, "aget_one", read)
    asyncio.run(compat.store_xcom(TASK, "history", [1]))
    assert asyncio.run(compat.stored_xcom(TASK, "history")) == ([1], {**TASK, "map_index": -1})


def test_what_airflow_knows_for_a_secret_is_masked() -> None:
    from airflow.sdk.log import mask_secret

    mask_secret("known-to-the-masker")
    assert compat.redacted("the password is known-to-the-masker") == "the password is ***"


def test_the_server_reads_an_xcom_from_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    session = mock.MagicMock()
    monkeypatch.setattr("airflow.utils.session.create_session", session)
    rows = session.return_value.__enter__.return_value.scalars
    rows.return_value.first.return_value = SimpleNamespace(value='{"__type": "plain"}')
    monkeypatch.setattr(XComModel, "get_many", mock.create_autospec(XComModel.get_many))
    assert compat.xcom_in_server("d", "r", "report", "report") == '{"__type": "plain"}'
    rows.return_value.first.return_value = None
    assert compat.xcom_in_server("d", "r", "report", "report") is None
