"""The script that tells what running services read, with processes that have the command lines of Heat's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from heat_upgrade.remote.step import STEPS_DIRECTORY, results
from tests.scripts import load_script

SCRIPT = STEPS_DIRECTORY / "sources.py"
# Runs until its standard input ends.
WAITS = "import sys\nprint('runs', flush=True)\nsys.stdin.read()\n"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def sources() -> ModuleType:
    return load_script("sources")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program of some name; it has begun when it has said so."""
    with ExitStack() as running:

        def begin(name: str, *words: str, **environment: str) -> subprocess.Popen[str]:
            program = tmp_path / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(WAITS)
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, str(program), *words],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **environment},
                )
            )
            assert process.stdin
            running.callback(process.stdin.close)
            assert process.stdout
            assert process.stdout.readline() == "runs\n"
            return process

        yield begin


def told(process: subprocess.Popen[str], role: str = "engine") -> dict[str, str]:
    command = [sys.executable, str(SCRIPT), f"25.0.2/{role}={process.pid}"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "S3CRET" not in done.stdout + done.stderr
    return results(done.stdout.splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A --config-dir; oslo.config reads what ends with .conf in it."""
    folder = tmp_path / "heat.conf.d"
    folder.mkdir()
    for name in ("b.conf", "a.conf", "c.conf.bak"):
        (folder / name).touch()
    return folder


def test_the_files_of_a_command_line_are_told_in_the_order_that_counts(start: Start, folder: Path) -> None:
    process = start("heat-engine", "--config-file", "/etc//heat.conf", f"--config-dir={folder}", "--config-file=/b")
    assert told(process)["sources/25.0.2/engine"] == f"/etc/heat.conf {folder}/a.conf {folder}/b.conf /b"


@pytest.mark.parametrize(
    "words",
    [
        ["--pyargv", "--config-file /a --config-file '/b'", "--module", "heat.wsgi.api:application"],
        ["--master", "--pyargv=--config-file /a --config-file /b"],
        ["--ini", "{ini}"],
        ["{ini}"],
    ],
)
def test_uwsgi_hands_options_on(start: Start, tmp_path: Path, folder: Path, words: list[str]) -> None:
    ini = tmp_path / "api.ini"
    ini.write_text("[uwsgi]\nmaster = true\npyargv = --config-file /a --config-file /b\n")
    process = start("uwsgi", *(word.format(ini=ini) for word in words))
    assert told(process, "api")["sources/25.0.2/api"] == "/a /b"


def test_a_title_of_its_own_hides_nothing(sources: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    title = "heat-engine: master process [/opt/heat/25/bin/heat-engine --config-file /a --config-dir /nowhere]"
    monkeypatch.setattr(sources, "read", lambda _: f"{title}\0\0\0")
    assert sources.named(sources.words_of("1")) == [("file", "/a"), ("dir", "/nowhere")]


def test_options_in_the_environment_are_told_by_name(start: Start) -> None:
    variables = {"OS_DATABASE__CONNECTION": "S3CRET", "OS_DEFAULT__HOST": "a", "OS_PASSWORD": "S3CRET"}
    process = start("heat-api", "--config-file", "/a", **variables)
    assert told(process, "api")["environment/25.0.2/api"] == "OS_DATABASE__CONNECTION OS_DEFAULT__HOST"


def test_of_another_program_or_none_nothing_is_told(start: Start) -> None:
    process = start("wrapper", "--config-file", "/a")
    assert told(process) == {}
    process.communicate()
    assert told(process) == {}


def test_without_words_oslo_config_finds_its_files_itself(sources: ModuleType, tmp_path: Path, folder: Path) -> None:
    for name in ("heat.conf", "heat-engine.conf", "heat-api.conf"):
        (tmp_path / name).touch()
    defaults = sources.Defaults(str(tmp_path), "engine")
    dropins = [f"{folder}/a.conf", f"{folder}/b.conf"]
    own = [f"{tmp_path}/heat.conf", f"{tmp_path}/heat-engine.conf"]
    packaged = defaults.files()[:-2]
    assert sources.files_of([], defaults) == [*packaged, *own, *dropins]
    assert sources.files_of([("file", "/a")], defaults) == [*dropins, "/a"]
    assert sources.files_of([("dir", "/nowhere")], defaults) == [*packaged, *own]
