"""check_engine: an engine that dies after its start, and is started again and again, is found out."""

from __future__ import annotations

import os
import signal

import pytest

from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.remote import steps
from lab.processes import wait_until
from tests.integration.steps.conftest import NEW, OLD, Machine


@pytest.fixture
def started(machine: Machine) -> tuple[Machine, str]:
    """A host whose new engine has been started beside the old one, and the new one's process."""
    machine.serve("engine", "api")
    machine.run(steps.prepare(machine.source, machine.target))
    return machine, machine.run(steps.start_engine(machine.target))["pid"]


def test_an_engine_that_stays_is_left_alone(started: tuple[Machine, str]) -> None:
    machine, pid = started
    machine.run(steps.check_engine(machine.target, pid))
    assert str(machine.pid("engine", NEW)) == pid


def test_an_engine_that_runs_again_after_it_died_is_stopped_and_its_log_shown(
    started: tuple[Machine, str], capsys: pytest.CaptureFixture[str]
) -> None:
    machine, pid = started
    machine.configure(NEW, dies_with="num_engine_workers is not a number")
    os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: str(machine.pid("engine", NEW)) != pid, what="the engine has died")
    with pytest.raises(RemoteStepError, match=f"heat-engine-{NEW} has died after its start and was stopped"):
        machine.run(steps.check_engine(machine.target, pid))
    assert "num_engine_workers is not a number" in capsys.readouterr().out
    starts = machine.lab_host.service_starts()
    assert machine.service("engine", NEW) in ("STOPPED", "FATAL")
    assert machine.service("engine", OLD) == "RUNNING"

    # The cause is mended, and the task cleared.
    machine.configure(NEW)
    pid = machine.run(steps.start_engine(machine.target))["pid"]
    machine.run(steps.check_engine(machine.target, pid))
    unit = f"heat-engine-{NEW}"
    assert machine.lab_host.service_starts() == {**starts, unit: starts[unit] + 1}


def test_an_engine_that_was_dead_when_its_process_was_asked_for_does_not_pass(started: tuple[Machine, str]) -> None:
    machine, _ = started
    machine.ctl("stop", f"heat-engine-{NEW}")
    with pytest.raises(RemoteStepError, match="has died after its start"):
        machine.run(steps.check_engine(machine.target, "0"))
