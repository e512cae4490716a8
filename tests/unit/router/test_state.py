"""The state file: what a router makes of it, and how the upgrade changes it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from heat_upgrade.router import state
from heat_upgrade.router.heat_upgrade_router import parse
from tests.unit.router.sides import CHILD, NEW, OLD, PROJECT, ROOT, call, counts, fields, flip

if TYPE_CHECKING:
    from tests.unit.router.conftest import Host

LIST = f"/v1/{PROJECT}/stacks"
GOOD = {"version": 1, "sequence": 9, **fields(), "probe": None, "hold": None}
PLUGINS = Path(__file__).parents[3] / "plugins" / "heat_upgrade"


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"version": None},
        {"sequence": 0},
        {"sequence": "9"},
        {"sequence": True},
        {"default": "27.0.1"},
        {"default": None},
        {"sides": [OLD]},
        {"sides": [OLD, "27.0.1"]},
        {"projects": {PROJECT: "27.0.1"}},
        {"projects": []},
        {"stacks": {ROOT: "27.0.1"}},
        {"stacks": {"name": OLD}},
        {"stacks": [ROOT]},
        {"hold": {"what": "reads", "until": 1, "seconds": 1}},
        {"hold": {"what": "changes", "until": "soon", "seconds": 1}},
        {"hold": {"what": "changes", "until": 1, "seconds": 3600}},
        {"hold": {"what": "changes"}},
        {"hold": True},
    ],
)
def test_a_state_that_isnt_known_for_sure_refuses_everything(host: Host, wrong: dict[str, Any]) -> None:
    (host.directory / "state.json").write_text(json.dumps({**GOOD, **wrong}))
    router = host.router()
    for method, path in (("GET", LIST), ("POST", LIST), ("DELETE", f"{LIST}/name/{ROOT}")):
        assert call(router, method, path).side == "503"
    assert not host.beside.got
    assert not host.here.got


@pytest.mark.parametrize(
    "text", ["", "{", json.dumps(GOOD)[:-9], "[]", "null", "\x00" * 99, json.dumps({"version": 1})]
)
def test_a_torn_state_refuses_everything_until_it_is_whole(host: Host, text: str) -> None:
    router, path = host.router(), host.directory / "state.json"
    whole = path.read_text()
    path.write_text(text)
    assert call(router, "POST", LIST).side == "503"
    path.write_text(whole)
    assert call(router, "POST", LIST).side == "beside"


def test_a_refusal_tells_the_client_to_come_again_and_the_log_why(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    (host.directory / "state.json").unlink()
    answered = host.ask("POST", LIST)
    assert (answered.status, answered.headers["Retry-After"]) == (503, "2")
    assert json.loads(answered.body)["error"]["message"] == "Heat is being upgraded. Please try again."
    assert "state.json: No such file or directory" in caplog.text
    assert counts(host.directory)["refused"] == 1


def test_what_a_client_sends_stays_on_one_line_of_the_log_and_without_its_signature(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    (host.directory / "state.json").unlink()
    host.ask("POST", f"{LIST}/x\nERROR all is lost/{'y' * 5000}", query="Signature=secret", REQUEST_URI="")
    assert "secret" not in caplog.text
    (line,) = caplog.text.splitlines()
    assert "%0AERROR%20all" in line
    assert len(line) < 600


def test_a_state_older_than_one_that_was_seen_refuses_everything(host: Host) -> None:
    router = host.router()
    host.state(default=NEW)
    assert call(router, "GET", LIST).side == "here"
    (host.directory / "state.json").write_text(json.dumps({**GOOD, "sequence": 1}))
    assert call(router, "GET", LIST).side == "503"
    assert call(host.router(), "GET", LIST).side == "beside"


def test_a_state_is_read_again_only_when_it_was_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    router, reads = host.router(), []
    monkeypatch.setattr("heat_upgrade.router.heat_upgrade_router.parse", lambda text: reads.append(1) or parse(text))
    for _ in range(3):
        call(router, "GET", LIST)
    assert len(reads) == 1
    host.state()
    call(router, "GET", LIST)
    assert len(reads) == 2


def test_many_replacements_within_a_moment_are_all_seen(host: Host) -> None:
    router = host.router()
    for turn in range(50):
        default, side = (NEW, "here") if turn % 2 else (OLD, "beside")
        flip(host.directory, default=default)
        assert call(router, "GET", LIST).side == side


def test_a_missing_lock_refuses_changes(host: Host) -> None:
    (host.directory / "others.lock").unlink()
    assert host.ask("POST", LIST).side == "503"
    assert host.ask("GET", LIST).side == "beside"


def test_what_is_written_is_for_the_folders_group_alone(host: Host) -> None:
    host.state(default=NEW)
    for name in ("state.json", "others.lock", "listed.lock"):
        found = (host.directory / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert found.st_gid == host.directory.stat().st_gid


def test_creating_it_again_changes_nothing(host: Host) -> None:
    before = (host.directory / "state.json").stat()
    assert state.create(host.directory, fields()).sequence == 1
    assert (host.directory / "state.json").stat() == before
    with pytest.raises(state.StateError, match="another state is there"):
        state.create(host.directory, fields(NEW))


def test_a_new_state_comes_in_only_under_its_hold(host: Host) -> None:
    with pytest.raises(state.StateError, match="expected 1 with a hold"):
        state.prepare(host.directory, 1, fields(NEW))
    held = state.hold(host.directory, "changes", 10, 1)
    with pytest.raises(state.StateError, match="expected 7 with a hold"):
        state.prepare(host.directory, 7, fields(NEW))
    ready = state.prepare(host.directory, held.sequence, fields(NEW))
    assert ready.hold is not None
    assert ready.hold.until is None
    done = state.release(host.directory, ready.sequence)
    assert (done.default, done.hold) == (NEW, None)


def test_each_verb_can_be_said_twice(host: Host) -> None:
    held = state.hold(host.directory, "changes", 10, 1)
    ready = state.prepare(host.directory, held.sequence, fields(NEW))
    assert state.prepare(host.directory, held.sequence, fields(NEW)) == ready
    with pytest.raises(state.StateError, match="another state is there"):
        state.prepare(host.directory, held.sequence, fields(OLD))
    done = state.release(host.directory, ready.sequence)
    assert state.release(host.directory, ready.sequence) == done
    with pytest.raises(state.StateError, match="look again"):
        state.release(host.directory, held.sequence)


def test_a_hold_that_has_run_out_takes_no_new_state(host: Host) -> None:
    held = state.hold(host.directory, "changes", 0.05, 1)
    time.sleep(0.06)
    with pytest.raises(state.StateError, match="has run out"):
        state.prepare(host.directory, held.sequence, fields(NEW))
    assert host.ask("POST", LIST).side == "beside"


def test_a_prepared_state_can_be_taken_back_but_not_held_anew(host: Host) -> None:
    held = state.hold(host.directory, "changes", 10, 1)
    ready = state.prepare(host.directory, held.sequence, fields(NEW))
    with pytest.raises(state.StateError, match="waits to be released"):
        state.hold(host.directory, "changes", 10, 1)
    back = state.prepare(host.directory, ready.sequence, fields(OLD))
    assert state.release(host.directory, back.sequence).default == OLD


def test_a_hold_of_the_listed_takes_a_shorter_list_and_nothing_else(host: Host) -> None:
    host.state(default=NEW, stacks={ROOT: OLD, CHILD: OLD})
    held = state.hold(host.directory, "listed", 10, 1)
    for more in ({"default": OLD}, {"projects": {PROJECT: OLD}}, {"stacks": {ROOT: NEW}}, {"stacks": {PROJECT: OLD}}):
        with pytest.raises(state.StateError, match="nothing but their list may change"):
            state.prepare(host.directory, held.sequence, {**fields(NEW, stacks={ROOT: OLD}), **more})
    assert state.prepare(host.directory, held.sequence, fields(NEW, stacks={ROOT: OLD})).stacks == {ROOT: OLD}


@pytest.mark.parametrize("new", [{}, {"sides": [OLD, NEW]}, fields("27.0.1"), fields(stacks={"name": OLD})])
def test_a_new_state_that_makes_no_sense_is_refused(host: Host, new: dict[str, Any]) -> None:
    held = state.hold(host.directory, "changes", 10, 1)
    with pytest.raises(state.StateError, match="correct what the upgrade was given"):
        state.prepare(host.directory, held.sequence, new)
    assert state.read(host.directory) == held


def test_it_tells_which_stacks_were_changed_here_in_the_last_minute(host: Host) -> None:
    router = host.router()
    for method, stack in (("PUT", ROOT), ("GET", CHILD), ("DELETE", ROOT)):
        call(router, method, f"{LIST}/name/{stack}")
    assert state.touched(host.directory) == [ROOT]
    (host.directory / "run" / "torn-1.json").write_text("{")
    assert state.touched(host.directory) == [ROOT]


def run(directory: Path, *words: str, **new: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router.state", str(directory), *words]
    given, environment = json.dumps(new), {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(
        command, cwd=PLUGINS, input=given, text=True, capture_output=True, env=environment, check=False
    )


def test_a_flip_by_command(host: Host) -> None:
    held = json.loads(run(host.directory, "hold", "changes", "10", "5").stdout)
    assert held["touched"] == []
    ready = json.loads(run(host.directory, "prepare", str(held["sequence"]), **fields(NEW)).stdout)
    assert json.loads(run(host.directory, "release", str(ready["sequence"])).stdout)["default"] == NEW
    assert json.loads(run(host.directory, "show").stdout)["hold"] is None
    failed = run(host.directory, "release", "1")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: the state has sequence 4")


def test_what_the_routers_of_a_host_have_done_is_told_in_numbers(host: Host) -> None:
    router = host.router()
    for method in ("GET", "GET", "POST"):
        call(router, method, LIST)
    host.state(default=NEW)
    call(router, "POST", LIST)
    other = {"counts": {"beside_read": 40, "held_change": 2, "held_create": 1, "longest_held_change": 1.5}}
    (host.directory / "run/cfn-1.json").write_text(json.dumps(other) + "\nthe rest of what was longer")
    told = state.counts(host.directory)
    assert {name: number for name, number in told.items() if number} == {
        "beside_read": 42,
        "beside_create": 1,
        "here_create": 1,
        "held": 3,
        "longest_held": 1.5,
    }


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", "[" * 10**5, '{"counts": 3, "touched": 4}'),
        '{"counts": {"lost": "9", "refused": -1}}',
        '{"counts": {"lost": NaN, "refused": 1e99, "here_read": true}}',
        '{"counts": {"lost": [1], "other": 7}}',
    ],
)
def test_what_is_no_count_counts_nothing_and_harms_nothing(host: Host, text: str) -> None:
    (host.directory / "run").mkdir(exist_ok=True)
    (host.directory / "run/orchestration-1.json").write_text(text)
    os.mkfifo(host.directory / "run/orchestration-2.json")
    (host.directory / "run/orchestration-3.json").symlink_to("/proc/1/environ")
    assert not any(state.counts(host.directory).values())
    assert state.touched(host.directory) == []


def test_a_host_without_a_router_has_counted_nothing(tmp_path: Path) -> None:
    assert not any(state.counts(tmp_path).values())


def test_an_upgrade_that_begins_anew_forgets_what_the_one_before_has_counted(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name, age in (("orchestration-1", 3600), ("orchestration-2", 5)):
        (tmp_path / f"run/{name}.json").write_text('{"counts": {"lost": 1}}')
        os.utime(tmp_path / f"run/{name}.json", (0, time.time() - age))
    for _ in range(2):
        state.inherit(tmp_path, tmp_path / "other", fields())
        assert [path.stem for path in (tmp_path / "run").iterdir()] == ["orchestration-2"], "what it tells counts yet"
        os.utime(tmp_path / "run/orchestration-2.json", (0, 0))
