"""The question before work is cut off: what it shows, and what each answer does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.operators.approvals import ConfirmCutOffOperator
from heat_upgrade.run.approvals import CUT_OFF, cut_off_question
from heat_upgrade.run.plan import Plan
from tests.unit._helpers.clouds.broken import edited

CLOUD = Cloud.model_validate({**edited({}), "name": "lab"})
PLAN = Plan("25.0.2", "26.0.2", ("controller-1",), cold=True, bounded_wait=60.0)
LEFT = {"stacks": {"s1": "stack 'web' (s1, project p)"}, "reasons": ["queue 'engine' is not empty"]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    upsert = mock.Mock()
    monkeypatch.setattr(hitl, "upsert_hitl_detail", upsert)
    return upsert


def context(left: dict[str, Any] | None) -> Any:
    instance = mock.Mock(dag_id="heat_cold_upgrade__lab")
    pulled = {"preflight": PLAN.as_xcom(), "wait_until_drained": left, "confirm_cut_off": None}
    instance.xcom_pull.side_effect = lambda task_ids: pulled[task_ids]
    return {"ti": instance, "task_instance": instance, "dag_run": mock.Mock(clear_number=0)}


def confirm() -> ConfirmCutOffOperator:
    return ConfirmCutOffOperator(task_id="confirm_cut_off", cloud=CLOUD)


def answer(*options: str) -> dict[str, Any]:
    return {
        "chosen_options": list(options),
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": None,
    }


def test_nobody_is_asked_where_nothing_is_cut_off(asked: mock.Mock) -> None:
    assert confirm().execute(context(None)) is None
    asked.assert_not_called()


def test_the_question_names_every_stack_and_waits_for_as_long_as_it_takes(asked: mock.Mock) -> None:
    with pytest.raises(TaskAwaitingInput) as caught:
        confirm().execute(context(LEFT))
    assert caught.value.timeout is None
    shown = asked.call_args.kwargs
    assert shown["options"] == ["Approve", "Reject"]
    assert shown["defaults"] is None
    for words in ("stack 'web' (s1, project p)", "queue 'engine' is not empty", "**Reject** stops"):
        assert words in shown["body"]


def test_approval_gives_the_stacks() -> None:
    assert confirm().execute_complete(context(LEFT), answer("Approve")) == LEFT["stacks"]


@pytest.mark.parametrize(
    "event", [answer("Reject"), {"error": "late", "error_type": "timeout"}], ids=["rejected", "an error"]
)
def test_all_else_stops_the_run_for_good_and_says_how_to_go_on_or_back(event: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException) as caught:
        confirm().execute_complete(context(LEFT), event)
    assert "clear wait_until_drained" in str(caught.value)
    assert "heat_cold_upgrade__lab with target_release 25.0.2" in str(caught.value)


def test_what_users_wrote_does_nothing_in_the_question() -> None:
    names = {str(n): f"stack 'a`b\n```\n# {n}'" for n in range(CUT_OFF + 2)}
    lines = cut_off_question({"stacks": names, "reasons": []}).splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    assert len(fences) == 4
    assert not any(line.startswith("#") for line in lines)
    assert lines[fences[1] - 1] == "... and 2 more"
