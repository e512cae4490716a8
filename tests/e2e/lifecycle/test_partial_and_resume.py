"""An upgrade in two parts, and a second part that goes wrong, is mended and goes on where it stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import pytest

from lab.airflow.client import AirflowApi
from lab.airflow.dag_run import DagRun, finished, run_upgrade
from lab.airflow.server import airflow_client
from lab.cloud.bring_up import build_info
from lab.cloud.host import start_sshd, stop_sshd
from lab.cloud.mariadb import query
from lab.cloud.model import API_PORT, Lab, LabHost
from lab.cloud.status import answering_releases
from lab.traffic import hold_old_side
from tests.e2e.labs import (
    NEW,
    NEW_VHOST,
    OLD,
    OLD_VHOST,
    consumed_queues,
    engine_ids,
    explain,
    messages,
    programs,
    services,
)

pytestmark = pytest.mark.timeout(1800)

FIRST, SECOND = "controller-1", "controller-2"
FAILING = "start_new_engines.controller_2"
GATE = "wait_until_drained"
PATIENCE = 600.0  # seconds for one step on a busy machine
HELD_SECONDS = 60
# The gate opens so many seconds after the last work of the old side is done, at the latest.
OPENS_WITHIN = 30.0
# Three readings, five seconds apart, is what the lab's gate wants: one that trusted the queues would be open by then.
FOOLED_AFTER = 15.0
GOOD, BAD = "num_engine_workers = 1", "num_engine_workers = many"

Starts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Part:
    """A run that is over, and what the cloud was like then."""

    run: DagRun
    tasks: dict[str, str]
    starts: Starts
    listening: dict[str, set[str]]
    answering: dict[str, tuple[str, str] | None]
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
def first(lab: Lab) -> Part:
    """Upgrade the first host only."""
    return _part(lab, run_upgrade(lab, {"target_release": NEW, "hosts": [FIRST]}))


@pytest.fixture(scope="module")
def broken(lab: Lab, first: Part) -> Part:
    """Upgrade the other host, whose configuration doesn't suit the new release; what runs there has read it already."""
    _edit(lab.host(SECOND), OLD, GOOD, BAD)
    return _part(lab, run_upgrade(lab, {"target_release": NEW, "hosts": [SECOND]}))


@pytest.fixture(scope="module")
def resumed(lab: Lab, api: AirflowApi, broken: Part) -> Resumed:
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
    # Only now: the APIs move within seconds, and the old side is to work on it for as long as possible after that.
    stack = hold_old_side(f"http://{host.address}:{API_PORT}/v1/admin", HELD_SECONDS)
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
        part=_part(lab, finished(api, run.dag_id, run.run_id, state)),
    )


def _part(lab: Lab, run: DagRun) -> Part:
    return Part(
        run=run,
        tasks=airflow_client(lab).task_states(run.dag_id, run.run_id),
        starts=lab.service_starts(),
        listening={vhost: consumed_queues(lab, vhost) for vhost in (OLD_VHOST, NEW_VHOST)},
        answering={host.name: build_info(host) for host in lab.hosts},
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

    def test_the_other_host_and_what_follows_are_skipped(self, first: Part) -> None:
        skipped = {task for task, state in first.tasks.items() if state == "skipped"}
        assert skipped == {
            *("prepare.controller_2", FAILING),
            *(f"controller_2.{step}" for step in ("leave_rotation", "switch_api", "rejoin_rotation")),
            *("approve-wave-2", GATE, "approve_retire", "retire.controller_1", "retire.controller_2"),
            *("verify_cloud", "delete_old_vhost", "show_plan"),
        }

    def test_it_says_what_is_left(self, api: AirflowApi, first: Part) -> None:
        log = api.log(first.run.dag_id, first.run.run_id, GATE)
        assert f"{SECOND} are still on {OLD}" in log or f"{SECOND} is still on {OLD}" in log
        assert "trigger a run over" in log

    def test_it_retires_nothing(self, lab: Lab, first: Part) -> None:
        assert first.listening[OLD_VHOST] >= {f"engine.{FIRST}", f"engine.{SECOND}"}
        assert f"engine.{FIRST}" in first.listening[NEW_VHOST]
        assert f"engine.{SECOND}" not in first.listening[NEW_VHOST]
        assert first.starts[SECOND] == services(lab.host(SECOND), OLD)

    def test_each_side_answers_with_its_own_release(self, first: Part) -> None:
        assert first.answering == {FIRST: (NEW, NEW), SECOND: (OLD, OLD)}


class TestBrokenRelease:
    """A new engine that can't start."""

    def test_the_run_stops_there(self, broken: Part) -> None:
        assert broken.run.state == "failed"
        failed = {task for task, state in broken.tasks.items() if state == "failed"}
        assert failed == {FAILING, "report"}
        assert {broken.tasks[task] for task in ("may_switch", "controller_2.switch_api", GATE, "verify_cloud")} == {
            "upstream_failed"
        }

    def test_the_report_tells_why(self, broken: Part) -> None:
        assert "What stopped it" in broken.report
        assert "mend the cause, then clear this task" in broken.report

    def test_no_api_has_moved_and_no_engine_has_stopped(self, first: Part, broken: Part) -> None:
        assert broken.answering == first.answering
        assert broken.listening[OLD_VHOST] >= {f"engine.{FIRST}", f"engine.{SECOND}"}
        assert "heat-api-26.0.2" not in broken.starts[SECOND]
        assert broken.starts[FIRST] == first.starts[FIRST]

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
        assert {FAILING, "may_switch", GATE, "retire.controller_1", "verify_cloud"} <= resumed.cleared
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
        in_vain = broken.starts[SECOND][engine]
        assert resumed.part.starts[FIRST] == services(lab.host(FIRST), OLD, NEW)
        assert resumed.part.starts[SECOND] == {**services(lab.host(SECOND), OLD, NEW), engine: in_vain + 1}
