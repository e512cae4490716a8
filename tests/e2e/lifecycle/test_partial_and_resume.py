"""An upgrade in two parts, and a second part that goes wrong, is mended and goes on where it stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import yaml

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, dag_id, finished, run_upgrade
from lab.airflow.server import airflow_client
from lab.cloud.bring_up import build_info, cfn_answers
from lab.cloud.host import start_sshd, stop_sshd
from lab.cloud.mariadb import query
from lab.cloud.model import API_PORT, Lab, LabHost
from lab.cloud.status import answering_releases
from lab.faults.sides import state_of
from lab.processes import wait_until
from lab.traffic import hold_old_side
from lab.traffic.moments import Moments
from tests.e2e.labs import (
    NEW,
    NEW_VHOST,
    OLD,
    OLD_VHOST,
    Starts,
    beside,
    consumed_queues,
    enabled,
    engine_ids,
    explain,
    in_front,
    messages,
    programs,
    services,
    started_since,
)
from tests.e2e.lifecycle.sinks import Sinks

pytestmark = pytest.mark.timeout(1800)

FIRST, SECOND = "controller-1", "controller-2"
FAILING = "start_new_engines.controller_2"
LAST_IN_FRONT = "controller_2.rejoin_rotation"
GATE = "wait_until_drained"
PATIENCE = 600.0  # seconds for one step on a busy machine
HELD_SECONDS = 60
# The gate opens so many seconds after the last work of the old side is done, at the latest.
OPENS_WITHIN = 30.0
# Three readings, five seconds apart, is what the lab's gate wants: one that trusted the queues would be open by then.
FOOLED_AFTER = 15.0
GOOD, BAD = "num_engine_workers = 1", "num_engine_workers = many"


@dataclass(frozen=True)
class Part:
    """A run that is over, and what the cloud was like then."""

    run: DagRun
    tasks: dict[str, str]
    started: Starts
    listening: dict[str, set[str]]
    answering: dict[str, tuple[str, str] | None]
    in_front: dict[str, str]
    report: str


@dataclass(frozen=True)
class Sample:
    """One look while the old side works on the last stack."""

    time: float
    messages: int
    done: bool
    gate: str


@dataclass(frozen=True)
class Resumed:
    """How the failed run went on after one of its tasks had been cleared."""

    cleared: set[str]
    unreachable: str
    old_engines: set[str]
    holder: str
    samples: list[Sample]
    opened: float
    stack: str
    part: Part


@pytest.fixture(scope="module")
def before(lab: Lab) -> Starts:
    """Return how often each service had been started before any of it."""
    return lab.service_starts()


@pytest.fixture(scope="module")
def done(lab: Lab, api: AirflowApi, told: Sinks) -> Sinks:
    """Have a server be told when a run is done."""
    file = lab.clouds_directory / f"{lab.name}.yaml"
    cloud = yaml.safe_load(file.read_text(encoding="utf-8"))
    cloud["notifications"] = [{"kind": "webhook", "connection": "night_hook", "events": ["done"]}]
    file.write_text(yaml.safe_dump(cloud, sort_keys=False), encoding="utf-8")
    api.wait_for_dag(dag_id(lab))
    api.reparse(dag_id(lab))
    return told


def _told(done: Sinks, run: DagRun) -> dict[str, Any]:
    """Return the message of a run's end, which is sent after its task has ended."""

    def messages_of_run() -> list[dict[str, Any]]:
        return [body for body in done.bodies() if body["run_id"] == run.run_id]

    wait_until(lambda: bool(messages_of_run()), what=f"the end of {run.run_id} is told")
    (message,) = messages_of_run()
    return message


@pytest.fixture(scope="module")
def first(lab: Lab, done: Sinks, before: Starts) -> Part:
    """Upgrade the first host only."""
    return _part(lab, before, run_upgrade(lab, {"target_release": NEW, "hosts": [FIRST]}))


@pytest.fixture(scope="module")
def broken(lab: Lab, before: Starts, first: Part) -> Part:
    """Upgrade the other host, whose configuration doesn't suit the new release; what runs there has read it already."""
    _edit(lab.host(SECOND), OLD, GOOD, BAD)
    return _part(lab, before, run_upgrade(lab, {"target_release": NEW, "hosts": [SECOND]}))


@pytest.fixture(scope="module")
def resumed(lab: Lab, api: AirflowApi, before: Starts, broken: Part) -> Resumed:
    """Mend the configuration, clear the one task while its host can't be reached, and keep an old engine at work."""
    host, run = lab.host(SECOND), broken.run
    for release in (OLD, NEW):
        _edit(host, release, BAD, GOOD)
    stop_sshd(host)
    cleared = api.clear_tasks(run.dag_id, run.run_id, [FAILING])
    api.wait_for_task(run.dag_id, run.run_id, FAILING, ["up_for_retry"], timeout=PATIENCE)
    unreachable = api.log(run.dag_id, run.run_id, FAILING)
    start_sshd(host)
    api.wait_for_task(run.dag_id, run.run_id, FAILING, ["success"], timeout=PATIENCE)
    # Only now: the proof of the new side takes seconds, then comes the flip, and the old side is to work on it for as
    # long as possible after that. Through the new API, which is in front by then.
    api.wait_for_task(run.dag_id, run.run_id, LAST_IN_FRONT, ["success"], timeout=PATIENCE)
    stack = hold_old_side(f"http://{host.address}:{API_PORT}/v1/admin", HELD_SECONDS)
    assert api.task_states(run.dag_id, run.run_id)["flip"] not in ("running", "success"), "the stack came too late"
    ((holder,),) = query(lab, f"SELECT engine_id FROM resource WHERE stack_id = '{stack}'")
    old_engines = engine_ids(lab, OLD_VHOST)
    api.wait_for_task(run.dag_id, run.run_id, GATE, ["deferred"], timeout=PATIENCE)
    samples = _watch_gate(lab, api, run, stack)
    state = api.wait_for_run(run.dag_id, run.run_id, timeout=PATIENCE)
    gate = next(task for task in api.task_instances(run.dag_id, run.run_id) if task["task_id"] == GATE)
    return Resumed(
        cleared=set(cleared),
        unreachable=unreachable,
        old_engines=old_engines,
        holder=holder,
        samples=samples,
        opened=datetime.fromisoformat(gate["end_date"]).timestamp(),
        stack=stack,
        part=_part(lab, before, finished(api, run.dag_id, run.run_id, state)),
    )


def _part(lab: Lab, before: Starts, run: DagRun) -> Part:
    return Part(
        run=run,
        tasks=airflow_client(lab).task_states(run.dag_id, run.run_id),
        started=started_since(before, lab.service_starts()),
        listening={vhost: consumed_queues(lab, vhost) for vhost in (OLD_VHOST, NEW_VHOST)},
        answering={host.name: build_info(host) for host in lab.hosts},
        in_front=in_front(lab),
        report=airflow_client(lab).report(run.dag_id, run.run_id),
    )


def _edit(host: LabHost, release: str, old: str, new: str) -> None:
    config = host.config(release)
    text = config.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{config} has no {old!r}"
    config.write_text(text.replace(old, new), encoding="utf-8")


def _watch_gate(lab: Lab, api: AirflowApi, run: DagRun, stack: str) -> list[Sample]:
    """Look at queues, resource and gate until the gate has opened, or failed."""
    samples: list[Sample] = []
    deadline = time.monotonic() + PATIENCE
    while not samples or samples[-1].gate not in ("success", "failed"):
        assert time.monotonic() < deadline, f"the gate is {samples[-1].gate} after {PATIENCE:.0f} s: {samples[-5:]}"
        waiting = sum(messages(lab, OLD_VHOST).values())
        ((status,),) = query(lab, f"SELECT status FROM resource WHERE stack_id = '{stack}'")
        gate = api.task_states(run.dag_id, run.run_id)[GATE]
        samples.append(Sample(time.time(), waiting, status == "COMPLETE", gate))
        time.sleep(0.5)  # an interval of measurement
    return samples


class TestFirstPart:
    """A run over some of the hosts."""

    def test_it_ends_well(self, api: AirflowApi, first: Part) -> None:
        assert first.run.state == "success", explain(api, first.run)

    def test_the_other_host_and_what_follows_the_gate_are_skipped(self, first: Part) -> None:
        skipped = {task for task, state in first.tasks.items() if state == "skipped"}
        assert skipped == {
            *("prepare.controller_2", FAILING),
            *(f"controller_2.{step}" for step in ("leave_rotation", "switch_api", "rejoin_rotation")),
            *("approve-wave-2", "approve_flip", "flip_canary", "watch_canary", "end_canary"),
            *("may_flip", "flip", GATE, "approve_retire", "close", "retire"),
            *("verify_cloud", "delete_old_vhost", "show_plan"),
        }
        assert set(first.tasks.values()) == {"skipped", "success"}
        assert first.run.moments == Moments(first.run.moments.began)

    def test_it_says_what_is_left(self, api: AirflowApi, first: Part) -> None:
        log = api.log(first.run.dag_id, first.run.run_id, "may_flip")
        assert f"{SECOND} are still on {OLD}, which goes on serving all users" in log
        assert "trigger a run over these hosts to finish the upgrade" in log
        assert first.report.splitlines()[0].endswith(": success")

    def test_its_end_is_told_as_one_with_hosts_left(self, lab: Lab, done: Sinks, first: Part) -> None:
        message = _told(done, first.run)
        assert (message["event"], message["task_id"]) == ("done", "may_flip")
        assert f"Heat in {lab.name}: this run is done, hosts remain" in message["text"]
        assert f"The upgrade from {OLD} to {NEW} is ready on {FIRST}" in message["text"]
        assert f"{OLD} serves all users, for as long as you like" in message["text"]

    def test_it_retires_nothing(self, lab: Lab, first: Part) -> None:
        assert first.listening[OLD_VHOST] >= {f"engine.{FIRST}", f"engine.{SECOND}"}
        assert f"engine.{FIRST}" in first.listening[NEW_VHOST]
        assert f"engine.{SECOND}" not in first.listening[NEW_VHOST]
        assert first.started == {
            FIRST: services(lab.host(FIRST), NEW) | beside(lab.host(FIRST), OLD),
            SECOND: {},
        }

    def test_users_stay_with_the_old_release_though_a_new_api_is_in_front(self, lab: Lab, first: Part) -> None:
        assert first.in_front == {FIRST: NEW, SECOND: OLD}
        assert first.answering == {FIRST: (OLD, OLD), SECOND: (OLD, OLD)}
        assert cfn_answers(lab.host(FIRST))


class TestBrokenRelease:
    """A new engine that can't start."""

    def test_the_run_stops_there(self, broken: Part) -> None:
        assert broken.run.state == "failed"
        failed = {task for task, state in broken.tasks.items() if state == "failed"}
        assert failed == {FAILING, "report"}
        after = ("start_beside", "controller_2.switch_api", "may_flip", "flip", GATE, "close", "retire", "verify_cloud")
        assert {broken.tasks[task] for task in after} == {"upstream_failed"}

    def test_the_report_tells_why(self, broken: Part) -> None:
        assert "What stopped it" in broken.report
        assert "mend the cause, then clear this task" in broken.report

    def test_no_api_has_moved_and_no_engine_has_stopped(self, first: Part, broken: Part) -> None:
        assert broken.answering == first.answering
        assert broken.in_front == first.in_front
        assert broken.listening[OLD_VHOST] >= {f"engine.{FIRST}", f"engine.{SECOND}"}
        assert set(broken.started[SECOND]) == {f"heat-engine-{NEW}"}
        assert broken.started[FIRST] == first.started[FIRST]

    def test_the_log_names_the_cause_and_the_next_step(self, api: AirflowApi, broken: Part) -> None:
        log = api.log(broken.run.dag_id, broken.run.run_id, FAILING, attempt=1)
        assert "num_engine_workers" in log
        # Which of the two depends on whether it lives for long enough to count as running.
        told = (f"heat-engine-{NEW} is 'failed' after its start", f"heat-engine-{NEW} has died after its start")
        assert any(words in log for words in told)
        assert "mend the cause, then clear this task" in log


class TestResume:
    """The same run, after the cause was mended and the one task cleared."""

    def test_clearing_takes_what_follows_along_and_nothing_else(self, resumed: Resumed) -> None:
        after = {"start_beside", "controller_2.switch_api", "may_flip", "flip", GATE, "close", "retire", "verify_cloud"}
        assert {FAILING, *after} <= resumed.cleared
        assert not resumed.cleared & {"preflight", "prepare.controller_2", "back_up_database", "sync_database"}

    def test_a_host_that_cannot_be_reached_is_told_and_tried_again(self, lab: Lab, resumed: Resumed) -> None:
        host = lab.host(SECOND)
        assert f"{SECOND}: SSH to " in resumed.unreachable
        assert f"@{host.address}:" in resumed.unreachable
        assert "check the host, its sshd and host key" in resumed.unreachable

    def test_the_run_ends_well(self, lab: Lab, api: AirflowApi, resumed: Resumed) -> None:
        assert resumed.part.run.state == "success", explain(api, resumed.part.run)
        assert answering_releases(lab) == {FIRST: NEW, SECOND: NEW}
        assert resumed.part.listening[OLD_VHOST] == set()
        assert programs(lab, OLD) == []
        assert enabled(lab) == {host.name: set(services(host, NEW)) for host in lab.hosts}

    def test_its_end_is_told_as_the_upgrade_s(self, lab: Lab, done: Sinks, broken: Part, resumed: Resumed) -> None:
        message = _told(done, resumed.part.run)
        assert (message["event"], message["task_id"]) == ("done", "verify_cloud")
        assert f"Heat in {lab.name}: upgrade to {NEW} is done" in message["text"]

    def test_the_flip_was_one_for_both_hosts(self, lab: Lab, resumed: Resumed) -> None:
        moments = resumed.part.run.moments
        assert moments.flip
        assert moments.gate
        assert moments.close
        assert moments.flip.end <= moments.gate <= moments.close.begin
        states = [state_of(host, NEW) for host in lab.hosts]
        assert [(state.default, state.closed) for state in states if state] == [(NEW, True)] * len(lab.hosts)

    def test_the_report_is_made_anew_and_tells_of_what_was_in_flight(self, broken: Part, resumed: Resumed) -> None:
        report = resumed.part.report
        assert broken.report.splitlines()[0].endswith(": failed")
        assert report.splitlines()[0].endswith(": success")
        assert "What stopped it" not in report
        held = next(line for line in report.splitlines() if resumed.stack in line.replace("\\", ""))
        assert held.replace("\\", "").endswith("| CREATE COMPLETE |")

    def test_the_held_stack_was_the_old_side_s(self, resumed: Resumed) -> None:
        assert resumed.holder in resumed.old_engines

    def test_the_gate_holds_though_every_queue_is_empty(self, resumed: Resumed) -> None:
        held = [sample for sample in resumed.samples if not sample.done]
        assert {sample.gate for sample in held} <= {"deferred", "queued", "running"}
        empty = [sample.time for sample in held if sample.messages == 0]
        assert len(empty) > len(held) / 2
        print(
            f"the gate held for {max(empty) - min(empty):.1f} s with {len(empty)} of {len(held)} samples at 0 messages"
        )
        assert max(empty) - min(empty) > FOOLED_AFTER, "the resource was done too early to show anything"

    def test_the_gate_opens_soon_after_the_last_work_is_done(self, resumed: Resumed) -> None:
        done = next(sample.time for sample in resumed.samples if sample.done)
        print(f"the gate opened {resumed.opened - done:.1f} s after the resource was done")
        assert 0 < resumed.opened - done < OPENS_WITHIN

    def test_no_service_was_started_twice(self, lab: Lab, broken: Part, resumed: Resumed) -> None:
        engine = f"heat-engine-{NEW}"
        in_vain = broken.started[SECOND][engine]
        once = {host.name: services(host, NEW) | beside(host, OLD) for host in lab.hosts}
        assert resumed.part.started[FIRST] == once[FIRST]
        assert resumed.part.started[SECOND] == {**once[SECOND], engine: in_vain + 1}
