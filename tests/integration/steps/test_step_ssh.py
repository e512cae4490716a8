"""Steps over a real SSH connection: whom it trusts, what it tells when it can't, what arrives."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from heat_upgrade import hosts
from heat_upgrade.exceptions import (
    HostAuthError,
    HostUnreachableError,
    JobTimeoutError,
    RemoteStepError,
    TransientError,
)
from heat_upgrade.hooks.host import HeatHostHook
from heat_upgrade.hosts import HostState
from heat_upgrade.readings import Unavailable
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import Step
from lab.cloud.host import start_sshd, stop_sshd
from lab.cloud.model import SSH_PORT, Lab
from lab.processes import wait_until
from tests.integration.steps.conftest import OLD, Machine, only_the_fake_heat, ssh_connection

ODD = "a 'quoted' \"word\" $HOME `id` $(id) ; rm -rf * \\ ü % ? # / @ & | > {} = !"


def script(machine: Machine, text: str, **settings: str) -> Step:
    return Step("script", settings, str(machine.state), {"script": text.encode()})


@pytest.fixture
def other_key(steps_lab: Lab) -> str:
    """The key of another host."""
    return steps_lab.host("controller-2").host_key


def hook(machine: Machine, host_key: str | None) -> HeatHostHook:
    return HeatHostHook(
        ssh_conn_id="steps_ssh", address=machine.lab_host.address, port=SSH_PORT, host_key=host_key, name=machine.name
    )


def test_settings_arrive_to_the_letter_and_results_come_back(machine: Machine) -> None:
    said = machine.run(script(machine, 'printf "::said=%s\\n::empty=%s\\n" "$WORD" "$EMPTY"', WORD=ODD, EMPTY=""))
    assert said == {"said": ODD, "empty": ""}


def test_a_host_with_another_key_is_refused(machine: Machine, other_key: str) -> None:
    with pytest.raises(HostAuthError) as caught:
        hook(machine, other_key).run_step(script(machine, "touch $STATE/was-here", STATE=str(machine.state)))
    assert "controller-1: SSH to" in str(caught.value)
    assert "BadHostKeyException" in str(caught.value)
    assert "check the host, its sshd and host key, and the Airflow connection 'steps_ssh'" in str(caught.value)
    assert not (machine.state / "was-here").exists()


@pytest.mark.parametrize("lax", ["no_host_key_check", "allow_host_key_change"])
def test_a_lax_connection_does_not_switch_the_cloud_files_key_off(
    lax: str, machine: Machine, other_key: str, steps_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = ssh_connection(steps_lab)
    connection["extra"][lax] = "true"
    monkeypatch.setenv("AIRFLOW_CONN_STEPS_SSH", json.dumps(connection))
    with pytest.raises(HostAuthError, match="BadHostKeyException"):
        hook(machine, other_key).run_step(script(machine, "true"))
    assert hook(machine, machine.lab_host.host_key).run_step(script(machine, "echo ::ran=yes")) == {"ran": "yes"}


def test_a_host_whose_key_nobody_knows_is_refused(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(HostAuthError, match=r"not found in known_hosts.*check the host, its sshd and host key"):
        hook(machine, None).run_step(script(machine, "true"))
    known = f"[{machine.lab_host.address}]:{SSH_PORT} {machine.lab_host.host_key}\n"
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(known)
    assert hook(machine, None).run_step(script(machine, "echo ::ran=yes")) == {"ran": "yes"}


@pytest.mark.parametrize("key", ["/nonexistent/key", "host's"])
def test_a_login_that_is_refused_is_no_matter_of_waiting(
    key: str, machine: Machine, steps_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = ssh_connection(steps_lab)
    connection["extra"]["key_file"] = key if key.startswith("/") else str(machine.root / "etc/ssh/ssh_host_ed25519_key")
    monkeypatch.setenv("AIRFLOW_CONN_STEPS_SSH", json.dumps(connection))
    with pytest.raises(HostAuthError, match=r"controller-1: SSH to .* failed .*the Airflow connection 'steps_ssh'"):
        machine.run(script(machine, "true"))


@pytest.fixture
def unreachable(machine: Machine, steps_lab: Lab) -> Iterator[Machine]:
    stop_sshd(machine.lab_host)
    yield machine
    with only_the_fake_heat(steps_lab):
        start_sshd(machine.lab_host)


def test_a_host_that_is_down_is_told_and_the_others_are_still_asked(unreachable: Machine, balanced: Machine) -> None:
    found = hosts.inspect(unreachable.cloud, unreachable.cloud.hosts)
    down, up = found["controller-1"], found["controller-2"]
    assert isinstance(down, Unavailable)
    assert down.retryable
    assert f"@{unreachable.lab_host.address}:{SSH_PORT} failed" in down.reason
    assert "expected a session: check the host, its sshd and host key" in down.reason
    assert "then clear this task" in down.reason
    assert isinstance(up, HostState)
    with pytest.raises(TransientError):
        hosts.states_of(unreachable.cloud, unreachable.cloud.hosts)


def test_a_connection_that_breaks_in_the_middle(machine: Machine, tmp_path: Path) -> None:
    """The step goes on, the task fails, and the next try waits for the step's end."""
    done = tmp_path / "work-is-done"
    machine.configure(OLD, ends_with=str(done))
    machine.serve("engine")
    stop = steps.stop_engine(machine.source)
    with ThreadPoolExecutor() as pool:
        try:
            first = pool.submit(machine.run, stop)
            machine.await_state("engine", OLD, "STOPPING")
            machine.cut_connections()
            with pytest.raises(HostUnreachableError) as caught:
                first.result(30)
            second = pool.submit(machine.run, stop)
            wait_until(lambda: lock_is_awaited(machine), what="the second try waits")
            assert not second.done()
        finally:
            done.touch()
        assert second.result(60) == {}
    assert "the SSH connection broke off while step stop_engine ran, expected it to last" in str(caught.value)
    assert "the next try waits for it; clear this task" in str(caught.value)
    assert machine.service("engine", OLD) == "STOPPED"


def lock_is_awaited(machine: Machine) -> bool:
    inode = (machine.state / "lock").stat().st_ino
    return any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_step_that_says_nothing_for_long_counts_as_cut_off(machine: Machine) -> None:
    with pytest.raises(
        HostUnreachableError, match=r"controller-1: step script has written nothing for 1 s.*clear this"
    ):
        machine.hook.run_step(script(machine, "sleep 3"), idle_timeout=1)


def test_what_a_step_writes_to_standard_error_holds_up_nothing(machine: Machine) -> None:
    """More than fits into a connection while nobody reads it."""
    noisy = "head -c 6000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo ::said=all; exit $ENDS"
    assert machine.hook.run_step(script(machine, noisy, ENDS="0"), idle_timeout=20) == {"said": "all"}


@pytest.mark.parametrize("endless", ["yes", "head -c 100M /dev/zero | tr '\\0' x", "yes >&2"])
def test_a_step_that_writes_without_end_is_ended_by_its_time(machine: Machine, endless: str) -> None:
    begun = time.monotonic()
    with pytest.raises(JobTimeoutError, match=r"controller-1: step script has not ended within 2 s.*clear this task"):
        machine.hook.run_step(script(machine, f"{endless}; sleep 60"), timeout=2)
    assert time.monotonic() - begun < 20


def test_a_step_that_ends_at_once_tells_its_own_error(machine: Machine) -> None:
    """It doesn't read what is sent to it: that must not look like a broken connection."""
    machine.run(script(machine, "true"))
    for _ in range(5):
        with pytest.raises(RemoteStepError, match="controller-1: step script ended with status 3, expected 0"):
            machine.hook.run_step(script(machine, "exit 3"))


def test_a_state_folder_that_cannot_be_made_is_told(machine: Machine) -> None:
    step = replace(script(machine, "true"), state="/proc/nowhere")
    with pytest.raises(RemoteStepError, match=r"/proc/nowhere can't be made or written by \w+: check layout\.state"):
        machine.hook.run_step(step)


def test_what_a_step_writes_is_logged_and_results_are_not(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.run(script(machine, "echo to people; echo ::to=code; echo complaint >&2"))
    log = capsys.readouterr().out
    assert "controller-1: to people" in log
    assert "controller-1: complaint" in log
    assert "to=code" not in log
