"""The sudoers file against the steps: what they do as root, and nothing that they don't."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STEPS = ROOT / "plugins/heat_upgrade/remote/scripts"
SUDOERS = ROOT / "include/sudoers/heat-upgrade"
# Of the other service manager, whose files another account may own.
SUPERVISOR = STEPS / "service-supervisor.sh"
# By variable in the steps.
PROGRAMS = {"$UV": "uv", "$PYTHON": "python3", "$python": "python3", "$VENV/bin/python": "python"}


def text() -> str:
    return SUDOERS.read_text(encoding="utf-8").replace("\\\n", " ")


def rules() -> list[tuple[str, str]]:
    """Return the program and the pattern of its arguments of each rule for root."""
    found = []
    for line in text().splitlines():
        if line.startswith("Cmnd_Alias") and "HEAT_TOOLS" not in line:
            for rule in line.partition("=")[2].split(", "):
                program, _, arguments = rule.strip().partition(" ")
                found.append((Path(program).name.rstrip("*"), arguments.strip()))
    return found


def programs_of_the_steps() -> set[str]:
    """Return what the steps run through as_root, and through sudo itself."""
    found = set()
    for step in STEPS.iterdir():
        if step.is_file() and step != SUPERVISOR and step.suffix != ".py":
            words = re.findall(r"(?:as_root|sudo -n) (?!--|-u)\"?([$\w/{}]+)", step.read_text(encoding="utf-8"))
            found |= {PROGRAMS.get(word, word) for word in words}
    bootstrap = (ROOT / "plugins/heat_upgrade/remote/step.py").read_text(encoding="utf-8")
    return found | set(re.findall(r"sudo -n (\w+)", bootstrap))


def allowed(program: str, *arguments: str) -> bool:
    """Say whether one of the rules covers a command, as sudo would."""
    line = " ".join(arguments)
    for name, pattern in rules():
        if name != program:
            continue
        if pattern.startswith("^") and re.fullmatch(pattern[1:-1], line):
            return True
        if pattern == line or (pattern == '""' and not line):
            return True
    return False


def test_sudo_can_read_it() -> None:
    visudo = shutil.which("visudo") or "/usr/sbin/visudo"
    assert subprocess.run([visudo, "--check", "--file", SUDOERS], capture_output=True, check=False).returncode == 0


def test_it_has_rules_for_every_program_that_the_steps_run_as_root_and_for_no_other() -> None:
    assert {program for program, _ in rules()} == programs_of_the_steps()


STATE = "/var/lib/heat-upgrade/steps/0123456789abcdef"
FRESH = "/var/lib/heat-upgrade/install.aBc123"
UNIT = "/etc/systemd/system/heat-engine@26.0.2.service"


@pytest.mark.parametrize(
    "command",
    [
        "true",
        "install -d -m 700 -o heat-upgrade /var/lib/heat-upgrade",
        "systemctl daemon-reload",
        "systemctl enable --quiet heat-engine@26.0.2.service",
        "systemctl stop heat-api-cfn-25.0.2.service",
        "systemctl start heat-api.service",
        "journalctl --no-pager -o cat -n 15 -u heat-api@26.0.2.service",
        "kill -s TERM -- -4711",
        f"cmp -s {FRESH} {UNIT}",
        f"cp {FRESH} {UNIT}.new",
        f"chmod 644 {UNIT}.new",
        f"mv -T {UNIT}.new {UNIT}",
        "test -e /opt/heat/26.0.2/pyvenv.cfg",
        "cat /etc/heat/25.0.2/heat.conf",
        "cp -a /etc/heat/25.0.2/environment.d /etc/heat/26.0.2/environment.d.new",
        "chown --reference=/etc/heat/25.0.2/heat.conf /etc/heat/26.0.2/heat.conf.new",
        "mkdir -p /opt/heat",
        "/opt/heat/26.0.2/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes "
        f"-r {STATE}/requirements.txt",
        "python3 -m venv /opt/heat/26.0.2",
        "uv venv --quiet --allow-existing --python python3 /opt/heat/26.0.2",
        "uv pip install --quiet --native-tls --require-hashes --python /opt/heat/26.0.2/bin/python "
        f"-r {STATE}/requirements.txt",
        f"python3 {STATE}/haproxy.py /run/haproxy/admin.sock drain heat_api/controller-1",
        # What only looks runs from a folder of its own.
        "python3 /tmp/heat-upgrade.aBc123/haproxy.py /run/haproxy/admin.sock show heat_api/controller-1",
        "cmp -s /tmp/heat-upgrade.aBc123/requirements.txt /opt/heat/26.0.2/installed-requirements.txt",
        "find -L /etc/heat/25.0.2 -mindepth 1 -maxdepth 1 ! -path /etc/heat/25.0.2/heat.conf "
        r"( -type f -o -type d -regex .*/\(environment\.d\|templates\|policy\.d\) ) -printf %f\n",
        "find /var/backups/heat -maxdepth 1 -name heat-prod-before-26.0.2-*.part -delete",
        "tee /var/backups/heat/heat-prod-before-26.0.2-20260101T000000Z.sql.gz.part",
        "touch /var/lib/heat/out-of-rotation",
        "install -d -m 750 -g heat /etc/heat/router",
        "install -d -m 700 -o heat /etc/heat/26.0.2/router/run",
        f"python3 -B {STATE}/router/state.py /etc/heat/26.0.2/router inherit /etc/heat/25.0.2/router",
        f"python3 -B {STATE}/router/state.py /etc/heat/26.0.2/router converse",
        "python3 -B /tmp/heat-upgrade.aBc123/router/state.py /etc/heat/26.0.2/router counts",
        "cat /etc/heat/25.0.2/api-paste.ini",
        "python3 -B /tmp/heat-upgrade.aBc123/sources.py 25.0.2/engine=4711 25.0.2/api-cfn=4712",
        "systemctl stop heat-api@25.0.2-beside.service",
        "rm -f /etc/systemd/system/heat-api-25.0.2-beside.service",
    ],
)
def test_it_allows_what_the_steps_do(command: str) -> None:
    program, *arguments = command.split(" ")
    assert allowed(Path(program).name, *arguments)


@pytest.mark.parametrize(
    "command",
    [
        "bash",
        "cat /etc/shadow",
        "cat /etc/heat/25.0.2/heat.conf /etc/shadow",
        "cp /etc/passwd /etc/systemd/system/heat-engine.service",
        f"cp {FRESH} /etc/sudoers.d/heat",
        f"mv -T {UNIT}.new /etc/systemd/system/ssh.service",
        "systemctl stop ssh.service",
        "systemctl start heat-engine.service ssh.service",
        "kill -s KILL 1",
        "python3 -c import os",
        "python3 -B /tmp/heat-upgrade.aBc123/sources.py 25.0.2/engine=/etc/shadow",
        "/opt/heat/26.0.2/bin/python -c import os",
        "find / -delete",
        "rm -rf /etc/heat/25.0.2",
        "tee /etc/passwd",
    ],
)
def test_it_refuses_what_they_do_not(command: str) -> None:
    program, *arguments = command.split(" ")
    assert not allowed(Path(program).name, *arguments)
