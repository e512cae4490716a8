"""Bring a lab up and down, phase by phase."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from lab.cloud.cloud_file import write_cloud_file, write_connections
from lab.cloud.haproxy import BACKENDS, server_states, start_haproxy
from lab.cloud.host import install_first_release, make_login_key, share_bytecode, start_services, start_sshd
from lab.cloud.mariadb import empty_database, start_mariadb
from lab.cloud.model import API_PORT, CFN_PORT, FIRST_RELEASE, Lab, LabHost
from lab.cloud.rabbitmq import live_engines, start_rabbitmq
from lab.http import local_session
from lab.processes import exclusive, run, stop_marked, wait_until

# Far above the 5 s that an idle machine needs: a busy one is slow, not broken.
_START = 300.0


def bring_up(lab: Lab) -> None:
    """
    Start all of a lab that does not run yet, and wait until Heat answers through the load balancer.

    :raises LabError: if a part of it does not come up, with what it said.
    """
    begun = time.monotonic()
    with exclusive(lab.lock("cloud")):
        _bring_up(lab)
    print(f"lab {lab.name} is up after {time.monotonic() - begun:.1f} s: {lab.endpoint}", flush=True)


def _bring_up(lab: Lab) -> None:
    lab.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    (lab.state / "size").write_text(f"{lab.size}\n", encoding="utf-8")
    _ = lab.secrets  # made once, before the threads that read them
    make_login_key(lab)
    _all_at_once(
        [
            ("MariaDB with Heat's schema", lambda: _start_database(lab)),
            ("RabbitMQ", lambda: start_rabbitmq(lab)),
            ("HAProxy", lambda: start_haproxy(lab)),
            ("sshd of every host", lambda: _start_sshds(lab)),
            *(
                (f"Heat {FIRST_RELEASE} on {host.name}", lambda host=host: install_first_release(lab, host))
                for host in lab.hosts[1:]
            ),
        ]
    )
    _start_services(lab)
    with _phase("engines listen on the message bus"):
        _wait_for_engines(lab)
    with _phase("every API answers"), ThreadPoolExecutor() as pool:
        list(pool.map(_wait_for_apis, lab.hosts))
    with _phase("every API is in rotation"):
        _wait_for_rotation(lab)
    write_cloud_file(lab)
    write_connections(lab)


def take_down(lab: Lab, *, wipe: bool = False) -> None:
    """
    Stop all that runs of a lab.

    :param lab: the lab.
    :param wipe: remove its state as well, so that it starts anew with the first release.
    """
    stop_airflow(lab)
    with exclusive(lab.lock("cloud")):
        _take_down(lab, wipe=wipe)


def stop_airflow(lab: Lab) -> None:
    """Stop the lab's Airflow, with the tasks that it runs."""
    with exclusive(lab.lock("airflow")):
        lab.server("airflow").stop(grace=20.0)


def _take_down(lab: Lab, *, wipe: bool) -> None:
    # Services are killed, not drained: nobody needs the stacks of a lab that ends.
    stops: list[Callable[[], None]] = [
        *(lambda host=host: host.supervisord.stop(grace=0) for host in lab.hosts),
        *(lambda host=host: host.sshd.stop(grace=0) for host in (*lab.hosts, lab.balancer)),
        lambda: lab.server("haproxy").stop(grace=1.0),
        lambda: lab.server("rabbitmq").stop(grace=0 if wipe else 30.0),
        lambda: lab.server("mariadb").stop(grace=0 if wipe else 30.0),
        lambda: lab.server("epmd").stop(grace=1.0),
    ]
    for stop in stops:
        stop()
    stop_marked(f"HEAT_LAB={lab.state}")  # what was started over SSH and detached
    if wipe and lab.state.exists():
        shutil.rmtree(lab.state)


def build_info(host: LabHost) -> tuple[str, str] | None:
    """
    Return the releases of the API on a host and of an engine that answers it; None if they don't answer.

    :param host: a host with an API.
    """
    try:
        answer = local_session().get(f"http://{host.address}:{API_PORT}/v1/admin/build_info", timeout=5)
        answer.raise_for_status()
    except requests.RequestException:
        return None
    info = answer.json()
    return info["api"]["revision"], info["engine"]["revision"]


def cfn_answers(host: LabHost) -> bool:
    """Tell whether the CloudFormation API of a host answers, with what an engine told it."""
    try:
        answer = local_session().get(f"http://{host.address}:{CFN_PORT}/v1/?Action=ListStacks", timeout=5)
    except requests.RequestException:
        return False
    return answer.ok


@contextmanager
def _phase(name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    # In one piece: phases that run beside each other end at the same moment now and then.
    sys.stdout.write(f"  {time.monotonic() - begun:5.1f} s  {name}\n")
    sys.stdout.flush()


def _all_at_once(steps: list[tuple[str, Callable[[], object]]]) -> None:
    def timed(name: str, step: Callable[[], object]) -> None:
        with _phase(name):
            step()

    with ThreadPoolExecutor(max_workers=len(steps)) as pool:
        futures = [pool.submit(timed, *step) for step in steps]
    for future in futures:
        future.result()


def _start_sshds(lab: Lab) -> None:
    for host in (*lab.hosts, lab.balancer):
        start_sshd(host)


def _start_database(lab: Lab) -> None:
    """Start MariaDB and let the first host make Heat's schema, while RabbitMQ boots."""
    with _phase(f"Heat {FIRST_RELEASE} on {lab.hosts[0].name}"):
        install_first_release(lab, lab.hosts[0])
    start_mariadb(lab)
    _create_schema(lab)


def _create_schema(lab: Lab) -> None:
    """Let the first release make its schema; one that was cut off half-way is made anew."""
    done = lab.state / "schema-made"
    if done.exists():
        return
    empty_database(lab)
    host = lab.hosts[0]
    run(
        [host.venv(FIRST_RELEASE) / "bin/heat-manage", "--config-file", host.config(FIRST_RELEASE), "db_sync"],
        what="make Heat's database schema",
    )
    done.touch()


def _start_services(lab: Lab) -> None:
    first, *others = lab.hosts
    with _phase(f"Heat's services on {first.name}"):
        start_services(first)
        new = [host for host in others if not host.service_starts()]
        if new:
            # Its start has compiled what Heat imports: seconds of CPU that no other host needs to spend again.
            _wait_for_apis(first)
        for host in new:
            share_bytecode(first, host)
    with _phase("Heat's services on the other hosts"):
        for host in others:
            start_services(host)


def _wait_for_engines(lab: Lab) -> None:
    wanted = len(lab.hosts_with("engine"))
    wait_until(lambda: len(live_engines(lab)) >= wanted, what=f"{wanted} engines listen", timeout=_START)


def _wait_for_apis(host: LabHost) -> None:
    if "api" in host.roles:
        wait_until(lambda: build_info(host) is not None, what=f"heat-api of {host.name} answers", timeout=_START)
    if "api-cfn" in host.roles:
        wait_until(lambda: cfn_answers(host), what=f"heat-api-cfn of {host.name} answers", timeout=_START)


def _wait_for_rotation(lab: Lab) -> None:
    wanted = {
        f"{BACKENDS[role]}/{host.name}"
        for host in lab.hosts
        for role in host.apis
        if not host.rotation_file.exists()  # an upgrade that was cut off has left it out of rotation
    }
    wait_until(
        lambda: {name for name, state in server_states(lab).items() if state == "UP"} >= wanted,
        what=f"HAProxy has {', '.join(sorted(wanted))} in rotation",
    )
