"""The plan of a dry run: as data, as an XCom, as Markdown."""

from __future__ import annotations

import json
import re

from heat_upgrade.run.dry_run import DryRun, PlannedAction, PlannedCommand, PlannedTask, markdown
from heat_upgrade.run.timings import longest_path

ODD = "a | b ```` `c` <script> [x](y) *z*"
PREPARE = PlannedAction(
    f"write {ODD}",
    (PlannedCommand("controller-1", "exec env A='b c' bash /s/steps/1/prepare </dev/null"),),
    ("--- /etc/heat/25/heat.conf", "+++ /etc/heat/26/heat.conf", "-```` old", "+new"),
)
DRAIN = PlannedAction("wait", shows="reading 1\nqueues 0")
LEAVE = PlannedAction(
    "leave", (PlannedCommand("controller-1's load balancer", "leave api"), PlannedCommand("RabbitMQ", "PUT /api/x"))
)
NOTHING = PlannedAction.nothing("it is there")


def plan(*tasks: PlannedTask) -> str:
    return markdown(DryRun("upgrade of lab", tasks, ["about a minute", "a guess"], unpacking="umask 077\ntar"))


def test_an_action_comes_back_from_an_xcom_as_it_was() -> None:
    for action in (PREPARE, DRAIN, LEAVE, NOTHING, PlannedAction("end", ends_run=True)):
        assert PlannedAction.of_xcom(json.loads(json.dumps(action.as_xcom()))) == action
    assert [action.idle for action in (PREPARE, NOTHING)] == [False, True]


def test_the_plan_is_one_table_in_the_runs_order() -> None:
    page = plan(PlannedTask("create_vhost", "", NOTHING, 3.2), PlannedTask("prepare.c1", "c1", DRAIN))
    assert "| `create_vhost` | nothing: it is there | 3.2 s |\n| `prepare.c1` | wait |  |\n" in page
    assert page.startswith("# Dry run: upgrade of lab\n\nNothing was changed.")
    assert "## Time\n\n- about a minute\n- a guess\n" in page
    assert page.endswith("```sh\numask 077\ntar\n```\n")


def test_each_host_has_its_commands_and_its_difference() -> None:
    page = plan(PlannedTask("a", "", NOTHING), PlannedTask("b", "c2", LEAVE), PlannedTask("c", "c1", PREPARE))
    assert re.findall(r"^##+ .*", page, re.MULTILINE) == [
        *("## In order", "## Time", "## c2", "### b", "## c1", "### c"),
        "## What every command on a host begins with",
    ]
    assert "To controller-1's load balancer:\n\n```sh\nleave api\n```\n\nTo RabbitMQ:\n\n```sh\nPUT /api/x\n```" in page
    assert "```sh\nexec env A='b c' bash /s/steps/1/prepare </dev/null\n```" in page


def test_what_comes_from_outside_stays_text() -> None:
    page = plan(PlannedTask("c", "c1", PREPARE))
    assert "| write a \\| b \\`\\`\\`\\` \\`c\\` \\<script\\> \\[x\\](y) \\*z\\* |" in page
    assert "`````diff\n--- /etc" in page
    assert "+new\n`````\n" in page


def test_tasks_side_by_side_take_as_long_as_the_slowest() -> None:
    upstream = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "other": []}
    assert longest_path(upstream, {"a": 1, "b": 2, "c": 30, "d": 4}) == 35
    assert longest_path(upstream, {"other": 99, "d": 4}) == 99
    assert longest_path({}, {}) == 0
