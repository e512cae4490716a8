"""The checks alone, as a DAG of their own: on a healthy cloud, and with real trouble. They change nothing."""

from __future__ import annotations

import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.airflow.client import AirflowApi
from lab.cloud.haproxy import server_states
from lab.cloud.host import programs as host_programs
from lab.cloud.host import start_sshd, stop_sshd
from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.rabbitmq import management_call, management_get, rabbitmqctl
from lab.processes import run, wait_until
from tests.e2e.labs import LIFE, NEW, OLD, OLD_VHOST
from tests.e2e.snapshot import LASTING, CloudSnapshot, changes, snapshot

pytestmark = pytest.mark.timeout(900)

FIRST, SECOND = "controller-1", "controller-2"
ENGINE = f"heat-engine-{OLD}"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}

OF_HOSTS = ["SSH", "host key", "clock", "sudo", "services", "release", "heat.conf", "sources", "vhost", "sides"]
OF_HOSTS += ["engine", "memory", "graceful stop"]
OF_HOSTS += ["Python", "disk", "heat-status", "rotation api", "rotation api-cfn"]
OF_RABBITMQ = ["management user", "nodes", "alarms", "engines", "vhost", "queues", "expiry", "permissions", "new vhost"]
OF_DATABASE = ["schema", "clock", "backup space", "backup", "last backup", "longest resource", "legacy stacks"]
OF_DATABASE += ["stranded stacks"]


@dataclass(frozen=True)
class Preflight:
    """A run that is over: its state, its log, each check's outcome by group and name, and what it left untouched."""

    state: str
    log: str
    outcomes: dict[str, dict[str, str]]
    before: CloudSnapshot
    after: CloudSnapshot

    def of(self, outcome: str) -> set[tuple[str, str]]:
        """Return the checks that ended so, as pairs of group and name."""
        return {
            (group, name)
            for group, checks in self.outcomes.items()
            for name, found in checks.items()
            if found == outcome
        }


def run_preflight(lab: Lab, api: AirflowApi) -> Preflight:
    """Run the DAG, and say how long its task took."""
    dag = f"heat_preflight__{lab.name}"
    api.wait_for_dag(dag)
    before = snapshot(lab, *LASTING)
    run_id = api.trigger(dag, {})
    state = api.wait_for_run(dag, run_id, timeout=300)
    (task,) = api.task_instances(dag, run_id)
    log = api.log(dag, run_id, "preflight")
    print(f"\npreflight is {state} after {task['duration']:.1f} s\n{log}")
    return Preflight(state, log, _outcomes(log), before, snapshot(lab, *LASTING))


def _outcomes(log: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    group = ""
    _, _, table = log.partition("Preflight of ")
    for line in table.splitlines()[1:]:
        if line.startswith("  ") and line[2] != " ":
            found[group][line[11:29].strip()] = line[2:10].strip()
        elif not line.startswith(" "):
            group = line
            found.setdefault(group, {})
    return {group: checks for group, checks in found.items() if checks}


@pytest.fixture(scope="module")
def healthy(lab: Lab, api: AirflowApi) -> Preflight:
    return run_preflight(lab, api)


@pytest.fixture(scope="module")
def troubled(lab: Lab, api: AirflowApi, healthy: Preflight) -> Preflight:
    """Bring all kinds of trouble over the cloud, and mend it afterwards."""
    stacks = [_plant_stack(lab, "of-old", convergence=0, age=0), _plant_stack(lab, "lost", convergence=1, age=300)]
    _cause(lab)
    found = run_preflight(lab, api)
    for stack in stacks:
        query(lab, f"DELETE FROM stack WHERE id = '{stack}'")
    _mend(lab)
    return found


def _plant_stack(lab: Lab, name: str, *, convergence: int, age: int) -> str:
    id_, template = str(uuid.uuid4()), uuid.uuid4().int % 2**31
    query(lab, f"INSERT INTO raw_template (id) VALUES ({template})")
    query(
        lab,
        "INSERT INTO stack (id, name, raw_template_id, tenant, action, status, disable_rollback, convergence,"
        " created_at)"
        f" VALUES ('{id_}', '{name}', {template}, 'admin', 'CREATE', 'IN_PROGRESS', 1, {convergence},"
        f" UTC_TIMESTAMP() - INTERVAL {age} SECOND)",
    )
    return id_


def _cause(lab: Lab) -> None:
    first = lab.host(FIRST)
    first.rotation_file.parent.mkdir(parents=True, exist_ok=True)
    first.rotation_file.touch()
    stop_sshd(lab.host(SECOND))
    policy = {"pattern": ".*", "definition": {"message-ttl": 70000}, "priority": 0, "apply-to": "queues"}
    management_call(lab, "PUT", f"policies/{OLD_VHOST}/ttl", policy)
    management_call(lab, "DELETE", f"permissions/{OLD_VHOST}/heat")
    # It takes its time to stop: let that pass while RabbitMQ is told.
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(_engine, lab, "stop", "STOPPED")
        rabbitmqctl(lab, "set_vm_memory_high_watermark", "absolute", "1MB")
        stopped.result()
    wait_until(lambda: _alarm(lab), what="RabbitMQ tells its memory alarm")


def _mend(lab: Lab) -> None:
    rabbitmqctl(lab, "set_vm_memory_high_watermark", "0.4")
    management_call(lab, "DELETE", f"policies/{OLD_VHOST}/ttl")
    management_call(lab, "PUT", f"permissions/{OLD_VHOST}/heat", EVERYTHING)
    start_sshd(lab.host(SECOND))
    lab.host(FIRST).rotation_file.unlink()
    _engine(lab, "start", "RUNNING")
    wait_until(lambda: not _alarm(lab), what="RabbitMQ takes messages again")
    consumers = f"consumers/{OLD_VHOST}"
    wait_until(
        lambda: f"engine.{FIRST}" in {row["queue"]["name"] for row in management_get(lab, consumers)},
        what="the engine listens again",
    )
    wait_until(lambda: set(server_states(lab).values()) == {"UP"}, what="every API is in rotation")


def _alarm(lab: Lab) -> bool:
    return any(node["mem_alarm"] for node in management_get(lab, "nodes"))


def _engine(lab: Lab, verb: str, state: str) -> None:
    host = lab.host(FIRST)
    supervisorctl = Path(sys.executable).with_name("supervisorctl")
    run([supervisorctl, "-c", host.supervisor_conf, verb, ENGINE], what=f"{verb} the engine")
    wait_until(lambda: host_programs(host)[ENGINE] == state, what=f"the engine is {state}")


def test_a_healthy_cloud_passes_with_every_check_in_the_table(lab: Lab, healthy: Preflight) -> None:
    assert healthy.state == "success", healthy.log
    # Of the three releases in the cloud file the one after the one that runs: the form was sent off as it is.
    assert f"upgrade from {OLD} to {NEW} on" in healthy.log
    expected: dict[str, Any] = {
        f"run of {lab.name}": ["one run at a time", "move", "window"],
        FIRST: OF_HOSTS,
        SECOND: OF_HOSTS,
    }
    expected |= {"RabbitMQ": OF_RABBITMQ, "database": OF_DATABASE}
    assert {group: list(checks) for group, checks in healthy.outcomes.items()} == {
        group: names for group, names in expected.items()
    }
    assert healthy.of("FAILED") | healthy.of("warned") == set()
    assert healthy.of("skipped") == {(FIRST, "heat-status"), (SECOND, "heat-status")}


def test_every_trouble_is_told_and_no_other_check_is_held_up(healthy: Preflight, troubled: Preflight) -> None:
    assert troubled.state == "failed"
    assert {group: set(checks) for group, checks in troubled.outcomes.items()} == {
        group: set(checks) for group, checks in healthy.outcomes.items()
    }
    assert troubled.of("FAILED") == {
        (SECOND, "SSH"),
        ("RabbitMQ", "alarms"),
        ("RabbitMQ", "expiry"),
        ("RabbitMQ", "permissions"),
        ("database", "legacy stacks"),
    }
    assert troubled.of("warned") == {
        (FIRST, "services"),
        (FIRST, "rotation api"),
        (FIRST, "rotation api-cfn"),
        ("database", "stranded stacks"),
    }


@pytest.mark.parametrize(
    "words",
    [
        (f"{SECOND}, SSH:", "expected a session: check the host, its sshd and host key"),
        (f"memory alarm on {LIFE}@localhost", "rabbitmq-diagnostics alarms"),
        ("policy 'ttl' (message-ttl 70000)", "delete it"),
        ("user 'heat', as which Heat logs in", f"rabbitmqctl set_permissions -p {OLD_VHOST}"),
        ("in progress without convergence: stack 'of-old'", "wait for their end"),
        (f"heat_stranded_stacks__{LIFE}",),
        (f"heat-engine ({OLD} inactive) doesn't run",),
        ("rejoin_rotation takes the file away",),
    ],
)
def test_it_says_what_was_found_and_what_to_do(words: tuple[str, ...], troubled: Preflight) -> None:
    log = " ".join(troubled.log.split())
    for word in words:
        assert word in log


def test_nothing_was_touched(healthy: Preflight, troubled: Preflight) -> None:
    for preflight in (healthy, troubled):
        assert changes(preflight.before, preflight.after) == {}
        assert preflight.before["configuration"]


def test_once_the_trouble_is_mended_it_passes(lab: Lab, api: AirflowApi, troubled: Preflight) -> None:
    mended = run_preflight(lab, api)
    assert mended.state == "success", mended.log
