"""A flip's phases over a real SSH connection: one process on the host answers line by line."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from heat_upgrade.exceptions import HostUnreachableError, RemoteStepError
from heat_upgrade.remote import steps
from heat_upgrade.router import state
from lab.processes import wait_until
from tests.integration.steps.conftest import NEW, OLD, Machine

STACK = "11111111-1111-4111-8111-111111111111"
FIELDS: dict[str, Any] = {"sides": [OLD, NEW], "default": OLD, "projects": {}, "stacks": {}, "closed": False}


@pytest.fixture
def folder(machine: Machine) -> Path:
    folder = Path(machine.target.router)
    (folder / "run").mkdir(parents=True)
    state.create(folder, FIELDS)
    return folder


def test_all_phases_are_done_in_one_conversation(machine: Machine, folder: Path) -> None:
    with machine.hook.conversation(steps.route(machine.target)) as talk:
        first = talk.ask({"verb": "show", "words": []}, 30)["state"]
        held = talk.ask({"verb": "hold", "words": ["changes", 10, 5]}, 30)["state"]
        assert held["sequence"] == first["sequence"] + 1
        new = {**FIELDS, "default": NEW, "stacks": {STACK: OLD}}
        began = time.monotonic()
        prepared = talk.ask({"verb": "prepare", "words": [held["sequence"]], "new": new}, 30)["state"]
        talk.ask({"verb": "release", "words": [prepared["sequence"]]}, 30)
        assert time.monotonic() - began < 1, "no phase waits for a process to start"
    found = state.read(folder)
    assert found
    assert (found.default, found.stacks, found.hold) == (NEW, {STACK: OLD}, None)


def test_what_can_not_be_done_is_an_answer_and_the_conversation_goes_on(machine: Machine, folder: Path) -> None:
    with machine.hook.conversation(steps.route(machine.target)) as talk:
        refused = talk.ask({"verb": "release", "words": [7]}, 30)
        assert "the state has sequence 1, expected 7" in refused["error"]
        assert talk.ask({"verb": "show", "words": []}, 30)["state"]["sequence"] == 1


def test_a_host_without_a_router_says_so(machine: Machine) -> None:
    Path(machine.target.router).mkdir(parents=True)
    with machine.hook.conversation(steps.route(machine.target)) as talk:
        assert "is missing, expected the routers' state" in talk.ask({"verb": "show", "words": []}, 30)["error"]


def test_a_step_that_ends_with_an_error_is_told(machine: Machine, folder: Path) -> None:
    step = steps.route(machine.target)
    broken = type(step)(step.name, {**step.settings, "ROUTER": ""}, step.state)
    with machine.hook.conversation(broken) as talk, pytest.raises(RemoteStepError, match="ROUTER is not set"):
        talk.ask({"verb": "show", "words": []}, 30)


def test_it_waits_for_another_step_on_the_host(machine: Machine, folder: Path) -> None:
    step = steps.route(machine.target)
    with ThreadPoolExecutor(1) as pool, ExitStack() as its_connection:
        first = its_connection.enter_context(machine.hook.conversation(step))
        first.ask({"verb": "show", "words": []}, 30)
        with machine.hook.conversation(step) as second:
            answer = pool.submit(second.ask, {"verb": "show", "words": []}, 30)
            assert first.ask({"verb": "hold", "words": ["changes", 5, 5]}, 30)["state"]["sequence"] == 2
            its_connection.close()
            assert answer.result()["state"]["sequence"] == 2


def test_a_connection_that_breaks_ends_the_process_and_its_lock(machine: Machine, folder: Path) -> None:
    step = steps.route(machine.target)
    with machine.hook.conversation(step) as talk:
        talk.ask({"verb": "hold", "words": ["changes", 2, 5]}, 30)
        machine.cut_connections()
        with pytest.raises(HostUnreachableError, match="has ended, or has not answered"):
            talk.ask({"verb": "show", "words": []}, 5)
    with machine.hook.conversation(step) as again:
        # It has the host's lock, so nothing of the first conversation is left.
        assert again.ask({"verb": "show", "words": []}, 30)["state"]["hold"]["until"]
    wait_until(lambda: not _held(folder), what="the hold has run out", timeout=10)


def _held(folder: Path) -> bool:
    found = state.read(folder)
    return bool(found and found.hold and found.hold.holds(listed=True))


def test_a_torn_state_file_is_told_by_the_look_at_the_host(machine: Machine, folder: Path) -> None:
    (folder / state.STATE).write_text('{"version": ')
    with pytest.raises(RemoteStepError, match=r"state\.json holds .*copy the file of another host"):
        machine.run(steps.look(machine.cloud, machine.target.host))
