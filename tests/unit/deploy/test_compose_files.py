"""What Compose is given: .env, docker-compose.yaml, the lab's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.cloud.sections import Systemd
from lab.cloud.model import FIRST_RELEASE
from lab.compose import identity
from lab.compose.cloud import API_THREADS, CONTROLLERS, NAME, ComposeCloud

ROOT = Path(__file__).parents[3]
NAMES = {
    "AIRFLOW_UID",
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_API_SECRET_KEY",
    "AIRFLOW_ADMIN",
    "AIRFLOW_ADMIN_PASSWORD",
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class Clone:
    """A clone with nothing but what `make env` needs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "deploy").mkdir()
        for name in ("env", "connections.yaml.sample"):
            shutil.copy(ROOT / "deploy" / name, root / "deploy" / name)

    def make_env(self) -> dict[str, str]:
        subprocess.run([sys.executable, self.root / "deploy/env"], check=True, capture_output=True)
        lines = (self.root / ".env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))["services"]
    return services


class TestEnv:
    def test_it_makes_up_all_values(self, clone: Clone) -> None:
        values = clone.make_env()
        assert set(values) == NAMES
        secrets = [value for name, value in values.items() if name not in ("AIRFLOW_UID", "AIRFLOW_ADMIN")]
        assert len(set(secrets)) == len(secrets)
        assert min(map(len, secrets)) >= 16
        assert int(values["AIRFLOW_UID"]) == (os.getuid() or 50000)

    def test_only_the_owner_can_read_them(self, clone: Clone) -> None:
        clone.make_env()
        assert mode(clone.root / ".env") == 0o600
        assert mode(clone.root / "secrets") == mode(clone.root / "secrets/ssh") == 0o700
        assert mode(clone.root / "secrets/connections.yaml") == 0o600

    def test_what_is_there_stays_and_what_is_missing_is_added(self, clone: Clone) -> None:
        (clone.root / ".env").write_text("POSTGRES_PASSWORD=mine\nAIRFLOW_PORT=9090\n", encoding="utf-8")
        first = clone.make_env()
        (clone.root / "secrets/connections.yaml").write_text("mine: {}\n", encoding="utf-8")
        assert first["POSTGRES_PASSWORD"] == "mine"
        assert first["AIRFLOW_PORT"] == "9090"
        assert set(first) > NAMES
        assert clone.make_env() == first
        assert (clone.root / "secrets/connections.yaml").read_text(encoding="utf-8") == "mine: {}\n"

    def test_no_two_clones_have_the_same(self, clone: Clone) -> None:
        first = clone.make_env()
        (clone.root / ".env").unlink()
        second = clone.make_env()
        assert {name for name in NAMES if first[name] == second[name]} == {"AIRFLOW_UID", "AIRFLOW_ADMIN"}


class TestComposeFile:
    def test_every_secret_comes_from_the_environment(self) -> None:
        text = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
        assert NAMES - {"AIRFLOW_ADMIN"} <= set(re.findall(r"\$\{(\w+):\?run make env first\}", text))

    def test_only_loopback_ports_are_published(self, services: dict[str, Any]) -> None:
        ports = [port for service in services.values() for port in service.get("ports", ())]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_it_has_nothing_that_docker_compose_1_29_refuses(self) -> None:
        file = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
        assert {key for key in file if not key.startswith("x-")} == {"services", "volumes"}

    def test_all_that_runs_is_watched_and_started_again(self, services: dict[str, Any]) -> None:
        for name, service in services.items():
            if name != "initialize":
                assert service["healthcheck"], name
                assert service["restart"] == "unless-stopped", name

    def test_only_what_talks_to_clouds_has_their_secrets(self, services: dict[str, Any]) -> None:
        seeing = {name for name, service in services.items() if "/opt/airflow/secrets" in str(service.get("volumes"))}
        assert seeing == {"worker", "triggerer"}


class TestHelmValues:
    """The chart's airflow.cfg takes the place of the image's."""

    def test_airflow_is_configured_as_in_the_image(self) -> None:
        image = ConfigParser()
        image.read(ROOT / "deploy/airflow.cfg", encoding="utf-8")
        values = yaml.safe_load((ROOT / "deploy/values.yaml").read_text(encoding="utf-8"))["config"]
        told = {(section, option): str(value) for section in values for option, value in values[section].items()}
        assert told == {place: image[place[0]][place[1]] for place in told}


class TestLabFolder:
    @pytest.fixture(scope="class")
    def cloud(self, tmp_path_factory: pytest.TempPathFactory) -> ComposeCloud:
        cloud = ComposeCloud(tmp_path_factory.mktemp("lab") / "compose")
        cloud.write()
        return cloud

    def test_its_cloud_file_is_valid(self, cloud: ComposeCloud) -> None:
        file = load_cloud(cloud.clouds / f"{NAME}.yaml")
        assert [host.name for host in file.hosts] == list(CONTROLLERS)
        assert isinstance(file.service_manager, Systemd)
        assert file.become == "sudo"

    def test_each_machine_of_compose_has_a_folder(self, cloud: ComposeCloud, services: dict[str, Any]) -> None:
        machines = {name for name, service in services.items() if service.get("profiles") == ["lab"]}
        assert {folder.name for folder in (cloud.state / "machines").iterdir()} == machines

    def test_heat_asks_keystone_who_somebody_is(self, cloud: ComposeCloud) -> None:
        for name in CONTROLLERS:
            text = (cloud.state / "machines" / name / f"files/etc/heat/{FIRST_RELEASE}/heat.conf").read_text("utf-8")
            assert "noauth" not in text
            assert "deferred_auth_method = trusts\n" in text
            assert text.count(f"\nauth_url = {identity.URL}\n") == 2  # for tokens, and for trusts

    def test_whose_the_stacks_are_is_no_administrator(self, cloud: ComposeCloud) -> None:
        (file,) = (cloud.state / "machines").rglob("accounts.json")
        users = {user["name"]: user for user in json.loads(file.read_text(encoding="utf-8"))["users"]}
        user = users[cloud.login()["username"]]
        assert user["password"] == cloud.login()["password"]
        assert "admin" not in user["roles"]

    def test_the_units_of_the_first_release_are_as_large_as_those_of_the_next(self) -> None:
        units = ROOT / "lab/compose/machine/etc/systemd/system"
        for role in ("api", "api-cfn"):
            assert f" --threads {API_THREADS} " in (units / f"heat-{role}@.service").read_text(encoding="utf-8")

    def test_nobody_else_can_read_what_it_holds(self, cloud: ComposeCloud) -> None:
        holding = [
            file
            for file in cloud.state.rglob("*")
            if file.is_file() and any(value in file.read_text(encoding="utf-8") for value in cloud.secrets.values())
        ]
        assert holding
        assert {mode(file) for file in holding} == {0o600}

    def test_written_again_it_keeps_keys_and_passwords(self, cloud: ComposeCloud) -> None:
        def files() -> dict[str, bytes]:
            return {
                str(file): file.read_bytes()
                for file in cloud.state.rglob("*")
                if file.is_file() and file.name != "definitions.json"  # salted
            }

        before = files()
        cloud.write()
        assert files() == before
