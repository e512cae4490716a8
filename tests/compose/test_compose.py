"""The deployment and a cloud of systemd hosts under a real engine: an upgrade that loses a worker and a scheduler."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
import requests

from lab.airflow.client import TaskStates
from lab.airflow.dag_run import TOLD, DagRun, failed_logs, finished
from lab.cloud.model import RELEASES
from lab.compose.cloud import BROKERS, CONTROLLERS, ENGINE_WORKERS, LOGIN, SERVICE_USER
from lab.compose.deployment import Deployment, dag_id
from lab.compose.identity import MACHINE, USER, USERS_PROJECT
from lab.http import local_session
from lab.processes import wait_until
from lab.scenarios.under_traffic import control_run, under_traffic
from lab.traffic import Account, moments_table, table, verdict
from lab.traffic.deck import round_seconds
from tests.moments import assert_unnoticed

pytestmark = [pytest.mark.compose, pytest.mark.timeout(3600)]

OLD, NEW = list(RELEASES)[:2]
OLD_VHOST, NEW_VHOST = RELEASES[OLD], RELEASES[NEW]
# Beside a Keystone and the containers of an Airflow two cores have no time for as many stacks as elsewhere.
CREATE_EVERY = 4
CONTROL_SECONDS = round_seconds(CREATE_EVERY)
NOT_ASKED_FOR = {"approve-wave-2", "approve_flip", "delete_old_vhost", "show_plan"}
NOT_ASKED_FOR |= {"flip_canary", "watch_canary", "end_canary"}


@dataclass
class Strikes:
    """Kills a worker at work when the hosts are prepared, and the scheduler when the first API moves."""

    deployment: Deployment
    struck: dict[str, str] = field(default_factory=dict)

    def on(self, changed: TaskStates) -> None:
        """Look at the tasks that have changed."""
        for task, state in changed.items():
            if state in TOLD:
                print(f"  {state:<15} {task}", flush=True)
            if state == "running" and task.startswith("prepare.") and "worker" not in self.struck:
                self._kill("worker", self._worker_of(task))
            if state == "running" and ".switch_api" in task and "scheduler" not in self.struck:
                self._kill("scheduler", self.deployment.containers("scheduler")[0])

    def _worker_of(self, task: str) -> dict[str, Any]:
        host = next(
            t["hostname"]
            for t in self.deployment.api().task_instances(
                dag_id(), self.deployment.api().runs(dag_id())[-1]["dag_run_id"]
            )
            if t["task_id"] == task
        )
        return next(c for c in self.deployment.containers("worker") if c["Config"]["Hostname"] == host)

    def _kill(self, service: str, container: dict[str, Any]) -> None:
        # As a crash would: what `docker kill` ends, Docker doesn't start again.
        os.kill(container["State"]["Pid"], signal.SIGKILL)
        self.struck[service] = container["Id"]
        print(f"  killed {container['Name']}", flush=True)


@dataclass(frozen=True)
class Story:
    """What happened."""

    control: Account
    traffic: Account
    run: DagRun
    struck: dict[str, str]


@pytest.fixture(scope="module")
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    deployment = Deployment()
    deployment.down()
    failed = request.session.testsfailed
    deployment.up()
    yield deployment
    if request.session.testsfailed == failed:  # else it stays to be looked at, until `make stop`
        deployment.down()


@pytest.fixture(scope="module")
def story(deployment: Deployment) -> Story:
    control = control_run(deployment.cloud, CONTROL_SECONDS, CREATE_EVERY).stop()
    strikes = Strikes(deployment)

    def upgrade() -> DagRun:
        api = deployment.api()
        api.wait_for_dag(dag_id())
        run_id = api.trigger(dag_id(), {"target_release": NEW})
        state = api.wait_for_run(dag_id(), run_id, timeout=1800, progress=strikes.on)
        return finished(api, dag_id(), run_id, state)

    run, traffic = under_traffic(deployment.cloud, "compose", upgrade, CREATE_EVERY)
    print(f"run {run.state}, {run.seconds:.0f} s, {run.drain_seconds:.0f} s of it the drain")
    print(f"{table(control, traffic)}\n{moments_table(traffic, control, run.moments)}")
    return Story(control, traffic, run, strikes.struck)


def test_only_loopback_ports_are_published(deployment: Deployment) -> None:
    published = [
        binding["HostIp"]
        for container in deployment.containers()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]
    assert set(published) == {"127.0.0.1"}


def test_airflow_runs_as_nobody_special_and_can_not_write_its_image(deployment: Deployment) -> None:
    for service in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        for container in deployment.containers(service):
            assert container["Config"]["User"] == f"{os.getuid() or 50000}:0"
            assert container["HostConfig"]["ReadonlyRootfs"]
            assert container["HostConfig"]["CapDrop"] == ["ALL"]


@pytest.mark.parametrize(
    "command",
    [
        "airflow db check-migrations --migration-wait-timeout=60",
        "bash -c 'exec airflow jobs check --job-type SchedulerJob --local'",
        "python -m celery --app airflow.providers.celery.executors.celery_executor.app inspect ping --timeout 10",
        "db check",
    ],
)
def test_the_image_runs_what_the_helm_chart_asks_it_to(deployment: Deployment, command: str) -> None:
    asked = deployment.run_on("scheduler", "sh", "-c", f"exec /entrypoint {command}", user="50000")
    assert asked.returncode == 0, asked.stdout + asked.stderr


def test_the_login_is_a_real_one(deployment: Deployment) -> None:
    refused = local_session().post(
        f"{deployment.url}/auth/token", json={"username": "admin", "password": "admin"}, timeout=30
    )
    assert refused.status_code == requests.codes.unauthorized
    assert local_session().get(f"{deployment.url}/api/v2/dags", timeout=30).status_code == requests.codes.unauthorized
    deployment.api().wait_for_dag(dag_id())


@pytest.mark.parametrize("service", ["worker", MACHINE])
def test_no_secret_is_in_the_image(deployment: Deployment, service: str) -> None:
    (image,) = {container["Image"] for container in deployment.containers(service)}
    from lab.compose.images import docker

    described = docker(["inspect", image], deployment.engine) + docker(
        ["history", "--no-trunc", image], deployment.engine
    )
    values = {*deployment.cloud.secrets.values(), deployment.login[1]}
    assert [value for value in values if value in described] == []


def test_the_hosts_boot_systemd(deployment: Deployment) -> None:
    for name in CONTROLLERS:
        assert deployment.run_on(name, "cat", "/proc/1/comm").stdout.strip() == "systemd"
        assert deployment.run_on(name, "systemctl", "is-system-running").stdout.strip() == "running"


def test_messages_and_rows_travel_over_tls_to_a_cluster(deployment: Deployment) -> None:
    first = BROKERS[0]
    told = deployment.run_on(first, "rabbitmqctl", "--quiet", "--formatter", "json", "list_connections", "ssl", "vhost")
    connections = json.loads(told.stdout)
    assert len(connections) > len(CONTROLLERS)
    assert {connection["ssl"] for connection in connections} == {True}
    status = json.loads(deployment.run_on(first, "rabbitmqctl", "--formatter", "json", "cluster_status").stdout)
    assert set(status["running_nodes"]) == {f"rabbit@{broker}" for broker in BROKERS}
    plain = deployment.run_on("lab-mariadb", "mariadb", "--execute", "SHOW VARIABLES LIKE 'require_secure_transport'")
    assert "ON" in plain.stdout


def test_nobody_gets_at_stacks_without_a_token(deployment: Deployment) -> None:
    stacks = f"{deployment.cloud.endpoint % {'project_id': USERS_PROJECT}}/stacks"
    cfn = f"{deployment.cloud.cfn_endpoint}/?Action=ListStacks&Version=2010-05-15"
    for headers in ({}, {"X-Auth-Token": "made-up"}):
        for url in (stacks, cfn):
            answer = local_session().get(url, headers={"X-Auth-User": USER, **headers}, timeout=30)
            assert answer.status_code == requests.codes.unauthorized, url
    # As users and probes see it, whoever they are.
    assert local_session().get(deployment.cloud.endpoint.partition("/v1")[0], timeout=30).status_code == 300


def test_heat_s_queues_are_quorum_queues(deployment: Deployment) -> None:
    told = deployment.run_on(
        BROKERS[0], "rabbitmqctl", "--quiet", "--formatter", "json", "list_queues", "-p", OLD_VHOST, "name", "type"
    )
    types = {queue["name"]: queue["type"] for queue in json.loads(told.stdout)}
    assert types["engine"] == types["engine_worker"] == "quorum"


def test_each_engine_has_workers(deployment: Deployment) -> None:
    for name in CONTROLLERS:
        master = deployment.run_on(name, "systemctl", "show", "-p", "MainPID", "--value", f"heat-engine@{OLD}").stdout
        workers = deployment.run_on(name, "ps", "-o", "pid=", "--ppid", master.strip()).stdout.split()
        assert len(workers) == ENGINE_WORKERS


def test_sudo_allows_the_account_nothing_else(deployment: Deployment) -> None:
    for command in (
        ("cat", "/etc/shadow"),
        ("bash", "-c", "id"),
        ("systemctl", "stop", "ssh.service"),
        ("cp", "/etc/shadow", "/tmp/shadow"),
        ("-u", SERVICE_USER, "bash"),
    ):
        refused = deployment.run_on(CONTROLLERS[0], "sudo", "-n", *command, user=LOGIN)
        assert refused.returncode != 0, command
        assert "password is required" in refused.stderr or "not allowed" in refused.stderr, refused.stderr


def test_all_tasks_end_well(deployment: Deployment, story: Story) -> None:
    api = deployment.api()
    assert story.run.state == "success", failed_logs(api, story.run)
    states = api.task_states(story.run.dag_id, story.run.run_id)
    assert {task for task, state in states.items() if state != "success"} == NOT_ASKED_FOR


def test_no_request_fails_and_no_stack_is_lost(story: Story) -> None:
    shown = table(story.control, story.traffic)
    assert verdict(story.traffic, story.control) == [], shown
    # Whatever the control run had of it.
    assert story.traffic.created_twice == story.traffic.stolen == [], shown


def test_users_notice_no_flip_and_no_stack_is_worked_on_by_two_sides(story: Story) -> None:
    assert_unnoticed(story.traffic, story.control, story.run.moments)


def test_heat_acts_for_users_by_their_trusts(deployment: Deployment, story: Story) -> None:
    query = (
        "SELECT COUNT(*), COUNT(c.trust_id), COUNT(c.trustor_user_id), COUNT(c.password) FROM heat.stack s "
        "JOIN heat.user_creds c ON c.id = s.user_creds_id WHERE s.deleted_at IS NULL"
    )
    told = deployment.run_on("lab-mariadb", "mariadb", "--skip-column-names", "--execute", query)
    stacks, trusts, trustors, passwords = map(int, told.stdout.split())
    assert stacks == trusts == trustors >= story.control.stacks.complete - story.control.stacks.deleted > 0
    assert passwords == 0


def test_no_secret_shows_on_a_machine(deployment: Deployment, story: Story) -> None:
    secrets = deployment.cloud.secrets
    for name in (MACHINE, *CONTROLLERS):
        shown = deployment.run_on(name, "ps", "-eo", "args").stdout
        shown += deployment.run_on(name, "journalctl", "--no-pager", "--output", "cat").stdout
        assert "uwsgi" in shown
        assert [secret for secret, value in secrets.items() if value in shown or quote(value, safe="") in shown] == []


def test_what_was_killed_has_come_back(deployment: Deployment, story: Story) -> None:
    assert set(story.struck) == {"worker", "scheduler"}
    for service, container in story.struck.items():
        found = next(c for c in deployment.containers(service) if c["Id"] == container)
        assert found["RestartCount"] == 1
    wait_until(lambda: not deployment.unwell(), what="all containers are healthy again", timeout=120)


def test_the_new_release_runs_under_systemd_and_the_old_one_is_gone(deployment: Deployment, story: Story) -> None:
    for name in CONTROLLERS:
        for role in ("engine", "api", "api-cfn"):
            states = [
                deployment.run_on(name, "systemctl", verb, f"heat-{role}@{release}").stdout.strip()
                for release in (OLD, NEW)
                for verb in ("is-active", "is-enabled")
            ]
            assert states == ["inactive", "disabled", "active", "enabled"], (name, role)


def test_nothing_is_left_of_what_ran_beside_and_every_router_knows_the_new_release_alone(
    deployment: Deployment, story: Story
) -> None:
    for name in CONTROLLERS:
        for role in ("api", "api-cfn"):
            beside = deployment.run_on(name, "systemctl", "is-active", f"heat-{role}@{OLD}-beside").stdout.strip()
            assert beside == "inactive", (name, role)
            unit = deployment.run_on(name, "systemctl", "cat", f"heat-{role}@{NEW}").stdout
            assert "ExecStart=" in unit, (name, role)
            assert "router" not in unit, (name, role)
        assert deployment.run_on(name, "find", "/etc/systemd/system", "-name", "*-beside*").stdout == ""
        state = json.loads(deployment.run_on(name, "cat", f"/etc/heat/{NEW}/router/state.json").stdout)
        known = {field: state[field] for field in ("default", "closed", "stacks", "hold", "probe")}
        assert known == {"default": NEW, "closed": True, "stacks": {}, "hold": None, "probe": None}, name


def test_the_services_account_reads_the_router_s_state_and_others_do_not(deployment: Deployment, story: Story) -> None:
    for name in CONTROLLERS:
        state = f"/etc/heat/{NEW}/router/state.json"
        assert deployment.run_on(name, "test", "-r", state, user=SERVICE_USER).returncode == 0
        assert deployment.run_on(name, "test", "-w", state, user=SERVICE_USER).returncode != 0
        assert deployment.run_on(name, "test", "-r", state, user="nobody").returncode != 0


def test_the_traffic_went_on_over_both_releases(story: Story) -> None:
    assert set(story.control.releases["api"]) == {OLD}
    for service in ("api", "engine"):
        assert set(story.traffic.releases[service]) == {OLD, NEW}
