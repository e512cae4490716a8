"""What the tasks around stranded stacks decide, with autospec'd hooks in the place of servers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.exceptions import (
    HeatDatabaseUnavailableError,
    RabbitMQUnavailableError,
    UpgradeError,
)
from heat_upgrade.hooks import heat_api, heat_database, rabbitmq
from heat_upgrade.hooks.heat_api import HeatApiHook
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
from heat_upgrade.operators import stranded as module
from heat_upgrade.operators.stranded import (
    ApproveStrandedOperator,
    EndStrandedOperator,
    FindStrandedOperator,
    WaitForEndsOperator,
)
from heat_upgrade.readings import HeldRow, StackState, UnfinishedStack, Work
from heat_upgrade.stranded.rule import Choice, StrandedStack, find_stranded
from heat_upgrade.triggers.stacks import StacksEndedTrigger
from rabbitmq_management.records import QueueReading
from tests.unit._helpers.clouds.broken import edited

CLOUD = Cloud.model_validate({**edited({}), "name": "lab"})
LIVE, DEAD, ELSEWHERE = "live-engine", "dead-engine", "engine-of-a-vhost-that-nobody-knows"
AGO = datetime(2026, 11, 1, 12, 30)


def unfinished(id_: str, **changes: Any) -> UnfinishedStack:
    stack = UnfinishedStack(
        id_, f"{id_}-name", f"{id_}-project", "CREATE", "IN_PROGRESS", True, None, 700, "t", AGO, 700, 1
    )
    return replace(stack, **changes)


A, B = unfinished("a"), unfinished("b")


def held(stack_id: str, engine_id: str) -> HeldRow:
    return HeldRow(stack_id, f"{stack_id}-name", f"{stack_id}-project", "resource", engine_id)


class Servers:
    """All that the tasks talk to."""

    def __init__(self) -> None:
        self.broker = mock.create_autospec(HeatRabbitMQHook, instance=True)
        self.broker.vhost_exists.side_effect = lambda vhost: vhost == CLOUD.releases[0].vhost
        self.broker.live_engine_ids.return_value = frozenset({LIVE})
        self.broker.engine_ids.return_value = frozenset({LIVE, DEAD})
        self.broker.queues.return_value = []
        self.database = mock.create_autospec(HeatDatabaseHook, instance=True)
        self.database.unfinished_stacks.return_value = [A, B]
        self.database.held.return_value = [held("a", DEAD)]
        self.database.engines_heard_of.return_value = frozenset({DEAD})
        self.apis: dict[str, Any] = {}
        self._lock = Lock()  # mocks are made by one thread at a time

    def api(self, conn_id: str, project: str) -> Any:
        assert conn_id == CLOUD.connections.api
        with self._lock:
            return self.apis.setdefault(project, mock.create_autospec(HeatApiHook, instance=True))

    def asked(self) -> dict[str, list[Any]]:
        return {project: [tuple(call.args) for call in api.call.mock_calls] for project, api in self.apis.items()}

    def found(self) -> list[StrandedStack]:
        stacks, held = tuple(self.database.unfinished_stacks()), tuple(self.database.held())
        return find_stranded(Work(stacks, held, frozenset({LIVE})), 600)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(rabbitmq, "HeatRabbitMQHook", lambda _: servers.broker)
    monkeypatch.setattr(heat_database, "HeatDatabaseHook", lambda _: servers.database)
    monkeypatch.setattr(heat_api, "HeatApiHook", servers.api)
    monkeypatch.setattr(module, "_LOOKS_APART", 0.0)
    monkeypatch.setattr(module, "_QUEUES_PATIENCE", 0.0)
    monkeypatch.setattr(module, "POLL", 0.0)
    return servers


def context(**xcoms: Any) -> Any:
    """Return a task's context, with what earlier tasks returned as an XCom keeps it."""
    instance = mock.Mock()
    instance.xcom_pull.side_effect = lambda task_ids: json.loads(json.dumps(xcoms[task_ids]))
    return {"ti": instance, "params": {"unchanged_minutes": 10, "wait_minutes": 60}}


def operator(kind: Any) -> Any:
    return kind(task_id="task", cloud=CLOUD)


def find(servers: Servers) -> list[str]:
    return [row["id"] for row in operator(FindStrandedOperator).execute(context())]


def test_what_two_looks_show_alike_is_found(servers, capsys):
    assert find(servers) == ["a", "b"]
    assert "2 stranded stacks" in capsys.readouterr().out
    assert servers.database.unfinished_stacks.call_args.kwargs == {"also": {"a"}}


def test_what_changes_between_the_looks_is_not(servers):
    servers.database.unfinished_stacks.side_effect = [[A, B], [A, replace(B, remaining=0)]]
    assert find(servers) == ["a"]


def test_an_engine_that_only_the_database_has_heard_of_is_alive(servers):
    servers.database.engines_heard_of.return_value = frozenset({ELSEWHERE, DEAD})
    servers.database.held.return_value = [held("a", ELSEWHERE), held("b", DEAD)]
    assert find(servers) == ["b"]


def test_nothing_stranded_skips_what_follows(servers):
    servers.database.unfinished_stacks.return_value = [replace(A, idle=5)]
    with pytest.raises(AirflowSkipException, match="no stack of lab is stranded"):
        find(servers)


BROKEN: dict[str, Any] = {
    "queues": RabbitMQUnavailableError("down"),
    "live_engine_ids": RabbitMQUnavailableError("down"),
    "engine_ids": RabbitMQUnavailableError("down"),
    "unfinished_stacks": HeatDatabaseUnavailableError("down"),
    "held": HeatDatabaseUnavailableError("down"),
    "engines_heard_of": HeatDatabaseUnavailableError("down"),
}


@pytest.mark.parametrize("method", BROKEN)
def test_what_can_t_be_read_makes_nothing_stranded(servers, method):
    owner = servers.broker if hasattr(servers.broker, method) else servers.database
    getattr(owner, method).side_effect = BROKEN[method]
    with pytest.raises(AirflowException, match="down"):
        find(servers)


def test_without_an_engine_nothing_is_called_stranded(servers):
    servers.broker.live_engine_ids.return_value = frozenset()
    with pytest.raises(UpgradeError, match=r"no engine listens .* start the engines"):
        find(servers)


@pytest.mark.parametrize("queue", [QueueReading("engine_worker", 0, 0, 0), QueueReading("engine.dead", 3, 0, 0)])
def test_what_no_engine_will_read_holds_nothing_up(servers, queue):
    servers.broker.queues.return_value = [queue]
    assert find(servers) == ["a", "b"]


@pytest.mark.parametrize("queue", [QueueReading("engine_worker", 1, 0, 0), QueueReading("engine.c1", 0, 1, 1)])
def test_while_work_waits_in_a_queue_nothing_is_called_stranded(servers, queue):
    servers.broker.queues.return_value = [queue]
    with pytest.raises(AirflowException, match=f"queue '{queue.name}' .* work waits there"):
        find(servers)


def answered(servers: Servers, option: str, leave_alone: list[str] | None = None) -> Any:
    given = {
        "chosen_options": [option],
        "params_input": {"leave_alone": leave_alone} if leave_alone is not None else {},
    }
    event = {**given, "responded_at": datetime(2026, 11, 1), "responded_by_user": None}
    found = [stack.as_xcom() for stack in servers.found()]
    return ApproveStrandedOperator(task_id="approve").execute_complete(context(find=found), event)


def test_an_answer_names_the_choice_and_the_stacks(servers):
    assert answered(servers, "Update") == {"choice": "Update", "stacks": ["a", "b"]}
    assert answered(servers, "Cancel without rollback", [" b ", ""])["stacks"] == ["a"]


@pytest.mark.parametrize(("option", "alone"), [("Leave as they are", []), ("Update", ["a", "b"])])
def test_where_nothing_is_to_be_done_the_rest_is_skipped(servers, option, alone):
    with pytest.raises(AirflowSkipException):
        answered(servers, option, alone)


def test_a_slip_in_leave_alone_is_refused_before_anything_is_done(servers):
    with pytest.raises(AirflowFailException, match=r"got 'bb', expected ids of stacks in the table; nothing was done"):
        answered(servers, "Update", ["bb"])


def test_nobody_s_answer_means_leave() -> None:
    ask = ApproveStrandedOperator(task_id="approve")
    assert ask.defaults == [Choice.LEAVE]
    assert ask.response_timeout is not None


def end(servers: Servers, choice: Choice = Choice.UPDATE, stacks: tuple[str, ...] = ("a", "b")) -> dict[str, list[str]]:
    found = [stack.as_xcom() for stack in servers.found()]
    answer = {"choice": str(choice), "stacks": list(stacks)}
    servers.database.unfinished_stacks.side_effect = servers.later
    return operator(EndStrandedOperator).execute(context(find=found, approve=answer))


@pytest.fixture(autouse=True)
def later(servers: Servers) -> None:
    """Let nothing change between the question and the answer."""
    servers.later = None


def test_each_stack_is_ended_in_its_own_project(servers):
    assert {id_: what for id_, (what, _) in end(servers).items()} == {"a": "asked", "b": "asked"}
    assert servers.asked() == {
        "a-project": [("PATCH", "/stacks/a-name/a", {})],
        "b-project": [("PATCH", "/stacks/b-name/b", {})],
    }


def test_only_what_was_approved_is_touched(servers):
    assert set(end(servers, Choice.CANCEL, ("b",))) == {"b"}
    assert servers.asked() == {"b-project": [("POST", "/stacks/b-name/b/actions", {"cancel_without_rollback": None})]}


def test_what_somebody_has_taken_up_since_is_left_to_them(servers):
    servers.later = [[A, replace(B, traversal="a newer one")]]
    outcomes = end(servers)
    assert outcomes["b"][0] == "taken up"
    assert set(servers.asked()) == {"a-project"}


def test_what_is_gone_since_is_not_touched(servers):
    servers.later = [[A]]
    assert end(servers)["b"][0] == "taken up"


def test_one_that_is_refused_holds_up_no_other(servers):
    servers.api(CLOUD.connections.api, "a-project").call.side_effect = UpgradeError("no role there")
    outcomes = end(servers)
    assert outcomes["a"] == ["refused", "no role there"]
    assert outcomes["b"][0] == "asked"


def test_hundreds_are_looked_at_afresh_on_the_way(servers):
    many = [unfinished(f"s{number}", project=f"project-{number % 3}") for number in range(300)]
    servers.database.unfinished_stacks.return_value = many
    assert len(end(servers, stacks=tuple(stack.id for stack in many))) == 300
    assert servers.database.unfinished_stacks.call_count > 50


def waiting(outcomes: dict[str, list[str]], servers: Servers) -> Any:
    return context(find=[stack.as_xcom() for stack in servers.found()], end=outcomes)


def test_it_waits_for_what_has_a_chance_to_end(servers):
    outcomes = {"a": ["asked", ""], "b": ["taken up", ""], "c": ["left", ""], "d": ["refused", ""]}
    before = time.time()
    with pytest.raises(TaskDeferred) as caught:
        operator(WaitForEndsOperator).execute(waiting(outcomes, servers))
    _, arguments = caught.value.trigger.serialize()
    assert arguments["stacks"] == ["a", "b"]
    assert before + 3600 <= arguments["deadline"] <= time.time() + 3600


def report(servers: Servers, outcomes: dict[str, list[str]], **states: StackState) -> None:
    servers.database.stack_states.return_value = states
    operator(WaitForEndsOperator).execute_complete(waiting(outcomes, servers), True)


ASKED = ["asked", "PATCH"]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (StackState("UPDATE", "COMPLETE", "fine"), "UPDATE_COMPLETE"),
        (StackState("UPDATE", "FAILED", "no quota"), "UPDATE_FAILED: no quota"),
        (StackState("DELETE", None, ""), "deleted"),
    ],
)
def test_every_end_is_told(servers, capsys, state, told):
    report(servers, {"a": ASKED, "b": ["left", "it is a legacy stack"]}, a=state)
    out = capsys.readouterr().out
    assert f"a-project  {told}" in out
    assert "left: it is a legacy stack" in out


def test_one_that_has_not_ended_fails_the_run(servers):
    with pytest.raises(
        AirflowFailException, match=r"1 of 2 stacks have not ended(.|\n)*a-name.*still in progress: UPD"
    ):
        report(servers, {"a": ASKED, "b": ASKED}, a=StackState("UPDATE", "IN_PROGRESS", ""))


def test_one_that_was_refused_fails_the_run(servers):
    with pytest.raises(AirflowFailException, match=r"b-name.*refused: no role there"):
        report(servers, {"b": ["refused", "no role there"]}, b=StackState("CREATE", "IN_PROGRESS", ""))


def fires(servers: Servers, readings: list[Any], seconds: float) -> bool:
    servers.database.stack_states.side_effect = readings
    trigger = StacksEndedTrigger(stacks=["a"], database_conn_id="d", interval=0.01, deadline=time.time() + seconds)
    copy = StacksEndedTrigger(**trigger.serialize()[1])

    async def first() -> bool:
        async for event in copy.run():
            return bool(event.payload)
        raise AssertionError("it never fired")

    return asyncio.run(first())


def test_the_trigger_fires_once_none_is_in_progress_any_more(servers):
    busy = {"a": StackState("UPDATE", "IN_PROGRESS", "")}
    assert fires(
        servers, [busy, HeatDatabaseUnavailableError("down"), busy, {"a": StackState("UPDATE", "FAILED", "")}], 60
    )
    assert fires(servers, [{}], 60)


def test_the_trigger_gives_up_at_its_deadline(servers):
    busy = {"a": StackState("UPDATE", "IN_PROGRESS", "")}
    assert not fires(servers, [busy] * 1000, 0.05)
