"""The package stands by itself, and its page shows what works."""

from __future__ import annotations

import ast
import re
import sys
from inspect import Parameter, signature
from pathlib import Path

from airflow.sdk import DAG

from rabbitmq_management.sensors.queues import QueuesDrainedSensor

PROJECT = Path(__file__).parents[3]
PACKAGE = PROJECT / "plugins" / "rabbitmq_management"
PAGE = PROJECT / "docs" / "rabbitmq-sensor.md"
FILES = sorted(PACKAGE.rglob("*.py"))


def test_there_is_no_word_of_heat_in_it() -> None:
    assert len(FILES) > 10
    assert not [file for file in FILES if re.search(r"heat|openstack|oslo", file.read_text(), re.IGNORECASE)]


def test_it_imports_nothing_but_itself_airflow_and_requests() -> None:
    allowed = {"airflow", "rabbitmq_management", "requests", "urllib3"}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.partition(".")[0] for name in names}
            assert roots <= allowed | sys.stdlib_module_names, f"{file}: {roots}"


def test_the_example_of_the_page_is_a_dag() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, PAGE, "exec"), names)
    sensor = names["drained"]
    dag = sensor.dag  # type: ignore[attr-defined]
    assert isinstance(dag, DAG)
    assert dag.task_dict.keys() == {"stop_publishers", "wait_until_drained", "stop_workers"}
    assert sensor.downstream_task_ids == {"stop_workers"}  # type: ignore[attr-defined]


def test_the_page_has_each_of_the_sensors_arguments_with_its_default() -> None:
    _, _, section = PAGE.read_text().partition("\n## The sensor\n")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section.partition("\n## ")[0], re.MULTILINE))
    own = [p for p in signature(QueuesDrainedSensor.__init__).parameters.values() if p.name not in ("self", "kwargs")]
    for parameter in own:
        default = "required" if parameter.default is Parameter.empty else str(parameter.default)
        assert rows[parameter.name].strip("` ") == default, parameter.name
