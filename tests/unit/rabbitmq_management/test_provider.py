"""Airflow finds the connection type, its fields and its test button by the provider's entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from rabbitmq_management import __version__, provider
from rabbitmq_management.connection import Endpoint
from rabbitmq_management.hooks.management import RabbitMQManagementHook
from tests.unit._helpers.management_api import PASSWORD, FakeBroker

PLUGINS = Path(__file__).parents[3] / "plugins"
ASK_AIRFLOW = """
import json, sys
from airflow.models.connection import Connection
from airflow.providers_manager import ProvidersManager
from airflow.sdk.definitions.connection import Connection as TaskConnection
manager = ProvidersManager()
kind = "rabbitmq_management"
hook = manager.hooks[kind]
widgets = {name: widget.field for name, widget in manager.connection_form_widgets.items() if kind in name}
tried = {}
for core in (True, False):
    made = (Connection if core else TaskConnection)(conn_id="tried", conn_type=kind, **json.loads(sys.argv[1]))
    import os
    os.environ["AIRFLOW_CONN_TRIED"] = made.get_uri()
    tried["core" if core else "task"] = made.test_connection()
json.dump([hook._asdict(), manager.field_behaviours[kind], widgets, tried], open(sys.argv[2], "w"))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the metadata that installing the package by itself would leave there."""
    metadata = tmp_path / f"airflow_provider_rabbitmq_management-{__version__}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {provider.PACKAGE_NAME}\nVersion: {__version__}\n"
    )
    (metadata / "entry_points.txt").write_text(
        "[apache_airflow_provider]\nprovider_info = rabbitmq_management.provider:get_provider_info\n"
    )
    return tmp_path


def ask_airflow(folder: Path, settings: dict[str, Any]) -> list[Any]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{PLUGINS}", "AIRFLOW_HOME": str(folder)}
    answer = folder / "answer.json"
    command = [sys.executable, "-c", ASK_AIRFLOW, json.dumps(settings), str(answer)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    return json.loads(answer.read_text())


def test_airflow_knows_the_connection_type_its_form_and_its_test_button(installed: Path, broker: FakeBroker) -> None:
    settings = {"schema": "http", "host": "127.0.0.1", "port": broker.server_port, "login": "operator"}
    hook, behaviour, widgets, tried = ask_airflow(installed, {**settings, "password": PASSWORD})
    assert hook["hook_class_name"] == "rabbitmq_management.hooks.management.RabbitMQManagementHook"
    assert (hook["hook_name"], hook["connection_testable"]) == ("RabbitMQ management API", True)
    assert hook["package_name"] == provider.PACKAGE_NAME
    assert behaviour["relabeling"] == {"schema": "Scheme", "login": "User"}
    assert behaviour["hidden_fields"] == ["extra"]
    titles = {
        name.removeprefix("extra__rabbitmq_management__"): field["schema"]["title"] for name, field in widgets.items()
    }
    assert titles == {
        "ca_file": "CA file",
        "verify": "Verify the certificate",
        "path_prefix": "Path prefix",
        "timeout": "Time-out",
    }
    assert widgets["extra__rabbitmq_management__verify"]["value"] is True
    for passed, message in tried.values():
        assert passed, message
        assert message.startswith("RabbitMQ 3.10.8 of cluster 'rabbit@a' answers 'operator' (administrator)")


def test_the_form_leaves_a_connection_that_verifies() -> None:
    """What the form sends where nobody has touched a field: each one's default, else null."""
    fields = provider.get_provider_info()["connection-types"][0]["conn-fields"]
    extra = json.dumps({name: field["schema"].get("default") for name, field in fields.items()})
    untouched = Connection(conn_id="new", conn_type="rabbitmq_management", host="rabbit.example", extra=extra)
    endpoint = Endpoint.of(untouched)
    assert (endpoint.url, endpoint.verify, endpoint.timeout) == ("https://rabbit.example:15671", True, 10)


def test_provider_and_hook_say_the_same() -> None:
    (kind,) = provider.get_provider_info()["connection-types"]
    assert kind["connection-type"] == RabbitMQManagementHook.conn_type
    assert kind["hook-name"] == RabbitMQManagementHook.hook_name
