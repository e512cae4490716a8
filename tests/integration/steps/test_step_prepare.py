"""prepare: a release beside the running one, whatever happens in the middle."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import Step
from lab.cloud.model import Lab
from lab.processes import wait_until
from tests.integration.steps import wheel
from tests.integration.steps.conftest import NEW, OLD, UV, Machine


def prepare(machine: Machine) -> Step:
    return steps.prepare(machine.source, machine.target)


def picture(machine: Machine) -> dict[str, tuple[int, str]]:
    """Return mode and content of all that the step has to leave behind, and nothing else that it left."""
    state = machine.state
    kept = {state, state / "lock", state / "log", state / "steps"}
    leftovers = [path for path in state.rglob("*") if path not in kept and state / "steps" not in path.parents]
    folders = [Path(machine.target.config).parent, machine.root / "etc/supervisor.d"]
    files = [path for folder in folders for path in sorted(folder.rglob("*"))]
    venv = Path(machine.target.venv)
    packages = sorted(path for path in venv.glob("lib/python*/site-packages/heat/**/*.py"))
    found = [*leftovers, *files, *packages, venv / "installed-requirements.txt"]
    return {str(path): (path.stat().st_mode, path.read_text() if path.is_file() else "") for path in found}


def version(machine: Machine) -> str:
    code = "from importlib import metadata; print(metadata.version('openstack-heat'))"
    python = f"{machine.target.venv}/bin/python"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_release_is_put_beside_the_running_one(machine: Machine) -> None:
    machine.serve("engine", "api")
    running = machine.pid("engine", OLD), machine.pid("api", OLD)
    old_config = Path(machine.source.config).read_text()
    machine.run(prepare(machine))

    assert version(machine) == NEW
    config = Path(machine.target.config)
    expected = old_config.replace("/heat_25", "/heat_26").replace(f"heat_revision = {OLD}", f"heat_revision = {NEW}")
    expected = expected.replace(f"{OLD}/environment.d", f"{NEW}/environment.d")
    assert config.read_text() == expected
    assert (config.parent / "environment.d/default.yaml").read_text() == "resource_registry: {}\n"
    assert (config.parent / "api-paste.ini").exists()
    # Nothing is started, and nothing would be after a reboot.
    assert (machine.pid("engine", OLD), machine.pid("api", OLD)) == running
    for role in ("engine", "api"):
        assert "autostart=false\n" in machine.unit_file(role, NEW).read_text()


def everything(machine: Machine) -> dict[str, tuple[int, int]]:
    """Return all of the host's files but logs and sockets, and its folders, with mode and time of the last change."""
    folders = [machine.root / "etc", machine.root / "opt", machine.root / "home", machine.root / "var/lib"]
    paths = [path for folder in folders if folder.exists() for path in (folder, *folder.rglob("*"))]
    return {str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in paths}


def preview(machine: Machine) -> dict[str, str]:
    return machine.run(steps.preview_prepare(prepare(machine)))


def test_a_preview_tells_what_is_then_done_and_does_nothing(machine: Machine) -> None:
    machine.serve("engine", "api")
    before = everything(machine)
    told = preview(machine)
    assert everything(machine) == before
    assert told["release"] == f"install openstack-heat {NEW} in {machine.target.venv}"
    assert told["config"] == f"write {machine.target.config}"
    assert told["services"].split() == [str(machine.unit_file(role, NEW)) for role in ("engine", "api")]
    difference = [line for name, line in told.items() if name.startswith("diff/")]
    assert "+transport_url = rabbit://***@127.0.0.2:5672/heat_26" in difference
    assert f"+heat_revision = {NEW}" in difference

    machine.run(prepare(machine))
    old, new = (Path(one.config).read_text().splitlines() for one in (machine.source, machine.target))
    changed = {line.partition(" = ")[0] for line in set(new) - set(old)}
    assert {line[1:].partition(" = ")[0] for line in difference[2:] if line.startswith("+")} == changed
    assert preview(machine)["release"] == f"openstack-heat {NEW} is in {machine.target.venv} already"


def test_a_preview_knows_what_prepare_would_leave_alone(machine: Machine) -> None:
    machine.run(prepare(machine))
    machine.run(steps.start_engine(machine.target))
    config = Path(machine.target.config)
    config.write_text(config.read_text() + "[mine]\npassword = S3CRET\n")
    told = preview(machine)
    assert told["config"] == f"leave {config} as it is"
    assert told["services"].split() == [str(machine.unit_file("api", NEW))]
    shown = [line for name, line in told.items() if name.startswith("diff/")]
    assert shown[-2:] == ["+[mine]", "+password = ***"], "it is what the target serves with"


def test_a_preview_needs_the_running_configuration_too(machine: Machine) -> None:
    Path(machine.source.config).unlink()
    with pytest.raises(RemoteStepError, match=r"step preview_prepare .*the running release's configuration, can't be"):
        preview(machine)


def test_the_second_time_nothing_is_done(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.run(prepare(machine))
    before = picture(machine)
    times = {path: Path(path).stat().st_mtime_ns for path in before}
    capsys.readouterr()
    machine.run(prepare(machine))
    assert picture(machine) == before
    assert {path: Path(path).stat().st_mtime_ns for path in before} == times
    log = capsys.readouterr().out
    assert f"openstack-heat {NEW} is in" in log
    assert "wrote" not in log
    assert "installed openstack-heat" not in log


@pytest.fixture(params=["none", "sudo"])
def become(request: pytest.FixtureRequest) -> str:
    if request.param == "sudo":
        request.getfixturevalue("sudo")
    return str(request.param)


def test_what_the_services_need_is_readable_for_their_account(
    machine: Machine, become: str, tmp_path: Path, steps_lab: Lab
) -> None:
    """The step runs with a closed umask, and as root in a real cloud; the services don't run as root."""
    wheels = f"--find-links {steps_lab.state}/wheels --no-index --no-cache"
    uv = installer(tmp_path, options=wheels)  # sudo drops what uv reads from the environment
    machine.run(prepare(machine), BECOME=become, UV=str(uv))
    assert (Path(machine.target.config).parent / "environment.d/default.yaml").exists()
    assert machine.unit_file("engine", NEW).stat().st_mode & 0o044 == 0o044
    venv = Path(machine.target.venv)
    for path in [venv, *venv.rglob("*")]:
        if path.name == "installed-requirements.txt" or path.is_symlink():
            continue
        mode = path.stat().st_mode
        wanted = 0o055 if path.is_dir() else 0o044
        assert mode & wanted == wanted, f"{path} has mode {stat.filemode(mode)}"
    assert list(venv.glob("lib/python*/site-packages/heat/__pycache__/*.pyc"))


def test_a_new_configuration_is_as_private_as_the_old_one(machine: Machine) -> None:
    Path(machine.source.config).chmod(0o640)
    machine.run(prepare(machine))
    assert stat.S_IMODE(Path(machine.target.config).stat().st_mode) == 0o640


# Ends the whole process group with SIGKILL before the step's N-th command, in whichever subshell that is.
KILL_AT = """\
set -o functrace
commands=0
trap '((++commands < {number})) || kill -KILL 0' DEBUG
"""
# Counts the commands in the step's own shell.
COUNT = """\
set -o functrace
commands=0
trap '((++commands)); echo $commands >{counter}' DEBUG
"""


@pytest.fixture(scope="module")
def moments() -> list[float]:
    """When a step is killed, as shares of its commands."""
    return [n / 16 for n in range(1, 16)]


def test_killed_at_any_moment_and_run_again_it_ends_in_the_same_state(
    machine: Machine, moments: list[float], tmp_path: Path
) -> None:
    step, hook = prepare(machine), tmp_path / "bash-env"
    hook.write_text(COUNT.format(counter=tmp_path / "counter"))
    assert machine.start(step, bash_env=hook).wait(60) == 0
    total = int((tmp_path / "counter").read_text())
    assert total > 80
    undisturbed = picture(machine)
    for share in moments:
        number = int(total * share)
        machine.clear()
        machine.configure()
        hook.write_text(KILL_AT.format(number=number))
        assert machine.start(step, bash_env=hook).wait(60) == -signal.SIGKILL, f"command {number} of {total}"
        assert machine.start(step).wait(60) == 0, f"after command {number} of {total}"
        assert picture(machine) == undisturbed, f"after command {number} of {total}"


def test_a_half_copied_folder_is_copied_again(machine: Machine) -> None:
    source = Path(machine.source.config).parent / "environment.d"
    for number in range(20_000):
        (source / f"{number}.yaml").touch()
    count = len(list(source.iterdir()))
    folder = Path(machine.target.config).parent
    process = machine.start(prepare(machine))
    wait_until(lambda: any(folder.glob("environment.d*/1*")), what="the folder is being copied")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(folder.glob("environment.d*/*"))) < count, "the copy was over before it could be cut off"
    machine.run(prepare(machine))
    assert len(list((folder / "environment.d").iterdir())) == count
    assert sorted(path.name for path in folder.iterdir()) == ["api-paste.ini", "environment.d", "heat.conf"]


def test_an_installer_that_outlives_its_step_is_waited_for(machine: Machine, tmp_path: Path) -> None:
    """Only the shell is killed; the installer goes on writing into the venv."""
    step, go, begun = prepare(machine), tmp_path / "go", tmp_path / "begun"
    slow = installer(tmp_path, f"touch {begun}; while [ ! -e {go} ]; do sleep 0.05; done")
    process = machine.start(step, UV=str(slow))
    try:
        wait_until(begun.exists, what="the installer runs")
        for pid in pids("pgrep", "-g", str(process.pid), "-x", "bash"):
            os.kill(pid, signal.SIGKILL)
        second = machine.start(step)
        assert second.stdout
        assert b"another step runs on this host" in second.stdout.readline()
        assert not list(Path(machine.target.venv).glob("lib/python*/site-packages/heat"))
    finally:
        go.touch()
    assert second.wait(60) == 0
    assert version(machine) == NEW


def test_a_change_of_the_old_configuration_comes_along_while_the_new_release_does_not_run(machine: Machine) -> None:
    machine.run(prepare(machine))
    machine.configure(OLD, slow_until="changed since")
    machine.run(prepare(machine))
    assert "changed since" in Path(machine.target.config).read_text()


def test_a_release_that_is_not_what_it_claims_is_refused(machine: Machine, steps_lab: Lab) -> None:
    pins(machine).write_text(wheel.pin(steps_lab.state / "wheels", OLD))
    with pytest.raises(RemoteStepError, match=rf"holds openstack-heat '{re.escape(OLD)}' .*, expected {NEW}: compare"):
        machine.run(prepare(machine))
    assert not Path(machine.target.config).exists()


def test_code_that_cannot_be_imported_is_refused(machine: Machine, tmp_path: Path) -> None:
    pins(machine).write_text(wheel.build(tmp_path, NEW, modules=["heat"]))
    uv = installer(tmp_path, "unset UV_FIND_LINKS", f"--no-cache --find-links {tmp_path}")
    with pytest.raises(RemoteStepError, match="but its code can't be imported on"):
        machine.run(prepare(machine), UV=str(uv))


def test_a_package_that_is_not_the_pinned_one_is_not_installed(machine: Machine, tmp_path: Path) -> None:
    wheel.build(tmp_path, NEW, modules=[*wheel.MODULES, "heat/stranger"])
    uv = installer(tmp_path, "unset UV_FIND_LINKS", f"--no-cache --no-index --find-links {tmp_path}")
    with pytest.raises(RemoteStepError, match="can't be installed in"):
        machine.run(prepare(machine), UV=str(uv))
    assert not list(Path(machine.target.venv).rglob("heat"))


def pins(machine: Machine) -> Path:
    """Return the pins of the release that is to come."""
    requirements = machine.target.release.requirements
    assert requirements
    return requirements


def installer(directory: Path, first: str = "true", options: str = "") -> Path:
    """Return a uv that does something else first when it is to install, or does it with more options."""
    program = directory / "uv"
    lines = ["#!/bin/sh", f'[ "$1 $2" = "pip install" ] || exec {UV} "$@"', first, f'exec {UV} "$@" {options}']
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    return program


def pids(*command: str) -> list[int]:
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(word) for word in found.split()]


def test_an_unreadable_source_configuration_is_told(machine: Machine) -> None:
    Path(machine.source.config).unlink()
    with pytest.raises(RemoteStepError, match=r"the running release's configuration, can't be read: check layout"):
        machine.run(prepare(machine))


def test_a_running_service_keeps_its_files_and_an_unknown_state_stops_the_step(machine: Machine) -> None:
    machine.run(prepare(machine))
    machine.run(steps.start_engine(machine.target))
    unit, config = machine.unit_file("engine", NEW), Path(machine.target.config)
    for file in (unit, config):
        file.write_text(file.read_text() + "# mine\n")
    machine.configure(OLD, slow_until="changed since")
    machine.run(prepare(machine))
    assert unit.read_text().endswith("# mine\n")
    assert config.read_text().endswith("# mine\n"), "the release serves with what its operator has made of it"
    with pytest.raises(RemoteStepError, match="see that supervisord runs on this host, then clear this task"):
        machine.run(prepare(machine), SUPERVISORCTL="/bin/echo unix:///nowhere has no answer")
    assert unit.read_text().endswith("# mine\n"), "without an answer, the service may be running"


@pytest.mark.parametrize("name", ["a name with spaces.yaml", "ünïcode.ini"])
def test_odd_names_beside_the_configuration_come_along(machine: Machine, name: str) -> None:
    (Path(machine.source.config).parent / name).write_text("x")
    machine.run(prepare(machine))
    assert (Path(machine.target.config).parent / name).read_text() == "x"
