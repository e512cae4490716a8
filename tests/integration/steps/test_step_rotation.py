"""leave_rotation and rejoin_rotation: by a file, through HAProxy's real socket, by an operator's commands."""

from __future__ import annotations

import csv
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from heat_upgrade.clients import Clients
from heat_upgrade.cloud.sections import Role
from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import Step
from lab.cloud.haproxy import server_states
from lab.cloud.model import API_PORT, Lab
from lab.http import local_session
from lab.processes import Server, wait_until
from tests.integration.steps.conftest import OLD, Machine, WriteCloud


def leave(machine: Machine, role: Role = "api", **settings: str) -> None:
    run(machine, role, steps.leave_rotation(machine.target, role), settings)


def rejoin(machine: Machine, role: Role = "api", **settings: str) -> None:
    run(machine, role, steps.rejoin_rotation(machine.target, role), settings)


def run(machine: Machine, role: Role, step: Step, settings: dict[str, str]) -> None:
    hook = Clients(machine.cloud).balancer(machine.target, role)
    hook.run_step(replace(step, settings={**step.settings, **settings}), idle_timeout=60)


class TestHealthcheck:
    """oslo.middleware's disable_by_file."""

    def test_an_api_leaves_and_comes_back(self, machine: Machine) -> None:
        machine.serve("api")
        began = time.time()
        leave(machine, SETTLE="2")
        assert time.time() - began >= 2, "the balancer needs a while to notice"
        assert machine.answer("api", "/healthcheck")[0] == 503
        assert machine.answer("api") == (300, OLD), "who is still sent here is served"
        touched = machine.lab_host.rotation_file.stat().st_mtime_ns
        leave(machine, SETTLE="2")
        assert machine.lab_host.rotation_file.stat().st_mtime_ns == touched
        rejoin(machine)
        assert machine.answer("api", "/healthcheck")[0] == 200
        rejoin(machine)

    @pytest.mark.parametrize("status", [200, 404])
    def test_an_api_that_does_not_follow_the_file_fails_and_no_file_is_left(
        self, machine: Machine, status: int
    ) -> None:
        machine.configure(health=str(status))
        machine.serve("api")
        with pytest.raises(RemoteStepError) as caught:
            leave(machine)
        assert f"/healthcheck answers {status} though {machine.lab_host.rotation_file} exists, expected 503" in str(
            caught.value
        )
        assert "give this host another rotation in the cloud file (haproxy or commands)" in str(caught.value)
        assert not machine.lab_host.rotation_file.exists()

    def test_an_api_that_is_down_is_out_of_rotation(self, machine: Machine) -> None:
        leave(machine)
        assert machine.lab_host.rotation_file.exists()

    def test_an_api_that_is_not_healthy_does_not_count_as_back(self, machine: Machine) -> None:
        machine.configure(health="500")
        machine.serve("api")
        with pytest.raises(RemoteStepError, match=r"/healthcheck answers 500 1 s after \S+ was removed, expected 200"):
            rejoin(machine, ANSWER_TIMEOUT="1")

    def test_a_folder_that_is_not_there_is_told(self, machine: Machine) -> None:
        with pytest.raises(RemoteStepError, match=r"/nowhere/at/all can't be made: create its folder, or correct"):
            leave(machine, HEALTHCHECK_FILE="/nowhere/at/all")

    def test_the_hosts_proxy_is_not_asked(self, machine: Machine) -> None:
        machine.serve("api")
        step = steps.leave_rotation(machine.target, "api")
        # Every setting is a variable of the script's environment.
        run(machine, "api", step, {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""})
        run(machine, "api", steps.rejoin_rotation(machine.target, "api"), {"http_proxy": "http://127.0.0.1:9"})


@pytest.fixture
def in_rotation(balanced: Machine, steps_lab: Lab) -> Machine:
    """A host whose APIs HAProxy sends requests to."""
    balanced.serve("api", "api-cfn")
    for backend in ("heat_api", "heat_api_cfn"):
        wait_until(lambda backend=backend: state(steps_lab, backend) == "UP", what=f"{backend} is up")
    return balanced


def state(lab: Lab, backend: str) -> str:
    return server_states(lab)[f"{backend}/controller-2"]


def get_once_it_is_back(url: str) -> requests.Response:
    """Return the first answer that comes from an API: HAProxy may notice a restart only after it is over."""
    answers: list[requests.Response] = []

    def answered() -> bool:
        answers.append(local_session().get(url, timeout=60))
        return answers[-1].status_code != requests.codes.unavailable

    wait_until(answered, what="the API is back")
    return answers[-1]


class TestHAProxy:
    """The admin socket, over SSH on the balancer's host."""

    def test_a_request_under_way_is_finished_before_the_api_has_left(
        self, in_rotation: Machine, steps_lab: Lab, tmp_path: Path
    ) -> None:
        done = tmp_path / "done"
        in_rotation.configure(slow_until=str(done))
        in_rotation.ctl("restart", in_rotation.source.unit("api"))
        url = f"http://{steps_lab.balancer_address}:{API_PORT}/slow"
        with ThreadPoolExecutor() as pool:
            try:
                slow = pool.submit(get_once_it_is_back, url)
                wait_until(lambda: sessions(steps_lab) == 1, what="HAProxy has passed the request on")
                leaving = pool.submit(leave, in_rotation)
                wait_until(lambda: state(steps_lab, "heat_api") == "DRAIN", what="HAProxy drains the server")
                # One API's lock doesn't hold the other one up, nor another host's on the same balancer.
                leave(in_rotation, "api-cfn")
                assert state(steps_lab, "heat_api_cfn") == "DRAIN"
                assert not leaving.done(), "a request is still under way"
                assert not slow.done()
            finally:
                done.touch()
            leaving.result(30)
            assert slow.result(30).status_code == 200
        assert local_session().get(url, timeout=30).status_code == 503, "nobody is sent to a server that has left"
        leave(in_rotation)
        rejoin(in_rotation)
        rejoin(in_rotation, "api-cfn")
        assert {state(steps_lab, backend) for backend in ("heat_api", "heat_api_cfn")} == {"UP"}
        assert local_session().get(url, timeout=30).status_code == 200
        rejoin(in_rotation)

    def test_an_unknown_server_is_told(self, in_rotation: Machine) -> None:
        with pytest.raises(RemoteStepError, match=r"has no server heat_api/nobody: correct rotation\.backends or"):
            leave(in_rotation, SERVERS="heat_api/nobody")

    def test_a_socket_that_is_not_there_is_told(self, in_rotation: Machine) -> None:
        with pytest.raises(RemoteStepError, match=r"socket /nowhere\.sock can't be used .*: check rotation\.socket"):
            leave(in_rotation, SOCKET="/nowhere.sock")

    def test_a_socket_without_the_right_is_told(self, in_rotation: Machine, read_only: Path, steps_lab: Lab) -> None:
        with pytest.raises(
            RemoteStepError, match=r"HAProxy refused .*Permission denied.*the socket needs 'level admin'"
        ):
            leave(in_rotation, SOCKET=str(read_only), SERVERS="b/s")


def sessions(lab: Lab) -> int:
    """Return how many requests the server is working on, as HAProxy sees it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(lab.admin_socket))
        connection.sendall(b"show stat\n")
        table = b"".join(iter(lambda: connection.recv(65536), b"")).decode().lstrip("# ")
    (row,) = [row for row in csv.DictReader(table.splitlines()) if row["svname"] == "controller-2"][:1]
    return int(row["scur"])


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """The socket of another HAProxy, on which nobody may change anything."""
    path, config = tmp_path / "s", tmp_path / "haproxy.cfg"
    config.write_text(
        f"global\n  stats socket {path} level operator\ndefaults\n  mode http\n  timeout connect 1s\n"
        "  timeout client 1s\n  timeout server 1s\nbackend b\n  server s 127.0.0.1:9\n"
    )
    server = Server("read-only-haproxy", tmp_path / "pid", tmp_path / "log")
    server.start(["/usr/sbin/haproxy", "-db", "-f", config])
    wait_until(path.exists, what="HAProxy answers", given_up=server.failure)
    yield path
    server.stop(grace=0)


class TestCommands:
    """An operator's own commands."""

    @pytest.fixture
    def commanded(self, machine: Machine, write_cloud: WriteCloud) -> Callable[..., Machine]:
        def make(leave: str, **more: object) -> Machine:
            rotation = {"kind": "commands", "leave": leave, "rejoin": "true", **more}
            return Machine(machine.lab_host, write_cloud(rotation=rotation))

        return make

    def test_a_command_runs_to_the_letter(self, commanded: Callable[..., Machine], tmp_path: Path) -> None:
        words = ["a 'quoted' \"word\"", "$HOME", "`id`", "; rm -rf *", "\\", "ü", "%s", "{{}}", "=", "#"]
        machine = commanded(f"printf '%s\\n' {{host}} {{role}} {shlex.join(words)} > {tmp_path}/words")
        leave(machine)
        said = (tmp_path / "words").read_text().splitlines()
        assert said == ["controller-1", "api", *[word.replace("{{}}", "{}") for word in words]]

    def test_a_command_that_fails_is_told(self, commanded: Callable[..., Machine]) -> None:
        with pytest.raises(
            RemoteStepError, match=r"rotation\.leave command ended with status 3, expected 0: run it by"
        ):
            leave(commanded("echo cannot >&2; exit 3"))

    def test_a_command_runs_where_the_cloud_file_says(
        self, commanded: Callable[..., Machine], steps_lab: Lab, tmp_path: Path
    ) -> None:
        balancer = {"address": steps_lab.balancer.address, "port": 22022, "host_key": steps_lab.balancer.host_key}
        leave(commanded(f"echo $SSH_CONNECTION > {tmp_path}/connection", **balancer))
        assert (tmp_path / "connection").read_text().split()[2] == steps_lab.balancer.address

    def test_what_a_command_leaves_running_holds_nobody_up(
        self, commanded: Callable[..., Machine], tmp_path: Path
    ) -> None:
        machine = commanded(f"sleep 300 </dev/null >/dev/null 2>&1 & echo $! >> {tmp_path}/pids")
        try:
            leave(machine)
            leave(machine, LOCK_TIMEOUT="1")
        finally:
            for pid in (tmp_path / "pids").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
