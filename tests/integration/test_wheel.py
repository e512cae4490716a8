"""The package as others install it: a wheel in an empty virtual environment, beside an Airflow of theirs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.processes import clean_environment
from tests.unit._helpers.clouds.broken import GOOD

PROJECT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
FAMILIES = ("heat_cold_upgrade", "heat_preflight", "heat_rolling_upgrade", "heat_stranded_stacks")
# What an installation and a start of Airflow may take on a busy machine, in seconds.
pytestmark = pytest.mark.timeout(300)
# What docs/deploy.md asks for.
DAG_FILE = "\n".join(
    re.findall(r"^ +(from heat_upgrade\.dags\..+)$", (PROJECT / "docs/deploy.md").read_text(), re.MULTILINE)
)
ASK_AIRFLOW = """
import json, os, sys
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
from airflow.models.connection import Connection
from airflow.providers_manager import ProvidersManager

manager = ProvidersManager()
bag = DagBag(dag_folder=sys.argv[1])
tried = {}
for kind in json.loads(sys.argv[2]):
    made = Connection(conn_id=kind, conn_type=kind, host="http://127.0.0.1:9", login="heat", password="x")
    # As the button in Airflow's UI does it.
    os.environ[f"AIRFLOW_CONN_{kind.upper()}"] = made.as_json()
    tried[kind] = made.test_connection()
import heat_upgrade
print(json.dumps({
    "at": heat_upgrade.__file__,
    "provider": manager.providers["heat-rolling-upgrade"].version,
    "plugins": [plugin["name"] for plugin in plugins_manager.get_plugin_info()],
    "problems": plugins_manager.get_import_errors(),
    "timetables": sorted(plugins_manager.get_timetables_plugins()),
    "dags": sorted(bag.dags),
    "dag_problems": bag.import_errors,
    "hooks": {kind: hook.hook_class_name if hook else None for kind, hook in manager.hooks.items()},
    "fields": sorted(manager.connection_form_widgets),
    "behaviours": sorted(manager.field_behaviours),
    "tried": tried,
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which nothing is but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=PROJECT)
    (wheel,) = folder.glob("*.whl")
    run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"])
    python = folder / "venv/bin/python"
    run([UV, "pip", "install", "--quiet", "--python", python, "--constraint", PROJECT / "requirements.txt", wheel])
    return python


def run(command: list[str | Path], cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(**environment), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module", params=["by itself", "beside a checkout"])
def airflow(request: pytest.FixtureRequest, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What Airflow says of the package, where its plugins folder is empty, and where it is the checkout's."""
    home = tmp_path_factory.mktemp("airflow")
    for folder in ("dags", "plugins", "include/clouds"):
        (home / folder).mkdir(parents=True)
    (home / "include/releases").symlink_to(PROJECT / "include/releases")
    (home / "include/clouds/lab.yaml").write_text(yaml.safe_dump(GOOD))
    (home / "dags/heat.py").write_text(DAG_FILE)
    alone = request.param == "by itself"
    said = run(
        [python, "-c", ASK_AIRFLOW, home / "dags", json.dumps(["heat_api", "heat_database", "rabbitmq_management"])],
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__TEST_CONNECTION="Enabled",
        AIRFLOW__CORE__PLUGINS_FOLDER=str(home / "plugins" if alone else PROJECT / "plugins"),
        HEAT_UPGRADE_CLOUDS=str(home / "include/clouds"),
    )
    return json.loads(said.splitlines()[-1])


def test_the_wheel_is_what_runs(airflow: Any, python: Path) -> None:
    assert Path(airflow["at"]).is_relative_to(python.parents[1])


def test_airflow_finds_the_provider_and_loads_the_plugin_once(airflow: Any) -> None:
    assert airflow["provider"] == "0.1.0"
    assert airflow["plugins"].count("heat_upgrade") == 1
    assert airflow["problems"] == {}
    assert "heat_upgrade.timetables.windows.WindowsTimetable" in airflow["timetables"]


def test_a_folder_of_cloud_files_gives_every_family_of_dags(airflow: Any) -> None:
    assert airflow["dag_problems"] == {}
    assert airflow["dags"] == [f"{family}__lab" for family in FAMILIES]


HOOKS = {
    "heat_api": "heat_upgrade.hooks.heat_api.HeatApiHook",
    "heat_database": "heat_upgrade.hooks.heat_database.HeatDatabaseHook",
    "rabbitmq_management": "rabbitmq_management.hooks.management.RabbitMQManagementHook",
}


def test_connection_types_have_fields_and_a_test(airflow: Any) -> None:
    for kind, hook in HOOKS.items():
        assert airflow["hooks"][kind] == hook
        assert kind in airflow["behaviours"]
        assert airflow["tried"][kind][0] is False
    assert "127.0.0.1" in airflow["tried"]["heat_api"][1]
    assert "can't be read" in airflow["tried"]["heat_database"][1]
    assert "expected a name or an IP address alone" in airflow["tried"]["rabbitmq_management"][1]
    for field in ("ca_file", "verify", "path_prefix", "timeout"):
        assert f"extra__rabbitmq_management__{field}" in airflow["fields"]
    for field in ("auth_type", "project_name", "project_domain_name", "user_domain_name", "region_name", "verify"):
        assert f"extra__heat_api__{field}" in airflow["fields"]


def test_the_wheel_has_what_hosts_are_sent(python: Path) -> None:
    where = "from heat_upgrade.remote.step import STEPS_DIRECTORY; print(STEPS_DIRECTORY)"
    scripts, installed = PROJECT / "plugins/heat_upgrade/remote/scripts", Path(run([python, "-c", where]).strip())
    assert sent(installed) == sent(scripts) != {}


def sent(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
