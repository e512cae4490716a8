"""The steps under systemd, as far as they can be run without it: with a fake systemctl that keeps states and calls."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from heat_upgrade.cloud.model import Cloud, Deployment
from heat_upgrade.hosts import HostState
from heat_upgrade.remote import step as remote
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import STEPS_DIRECTORY, Step
from tests.unit._helpers.clouds.broken import edited

FAKES = Path(__file__).parents[1] / "_helpers/fake_systemd"
OLD, NEW = "25.0.2", "26.0.2"


class Host:
    """A host whose root is a directory and whose systemd is a fake."""

    def __init__(self, root: Path, **edits: object) -> None:
        self.root = root
        places = {
            "become": "none",
            "service_manager.unit_dir": f"{root}/units",
            "layout.venv": f"{root}/opt/{{release}}",
            "layout.config": f"{root}/etc/{{release}}/heat.conf",
            "layout.state": f"{root}/state",
            "rotation.file": f"{root}/out",
        }
        self.cloud = Cloud.model_validate({**edited({**places, **edits}), "name": "lab"})
        (root / "units").mkdir()

    def deployment(self, release: str, host: str = "controller-1") -> Deployment:
        return self.cloud.deployment(self.cloud.host(host), self.cloud.release(release))

    def unit(self, name: str, description: str = "", **state: object) -> None:
        """Install a service; its state is what systemd says of it."""
        (self.root / "units" / f"{name}.service").write_text(f"[Unit]\nDescription={description}\n")
        (self.root / name).mkdir()
        for key, value in state.items():
            (self.root / name / key).write_text(f"{value}\n")

    def state(self, name: str, key: str) -> str:
        return (self.root / name / key).read_text().strip()

    def calls(self) -> list[str]:
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def run(self, step: Step, **settings: str) -> subprocess.CompletedProcess[bytes]:
        command = replace(step, settings={**step.settings, **settings}).command
        environment = {"PATH": f"{FAKES}:{os.environ['PATH']}", "FAKE_SYSTEMD": str(self.root)}
        return subprocess.run(
            ["sh", "-c", command], input=step.bundle, env=environment, capture_output=True, check=False
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def ago(seconds: float) -> int:
    return int((time.monotonic() - seconds) * 1_000_000)


def look(host: Host) -> dict[tuple[str, str], str]:
    one = host.cloud.host("controller-1")
    done = host.run(steps.look(host.cloud, one))
    assert done.returncode == 0, done.stderr
    return dict(HostState.parse(one, remote.results(done.stdout.decode().splitlines())).services)


@pytest.mark.parametrize(
    ("active", "age", "expected"),
    [
        ("active", 3600, "active"),
        ("active", 0, "starting"),  # forked, and not known to stay
        ("activating", 0, "starting"),
        ("reloading", 0, "starting"),
        ("deactivating", 3600, "stopping"),
        ("inactive", 0, "inactive"),
        ("failed", 0, "failed"),
    ],
)
def test_what_systemd_says_is_told_in_the_upgrades_words(host: Host, active: str, age: float, expected: str) -> None:
    host.unit(f"heat-engine-{OLD}", ActiveState=active, ActiveEnterTimestampMonotonic=ago(age))
    states = look(host)
    assert states.pop(("engine", OLD)) == expected
    assert set(states.values()) == {"absent"}


@pytest.mark.parametrize("state", ["maintenance", ""])
def test_an_unknown_state_is_no_state(host: Host, state: str) -> None:
    host.unit(f"heat-engine-{OLD}", ActiveState=state)
    done = host.run(steps.look(host.cloud, host.cloud.host("controller-1")))
    assert done.returncode == 1
    assert f"heat-engine-{OLD} is '{state}', which is no state that this step knows".encode() in done.stderr


def test_no_answer_of_systemd_stops_every_step(host: Host) -> None:
    host.unit(f"heat-engine-{OLD}", ActiveState="active")
    host.unit(f"heat-engine-{NEW}")
    (host.root / "silent").touch()
    one = host.cloud.host("controller-1")
    for step in (
        steps.look(host.cloud, one),
        steps.start_engine(host.deployment(NEW)),
        steps.stop_engine(host.deployment(OLD)),
        steps.switch_api(host.deployment(OLD), host.deployment(NEW)),
    ):
        assert host.run(step).returncode != 0, step.name
    assert host.calls() == []
    assert host.state(f"heat-engine-{OLD}", "ActiveState") == "active"


def test_a_service_is_enabled_and_started_and_then_left_alone(host: Host) -> None:
    host.unit(f"heat-engine-{NEW}")
    config = Path(host.deployment(NEW).config)
    config.parent.mkdir(parents=True)
    config.write_text("[DEFAULT]\nhost = c1\n")
    began = time.monotonic()
    done = host.run(steps.start_engine(host.deployment(NEW)))
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began >= 2, "systemd calls it active at once"
    assert host.calls() == [
        "daemon-reload",
        f"reset-failed heat-engine-{NEW}.service",
        f"enable --quiet heat-engine-{NEW}.service",
        f"start heat-engine-{NEW}.service",
    ]
    assert host.run(steps.start_engine(host.deployment(NEW))).returncode == 0
    assert len(host.calls()) == 4


@pytest.mark.parametrize("description", ["dies", "refused"])
def test_a_service_that_does_not_stay_shows_its_journal_without_passwords(host: Host, description: str) -> None:
    host.unit(f"heat-engine-{NEW}", description)
    (host.root / "journal").write_text("no broker at rabbit://heat:S3cret@h1,heat:S3cret two@h2/v\n")
    done = host.run(steps.start_engine(host.deployment(NEW)))
    assert done.returncode == 1
    said = done.stderr.decode()
    assert f"error: heat-engine-{NEW} is 'failed' after its start, expected active" in said
    assert "no broker at rabbit://heat:***@h2/v\n" in said
    assert "S3cret" not in said


def test_a_service_is_disabled_before_it_is_stopped(host: Host) -> None:
    host.unit(f"heat-engine-{OLD}", ActiveState="active", ActiveEnterTimestampMonotonic=ago(60))
    step = steps.stop_engine(host.deployment(OLD))
    assert host.run(step).returncode == 0
    assert host.calls() == [f"disable --quiet heat-engine-{OLD}.service", f"stop heat-engine-{OLD}.service"]
    assert host.state(f"heat-engine-{OLD}", "ActiveState") == "inactive"
    assert host.state(f"heat-engine-{OLD}", "enabled") == "no"


def word(host: Host) -> str:
    """Return which release a host says that a cold upgrade has stopped."""
    done = host.run(steps.look(host.cloud, host.cloud.host("controller-1")))
    return remote.results(done.stdout.decode().splitlines())["stopped"]


@pytest.mark.parametrize("role", ["engine", "api"])
def test_a_stop_that_leaves_nothing_running_leaves_word_until_the_next_start(host: Host, role: str) -> None:
    source = host.deployment(OLD)
    stop = steps.stop_api(source) if role == "api" else steps.stop_engine(source, outage=True)
    host.unit(f"heat-{role}-{OLD}", ActiveState="inactive")
    assert host.run(stop).returncode == 0
    assert word(host) == "", "it was stopped before, and another release runs perhaps"
    (host.root / f"heat-{role}-{OLD}" / "ActiveState").write_text("active\n")
    assert host.run(stop).returncode == 0
    assert word(host) == OLD
    assert host.state(f"heat-{role}-{OLD}", "ActiveState") == "inactive"
    config = Path(host.deployment(NEW).config)
    config.parent.mkdir(parents=True)
    config.write_text("[DEFAULT]\nhost = c1\n")
    host.unit(f"heat-engine-{NEW}")
    assert host.run(steps.start_engine(host.deployment(NEW))).returncode == 0
    assert word(host) == ""


def test_a_service_that_is_not_installed_needs_no_stop(host: Host) -> None:
    assert host.run(steps.stop_engine(host.deployment(OLD))).returncode == 0
    assert host.calls() == []


@pytest.fixture
def configured(host: Host) -> Host:
    """A host whose old release was installed by other means."""
    config = Path(host.deployment(OLD).config)
    config.parent.mkdir(parents=True)
    config.write_text("[DEFAULT]\ntransport_url = rabbit://heat:p@h/heat\n")
    return host


def prepare(host: Host, name: str = "controller-1") -> Step:
    """Return the step without its installation, which has tests of its own."""
    step = steps.prepare(host.deployment(OLD, name), host.deployment(NEW, name))
    return replace(step, settings={**step.settings, "REQUIREMENTS": ""})


def units(host: Host) -> dict[str, list[str]]:
    return {path.stem: path.read_text().splitlines() for path in sorted((host.root / "units").iterdir())}


def test_the_units_say_what_the_cloud_file_says(configured: Host) -> None:
    assert configured.run(prepare(configured)).returncode == 0
    written = units(configured)
    assert list(written) == [f"heat-api-{NEW}", f"heat-engine-{NEW}"]
    root, engine, api = configured.root, written[f"heat-engine-{NEW}"], " ".join(written[f"heat-api-{NEW}"])
    assert f"ExecStart={root}/opt/{NEW}/bin/heat-engine --config-file {root}/etc/{NEW}/heat.conf" in engine
    assert "User=heat" in engine
    assert "TimeoutStopSec=600" in engine
    assert f"ExecStart={root}/opt/{NEW}/bin/uwsgi --http-socket 10.0.0.11:8004" in api
    assert "--processes 2 --threads 4" in api
    assert "--module heat.wsgi.api:application" in api
    assert f'--pyargv "--config-file {root}/etc/{NEW}/heat.conf"' in api
    assert "@" not in "".join(map("".join, written.values()))
    assert configured.calls() == [], "nothing is started, enabled or reloaded"


def test_a_preview_tells_what_prepare_would_do_and_leaves_no_trace(configured: Host) -> None:
    before = {path: path.stat().st_mtime_ns for path in (configured.root, *configured.root.rglob("*"))}
    preview = steps.preview_prepare(prepare(configured))
    done = configured.run(preview)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (configured.root, *configured.root.rglob("*"))} == before
    root, told = configured.root, remote.results(done.stdout.decode().splitlines())
    assert told["release"] == f"openstack-heat {NEW} is installed by other means"
    assert told["config"] == f"write {root}/etc/{NEW}/heat.conf"
    assert told["services"] == f"{root}/units/heat-engine-{NEW}.service {root}/units/heat-api-{NEW}.service"
    difference = [line for name, line in told.items() if name.startswith("diff/")]
    assert difference[:4] == [
        f"--- {root}/etc/{OLD}/heat.conf",
        f"+++ {root}/etc/{NEW}/heat.conf",
        "@@ -2,1 +2,6 @@ [DEFAULT]",
        "-transport_url = rabbit://***@h/heat",
    ]
    assert difference[4] == "+transport_url = rabbit://***@h/heat_26"
    assert f"+heat_revision = {NEW}" in difference
    assert configured.calls() == []

    assert configured.run(prepare(configured)).returncode == 0
    new = Path(configured.deployment(NEW).config).read_text().splitlines()
    assert [line[1:] for line in difference[5:] if line.startswith("+")] == new[2:], "as it was told"


@pytest.fixture
def console(tmp_path: Path) -> Host:
    """A host whose old release has Heat's own programs for both APIs, and no uWSGI."""
    beside = {"services.api.beside": {"address": "::1", "port": 9004}, "services.user": None}
    host = Host(tmp_path, **beside)
    old = host.deployment(OLD, "edge.example")
    for config in (old.config, host.deployment(NEW, "edge.example").config):
        Path(config).parent.mkdir(parents=True)
    Path(old.config).write_text("[DEFAULT]\nhost = c1\n")
    pipelines = "[pipeline:heat-api]\npipeline = apiv1app\n[pipeline:heat-api-cfn]\npipeline = apicfnv1app\n"
    Path(old.config).with_name("api-paste.ini").write_text(pipelines)
    (Path(old.venv) / "bin").mkdir(parents=True)
    for name in ("heat-api", "heat-api-cfn"):
        (Path(old.venv) / "bin" / name).symlink_to("/bin/true")
    return host


def start_beside(host: Host) -> subprocess.CompletedProcess[bytes]:
    """Run the step up to where the APIs would answer, which nothing here does."""
    step = steps.start_beside(host.deployment(OLD, "edge.example"), host.deployment(NEW, "edge.example"))
    return host.run(step, ANSWER_TIMEOUT="0")


def test_beside_heats_own_servers_are_told_where_to_listen(console: Host) -> None:
    start_beside(console)
    router, written = f"{console.root}/etc/{NEW}/router", units(console)
    options = f"--config-file {console.root}/etc/{OLD}/heat.conf --config-file {router}/beside-{OLD}.conf"
    for role in ("api", "api-cfn"):
        unit = written[f"heat-{role}-{OLD}-beside"]
        assert f"ExecStart={console.root}/opt/{OLD}/bin/heat-{role} {options}" in unit
        assert f"Environment=PYTHONPATH={router}" in unit
        assert "@" not in "".join(unit)
    conf = Path(f"{router}/beside-{OLD}.conf").read_text()
    assert conf.startswith(f"[paste_deploy]\napi_paste_config = {router}/beside-{OLD}-paste.ini\n")
    assert "\n[heat_api]\nbind_host = ::1\nbind_port = 9004\nworkers = 2\ncert_file =\nkey_file =\n" in conf
    assert "\n[heat_api_cfn]\nbind_host = 127.0.0.1\nbind_port = 18000\nworkers = 1\ncert_file =\nkey_file =\n" in conf


def test_beside_uwsgi_is_told_by_its_command_line(console: Host) -> None:
    uwsgi = Path(console.deployment(OLD).venv) / "bin/uwsgi"
    uwsgi.write_text("#!/bin/sh\necho '    -w|--module   load a WSGI module'\n")
    uwsgi.chmod(0o755)
    (Path(console.deployment(OLD).venv) / "lib/python3.11/site-packages/heat/wsgi").mkdir(parents=True)
    start_beside(console)
    router, api = f"{console.root}/etc/{NEW}/router", " ".join(units(console)[f"heat-api-{OLD}-beside"])
    assert (
        f"ExecStart={uwsgi} --http-socket [::1]:9004 --module heat.wsgi.api:application --pythonpath {router} " in api
    )
    assert "PYTHONPATH=" not in api
    assert Path(f"{router}/beside-{OLD}.conf").read_text().count("[") == 1, "where the API's files are, no more"


def test_without_a_server_for_the_old_api_nothing_is_written_or_started(console: Host) -> None:
    (Path(console.deployment(OLD).venv) / "bin/heat-api-cfn").unlink()
    before = sorted(path for path in (console.root / "etc").rglob("*"))
    done = start_beside(console)
    assert f"/opt/{OLD}/bin has neither a uWSGI with Python nor heat-api-cfn, expected".encode() in done.stderr
    assert (units(console), console.calls()) == ({}, [])
    assert sorted(path for path in (console.root / "etc").rglob("*")) == before


def test_in_front_heats_own_server_listens_as_its_heat_conf_says(console: Host) -> None:
    """A release that a run goes back to, and whose service an operator has run without uWSGI."""
    old, new = console.deployment(OLD, "edge.example"), console.deployment(NEW, "edge.example")
    step = steps.switch_api(new, old)
    console.run(replace(step, name="install_router"))
    router, unit = f"{console.root}/etc/{OLD}/router", units(console)[f"heat-api-{OLD}"]
    options = f"--config-file {console.root}/etc/{OLD}/heat.conf --config-file {router}/router.conf"
    assert f"ExecStart={console.root}/opt/{OLD}/bin/heat-api {options}" in unit
    assert "bind_" not in Path(f"{router}/router.conf").read_text()
    console.run(steps.close_router(new, old))
    unit = units(console)[f"heat-api-{OLD}"]
    assert f"ExecStart={console.root}/opt/{OLD}/bin/heat-api --config-file {console.root}/etc/{OLD}/heat.conf" in unit
    assert "PYTHONPATH" not in "".join(unit)


def test_an_ipv6_address_and_both_apis(configured: Host) -> None:
    assert configured.run(prepare(configured, "edge.example")).returncode == 0
    written = units(configured)
    assert "--http-socket [fd00::13]:8004" in " ".join(written[f"heat-api-{NEW}"])
    cfn = " ".join(written[f"heat-api-cfn-{NEW}"])
    assert "--http-socket 0.0.0.0:8000" in cfn
    assert "--module heat.wsgi.cfn:application" in cfn
    assert "--processes 1 --threads 2" in cfn


def test_without_an_account_services_are_not_roots(tmp_path: Path) -> None:
    """systemd runs a unit without User= as root."""
    host = Host(tmp_path, **{"services.user": None})
    config = Path(host.deployment(OLD).config)
    config.parent.mkdir(parents=True)
    config.write_text("[DEFAULT]\ntransport_url = rabbit://heat:p@h/heat\n")
    assert host.run(prepare(host)).returncode == 0
    me = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    for lines in units(host).values():
        assert f"User={me}" in lines


def test_systemd_understands_the_units(configured: Host) -> None:
    assert configured.run(prepare(configured)).returncode == 0
    programs = Path(configured.deployment(NEW).venv) / "bin"
    programs.mkdir(parents=True)
    for name in ("heat-engine", "uwsgi"):
        (programs / name).symlink_to("/bin/true")
    settings = {
        "VENV": str(programs.parent),
        "ROLE": "api",
        "OPTIONS": "--config-file /a",
        "PATH": "/b",
        "USER": "heat",
    }
    console = (STEPS_DIRECTORY / "units/systemd-api-console").read_text()
    for name, value in settings.items():
        console = console.replace(f"@{name}@", value)
    (programs / "heat-api").symlink_to("/bin/true")
    (configured.root / "units/console.service").write_text(console)
    files = sorted((configured.root / "units").iterdir())
    me = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    for path in files:
        path.write_text(path.read_text().replace("User=heat", f"User={me}"))
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    about = [line for line in (done.stdout + done.stderr).splitlines() if str(configured.root) in line]
    assert about == []


def check(host: Host) -> dict[str, str]:
    done = host.run(steps.check_host(host.deployment(NEW)))
    assert done.returncode == 0, done.stderr
    assert b"S3CRET" not in done.stdout + done.stderr
    return remote.results(done.stdout.decode().splitlines())


@pytest.mark.parametrize(
    ("transport_url", "problem"),
    [
        ("", "no transport_url in [DEFAULT] of heat.conf, expected rabbit://...: write it there"),
        (
            "transport_url = rabbit://heat:12/S3CRET@h/v",
            "transport_url in [DEFAULT] of heat.conf is no URL of the form",
        ),
    ],
)
def test_preflight_is_told_why_a_heat_conf_cannot_be_carried_over(
    configured: Host, transport_url: str, problem: str
) -> None:
    config = Path(configured.deployment(OLD).config)
    assert check(configured)[f"conf/{OLD}/login"] == "heat"
    config.write_text(f"[DEFAULT]\n{transport_url}\n")
    told = check(configured)
    assert told[f"conf/{OLD}/problem"].startswith(problem)
    assert {name for name in told if name.startswith("conf/")} == {f"conf/{OLD}/problem"}
    assert f"vhost/{OLD}" not in told


def test_preflight_is_told_what_the_running_services_read(configured: Host) -> None:
    program = configured.root / "heat-engine"
    program.write_text("import sys\nprint('runs', flush=True)\nsys.stdin.read()\n")
    command = [sys.executable, str(program), "--config-file", "/etc/heat/heat.conf", "--config-file", "/etc/heat/more"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
        assert engine.stdout
        assert engine.stdout.readline() == b"runs\n"
        since = ago(60)
        for role, pid in (("engine", engine.pid), ("api", os.getpid())):
            unit = f"heat-{role}-{OLD}"
            configured.unit(unit, ActiveState="active", ActiveEnterTimestampMonotonic=since, MainPID=pid)
        found = check(configured)
        engine.communicate()
    assert found[f"sources/{OLD}/engine"].endswith("/etc/heat/heat.conf /etc/heat/more")
    assert f"sources/{OLD}/api" not in found, "it isn't Heat's"


def test_preflight_is_told_of_an_engines_memory_and_of_how_long_its_stop_may_take(host: Host) -> None:
    host.unit(
        f"heat-engine-{OLD}",
        ActiveState="active",
        ActiveEnterTimestampMonotonic=ago(60),
        MainPID=os.getpid(),
        TimeoutStopUSec="1min 30s",
    )
    host.unit(f"heat-engine-{NEW}")
    done = host.run(steps.check_host(host.deployment(NEW)))
    assert done.returncode == 0, done.stderr
    told = remote.results(done.stdout.decode().splitlines())
    assert told[f"engine/{OLD}"] == "active"
    assert told[f"stop_timeout/{OLD}"] == "1min 30s"
    assert int(told[f"memory/{OLD}"]) > 10_000
    assert f"memory/{NEW}" not in told
    assert abs(float(told["clock"]) - time.time()) < 30
    assert host.calls() == []
