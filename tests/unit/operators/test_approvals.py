"""Where a run asks before it goes on, what it shows, and what each answer does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from airflow.providers.standard.operators import hitl
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput

from heat_upgrade import hosts
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.hooks import heat_database
from heat_upgrade.hosts import HostState, RouterState
from heat_upgrade.operators.approvals import (
    ApproveFlipOperator,
    ApproveOperator,
    ApproveOutageOperator,
    ApproveRetireOperator,
    ApproveWaveOperator,
)
from heat_upgrade.operators.base import skip_unneeded
from heat_upgrade.operators.canary import FlipCanaryOperator
from heat_upgrade.readings import StackRow
from heat_upgrade.run.approvals import (
    HOSTS,
    STACKS,
    Approvals,
    later_waves_to_ask_before,
    question,
    waves_to_move,
)
from heat_upgrade.run.dry_run import PlannedAction
from heat_upgrade.run.plan import Plan
from tests.unit._helpers.clouds.broken import DELETE, edited

OLD, NEW = "25.0.2", "26.0.2"
FIRST, SECOND, THIRD = NAMES = ("controller-1", "controller-2", "edge.example")
EDITS = {"windows": DELETE, "pending_release": DELETE, "waves": [1], "approvals": {"timeout": 600}}
CLOUD = Cloud.model_validate({**edited(EDITS), "name": "lab"})
IN_PAIRS = Cloud.model_validate({**edited({**EDITS, "waves": [1, 2]}), "name": "lab"})
NOW = datetime(2026, 11, 21, 23, 5, tzinfo=UTC)
APPROVE, REJECT = "Approve", "Reject"


def plan(approvals: Approvals = Approvals.NONE, **more: Any) -> Plan:
    return Plan(OLD, NEW, **{"hosts": NAMES, "approvals": str(approvals), **more})


def state(name: str, *engines: str, api: str = OLD) -> HostState:
    host = CLOUD.host(name)
    alive = {(role, release): "active" for role in host.roles for release in (engines if role == "engine" else (api,))}
    return HostState(host, name, alive, installed={NEW: NEW})


def states(*moved: str) -> dict[str, HostState]:
    return {name: state(name, OLD, NEW, api=NEW if name in moved else OLD) for name in NAMES}


def stack(name: str) -> StackRow:
    return StackRow("s1", name, "p", "CREATE", "IN_PROGRESS", True, None, 5, None)


class TestWhere:
    """The parameter and the plan alone say where a run asks."""

    @pytest.mark.parametrize(
        ("more", "waves"),
        [
            ({}, [1, 2, 3]),
            ({"hosts": (SECOND, THIRD)}, [2, 3]),
            ({"moved": (SECOND,)}, [1, 3]),
            ({"hosts": (FIRST,), "moved": (FIRST,)}, []),
        ],
    )
    def test_a_host_that_is_left_out_or_has_moved_counts_for_nothing(
        self, more: dict[str, Any], waves: list[int]
    ) -> None:
        assert waves_to_move(CLOUD, plan(**more)) == waves
        assert later_waves_to_ask_before(CLOUD, plan(Approvals.EVERY_HOST, **more)) == waves[1:]
        assert later_waves_to_ask_before(CLOUD, plan(Approvals.FIRST_HOST, **more)) == waves[1:2]

    def test_hosts_that_move_side_by_side_share_a_question(self) -> None:
        assert later_waves_to_ask_before(IN_PAIRS, plan(Approvals.EVERY_HOST)) == [2]

    @pytest.mark.parametrize("approvals", [Approvals.NONE, Approvals.OLD_ENGINES, Approvals.OUTAGE])
    def test_other_runs_ask_neither_before_nor_in_the_sweep(self, approvals: Approvals) -> None:
        assert later_waves_to_ask_before(CLOUD, plan(approvals)) == []

    def test_before_the_flip_means_once(self) -> None:
        assert later_waves_to_ask_before(CLOUD, plan(Approvals.FLIP)) == []


class TestQuestion:
    """What is shown to who decides."""

    def ask(self, found: Mapping[str, HostState], stacks: list[StackRow], **more: Any) -> str:
        return question(
            plan(**more), found, stacks, then="THEN", reject="LEFT.", now=NOW, timeout=timedelta(minutes=10)
        )

    def test_it_tells_what_was_done_and_what_comes_next(self) -> None:
        text = self.ask(states(FIRST), [stack("web")], hosts=(FIRST, SECOND))
        assert text.splitlines() == [
            "**So far** (2026-11-21 23:05 UTC): from 25.0.2 to 26.0.2.",
            "",
            "| host | 26.0.2 prepared | engine runs | APIs run | this run |",
            "| --- | --- | --- | --- | --- |",
            "| controller-1 | yes | 25.0.2, 26.0.2 | 26.0.2 | moved |",
            "| controller-2 | yes | 25.0.2, 26.0.2 | 25.0.2 | to move |",
            "| edge.example | yes |  | 25.0.2 | left out |",
            "",
            "Stacks in progress: 1",
            "",
            "```",
            "stack 'web' (s1, project p, CREATE, age 5 s)",
            "```",
            "",
            "**Approve**: THEN",
            "",
            "**Reject**: the run stops here. LEFT. No answer within 10 min counts as *Reject*.",
        ]

    def test_a_large_cloud_stays_readable_and_what_users_wrote_does_nothing(self) -> None:
        many = {str(number): states()[FIRST] for number in range(HOSTS + 3)}
        text = self.ask(many, [stack("a\n```\n# b")] * (STACKS + 2))
        assert text.count("| controller-1 |") == HOSTS
        assert "... and 3 more hosts." in text
        assert "... and 2 more" in text
        assert not [line for line in text.splitlines() if line.startswith("#")]
        assert [line for line in text.splitlines() if set(line) == {"`"}] == ["````"] * 2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    upsert = mock.Mock()
    database = mock.create_autospec(heat_database.HeatDatabaseHook, instance=True)
    database.stacks_in_progress.return_value = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", upsert)
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", lambda _: database)
    return upsert


def context(made: Plan, cut_off: dict[str, str] | None = None) -> Any:
    instance = mock.Mock(dag_id="heat_rolling_upgrade__lab")
    pulled = {"preflight": json.loads(json.dumps(made.as_xcom())), "confirm_cut_off": cut_off}
    instance.xcom_pull.side_effect = lambda task_ids: pulled[task_ids]
    return {"ti": instance, "task_instance": instance, "dag_run": mock.Mock(clear_number=0)}


def answer(option: str, **more: Any) -> dict[str, Any]:
    user = {"id": "7", "name": "kim"}
    response = {"chosen_options": [option], "params_input": {}, "responded_at": NOW, "responded_by_user": user}
    return {**response, "timedout": False, **more}


def look(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, HostState]) -> mock.Mock:
    looked = mock.Mock(return_value=found)
    monkeypatch.setattr(hosts, "states_of", looked)
    return looked


def wave(number: int) -> ApproveWaveOperator:
    return ApproveWaveOperator(task_id=f"approve-wave-{number}", cloud=CLOUD, wave=number)


def flip() -> ApproveFlipOperator:
    return ApproveFlipOperator(task_id="approve_flip", cloud=CLOUD)


def before_the_sweep() -> EmptyOperator:
    with DAG("upgrade", schedule=None):
        first = EmptyOperator(task_id="start_beside")
        first >> [wave(2), wave(3), ApproveFlipOperator(task_id="approve_flip", cloud=CLOUD)]
        first >> FlipCanaryOperator(task_id="flip_canary", cloud=CLOUD)
    return first


def swept() -> dict[str, HostState]:
    """Return a cloud whose new APIs are all in front, with users on the old side."""
    found = {name: state(name, OLD, NEW, api=NEW) for name in NAMES}
    return {name: replace(each, routers={NEW: RouterState(OLD)}) for name, each in found.items()}


def retire() -> ApproveRetireOperator:
    return ApproveRetireOperator(task_id="approve_retire", cloud=CLOUD)


def outage() -> ApproveOutageOperator:
    return ApproveOutageOperator(task_id="approve_outage", cloud=CLOUD)


def skipped_by(execute: Any) -> set[str]:
    try:
        execute()
    except DownstreamTasksSkipped as skipped:
        return set(skipped.tasks)
    return set()


class TestOperators:
    """When a task asks, and what each answer does."""

    @pytest.mark.parametrize(
        ("operator", "made", "words"),
        [
            (flip(), plan(Approvals.FLIP), "what is new goes to 26.0.2 from one moment on"),
            (flip(), plan(Approvals.EVERY_HOST), "what is in flight ends on 25.0.2"),
            (
                flip(),
                plan(Approvals.FLIP, canary=("_p1_",)),
                r"first new stacks of \_p1\_ go to 26.0.2, everybody else's stay. If all goes well, what is new goes",
            ),
            (wave(2), plan(Approvals.FIRST_HOST), "get in front on controller-2, and those of the others after them"),
            (wave(2), plan(Approvals.EVERY_HOST), "and no others yet. Users stay with 25.0.2, however long the answer"),
            (retire(), plan(Approvals.OLD_ENGINES), "The drain is over: the engines of 25.0.2"),
            (retire(), plan(Approvals.OLD_ENGINES, cold=True), "Until then no API answers"),
            (outage(), plan(Approvals.OUTAGE, cold=True), "the APIs stop on all hosts"),
        ],
    )
    def test_a_run_that_wants_to_be_asked_is(
        self,
        operator: ApproveOperator,
        made: Plan,
        words: str,
        asked: mock.Mock,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Any,
    ) -> None:
        look(monkeypatch, swept() if isinstance(operator, ApproveFlipOperator) else states())
        with pytest.raises(TaskAwaitingInput) as caught:
            operator.execute(context(made))
        assert caught.value.timeout == timedelta(minutes=10)
        shown = asked.call_args.kwargs
        assert shown["options"] == [APPROVE, REJECT]
        assert shown["defaults"] == [REJECT]
        assert words in shown["body"]
        assert shown["subject"].startswith("Heat in lab: ")
        assert words in capsys.readouterr().out, "Airflow shows only the first text where a question is asked again"

    @pytest.mark.parametrize("operator", [flip(), wave(2), wave(3), retire(), outage()])
    def test_one_that_does_not_passes_at_once(
        self, operator: ApproveOperator, asked: mock.Mock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked = look(monkeypatch, states())
        skipped_by(lambda: operator.execute(context(plan())))
        asked.assert_not_called()
        looked.assert_not_called()

    @pytest.mark.parametrize(
        ("operator", "made"),
        [
            (flip(), plan(Approvals.FLIP)),
            (wave(2), plan(Approvals.EVERY_HOST)),
            (retire(), plan(Approvals.OLD_ENGINES)),
            (outage(), plan(Approvals.OUTAGE)),
        ],
    )
    def test_what_is_done_already_raises_no_question(
        self, operator: ApproveOperator, made: Plan, asked: mock.Mock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody has done it since preflight, or this is a task that was cleared after it."""
        look(monkeypatch, {name: state(name, NEW, api=NEW) for name in NAMES})
        skipped_by(lambda: operator.execute(context(made)))
        asked.assert_not_called()

    @pytest.mark.parametrize(
        ("approvals", "says"),
        [
            (Approvals.NONE, "nothing: the run doesn't ask here"),
            (Approvals.FLIP, "ask whether to send users to 26.0.2"),
        ],
    )
    def test_a_dry_run_asks_nobody_and_skips_nothing(
        self, approvals: Approvals, says: str, asked: mock.Mock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked = look(monkeypatch, states())
        dry = context(plan(approvals, dry_run=True))
        assert skipped_by(lambda: flip().execute(dry)) == set()
        asked.assert_not_called()
        looked.assert_not_called()
        planned = PlannedAction.of_xcom(dry["ti"].xcom_push.call_args.kwargs["value"])
        assert planned.text.startswith(says)

    def test_what_an_operator_has_just_decided_is_not_asked_again(
        self, asked: mock.Mock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look(monkeypatch, states())
        made = plan(Approvals.OLD_ENGINES, cold=True, bounded_wait=60.0)
        retire().execute(context(made, cut_off={"s1": "stack 'web'"}))
        asked.assert_not_called()
        with pytest.raises(TaskAwaitingInput):
            retire().execute(context(made))

    @pytest.mark.parametrize(
        ("approvals", "skipped"),
        [
            (Approvals.NONE, {"approve-wave-2", "approve-wave-3", "approve_flip", "flip_canary"}),
            (Approvals.FLIP, {"approve-wave-2", "approve-wave-3", "flip_canary"}),
            (Approvals.FIRST_HOST, {"approve-wave-3", "approve_flip", "flip_canary"}),
            (Approvals.EVERY_HOST, {"flip_canary"}),
        ],
    )
    def test_questions_that_the_run_does_not_ask_cost_the_sweep_nothing(
        self, approvals: Approvals, skipped: set[str]
    ) -> None:
        task = before_the_sweep()
        assert skipped_by(lambda: skip_unneeded(task, plan(approvals))) == skipped

    @pytest.mark.parametrize(
        ("event", "who"),
        [
            (answer(REJECT), "Rejected by kim: the run stops here. "),
            (
                answer(REJECT, timedout=True, responded_by_user=None),
                "Nobody answered within 10 min, which counts as Reject: ",
            ),
            ({"error": "late", "error_type": "timeout"}, "Nobody answered within 10 min, which counts as Reject: "),
        ],
        ids=["rejected", "no answer", "an error"],
    )
    @pytest.mark.parametrize(
        ("operator", "left"),
        [
            (flip(), "Every request is served by 25.0.2, as before"),
            (wave(2), "The cloud stays half-swept"),
            (retire(), "The engines of 25.0.2 go on running"),
            (outage(), "Every API still serves as before"),
        ],
    )
    def test_all_but_an_approval_stops_the_run_for_good(
        self, operator: ApproveOperator, left: str, event: dict[str, Any], who: str
    ) -> None:
        with pytest.raises(AirflowFailException) as caught:
            operator.execute_complete(context(plan(Approvals.EVERY_HOST)), event)
        message = str(caught.value)
        assert message.startswith(who)
        assert left in message
        assert message.endswith("To be asked again: clear this task with all that follows it")

    def test_an_approval_goes_on(self) -> None:
        wave(2).execute_complete(context(plan(Approvals.EVERY_HOST)), answer(APPROVE))
