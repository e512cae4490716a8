"""Which program back_up_database takes for its dump, on hosts that have one name of it, both or none."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heat_upgrade.remote.step import STEPS_DIRECTORY

NEEDED = "bash env find mkdir sed date stat gzip zcat tail grep tee mktemp rm cat flock sort mv id sleep"
DUMP = """#!/bin/sh
[ "$1" = "--defaults-file=${{1#*=}}" ] && [ -r "${{1#*=}}" ] || exit 1
echo "made by {name}"
echo "-- Dump completed on 2026-11-27"
"""


def run(folder: Path, names: tuple[str, ...], script: Path | str) -> subprocess.CompletedProcess[str]:
    """Run a step, or a line after lib.sh, on a host that has these programs and no other that dumps."""
    programs = folder / "bin"
    programs.mkdir()
    for needed in NEEDED.split():
        (programs / needed).symlink_to(str(shutil.which(needed)))
    # Not by its name, which may be a version manager's.
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    for name in names:
        (programs / name).write_text(DUMP.format(name=name))
        (programs / name).chmod(0o755)
    (folder / "heat.conf").write_text("[database]\nconnection = mysql+pymysql://heat:x@127.0.0.1/heat\n")
    settings = {"BECOME": "none", "SERVICE_MANAGER": "systemd", "CLOUD": "prod", "RELEASE": "26.0.2", "FRESH": "3600"}
    places = {"PATH": str(programs), "STATE": str(folder), "CONFIG": str(folder / "heat.conf")}
    told = {**settings, **places, "BACKUP_DIR": str(folder / "out")}
    command = (
        ["bash", script] if isinstance(script, Path) else ["bash", "-c", f"source {STEPS_DIRECTORY}/lib.sh; {script}"]
    )
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("mariadb-dump",), "mariadb-dump"),
        (("mysqldump",), "mysqldump"),
        (("mariadb-dump", "mysqldump"), "mysqldump"),
    ],
)
def test_the_dump_is_made_by_what_is_there(tmp_path: Path, names: tuple[str, ...], taken: str) -> None:
    done = run(tmp_path, names, STEPS_DIRECTORY / "back_up_database")
    assert done.returncode == 0, done.stderr
    (dump,) = (tmp_path / "out").glob("heat-prod-before-26.0.2-*.sql.gz")
    assert gzip.decompress(dump.read_bytes()).startswith(f"made by {taken}\n".encode())


@pytest.mark.parametrize("names", [("mariadb-dump",), ("mysqldump",)])
def test_preflight_is_told_what_is_there(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert run(tmp_path, names, "dump_program").stdout == f"{names[0]}\n"


def test_a_host_with_neither_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, (), STEPS_DIRECTORY / "back_up_database")
    assert done.returncode == 1
    assert "error: neither mysqldump nor mariadb-dump is on this host: install" in done.stderr
