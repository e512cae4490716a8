"""One whole run while users create, update and delete stacks; then another one that finds nothing to do."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from lab.airflow import airflow_client, start_airflow
from lab.airflow_api import AirflowApi
from lab.bring_up import cfn_answers
from lab.cloud_lab import Lab
from lab.dag_run import DagRun, run_upgrade
from lab.processes import wait_until
from lab.rabbitmq import management_get
from lab.screenshot import AirflowUi
from lab.status import answering_releases
from lab.traffic import Account, table, verdict
from lab.under_traffic import control_run, under_traffic
from tests.e2e.labs import (
    NEW,
    NEW_VHOST,
    OLD,
    OLD_VHOST,
    Footprint,
    consumed_queues,
    explain,
    files_below,
    footprint,
    fresh_lab,
    messages,
    programs,
    services,
    vhosts,
)
from tests.e2e.leaks import ProcessWatch, Secrets, in_files, in_tables, rows

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif("HEAT_UPGRADE_TRAFFIC" not in os.environ, reason="unproven: set HEAT_UPGRADE_TRAFFIC=1"),
]

CONTROL_SECONDS = 60
# What the issue allows a run that finds nothing to do.
QUICK = 60.0
REVISIONS = {OLD: "c6214ca60943", NEW: "97b2a986f922"}
PARAMETERS = {"target_release", "hosts", "delete_old_vhost"}


@dataclass(frozen=True)
class OldVhost:
    """What the old vhost held after the upgrade, before it was deleted."""

    messages: dict[str, int]
    consumed: set[str]
    clients: list[str]


@dataclass(frozen=True)
class Story:
    """What happened, in order."""

    control: Account
    upgrade: Account
    run: DagRun
    processes: ProcessWatch
    old_vhost: OldVhost
    footprint: Footprint
    second_run: DagRun
    second_footprint: Footprint


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with fresh_lab("e2e-traffic", request.session, airflow=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> Secrets:
    names = ("database", "database_root", "amqp", "management", "auth_encryption_key")
    return Secrets({name: lab.secrets[name] for name in names})


@pytest.fixture(scope="module")
def story(lab: Lab, secrets: Secrets) -> Story:
    with ThreadPoolExecutor(1) as pool:
        airflow = pool.submit(start_airflow, lab)
        control = control_run(lab, CONTROL_SECONDS)
        airflow.result()
    with ProcessWatch(secrets) as processes:
        run, upgrade = under_traffic(lab, "upgrade", lambda: run_upgrade(lab, {"target_release": NEW}))
    assert run.state == "success", explain(airflow_client(lab), run)
    clients = [client["name"] for client in management_get(lab, f"vhosts/{OLD_VHOST}/connections")]
    old_vhost = OldVhost(messages(lab, OLD_VHOST), consumed_queues(lab, OLD_VHOST), clients)
    before = footprint(lab)
    second_run = run_upgrade(lab, {"target_release": NEW, "delete_old_vhost": True})
    return Story(control, upgrade, run, processes, old_vhost, before, second_run, footprint(lab))


@pytest.fixture(scope="module")
def api(lab: Lab, story: Story) -> AirflowApi:
    return airflow_client(lab)


def test_all_tasks_of_the_run_end_well(api: AirflowApi, story: Story) -> None:
    skipped = [
        task for task, state in api.task_states(story.run.dag_id, story.run.run_id).items() if state != "success"
    ]
    assert skipped == ["delete_old_vhost"]


def test_no_request_fails_and_no_stack_is_lost(story: Story) -> None:
    assert verdict(story.upgrade, story.control) == [], table(story.control, story.upgrade)


def test_the_traffic_went_on_from_the_old_release_to_the_new_one(story: Story) -> None:
    assert set(story.control.releases["api"]) == {OLD}
    for service in ("api", "engine"):
        assert set(story.upgrade.releases[service]) == {OLD, NEW}


def test_every_api_and_engine_answers_with_the_new_release(lab: Lab, story: Story) -> None:
    assert answering_releases(lab) == {host.name: NEW for host in lab.hosts_with("api")}
    assert all(map(cfn_answers, lab.hosts_with("api-cfn")))
    assert consumed_queues(lab, NEW_VHOST) >= {f"engine.{host.name}" for host in lab.hosts_with("engine")}
    assert programs(lab, NEW)
    assert programs(lab, OLD) == []


def test_nothing_is_left_in_the_old_vhost(story: Story) -> None:
    assert {name: count for name, count in story.old_vhost.messages.items() if count} == {}
    assert {"engine", "engine_worker"} <= set(story.old_vhost.messages)
    assert story.old_vhost.consumed == set()
    assert story.old_vhost.clients == []


def test_each_service_was_started_once(lab: Lab, story: Story) -> None:
    assert story.footprint.starts == {host.name: services(host, OLD, NEW) for host in lab.hosts}


def test_the_schema_is_the_new_release_s(story: Story) -> None:
    assert story.footprint.revision == REVISIONS[NEW]


def test_the_backup_is_a_whole_dump_from_before_the_migration(lab: Lab, story: Story) -> None:
    (backup,) = files_below(lab.state / "backups")
    dump = gzip.decompress(backup.read_bytes()).decode()
    assert dump.splitlines()[-1].startswith("-- Dump completed")
    assert REVISIONS[OLD] in dump
    assert REVISIONS[NEW] not in dump
    assert "INSERT INTO `stack` VALUES" in dump


def nameless(parts: list[list[dict[str, str]]]) -> list[list[dict[str, str]]]:
    """Leave out the vhost's own name: all else is copied from the old one."""
    return [[{key: value for key, value in row.items() if key != "vhost"} for row in part] for part in parts]


def test_a_second_run_changes_nothing(api: AirflowApi, story: Story) -> None:
    assert story.second_run.state == "success", explain(api, story.second_run)
    assert story.second_footprint.files == story.footprint.files
    assert story.second_footprint.starts == story.footprint.starts
    assert story.second_footprint.revision == story.footprint.revision
    assert story.second_footprint.vhosts[NEW_VHOST] == story.footprint.vhosts[NEW_VHOST]
    new, old = (nameless(story.footprint.vhosts[vhost]) for vhost in (NEW_VHOST, OLD_VHOST))
    assert new == old
    assert new[0], "no permissions: nothing was compared"


def test_a_second_run_is_over_in_under_a_minute(story: Story) -> None:
    assert story.second_run.seconds < QUICK


def test_the_old_vhost_is_deleted_where_that_is_asked_for(lab: Lab, story: Story) -> None:
    assert OLD_VHOST in story.footprint.vhosts
    assert OLD_VHOST not in vhosts(lab)
    assert NEW_VHOST in vhosts(lab)


@pytest.fixture(scope="module")
def ui(lab: Lab, story: Story) -> Iterator[AirflowUi]:
    with AirflowUi(lab) as ui:
        yield ui


@pytest.fixture(scope="module")
def drawn(api: AirflowApi, story: Story) -> set[str]:
    tasks = set(api.task_states(story.run.dag_id, story.run.run_id))
    return tasks | {task.rpartition(".")[0] for task in tasks if "." in task}


class TestPasswords:
    """Passwords stay where they are: in heat.conf on the hosts, and in Airflow's own store of connections."""

    def test_the_search_finds_them_where_they_belong(self, lab: Lab, story: Story, secrets: Secrets) -> None:
        places = [lab.airflow_home / "connections.yaml", lab.hosts[0].config(NEW)]
        assert list(in_files(secrets, places).values()) == [
            {"database", "management"},
            {"amqp", "database", "auth_encryption_key"},
        ]

    def test_they_are_in_no_file_of_airflow(self, lab: Lab, story: Story, secrets: Secrets) -> None:
        store = lab.airflow_home / "connections.yaml"
        files = [file for file in files_below(lab.airflow_home) if file != store]
        logs = lab.airflow_home / "logs"
        assert len([file for file in files if file.is_relative_to(logs)]) > 20
        assert in_files(secrets, files) == {}

    def test_they_are_in_no_table_of_airflow(self, lab: Lab, story: Story, secrets: Secrets) -> None:
        database = lab.airflow_home / "airflow.db"
        for table_name in ("xcom", "task_instance", "serialized_dag", "log"):
            assert rows(database, table_name), f"{table_name} has no rows: nothing was searched"
        assert in_tables(secrets, database) == {}

    def test_they_were_on_no_command_line(self, story: Story) -> None:
        assert story.processes.looks > 100
        for step in (b"/prepare", b"/switch_api", b"/stop_engine"):
            assert any(step in command for command in story.processes.commands), f"{step!r} was not seen at work"
        assert story.processes.leaks() == []

    def test_the_hosts_hold_them_in_heat_conf_only(self, lab: Lab, story: Story, secrets: Secrets) -> None:
        files = [file for host in lab.hosts for file in files_below(host.root)]
        kept = [file for file in files if "site-packages" not in file.parts]
        found = in_files(secrets, kept)
        assert set(found) == {str(host.config(release)) for host in lab.hosts for release in (OLD, NEW)}
        assert {file.stat().st_mode & 0o077 for file in kept if str(file) in found} == {0}


class TestAirflowUi:
    """The finished run in a real browser."""

    def test_the_grid_shows_every_group_and_task(self, ui: AirflowUi, story: Story, drawn: set[str]) -> None:
        ui.open_run(story.run.dag_id, story.run.run_id, drawn)
        assert ui.grid(story.run.run_id) == drawn
        assert ui.complaints() == []

    def test_the_graph_shows_every_group_and_task(self, ui: AirflowUi, story: Story, drawn: set[str]) -> None:
        ui.open_run(story.run.dag_id, story.run.run_id, drawn)
        ui.show("Graph")
        assert ui.graph(drawn) == drawn
        assert ui.complaints() == []

    def test_the_trigger_form_asks_for_the_parameters(self, ui: AirflowUi, story: Story) -> None:
        assert ui.trigger_form(story.run.dag_id, PARAMETERS) == PARAMETERS
        assert ui.complaints() == []

    def test_a_page_with_an_error_is_told(self, lab: Lab, story: Story) -> None:
        with AirflowUi(lab) as ui:
            ui.open_page(f"dags/{story.run.dag_id}/runs/no-such-run")
            wait_until(
                lambda: any(complaint.startswith("404 from ") for complaint in ui.complaints()),
                what="the browser tells that there is no such run",
            )
