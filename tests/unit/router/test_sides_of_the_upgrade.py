"""What only the upgrade itself uses: its own way to a side, the guard of the API beside, and the end."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from heat_upgrade.router import state
from heat_upgrade.router.heat_upgrade_router import Guard, guard_factory
from heat_upgrade.router.paste import PasteError, with_guard, without_router
from tests.unit.router.sides import AT_REST, NEW, OLD, PROJECT, ROOT, Here, call, fields, flip, folder, router
from tests.unit.router.test_paste import URLMAP

if TYPE_CHECKING:
    from tests.unit.router.conftest import Host

LIST = f"/v1/{PROJECT}/stacks"
RESTING = f"{LIST}/name/{AT_REST}"
TOKEN = "of-this-run"
PACKAGE = Path(state.__file__).parent


class TestProbe:
    """How a side is tried before users are sent there."""

    def test_the_token_leads_to_the_own_side_and_nowhere_else(self, host: Host) -> None:
        state.probe(host.directory, hashlib.sha256(TOKEN.encode()).hexdigest())
        assert host.ask("POST", LIST, HTTP_X_HEAT_UPGRADE=TOKEN).side == "here"
        assert host.ask("GET", RESTING, HTTP_X_HEAT_UPGRADE=TOKEN).side == "here"
        assert host.ask("POST", LIST).side == "beside"
        assert host.ask("POST", LIST, HTTP_X_HEAT_UPGRADE="made-up").side == "beside"

    def test_a_token_is_handed_to_nobody(self, host: Host) -> None:
        host.ask("POST", LIST, HTTP_X_HEAT_UPGRADE=TOKEN)
        ((_, _, headers, _),) = host.beside.got
        assert "X-Heat-Upgrade" not in headers

    def test_without_a_probe_no_token_opens_anything(self, host: Host) -> None:
        state.probe(host.directory, hashlib.sha256(TOKEN.encode()).hexdigest())
        state.probe(host.directory, None)
        assert host.ask("POST", LIST, HTTP_X_HEAT_UPGRADE=TOKEN).side == "beside"

    def test_it_is_no_part_of_a_flip(self, host: Host) -> None:
        state.probe(host.directory, hashlib.sha256(TOKEN.encode()).hexdigest())
        flipped = flip(host.directory, default=NEW, stacks={ROOT: OLD})
        assert flipped.probe == hashlib.sha256(TOKEN.encode()).hexdigest()
        assert state.read(host.directory) == flipped


class TestClose:
    """The end of the other side."""

    def test_all_is_here_for_good_even_without_the_file(self, host: Host) -> None:
        host.state(default=NEW, stacks={ROOT: OLD})
        seen = host.router()
        flip(host.directory, "listed", stacks={}, closed=True)
        assert call(seen, "DELETE", f"{LIST}/name/{ROOT}").side == "here"
        (host.directory / "state.json").unlink()
        assert call(seen, "DELETE", RESTING).side == "here"

    def test_it_takes_no_list_of_stacks_elsewhere(self, host: Host) -> None:
        host.state(default=NEW, stacks={ROOT: OLD})
        with pytest.raises(state.StateError, match="closed True"):
            flip(host.directory, closed=True)

    def test_a_hold_comes_first(self, host: Host) -> None:
        with pytest.raises(state.StateError, match="with a hold"):
            state.prepare(host.directory, 1, fields(default=NEW, closed=True))


class TestInherit:
    """What goes on where another release's APIs get in front."""

    def test_an_upgrade_begins_with_all_on_the_old_side(self, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        made = state.inherit(tmp_path / "new", tmp_path / "old", fields())
        assert (made.sequence, made.default, made.stacks) == (1, OLD, {})

    def test_on_the_way_back_the_other_routers_state_goes_on(self, tmp_path: Path) -> None:
        known = flip(folder(tmp_path / "new"), default=NEW, stacks={ROOT: OLD})
        (tmp_path / "old").mkdir()
        assert state.inherit(tmp_path / "old", tmp_path / "new", fields(default=NEW)) == known

    def test_what_is_older_is_forgotten_on_either_side(self, tmp_path: Path) -> None:
        ahead = flip(folder(tmp_path / "ahead"), default=NEW)
        folder(tmp_path / "behind")
        assert state.inherit(tmp_path / "behind", tmp_path / "ahead", fields()) == ahead
        assert state.inherit(tmp_path / "ahead", tmp_path / "behind", fields()) == ahead

    def test_after_a_close_a_new_upgrade_begins_with_a_number_that_nobody_has_seen(self, tmp_path: Path) -> None:
        closed = flip(folder(tmp_path / "old", default=NEW), default=NEW, closed=True)
        stale = folder(tmp_path / "new")
        made = state.inherit(stale, tmp_path / "old", fields(default=NEW))
        assert (made.sequence, made.closed) == (closed.sequence + 1, False)


class TestGuard:
    """The API beside: a change counts as under way until it has answered, whoever handed it over."""

    def test_a_hold_waits_for_a_change_that_the_api_beside_works_on(self, tmp_path: Path) -> None:
        directory, beside = folder(tmp_path / "router"), Here()
        beside.wait = threading.Event()
        guard = guard_factory({}, api="orchestration", state=str(directory / "state.json"))(beside)
        assert isinstance(guard, Guard)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(call, guard, "POST", LIST)
            assert beside.entered.wait(10)
            with pytest.raises(state.StateError, match="changes under way take longer"):
                state.hold(directory, "changes", 5, 0.1)
            beside.wait.set()
            assert answer.result(10).side == "here"
        state.hold(directory, "changes", 5, 5)

    def test_reads_keep_no_lock(self, tmp_path: Path) -> None:
        guard = Guard(Here(), api="orchestration", state=str(tmp_path / "nowhere" / "state.json"))
        assert call(guard, "GET", LIST).side == "here"

    def test_without_its_locks_it_refuses_changes(self, tmp_path: Path) -> None:
        guard = Guard(Here(), api="orchestration", state=str(tmp_path / "nowhere" / "state.json"))
        assert call(guard, "POST", LIST).status == 503

    @pytest.mark.parametrize(
        ("api", "method", "path", "query", "locks"),
        [
            ("orchestration", "POST", f"{LIST}/preview", "", False),
            ("orchestration", "GET", f"{LIST}/name/x", "_method=DELETE", True),
            ("cfn", "GET", "/v1/", "Action=DeleteStack&StackName=x", True),
            ("cfn", "POST", "/v1/", "Action=DescribeStacks", False),
        ],
    )
    def test_it_keeps_locks_for_what_the_router_holds_and_for_nothing_else(
        self, tmp_path: Path, api: str, method: str, path: str, query: str, locks: bool
    ) -> None:
        guard = Guard(Here(), api=api, state=str(tmp_path / "nowhere" / "state.json"))
        assert call(guard, method, path, query=query).side == ("503" if locks else "here")

    def test_it_stands_first_in_every_pipeline_and_goes_to_the_byte(self) -> None:
        guarded = with_guard(URLMAP, "/s%/state.json")
        assert guarded.count("= heat_upgrade_guard_") == 3
        assert "state = /s%%/state.json\n" in guarded
        assert without_router(guarded) == URLMAP

    def test_a_file_without_pipelines_is_refused(self) -> None:
        with pytest.raises(PasteError, match="leads to a pipeline"):
            with_guard("[app:x]\n", "/s/state.json")


class TestCommands:
    """The two files as the steps on a host run them: by their path, with the host's own Python."""

    def run(self, file: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", str(PACKAGE / file), *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_flip_by_the_command_line(self, tmp_path: Path) -> None:
        directory = str(tmp_path)
        assert self.run("state.py", directory, "create", given=json.dumps(fields())).returncode == 0
        held = json.loads(self.run("state.py", directory, "hold", "changes", "10", "5").stdout)
        assert held["touched"] == []
        new = json.dumps(fields(default=NEW, stacks={ROOT: OLD}))
        ready = json.loads(self.run("state.py", directory, "prepare", str(held["sequence"]), given=new).stdout)
        assert ready["hold"]["until"] is None
        self.run("state.py", directory, "release", str(ready["sequence"]))
        summary = json.loads(self.run("state.py", directory, "summary").stdout)
        assert summary == {"default": NEW, "listed": 1, "closed": False, "hold": False}

    def test_what_makes_no_sense_is_an_error_with_a_reason(self, tmp_path: Path) -> None:
        refused = self.run("state.py", str(tmp_path), "release", "3")
        assert (refused.returncode, refused.stderr.startswith("error: ")) == (1, True)

    def test_a_paste_file_by_the_command_line(self) -> None:
        words = ("router", NEW, OLD, "/s/state.json", "orchestration=http://127.0.0.1:1")
        assert "heat_upgrade_router_orchestration" in self.run("paste.py", *words, given=URLMAP).stdout
        assert "heat_upgrade_guard" in self.run("paste.py", "guard", "/s/state.json", given=URLMAP).stdout
        refused = self.run("paste.py", "guard", "/s/state.json", given="[app:x]\n")
        assert (refused.returncode, refused.stderr.startswith("error: ")) == (1, True)


def test_a_router_of_the_other_release_reads_the_same_file(host: Host) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    back = router(host.directory, host.beside.url, host.here, side=OLD, other=NEW, engines=host.engines)
    assert call(back, "DELETE", f"{LIST}/name/{ROOT}").side == "here"
    assert call(back, "DELETE", RESTING).side == "beside"
