"""Reasons of stack failures compare across runs: names, ids and numbers go, what happened stays."""

import pytest

from lab.traffic.reasons import kind_of

PREFIX = "upgrade-1795345760"
FOREIGN_KEY = (
    "(pymysql.err.IntegrityError) (1451, 'Cannot delete or update a parent row: a foreign key constraint fails "
    "(`heat`.`resource`, CONSTRAINT `resource_ibfk_1` FOREIGN KEY (`current_template_id`) REFERENCES "
    "`raw_template` (`id`))')\n[SQL: DELETE FROM raw_template WHERE raw_template.id = %(id)s]\n"
    "[parameters: {'id': 821}]"
)


def kind(action: str, reason: str) -> str:
    return kind_of(action, reason, prefix=PREFIX)


def test_the_place_in_a_tree_of_stacks_makes_no_kind_of_its_own() -> None:
    reasons = [
        "Stack UPDATE cancelled",
        "resources[3]: Stack UPDATE cancelled",
        "Resource UPDATE failed: resources.outer: Stack UPDATE cancelled",
        "Resource UPDATE failed: resources.outer: Resource UPDATE failed: resources[1]: Stack UPDATE cancelled",
        "Resource UPDATE failed: Error: resources.outer.resources[1].resources.leaf: Stack UPDATE cancelled",
    ]
    assert {kind("UPDATE", reason) for reason in reasons} == {"UPDATE: Stack UPDATE cancelled"}


def test_the_action_and_the_cause_do() -> None:
    kinds = {
        kind("CREATE", "Stack CREATE cancelled"),
        kind("UPDATE", "Stack UPDATE cancelled"),
        kind("UPDATE", "Stack CREATE cancelled"),
        kind("CREATE", "Resource CREATE failed: resources.part-1: Worker went down during resource CREATE"),
        kind("CREATE", "Timed out"),
    }
    assert len(kinds) == 5


@pytest.mark.parametrize("length", [150, 200, 255, 1000])
def test_a_database_error_is_known_by_its_constraint_however_short_heat_cuts_it(length: int) -> None:
    nested = f"Resource UPDATE failed: resources.outer: {FOREIGN_KEY}"[:length]
    if length == 150:
        assert kind("UPDATE", nested).startswith("UPDATE: MySQL IntegrityError 1451, ")
        return
    assert kind("UPDATE", nested) == "UPDATE: MySQL IntegrityError 1451, constraint resource_ibfk_1"
    assert kind("UPDATE", nested) == kind("UPDATE", FOREIGN_KEY)


def test_another_database_error_is_another_kind() -> None:
    deadlock = "(pymysql.err.OperationalError) (1213, 'Deadlock found when trying to get lock; try restarting')"
    assert kind("UPDATE", deadlock) == "UPDATE: MySQL OperationalError 1213, Deadlock found when trying to get lock;"
    assert kind("UPDATE", deadlock) != kind("UPDATE", FOREIGN_KEY)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "MessagingTimeout: resources.outer: Timed out waiting for message ID 0123456789abcdef0123456789abcdef",
            "MessagingTimeout: resources.a.b: Timed out waiting for message ID fedcba9876543210fedcba9876543210",
        ),
        (
            "The Stack (upgrade-1795345760-004-nested-outer-w74mnmv56bcg) could not be found.",
            "The Stack (upgrade-1795345760-117-chain) could not be found.",
        ),
        ("Stack 6e1b1c9e-7f8a-4a3c-9b6b-0c8b9f3c2d1e gone", "Stack 00000000-7f8a-4a3c-9b6b-0c8b9f3c2d1e gone"),
        ("gave up after 61.5 s", "gave up  after 7 s"),
    ],
)
def test_names_ids_and_numbers_make_no_difference(one: str, other: str) -> None:
    assert kind("CREATE", one) == kind("CREATE", other)


def test_a_missing_reason_is_said_so() -> None:
    assert kind("DELETE", "") == "DELETE: no reason given"
