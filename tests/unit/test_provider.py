"""What Airflow is told about the package: nothing of it is made up, and nothing is missing."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

from heat_upgrade.plugin import HeatUpgradePlugin
from heat_upgrade.provider import get_provider_info

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "plugins/heat_upgrade"
INFO = get_provider_info()
BUILD = tomllib.loads((PROJECT / "pyproject.toml").read_text())
TYPES = {each["connection-type"]: each for each in INFO["connection-types"]}


def load(path: str) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".")
    return getattr(import_module(module), name)


def test_it_has_the_shape_that_airflow_wants() -> None:
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)
    assert INFO["package-name"] == BUILD["project"]["name"]


@pytest.mark.parametrize("room", ["hooks", "operators", "sensors", "triggers"])
def test_every_family_of_tasks_is_named(room: str) -> None:
    named = {module for entry in INFO[room] for module in entry["python-modules"]}
    for module in named:
        import_module(module)
    ours = {module.rpartition(".")[2] for module in named if module.startswith("heat_upgrade.")}
    kinds = {"hooks": "Hook", "operators": "Operator", "sensors": "Sensor", "triggers": "Trigger"}
    files = {file.stem for file in (PACKAGE / room).glob("*.py") if f"{kinds[room]}(" in file.read_text()}
    assert ours >= {stem for stem in files if stem not in ("base", "arguments", "steps")}


def test_the_entry_points_lead_there() -> None:
    points = BUILD["project"]["entry-points"]
    assert load(points["apache_airflow_provider"]["provider_info"]) is get_provider_info
    assert load(points["airflow.plugins"]["heat_upgrade"]) is HeatUpgradePlugin
    assert set(points["airflow.plugins"]) == {HeatUpgradePlugin.name}


@pytest.mark.parametrize("kind", TYPES)
def test_a_connection_type_is_its_hooks(kind: str) -> None:
    hook = load(TYPES[kind]["hook-class-name"])
    assert hook.conn_type == kind
    assert callable(hook.test_connection)
    assert TYPES[kind]["ui-field-behaviour"]["relabeling"]


def test_what_the_package_imports_is_what_it_asks_for() -> None:
    locked = (PROJECT / "requirements.in").read_text().splitlines()
    names = {line.split("=")[0].split("<")[0].split(">")[0].strip() for line in locked if line and line[0] != "#"}
    asked = {each.split(">")[0].split("=")[0] for each in BUILD["project"]["dependencies"]}
    assert asked == names
