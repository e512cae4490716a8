"""Upgrades in one stretch of traffic, in `make test-long` there and back; then a run that finds nothing to do."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest

from heat_upgrade.router.heat_upgrade_router import State
from lab.airflow.browser import AirflowUi
from lab.airflow.client import AirflowApi, AirflowApiError
from lab.airflow.dag_run import DagRun, run_upgrade
from lab.airflow.server import airflow_client
from lab.cloud.bring_up import cfn_answers
from lab.cloud.model import Lab
from lab.cloud.rabbitmq import management_get
from lab.cloud.status import answering_releases
from lab.faults.sides import state_of
from lab.http import local_session
from lab.processes import wait_until
from lab.scenarios.under_traffic import under_traffic
from lab.traffic import Account, table, verdict
from tests.e2e.labs import (
    NEW,
    NEW_VHOST,
    NEXT,
    NEXT_VHOST,
    OLD,
    OLD_VHOST,
    Starts,
    beside,
    consumed_queues,
    enabled,
    explain,
    messages,
    programs,
    services,
)
from tests.e2e.leaks import ProcessWatch, Secrets, in_files, in_tables, rows
from tests.e2e.snapshot import LASTING, CloudSnapshot, changes, files_below, snapshot, vhosts
from tests.moments import assert_unnoticed

pytestmark = pytest.mark.timeout(1800)

# Seconds without an answer after which it would be another stretch of traffic.
UNBROKEN = 5
REVISIONS = {OLD: "c6214ca60943", NEW: "97b2a986f922"}
# Where each leg of the journey goes, and the vhost that it leaves.
WHOLE_JOURNEY = ((NEW, OLD_VHOST), (NEXT, NEW_VHOST), (NEW, NEXT_VHOST))
JOURNEY = WHOLE_JOURNEY if os.environ.get("HEAT_UPGRADE_LONG") else WHOLE_JOURNEY[:1]
TARGETS = [target for target, _ in JOURNEY]
PARAMETERS = {"target_release", "hosts", "canary", "approvals", "delete_old_vhost", "dry_run"}


@dataclass(frozen=True)
class Vhost:
    """What a vhost held when its release had been retired."""

    messages: dict[str, int]
    consumed: set[str]
    clients: list[str]


@dataclass(frozen=True)
class Leg:
    """A run of the journey, and what the cloud was like after it."""

    run: DagRun
    left: Vhost
    answering: dict[str, str]
    enabled: dict[str, set[str]]
    sides: dict[str, State | None]
    snapshot: CloudSnapshot


@dataclass(frozen=True)
class Story:
    """What happened: the journey's legs under one traffic, and the run for which nothing was left."""

    control: Account
    traffic: Account
    legs: list[Leg]
    processes: ProcessWatch
    idle_run: DagRun
    idle_snapshot: CloudSnapshot

    @property
    def upgrade(self) -> Leg:
        return self.legs[0]


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> Secrets:
    names = ("database", "database_root", "amqp", "management", "auth_encryption_key")
    return Secrets({name: lab.secrets[name] for name in names})


@pytest.fixture(scope="module")
def story(lab: Lab, control: Account, secrets: Secrets) -> Story:
    with ProcessWatch(secrets) as processes:
        legs, traffic = under_traffic(lab, "journey", lambda: list(journey(lab)))
    idle_run = run_upgrade(lab, {"target_release": NEW, "delete_old_vhost": True})
    return Story(control, traffic, legs, processes, idle_run, snapshot(lab, *LASTING))


def journey(lab: Lab) -> Iterator[Leg]:
    for target, left in JOURNEY:
        run = run_upgrade(lab, {"target_release": target})
        assert run.state == "success", explain(airflow_client(lab), run)
        clients = [client["name"] for client in management_get(lab, f"vhosts/{left}/connections")]
        vhost = Vhost(messages(lab, left), consumed_queues(lab, left), clients)
        sides = {host.name: state_of(host, target) for host in lab.hosts_with("api")}
        yield Leg(run, vhost, answering_releases(lab), enabled(lab), sides, snapshot(lab, *LASTING))


@pytest.fixture(scope="module")
def api(lab: Lab, story: Story) -> AirflowApi:
    return airflow_client(lab)


@pytest.fixture(params=range(len(JOURNEY)), ids=TARGETS)
def leg(request: pytest.FixtureRequest, story: Story) -> Leg:
    return story.legs[request.param]


def test_all_tasks_of_the_runs_end_well(api: AirflowApi, leg: Leg) -> None:
    skipped = [task for task, state in api.task_states(leg.run.dag_id, leg.run.run_id).items() if state != "success"]
    unneeded = ["approve-wave-2", "approve_flip", "delete_old_vhost", "end_canary", "flip_canary", "show_plan"]
    assert sorted(skipped) == [*unneeded, "watch_canary"]


def test_the_report_tells_of_every_host_the_drain_the_api_and_the_checks(lab: Lab, api: AirflowApi, leg: Leg) -> None:
    page, text = (api.report(leg.run.dag_id, leg.run.run_id, form) for form in ("html", "md"))
    assert text.startswith(f"# Rolling upgrade of {lab.name}: success\n")
    for host in ("controller_1", "controller_2"):
        for task in (f"prepare.{host}", f"start_new_engines.{host}", f"{host}.switch_api"):
            assert task in page
            assert task in text
    for task in ("start_beside", "prove_new_side", "may_flip", "flip", "wait_until_drained", "close", "retire"):
        assert re.search(rf"^\| {task}(?: \(try \d+\))? \| success \|", text, re.MULTILINE), task
        assert f"{task}: " in page
    assert page.count("<svg") == 2
    assert page.count("<polyline") >= 3
    watched = re.search(r"- (\d+) of (\d+) probes of the API failed", text)
    assert watched is not None
    failed, probes = map(int, watched.groups())
    assert failed == 0, text
    # It begins before the first API moves and ends after the close.
    assert leg.run.moments.flip
    assert leg.run.moments.close
    assert probes > (leg.run.moments.close.end - leg.run.moments.flip.begin) / 2
    assert "| smoke stack | heat-upgrade-smoke-" in text


@pytest.mark.long
def test_the_report_compares_with_the_run_before(api: AirflowApi, story: Story) -> None:
    first, second = (api.report(leg.run.dag_id, leg.run.run_id) for leg in story.legs[:2])
    (alone,), (compared,) = (
        [line.split(" | ") for line in text.splitlines() if line.startswith("| preflight")] for text in (first, second)
    )
    assert alone[4] == "\N{EN DASH}"
    assert compared[4] == alone[3]


def test_the_report_is_for_nobody_without_a_login(lab: Lab, api: AirflowApi, story: Story) -> None:
    run = {"dag_id": story.upgrade.run.dag_id, "run_id": story.upgrade.run.run_id}
    for headers in ({}, {"Authorization": "Bearer made-up"}, {"Cookie": "_token=made-up"}):
        answer = local_session().get(f"{lab.airflow_url}/heat-upgrade/report", params=run, headers=headers, timeout=60)
        assert answer.status_code in (401, 403), headers
        assert run["run_id"] not in answer.text
    with pytest.raises(AirflowApiError, match="404"):
        api.report(run["dag_id"], "no-such-run")


def test_no_request_fails_and_no_stack_is_lost(story: Story) -> None:
    shown = table(story.control, story.traffic)
    assert verdict(story.traffic, story.control) == [], shown
    assert story.traffic.requests.failed == 0, shown
    # Whatever the control run had of it.
    assert story.traffic.created_twice == story.traffic.stolen == [], shown
    assert story.traffic.stuck == story.traffic.unsettled == [], shown


def test_it_was_one_stretch_of_traffic_from_before_the_first_run_to_after_the_last(story: Story) -> None:
    first, last = story.legs[0], story.legs[-1]
    assert story.traffic.began < first.run.moments.began
    assert last.run.moments.close
    assert last.run.moments.close.end < story.traffic.ended
    answered = sorted({second for side in story.traffic.sides for second in side.answers})
    assert max(after - before for before, after in pairwise(answered)) < UNBROKEN


def test_users_notice_no_flip_and_no_stack_is_worked_on_by_two_sides(story: Story, leg: Leg) -> None:
    assert_unnoticed(story.traffic, story.control, leg.run.moments)


def test_the_traffic_went_on_over_all_the_releases(story: Story) -> None:
    assert set(story.control.releases["api"]) == {OLD}
    for service in ("api", "engine"):
        assert set(story.traffic.releases[service]) == {OLD, *TARGETS}


def test_every_api_and_engine_answers_with_the_target(lab: Lab, story: Story) -> None:
    apis = [host.name for host in lab.hosts_with("api")]
    assert [leg.answering for leg in story.legs] == [dict.fromkeys(apis, target) for target in TARGETS]
    assert all(map(cfn_answers, lab.hosts_with("api-cfn")))
    assert consumed_queues(lab, NEW_VHOST) >= {f"engine.{host.name}" for host in lab.hosts_with("engine")}
    assert programs(lab, NEW)
    assert programs(lab, OLD) == programs(lab, NEXT) == []


def test_nothing_is_left_in_a_retired_vhost(leg: Leg) -> None:
    assert {name: count for name, count in leg.left.messages.items() if count} == {}
    assert {"engine", "engine_worker"} <= set(leg.left.messages)
    assert leg.left.consumed == set()
    assert leg.left.clients == []


def test_each_run_starts_the_targets_services_once(lab: Lab, story: Story) -> None:
    def starts(releases: Sequence[str], left: Sequence[str]) -> Starts:
        return {host.name: services(host, *releases) | beside(host, *left) for host in lab.hosts}

    again = {host.name: dict.fromkeys(services(host, NEW), 2) for host in lab.hosts}
    everything = starts((OLD, NEW, NEXT), (OLD, NEW, NEXT))
    back = {name: everything[name] | again[name] for name in everything}
    expected = [starts((OLD, NEW), (OLD,)), starts((OLD, NEW, NEXT), (OLD, NEW)), back]
    assert [leg.snapshot["starts"] for leg in story.legs] == expected[: len(JOURNEY)]


def test_after_each_run_a_boot_starts_the_target_alone(lab: Lab, story: Story) -> None:
    for leg, target in zip(story.legs, TARGETS, strict=True):
        assert leg.enabled == {host.name: set(services(host, target)) for host in lab.hosts}
    assert [file for host in lab.hosts for file in (host.root / "etc/supervisor.d").glob("*-beside*")] == []


def test_after_each_run_every_router_knows_the_target_alone(lab: Lab, story: Story) -> None:
    for leg, target in zip(story.legs, TARGETS, strict=True):
        assert leg.sides.keys() == {host.name for host in lab.hosts_with("api")}
        for state in leg.sides.values():
            assert state
            assert (state.default, state.closed, state.hold, state.probe, state.stacks) == (
                target,
                True,
                None,
                None,
                {},
            )


def test_the_schema_is_the_newest_release_s_and_never_goes_back(story: Story) -> None:
    assert {leg.snapshot["schema"]["revision"] for leg in story.legs} == {REVISIONS[NEW]}


def test_the_first_backup_is_a_whole_dump_from_before_the_migration(lab: Lab, story: Story) -> None:
    backups = files_below(lab.state / "backups")
    # The way back migrates nothing, so it takes none.
    assert [NEW in file.name for file in backups] == [True, False][: len(JOURNEY)]
    dump = gzip.decompress(backups[0].read_bytes()).decode()
    assert dump.splitlines()[-1].startswith("-- Dump completed")
    assert REVISIONS[OLD] in dump
    assert REVISIONS[NEW] not in dump
    assert "INSERT INTO `stack` VALUES" in dump


def nameless(parts: list[list[dict[str, str]]]) -> list[list[dict[str, str]]]:
    """Leave out the vhost's own name: all else is copied from the old one."""
    return [[{key: value for key, value in row.items() if key != "vhost"} for row in part] for part in parts]


def test_a_run_with_nothing_left_to_do_changes_nothing(api: AirflowApi, story: Story) -> None:
    assert story.idle_run.state == "success", explain(api, story.idle_run)
    before, after = story.legs[-1].snapshot, story.idle_snapshot
    # It was the run that deletes the old vhost.
    assert set(changes(before, after)) <= {f"rights: {OLD_VHOST}"}
    new, old = (nameless(before["rights"][vhost]) for vhost in (NEW_VHOST, OLD_VHOST))
    assert new == old
    assert new[0], "no permissions: nothing was compared"


def test_the_old_vhost_is_deleted_where_that_is_asked_for(lab: Lab, story: Story) -> None:
    assert OLD_VHOST in story.legs[-1].snapshot["rights"]
    assert OLD_VHOST not in vhosts(lab)
    assert NEW_VHOST in vhosts(lab)


@pytest.fixture(scope="module")
def ui(lab: Lab, story: Story) -> Iterator[AirflowUi]:
    with AirflowUi(lab) as ui:
        yield ui


@pytest.fixture(scope="module")
def drawn(api: AirflowApi, story: Story) -> set[str]:
    run = story.upgrade.run
    tasks = set(api.task_states(run.dag_id, run.run_id))
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
        assert len([file for file in files if file.name in ("report.html", "report.md")]) == 2 * (len(JOURNEY) + 1)
        assert in_files(secrets, files) == {}

    def test_they_are_in_no_table_of_airflow(self, lab: Lab, story: Story, secrets: Secrets) -> None:
        database = lab.airflow_home / "airflow.db"
        for table_name in ("xcom", "task_instance", "serialized_dag", "log"):
            assert rows(database, table_name), f"{table_name} has no rows: nothing was searched"
        assert in_tables(secrets, database) == {}

    def test_they_were_on_no_command_line(self, story: Story) -> None:
        assert story.processes.looks > 100
        for step in (b"/prepare", b"/start_beside", b"/switch_api", b"/route\0", b"/close_router", b"/stop_engine"):
            assert any(step in command for command in story.processes.commands), f"{step!r} was not seen at work"
        assert story.processes.leaks() == []

    def test_the_hosts_hold_them_in_heat_conf_only(self, lab: Lab, story: Story, secrets: Secrets) -> None:
        files = [file for host in lab.hosts for file in files_below(host.root)]
        kept = [file for file in files if "site-packages" not in file.parts]
        found = in_files(secrets, kept)
        assert set(found) == {str(host.config(release)) for host in lab.hosts for release in (OLD, *TARGETS)}
        assert {file.stat().st_mode & 0o077 for file in kept if str(file) in found} == {0}


class TestAirflowUi:
    """The finished run in a real browser."""

    def test_the_grid_shows_every_group_and_task(self, ui: AirflowUi, story: Story, drawn: set[str]) -> None:
        ui.open_run(story.upgrade.run.dag_id, story.upgrade.run.run_id, drawn)
        assert ui.grid(story.upgrade.run.run_id) == drawn
        assert ui.complaints() == []

    def test_the_graph_shows_every_group_and_task(self, ui: AirflowUi, story: Story, drawn: set[str]) -> None:
        ui.open_run(story.upgrade.run.dag_id, story.upgrade.run.run_id, drawn)
        ui.show("Graph")
        assert ui.graph(drawn) == drawn
        assert ui.complaints() == []

    def test_a_tab_of_the_run_shows_its_report(self, ui: AirflowUi, story: Story) -> None:
        ui.open_report(story.upgrade.run.dag_id, story.upgrade.run.run_id)
        assert "Stacks in flight at the flip" in ui.report()
        assert ui.complaints() == []

    def test_the_trigger_form_asks_for_the_parameters(self, ui: AirflowUi, story: Story) -> None:
        assert ui.trigger_form(story.upgrade.run.dag_id, PARAMETERS) == PARAMETERS
        assert ui.complaints() == []

    def test_a_page_with_an_error_is_told(self, lab: Lab, story: Story) -> None:
        with AirflowUi(lab) as ui:
            ui.open_page(f"dags/{story.upgrade.run.dag_id}/runs/no-such-run")
            wait_until(
                lambda: any(complaint.startswith("404 from ") for complaint in ui.complaints()),
                what="the browser tells that there is no such run",
            )
