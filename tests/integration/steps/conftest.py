"""Two hosts with a real sshd and supervisord, and a fake Heat: the steps run there as they do in an upgrade."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from heat_upgrade.clients import Clients
from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.cloud.model import Cloud, Deployment
from heat_upgrade.cloud.sections import Role
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.remote.step import Step
from lab.cloud.bring_up import take_down
from lab.cloud.cloud_file import write_cloud_file
from lab.cloud.haproxy import start_haproxy
from lab.cloud.host import PYTHON, login_name, make_login_key, start_services, start_sshd
from lab.cloud.mariadb import start_mariadb
from lab.cloud.model import API_PORT, CFN_PORT, RELEASES, Lab, LabHost
from lab.http import local_session
from lab.processes import exclusive, run, wait_until
from tests.integration.steps import wheel

OLD, NEW = "25.0.2", "26.0.2"
UV = Path(__file__).parents[3] / ".venv/bin/uv"
PORTS: dict[Role, int] = {"api": API_PORT, "api-cfn": CFN_PORT}
CONF = """\
# kept: a comment
[DEFAULT]
transport_url = rabbit://heat:p%40%2F%3F%23%20x@127.0.0.2:5672/heat_25
host = {name}
environment_dir = {directory}/environment.d
[database]
connection = {database}
[revision]
heat_revision = {release}
[healthcheck]
backends = disable_by_file
disable_by_file_path = {rotation_file}
[fake]
{fake}
"""
PASTE = """\
[pipeline:heat-api]
pipeline = healthcheck apiv1app
[pipeline:heat-api-cfn]
pipeline = healthcheck apicfnv1app
"""
PROGRAM = """\
[program:{unit}]
command = {command}
startsecs = 1
stopwaitsecs = 60
stderr_logfile = {log}
"""


@dataclass
class Machine:
    """One host of the lab, as a test arranges and asks it, past the steps that are under test."""

    lab_host: LabHost
    cloud: Cloud
    database: str = "mysql+pymysql://heat:secret@127.0.0.2/heat"
    fake: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.lab_host.name

    @property
    def root(self) -> Path:
        return self.lab_host.root

    @property
    def state(self) -> Path:
        return Path(self.source.state)

    @property
    def source(self) -> Deployment:
        return self.deployment(OLD)

    @property
    def target(self) -> Deployment:
        return self.deployment(NEW)

    def deployment(self, release: str) -> Deployment:
        return self.cloud.deployment(self.cloud.host(self.name), self.cloud.release(release))

    @property
    def hook(self) -> HeatHostHook:
        return Clients(self.cloud).host(self.cloud.host(self.name))

    def run(self, step: Step, **settings: str) -> dict[str, str]:
        """Run a step over SSH; settings are those that a test may shorten a wait with."""
        return self.hook.run_step(replace(step, settings={**step.settings, **settings}), idle_timeout=60)

    def start(self, step: Step, bash_env: Path | None = None, **settings: str) -> subprocess.Popen[bytes]:
        """Start a step on this machine, without SSH, in a process group of its own."""
        process = subprocess.Popen(
            ["sh", "-c", replace(step, settings={**step.settings, **settings}).command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment() | ({"BASH_ENV": str(bash_env)} if bash_env else {}),
            start_new_session=True,
        )
        assert process.stdin
        with suppress(BrokenPipeError):  # it has ended by now, or has the steps from before
            process.stdin.write(step.bundle)
            process.stdin.close()
        return process

    def environment(self) -> dict[str, str]:
        """Return what sshd gives to what runs over SSH."""
        lines = (self.root / "etc/ssh/sshd_config").read_text().splitlines()
        (pairs,) = [line.removeprefix("SetEnv ") for line in lines if line.startswith("SetEnv ")]
        words = dict(word.strip('"').split("=", 1) for word in pairs.split('" "'))
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", **words}

    @property
    def supervisorctl(self) -> tuple[str, ...]:
        manager = self.source.service_manager
        assert manager.kind == "supervisor"
        return manager.supervisorctl

    def ctl(self, *arguments: str) -> str:
        command = [*self.supervisorctl, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def service(self, role: Role, release: str) -> str:
        """Return supervisord's word for a service's state."""
        words = self.ctl("status", self.deployment(release).unit(role)).split()
        return "absent" if words[1] == "ERROR" else words[1]

    def pid(self, role: Role, release: str) -> int:
        return int(self.ctl("pid", self.deployment(release).unit(role)))

    def unit_file(self, role: Role, release: str) -> Path:
        return self.root / "etc/supervisor.d" / f"{self.deployment(release).unit(role)}.conf"

    def answer(self, role: Role, path: str = "/", timeout: float = 5) -> tuple[int, str]:
        """Ask an API past the load balancer: status and the release that answers."""
        url = f"http://{self.lab_host.address}:{PORTS[role]}{path}"
        got = local_session().get(url, timeout=timeout)
        return got.status_code, got.text

    def configure(self, release: str = OLD, **fake: str) -> None:
        """Write a release's heat.conf, and what its fake programs do."""
        config = Path(self.deployment(release).config)
        (config.parent / "environment.d").mkdir(parents=True, exist_ok=True)
        (config.parent / "environment.d/default.yaml").write_text("resource_registry: {}\n")
        (config.parent / "api-paste.ini").write_text(PASTE)
        config.write_text(
            CONF.format(
                name=self.name,
                directory=config.parent,
                database=self.database,
                release=release,
                rotation_file=self.lab_host.rotation_file,
                fake="\n".join(f"{key} = {value}" for key, value in fake.items()),
            )
        )

    def serve(self, *roles: Role) -> None:
        """Run the old release's services, as an operator has installed them."""
        for role in roles:
            command = f"{self.source.venv}/bin/heat-engine --config-file {self.source.config}"
            if role != "engine":
                socket = f"--http-socket {self.lab_host.address}:{PORTS[role]}"
                command = f'{self.source.venv}/bin/uwsgi {socket} --pyargv "--config-file {self.source.config}"'
            unit = self.source.unit(role)
            text = PROGRAM.format(unit=unit, command=command, log=self.root / f"var/log/{unit}.log")
            self.unit_file(role, OLD).write_text(text)
        self.ctl("update")
        for role in roles:
            self.await_state(role, OLD, "RUNNING")

    def await_state(self, role: Role, release: str, state: str) -> None:
        wait_until(lambda: self.service(role, release) == state, what=f"{role} {release} is {state}", timeout=30)

    def cut_connections(self) -> None:
        """Kill the processes that serve the host's SSH connections; what runs there goes on."""
        listener = self.lab_host.sshd.record.read_text().split()[0]
        subprocess.run(["pkill", "-KILL", "-P", listener, "-x", "sshd"], check=True)

    def clear(self) -> None:
        """Bring the host back to what it was before any test: the old release's venv, nothing that runs."""
        for file in (self.root / "etc/supervisor.d").glob("*.conf"):
            file.unlink()
        update = subprocess.Popen([*self.supervisorctl, "update"], stdout=subprocess.DEVNULL)
        wait_until(lambda: self._kill_services() or update.poll() is not None, what="supervisord runs nothing")
        for path in (self.root / "etc/heat", Path(self.target.venv), self.state):
            shutil.rmtree(path, ignore_errors=True)
        self.lab_host.rotation_file.unlink(missing_ok=True)
        self.state.mkdir(parents=True)

    def _kill_services(self) -> None:
        """Kill what runs; a SIGTERM that meets a program before its exec is lost, and supervisord waits for long."""
        for pid in self.ctl("pid", "all").split():
            if pid.isdigit() and pid != "0":
                subprocess.run(["kill", "-KILL", pid], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def steps_lab() -> Iterator[Lab]:
    """The servers of two hosts and a balancer; Heat comes from wheels of the fake one."""
    lab = Lab("steps", "small")
    # Another run of these tests would take away what this one has brought up.
    with exclusive(lab.lock("tests")):
        take_down(lab, wipe=True)
        try:
            yield from bring_up_hosts(lab)
        finally:
            take_down(lab, wipe=True)


def bring_up_hosts(lab: Lab) -> Iterator[Lab]:
    lab.state.mkdir(parents=True, mode=0o700)
    (lab.state / "size").write_text("small\n")  # `make stop` finds it, should this run be killed
    _ = lab.secrets
    make_login_key(lab)
    for version in RELEASES:
        wheel.build(lab.state / "wheels", version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_STEPS_SSH", json.dumps(ssh_connection(lab)))
        with only_the_fake_heat(lab):
            for host in (*lab.hosts, lab.balancer):
                start_sshd(host)
            for host in lab.hosts:
                start_services(host)
                install_old_release(host)
        yield lab


@contextmanager
def only_the_fake_heat(lab: Lab) -> Iterator[None]:
    """Let installers that are started now find no other Heat, and leave uv's real cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_NO_INDEX", "1")
        patch.setenv("UV_FIND_LINKS", str(lab.state / "wheels"))
        patch.setenv("UV_CACHE_DIR", str(lab.state / "uv-cache"))
        yield


@pytest.fixture(scope="session")
def steps_database(steps_lab: Lab) -> Lab:
    """The lab with a MariaDB whose password has every awkward character in it."""
    start_mariadb(steps_lab)
    assert all(character in steps_lab.secrets["database"] for character in "@/%?#'\" ")
    return steps_lab


def ssh_connection(lab: Lab) -> dict[str, Any]:
    extra = {"key_file": str(lab.ssh_key), "look_for_keys": "false"}
    return {"conn_type": "ssh", "login": login_name(), "extra": extra}


def install_old_release(host: LabHost) -> None:
    venv = host.venv(OLD)
    run([UV, "venv", "--quiet", "--python", PYTHON, venv], what=f"make {venv}")
    run([UV, "pip", "install", "--quiet", "--python", venv / "bin/python", f"openstack-heat=={OLD}"], what="install it")


@pytest.fixture(scope="session")
def sudo() -> None:
    """Skip what needs root where sudo asks for a password."""
    if subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("sudo asks for a password")


WriteCloud = Callable[..., Cloud]


@pytest.fixture
def write_cloud(steps_lab: Lab, tmp_path: Path) -> WriteCloud:
    """Return the lab's cloud, with some of its sections replaced."""

    def write(**sections: Mapping[str, Any]) -> Cloud:
        data = yaml.safe_load(write_cloud_file(steps_lab).read_text())
        for release in data["releases"]:
            pins = tmp_path / f"{release['version']}.txt"
            pins.write_text(wheel.pin(steps_lab.state / "wheels", release["version"]))
            release["requirements"] = str(pins)
        data["hosts"][0]["roles"] = ["engine", "api"]  # the other host has both APIs
        data["connections"]["ssh"] = "steps_ssh"
        data["rotation"]["settle"] = 1
        path = tmp_path / "steps.yaml"
        path.write_text(yaml.safe_dump({**data, **sections}))
        return load_cloud(path)

    return write


@pytest.fixture
def machine(steps_lab: Lab, write_cloud: WriteCloud) -> Iterator[Machine]:
    """A host with an engine and an API that leaves the rotation by a file."""
    yield from _cleared(Machine(steps_lab.host("controller-1"), write_cloud()))


@pytest.fixture
def balanced(steps_lab: Lab, write_cloud: WriteCloud) -> Iterator[Machine]:
    """A host with an engine and both APIs, which leave the rotation through HAProxy's socket."""
    start_haproxy(steps_lab)
    yield from _cleared(Machine(steps_lab.host("controller-2"), write_cloud()))
    steps_lab.server("haproxy").stop(grace=0)


def _cleared(machine: Machine) -> Iterator[Machine]:
    machine.clear()
    machine.configure()
    yield machine
    machine.clear()
