"""Names, addresses and secrets of labs."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from heat_upgrade.cloud.loader import load_cloud
from lab.cloud import model as cloud_lab
from lab.cloud.cloud_file import write_cloud_file, write_connections
from lab.cloud.host import login_name
from lab.cloud.model import Lab
from lab.passwords import load_secrets, write_private
from lab.processes import LabError


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project root whose path is short enough for sockets, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory:
        monkeypatch.setattr(cloud_lab, "PROJECT_ROOT", Path(directory))
        yield Path(directory)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.parametrize("name", ["", "Demo", "a/b", "../x", "1st", "a" * 21, "a b", "a;b"])
def test_a_name_that_is_no_directory_name_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="expected lower case letters"):
        Lab(name)


def test_labs_have_addresses_and_ports_of_their_own() -> None:
    demo, other = Lab("demo"), Lab("labtest")
    assert {host.address for host in demo.hosts}.isdisjoint(host.address for host in other.hosts)
    ports = [lab.own_port(name) for lab in (demo, other) for name in ("epmd", "distribution", "airflow")]
    assert len(set(ports)) == 6
    assert max(ports) < 32768, "an outgoing connection may have it"


def test_the_size_is_what_the_lab_was_made_with() -> None:
    lab = Lab("demo", "small")
    write_private(lab.state / "size", "small\n")
    assert [host.name for host in Lab("demo").hosts] == ["controller-1", "controller-2"]
    with pytest.raises(LabError, match="exists with size small, full was asked for"):
        Lab("demo", "full")


def test_a_path_that_is_too_long_for_a_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_lab, "PROJECT_ROOT", root / ("deep/" * 20))
    with pytest.raises(LabError, match="longer than a Unix socket's path may be"):
        Lab("demo")


def test_secrets_are_made_once_and_are_awkward_on_purpose(tmp_path: Path) -> None:
    file = tmp_path / "secrets.yaml"
    made = load_secrets(file)
    assert load_secrets(file) == made
    assert mode(file) == 0o600
    for name in ("database", "database_root", "management"):
        assert set("@/%?#'\" ") <= set(made[name])
    assert set("@%?#'\" ") <= set(made["amqp"])
    assert "/" not in made["amqp"]
    assert len(made["auth_encryption_key"]) == 32


def test_an_account_is_printed_without_its_password() -> None:
    lab = Lab("demo")
    assert lab.secrets["database"] not in repr(lab.database())


def test_starts_are_counted_per_program() -> None:
    host = Lab("demo").host("controller-1")
    assert host.service_starts() == {}
    write_private(
        host.supervisor_log,
        "INFO spawned: 'heat-api-25.0.2' with pid 1\nINFO stopped: heat-api-25.0.2\n"
        "INFO spawned: 'heat-api-25.0.2' with pid 2\nINFO spawned: 'heat-engine-25.0.2' with pid 3\n",
    )
    assert host.service_starts() == {"heat-api-25.0.2": 2, "heat-engine-25.0.2": 1}


@pytest.mark.parametrize("size", ["full", "small"])
def test_the_upgrade_accepts_the_lab_s_cloud_file(size: cloud_lab.Size) -> None:
    lab = Lab("labtest", size)
    for host in (*lab.hosts, lab.balancer):
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDmN6pWWJUffIRQQKK/b8DRn7igapfDA9HL9OwG9Resp"
        write_private(host.root / "etc/ssh/ssh_host_ed25519_key.pub", f"{key} {host.name}\n")
    cloud = load_cloud(write_cloud_file(lab))
    assert [host.name for host in cloud.hosts] == [host.name for host in lab.hosts]
    for host in lab.hosts:
        place = cloud.deployment(cloud.host(host.name), cloud.release("26.0.2"))
        assert Path(place.venv) == host.venv("26.0.2")
        assert Path(place.config) == host.config("26.0.2")


def test_the_connections_hold_the_secrets_and_are_private() -> None:
    lab = Lab("labtest")
    file = write_connections(lab)
    assert mode(file) == 0o600
    connections = yaml.safe_load(file.read_text())
    assert connections["heat_labtest_database"]["password"] == lab.secrets["database"]
    assert connections["heat_labtest_rabbitmq"]["password"] == lab.secrets["management"]
    assert connections["heat_labtest_ssh"]["login"] == login_name()
