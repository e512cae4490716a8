"""What is sent to a host: run with a real shell, without SSH."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from heat_upgrade.remote import step as remote
from heat_upgrade.remote.step import Step


def run(step: Step) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", step.command], input=step.bundle, capture_output=True, check=False)


@pytest.fixture
def say(tmp_path: Path) -> Step:
    script = b'printf "::said=%s\\n" "$WORD"; ls "${BASH_SOURCE[0]%/*}/lib.sh" >/dev/null && echo beside\n'
    odd = "a 'quoted' \"word\" $HOME `id` ; rm -rf * \\ ü"
    return Step("say", {"WORD": odd}, str(tmp_path / "state with space"), {"say": script})


def test_a_step_gets_its_settings_to_the_letter(say: Step) -> None:
    done = run(say)
    assert done.returncode == 0, done.stderr
    assert remote.results(done.stdout.decode().splitlines()) == {"said": say.settings["WORD"]}
    assert b"beside\n" in done.stdout


def test_a_step_runs_twice_from_one_copy(say: Step) -> None:
    first, second = run(say), run(say)
    assert first.stdout == second.stdout
    assert len(list((Path(say.state) / "steps").iterdir())) == 1


def test_steps_that_unpack_at_once_all_run(say: Step) -> None:
    started = [
        subprocess.Popen(["sh", "-c", say.command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(8)
    ]
    for process in started:
        output, _ = process.communicate(say.bundle)
        assert process.returncode == 0
        assert b"::said=" in output
    assert [path.name for path in (Path(say.state) / "steps").iterdir() if path.name.startswith("new.")] == []


def test_a_step_that_only_looks_leaves_nothing_behind(
    say: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    done = run(replace(say, read_only=True))
    assert done.returncode == 0, done.stderr
    assert remote.results(done.stdout.decode().splitlines()) == {"said": say.settings["WORD"]}
    assert b"beside\n" in done.stdout
    for broken, status in ((b"exit 3", 3), (b"kill -TERM $PPID; exit 4", 1)):
        assert run(replace(say, read_only=True, files={"say": broken})).returncode == status
    assert list(temporary.iterdir()) == []
    assert not Path(say.state).exists()


def test_a_step_that_only_looks_says_why_it_can_not(say: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    done = run(replace(say, read_only=True))
    assert done.returncode == 1
    assert b"error: no temporary folder can be made in /proc/nowhere by" in done.stderr


@pytest.mark.parametrize("timeout", [0, 9])
def test_a_command_is_its_unpacking_and_its_last_line(say: Step, timeout: float) -> None:
    step = replace(say, timeout=timeout)
    command = step.start_command if timeout else step.command
    assert command == f"{step.unpacking}{step.last_line}\n"
    assert "\n" not in step.last_line


def test_a_bundle_that_was_cut_off_runs_nothing(say: Step) -> None:
    done = subprocess.run(["sh", "-c", say.command], input=say.bundle[:200], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"::said" not in done.stdout


def test_the_bundle_is_the_same_every_time_and_holds_the_steps() -> None:
    first, second = Step("look", {}, "/s"), Step("look", {"A": "b"}, "/s")
    assert first.bundle == second.bundle
    with tarfile.open(fileobj=io.BytesIO(first.bundle)) as tar:
        names = tar.getnames()
    assert {"look", "lib.sh", "prepare", "units/systemd-engine"} <= set(names)


@pytest.mark.parametrize(
    ("complaints", "expected"),
    [
        (["noise", "error: the disk is full"], "the disk is full"),
        (["a", "b", "c", "d"], "b / c / d"),
        ([], "its log is above"),
    ],
)
def test_an_error_names_the_step_and_the_cause(complaints: list[str], expected: str) -> None:
    message = remote.error("prepare", 3, complaints)
    assert message.startswith("step prepare ended with status 3, expected 0: ")
    assert message.endswith(expected)
