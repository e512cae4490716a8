"""check_host and check_rotation, on hosts with a real sshd, supervisord and HAProxy: what they tell, and that's all."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from heat_upgrade.preflight import ask
from heat_upgrade.preflight.facts import HostFacts
from heat_upgrade.readings import Unavailable
from heat_upgrade.remote import steps
from lab.cloud.haproxy import server_states
from lab.cloud.host import start_sshd, stop_sshd
from lab.cloud.model import Lab
from lab.processes import wait_until
from tests.integration.steps.conftest import NEW, OLD, Machine, WriteCloud

HEAD = "97b2a986f922"


def told(machine: Machine, **settings: str) -> dict[str, str]:
    return machine.run(steps.check_host(machine.target), **settings)


def files(machine: Machine) -> dict[Path, int]:
    """Return all of a host's files, with the time of their last change."""
    kept = (machine.root / "etc", machine.root / "opt", machine.root / "var/lib")
    return {path: path.stat().st_mtime_ns for folder in kept for path in folder.rglob("*") if path.is_file()}


def test_a_host_tells_what_an_upgrade_should_know_of_it_and_nothing_changes(machine: Machine, tmp_path: Path) -> None:
    machine.serve("engine", "api")
    before, starts = files(machine), machine.lab_host.service_starts()
    found = told(machine, BACKUP_DIR=str(tmp_path / "not/there/yet"))
    assert {name: found[name] for name in (f"engine/{OLD}", f"api/{OLD}", f"engine/{NEW}")} == {
        f"engine/{OLD}": "active",
        f"api/{OLD}": "active",
        f"engine/{NEW}": "absent",
    }
    assert (found["sudo"], found["state"]) == ("yes", "yes")
    assert abs(float(found["clock"]) - time.time()) < 30
    assert found["python"] == platform.python_version()
    assert re.fullmatch(r"3\.\d+\.\d+\S*", found["python3"])
    assert found["installer"] == "yes"
    assert found[f"stop_timeout/{OLD}"] == "60"
    assert 5_000 < int(found[f"memory/{OLD}"]) < int(found["memory_available"])
    assert found[f"conf/{OLD}/login"] == "heat"
    assert found[f"conf/{OLD}/graceful_shutdown_timeout"] == "60"
    assert found[f"conf/{OLD}/health_backends"] == "disable_by_file"
    assert found[f"conf/{OLD}/health_file"] == str(machine.lab_host.rotation_file)
    for role in ("engine", "api"):
        first = found[f"defaults/{OLD}/{role}"].split()
        assert found[f"sources/{OLD}/{role}"].split() == [*first, machine.source.config]
        assert found[f"environment/{OLD}/{role}"] == ""
    assert (found["healthcheck/api"], found["out_of_rotation"]) == ("200", "no")
    assert (found["dump_program"], found["backup_writable"]) == ("mysqldump", "yes")
    assert "backup_newest" not in found
    # The disk that is asked for is that of the nearest folder that is there.
    assert abs(int(found["backup_free"]) - shutil.disk_usage(tmp_path).free // 1024) < 1024**2
    assert "upgrade_check" not in found
    assert (files(machine), machine.lab_host.service_starts()) == (before, starts)


def test_what_listens_where_an_api_is_to_run_beside_another_is_seen(machine: Machine) -> None:
    place = machine.source.beside("api")
    name = f"answers_beside/{OLD}/api"
    assert told(machine)[name] == "no"
    with socket.create_server((place.address, place.port)):
        assert told(machine)[name] == "yes"


def test_an_engines_workers_count(machine: Machine, tmp_path: Path) -> None:
    machine.configure(worker=str(tmp_path / "worker"))
    machine.serve("engine")
    wait_until((tmp_path / "worker").exists, what="the engine has a worker")
    worker = int((tmp_path / "worker").read_text())
    master = _resident(machine.pid("engine", OLD))
    wait_until(lambda: _resident(worker) > 3000, what="the worker is there")
    assert int(told(machine)[f"memory/{OLD}"]) > master + 2000


def _resident(pid: int) -> int:
    """Return a process's memory in KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def test_the_disk_is_the_one_that_the_venv_goes_to(machine: Machine) -> None:
    free = int(told(machine, VENV="/dev/shm/not/there/yet")["free_venv"])
    assert abs(free - shutil.disk_usage("/dev/shm").free // 1024) < 64 * 1024


def test_the_newest_backup_is_told(machine: Machine, tmp_path: Path) -> None:
    ours, others = "heat-steps-before", "heat-other-before"
    for name, age in ((f"{ours}-26.0.2-a.sql.gz", 7200), (f"{ours}-25.0.2-b.sql.gz", 600), (f"{others}.sql.gz", 1)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - age))
    newest = float(told(machine, BACKUP_DIR=str(tmp_path))["backup_newest"])
    assert 600 <= time.time() - newest < 660


def test_a_host_that_was_left_out_of_the_rotation_is_seen(machine: Machine) -> None:
    machine.serve("api")
    machine.lab_host.rotation_file.parent.mkdir(parents=True, exist_ok=True)
    machine.lab_host.rotation_file.touch()
    found = told(machine)
    assert (found["healthcheck/api"], found["out_of_rotation"]) == ("503", "yes")


def test_what_is_not_there_is_left_out_and_the_rest_is_told(machine: Machine) -> None:
    found = told(machine, PYTHON="python9.9", UV="/not/there/uv")
    assert found["installer"] == "no"
    assert "python" not in found
    assert found["healthcheck/api"] == "000"
    assert int(found["free_venv"]) > 0


def test_new_code_tells_its_schema_and_what_it_thinks_of_the_configuration(machine: Machine, heat_venv: Path) -> None:
    machine.configure(NEW)
    places = {"VENV": str(heat_venv), "VENVS": f"{OLD}={machine.source.venv} {NEW}={heat_venv}"}
    found = told(machine, **places)
    assert found[f"schema/{NEW}"].split()[-1] == HEAD
    assert found[f"schema/{OLD}"] == "", "the fake one has no migrations"
    assert found["upgrade_check"] == "0"

    # What it checks today is that no policy is in JSON any more.
    config = Path(machine.target.config)
    (config.parent / "policy.json").write_text("{}")
    config.write_text(config.read_text() + f"[oslo_policy]\npolicy_file = {config.parent}/policy.json\n")
    assert told(machine, **places)["upgrade_check"] == "2"


def test_all_hosts_are_asked_at_once_and_one_that_is_away_gives_its_error(steps_lab: Lab, machine: Machine) -> None:
    machine.serve("engine", "api")
    stop_sshd(steps_lab.host("controller-2"))
    try:
        found, _ = ask.ask_all(machine.cloud, machine.cloud.release(NEW))
    finally:
        start_sshd(steps_lab.host("controller-2"))
    assert isinstance(found["controller-2"], Unavailable)
    facts = found["controller-1"]
    assert isinstance(facts, HostFacts)
    assert facts.state.running == {OLD}
    assert facts.key == "the cloud file"
    assert facts.login.endswith(f"@{machine.lab_host.address}:22022")
    assert abs(facts.ahead) < 2


def test_haproxy_tells_what_it_thinks_of_its_servers(steps_lab: Lab, balanced: Machine) -> None:
    balanced.serve("engine", "api", "api-cfn")
    servers = {"heat_api/controller-2", "heat_api_cfn/controller-2"}
    wait_until(lambda: all(server_states(steps_lab)[name] == "UP" for name in servers), what="both are UP")
    target = balanced.cloud.release(NEW)
    # HAProxy marks a check that is under way just then.
    rotations = ask.ask_all(balanced.cloud, target)[1]
    assert {name: str(state).replace("* ", "") for name, state in rotations.items()} == {
        ("controller-2", "api"): "UP,L7OK",
        ("controller-2", "api-cfn"): "UP,L7OK",
    }
    balanced.ctl("stop", balanced.source.unit("api"))
    wait_until(lambda: server_states(steps_lab)["heat_api/controller-2"] == "DOWN", what="the API is DOWN")
    _, found = ask.ask_all(balanced.cloud, target)
    assert found["controller-2", "api"] in ("DOWN,L4CON", "DOWN,* L4CON")


def test_a_server_that_haproxy_does_not_have_is_told(
    steps_lab: Lab, balanced: Machine, write_cloud: WriteCloud
) -> None:
    rotation: dict[str, Any] = balanced.cloud.host("controller-2").rotation.model_dump(by_alias=True)  # type: ignore[union-attr]
    cloud = write_cloud(hosts=[_with_server(host.model_dump(mode="json"), rotation) for host in balanced.cloud.hosts])
    found = ask.ask_all(cloud, cloud.release(NEW))[1]["controller-2", "api"]
    assert isinstance(found, Unavailable)
    assert "has no server heat_api/nobody: correct rotation.backends or rotation.server" in found.reason


def _with_server(host: dict[str, Any], rotation: dict[str, Any]) -> dict[str, Any]:
    return {**host, "rotation": {**rotation, "server": "nobody"}} if host["name"] == "controller-2" else host
