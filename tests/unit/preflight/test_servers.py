"""What preflight checks in RabbitMQ and in Heat's database, with facts that are as they should be, and with others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.hooks.heat_database import HeatDatabaseHook
from heat_upgrade.hooks.vhosts import VhostHook
from heat_upgrade.preflight.check import Check, Outcome
from heat_upgrade.preflight.database import (
    DatabaseFacts,
    Migration,
    check_database,
    longest_resource,
)
from heat_upgrade.preflight.facts import HostFacts, LongestResource
from heat_upgrade.preflight.rabbitmq import BrokerFacts, check_rabbitmq
from heat_upgrade.readings import ClientConnection, EventRow, HeldRow, Unavailable, UnfinishedStack, Work
from rabbitmq_management.records import ExpiringPolicy, Node, Permission, QueueReading
from tests.unit._helpers.healthy import (
    BEFORE,
    BETWEEN,
    BROKER,
    CLOUD,
    DATABASE,
    GIB,
    HEAD,
    NEW,
    NOW,
    OLD,
    consumers,
    healthy,
)

PASSED, SKIPPED, WARNED, FAILED = Outcome
OLD_RELEASE, NEW_RELEASE = CLOUD.release(OLD), CLOUD.release(NEW)
HOST = CLOUD.host("controller-2")
MIGRATION = Migration(OLD_RELEASE, NEW_RELEASE, going_back=False, cloud="lab", starts_engine=True)


def outcomes(found: Iterable[Check]) -> dict[str, Outcome]:
    return {check.name: check.outcome for check in found}


def stack(name: str, *, convergence: bool = True, idle: int = 700) -> UnfinishedStack:
    since = datetime(2026, 11, 22, 3)
    return UnfinishedStack(f"{name}-id", name, "p", "CREATE", "IN_PROGRESS", convergence, None, 42, "t", since, idle, 1)


def rabbitmq(facts: BrokerFacts, *, login: str = "heat") -> list[Check]:
    return check_rabbitmq(facts, OLD_RELEASE, NEW_RELEASE, {"controller-1": login, "controller-2": login})


def test_nothing_is_wrong_with_a_healthy_rabbitmq() -> None:
    found = rabbitmq(BROKER)
    assert set(outcomes(found).values()) == {PASSED}
    assert found[-1].finding == "'heat_26' gets what 'heat' has: created, permissions of user 'heat'"


BROKEN_BROKERS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    # what is told instead, the check that fails; value, expectation, next step
    "a user without rights": (
        {"tags": {"monitoring"}},
        "management user",
        ("['monitoring']", "expected administrator", "set_user_tags"),
    ),
    "a node that is down": (
        {"nodes": [Node("rabbit@a", True, (), ()), Node("rabbit@b", False, (), ())]},
        "nodes",
        ("rabbit@b doesn't run", "expected a whole cluster", "cluster_status"),
    ),
    "a partition": (
        {"nodes": [Node("rabbit@a", True, (), ("rabbit@b",)), Node("rabbit@b", True, (), ())]},
        "nodes",
        ("rabbit@a sees a partition", "expected a whole cluster"),
    ),
    "an alarm": (
        {"nodes": [Node("rabbit@a", True, ("memory alarm",), ())]},
        "alarms",
        ("memory alarm on rabbit@a", "expected none", "takes no message now", "rabbitmq-diagnostics alarms"),
    ),
    "no engine": (
        {"consumers": {"heat": {"reply_1": 1}}},
        "engines",
        ("no engine listens on 'heat'", "expected some", "start Heat's engines"),
    ),
    "a vhost that Heat shares": (
        {"consumers": {"heat": {**consumers("controller-1"), "nova_conductor": 4}}},
        "vhost",
        ("'heat' is used by others than Heat (queues nova_conductor)", "vhost of Heat's own", "transport_url"),
    ),
    "a reader of notifications": (
        {
            "consumers": {"heat": {**consumers("controller-1"), "notifications.info": 1, "notifications.error": 1}},
            "readers": [ClientConnection("ceilometer-agent-notification", 812, "10.0.3.31")] * 2,
        },
        "vhost",
        (
            "ceilometer-agent-notification (pid 812) at 10.0.3.31 reads Heat's notifications in vhost 'heat'",
            "(queues notifications.error, notifications.info)",
            "expected no client but Heat's own",
            "[oslo_messaging_notifications] transport_url",
            "messaging_urls in ceilometer.conf",
        ),
    ),
    "a reader of notifications that has no name": (
        {
            "consumers": {"heat": {**consumers("controller-1"), "notifications.audit": 1}},
            "readers": Unavailable("away"),
        },
        "vhost",
        ("another program reads Heat's notifications in vhost 'heat' (queues notifications.audit)",),
    ),
    "work that nobody reads": (
        {"queues": [QueueReading("engine_worker", 3, 0, 0), QueueReading("engine", 0, 0, 2)]},
        "queues",
        ("queue 'engine_worker' (3 ready, 0 unacknowledged)", "expected an engine", "start one"),
    ),
    "a policy that expires": (
        {"expiring": [ExpiringPolicy("policy 'ttl'", "message-ttl 70000")]},
        "expiry",
        ("policy 'ttl' (message-ttl 70000)", "expected no expiry", "delete it"),
    ),
    "no permission": (
        {"permissions": [Permission("operator", True)]},
        "permissions",
        ("user 'heat', as which Heat logs in", "vhost 'heat'", "expected configure, write and read", "set_permissions"),
    ),
    "half a permission": ({"permissions": [Permission("heat", False)]}, "permissions", ("lacks permissions",)),
    "queues that are not told": (
        {"queues": Unavailable("3 queues are gone, look")},
        "queues",
        ("3 queues are gone, look",),
    ),
}


@pytest.mark.parametrize("case", BROKEN_BROKERS)
def test_what_is_wrong_in_rabbitmq_is_told_and_stops_no_other_check(case: str) -> None:
    told, name, words = BROKEN_BROKERS[case]
    found = rabbitmq(replace(BROKER, **told))
    assert [check.name for check in found if check.outcome is not PASSED] == [name]
    (check,) = [check for check in found if check.name == name]
    assert check.outcome is FAILED
    for word in words:
        assert word in check.finding


@pytest.mark.parametrize(
    ("nodes", "silent", "whole"),
    [
        ([Node("rabbit@a", True, None, None)], "rabbit@a", SKIPPED),
        ([Node("rabbit@a", True, (), ()), Node("rabbit@b", True, None, None)], "rabbit@b", SKIPPED),
        ([Node("rabbit@a", True, (), None)], "rabbit@a", SKIPPED),
        ([Node("rabbit@a", True, None, None), Node("rabbit@b", False, None, None)], "rabbit@a", FAILED),
    ],
)
def test_statistics_that_are_off_fail_one_check_and_pass_none_that_needs_them(
    nodes: list[Node], silent: str, whole: Outcome
) -> None:
    hook: mock.Mock = mock.create_autospec(VhostHook, instance=True)
    hook.tags.return_value = {"administrator"}
    hook.nodes.return_value = nodes
    hook.expiring_policies.return_value = hook.changes.return_value = []
    hook.permissions.return_value = [Permission("heat", True)]
    facts = BrokerFacts.read(hook, OLD_RELEASE, NEW_RELEASE)
    found = {check.name: check for check in rabbitmq(facts)}
    assert found["nodes"].outcome is whole
    failing = {name for name, check in found.items() if check.outcome is FAILED} - {"nodes"}
    assert failing == {"alarms"}
    assert f"{silent} shows no statistics" in found["alarms"].finding
    assert "set management_agent.disable_metrics_collector" in found["alarms"].finding
    for name in ("engines", "vhost", "queues"):
        assert found[name] == Check(name, SKIPPED, f"can't be told without statistics of {silent}")
    assert facts.answers
    assert not facts.shows_engines
    hook.consumers.assert_not_called()
    hook.queues.assert_not_called()


def test_alarms_that_ring_are_told_before_those_that_are_not_known() -> None:
    nodes = [Node("rabbit@a", True, None, None), Node("rabbit@b", True, ("disk alarm",), ())]
    found = {check.name: check for check in rabbitmq(replace(BROKER, nodes=nodes))}
    assert "disk alarm on rabbit@b" in found["alarms"].finding


OF_EACH_TOPIC = ("engine", "engine_worker", "heat-engine-listener")


@pytest.mark.parametrize("fanout", ["fanout", "fanout_84ca2bc5", "fanout_c1:heat-engine:1"])
def test_fanouts_are_heats_own_as_queues_and_as_streams(fanout: str) -> None:
    there = consumers("controller-1") | {f"{topic}_{fanout}": 2 for topic in OF_EACH_TOPIC}
    found = {check.name: check for check in rabbitmq(replace(BROKER, consumers={"heat": there}))}
    assert found["vhost"] == Check("vhost", PASSED, "'heat' is Heat's own")


@pytest.mark.parametrize("name", ["engine_fanouts", "engine_v2_fanout", "scheduler_fanout", "engine-fanout", "engines"])
def test_what_only_resembles_a_fanout_of_heats_is_not(name: str) -> None:
    there = {**consumers("controller-1"), name: 1}
    found = {check.name: check for check in rabbitmq(replace(BROKER, consumers={"heat": there}))}
    assert found["vhost"].outcome is FAILED
    assert f"(queues {name})" in found["vhost"].finding


def test_a_user_that_no_configuration_names_is_no_reason_to_stop() -> None:
    assert outcomes(rabbitmq(BROKER, login=""))["permissions"] is WARNED


class TestBrokerFacts:
    """What is asked of RabbitMQ, and what isn't asked in vain."""

    @pytest.fixture
    def hook(self) -> mock.Mock:
        hook: mock.Mock = mock.create_autospec(VhostHook, instance=True)
        hook.tags.return_value = {"administrator"}
        hook.vhost_exists.side_effect = lambda vhost: vhost == "heat"
        hook.consumers.return_value = {"engine": 1, "heat-engine-listener.e1": 1}
        return hook

    def test_a_management_api_that_is_away_is_asked_once(self, hook: mock.Mock) -> None:
        hook.tags.side_effect = UpgradeError("connection refused, start it")
        found = rabbitmq(BrokerFacts.read(hook, OLD_RELEASE, NEW_RELEASE))
        assert found[0] == Check("management user", FAILED, "connection refused, start it")
        assert {check.outcome for check in found[1:]} == {SKIPPED}
        assert len(hook.method_calls) == 1

    def test_one_answer_that_is_missing_leaves_the_others(self, hook: mock.Mock) -> None:
        hook.queues.side_effect = UpgradeError("a queue is down, mend it")
        found = BrokerFacts.read(hook, OLD_RELEASE, NEW_RELEASE)
        assert found.queues == Unavailable("a queue is down, mend it")
        assert found.answers
        assert [field.name for field in fields(found) if isinstance(getattr(found, field.name), Unavailable)] == [
            "queues"
        ]

    def test_queues_that_come_and_go_are_read_once_more(self, hook: mock.Mock) -> None:
        hook.queues.side_effect = [UpgradeError("a queue was deleted just now"), []]
        assert BrokerFacts.read(hook, OLD_RELEASE, NEW_RELEASE).queues == []

    def test_an_upgrade_that_is_over_may_have_deleted_the_vhost(self, hook: mock.Mock) -> None:
        hook.vhost_exists.side_effect = lambda vhost: vhost == "heat_26"
        found = outcomes(rabbitmq(BrokerFacts.read(hook, OLD_RELEASE, NEW_RELEASE)))
        assert FAILED not in found.values()
        assert found["engines"] is PASSED
        assert found["new vhost"] is SKIPPED

    def test_without_a_source_only_the_cluster_is_checked(self, hook: mock.Mock) -> None:
        hook.nodes.return_value = [Node("rabbit@a", True, (), ())]
        found = check_rabbitmq(BrokerFacts.read(hook, None, NEW_RELEASE), None, NEW_RELEASE, {})
        assert [check.name for check in found if check.outcome is PASSED] == ["management user", "nodes", "alarms"]
        assert {check.outcome for check in found[3:]} == {SKIPPED}


def database(facts: DatabaseFacts, migration: Migration = MIGRATION, **reported: str) -> dict[str, Check]:
    host = healthy(HOST, OLD, **reported)
    return {check.name: check for check in check_database(facts, migration, [host], host)}


def schema(revision: str | None, *hosts: HostFacts, going_back: bool = False) -> Check:
    migration = replace(MIGRATION, going_back=going_back)
    if going_back:
        migration = replace(migration, source=NEW_RELEASE, target=OLD_RELEASE)
    return check_database(replace(DATABASE, revision=revision), migration, hosts, None)[0]


def test_nothing_is_wrong_with_a_healthy_database() -> None:
    found = database(DATABASE, backup_newest="1795353400.5")
    assert set(outcomes(found.values()).values()) == {PASSED}
    assert (
        found["schema"].finding
        == f"at {BEFORE}; {NEW} isn't installed anywhere yet, sync_database tells its migrations"
    )
    assert found["last backup"].finding == "1 h ago; a run takes one before it migrates"
    assert found["longest resource"].finding.startswith("42 s (CREATE of web, OS::Nova::Server) in the last 20000")


BOTH = healthy(HOST, OLD, NEW)


@pytest.mark.parametrize(
    ("check", "outcome", "words"),
    [
        (schema(BEFORE, BOTH), PASSED, f"at {BEFORE}; 2 to migrate for {NEW}, to {HEAD}"),
        (schema(HEAD, BOTH), PASSED, f"at {HEAD}; nothing to migrate"),
        (schema(HEAD, healthy(HOST, NEW)), PASSED, "nothing to migrate"),
        (schema(HEAD, BOTH, going_back=True), PASSED, f"the newer schema serves {OLD} too"),
        (
            schema(HEAD, healthy(HOST, OLD)),
            WARNED,
            f"at {HEAD}, which {OLD} doesn't know, expected {BEFORE}: right after",
        ),
        (schema(BEFORE), WARNED, f"which one {OLD} wants can't be read from its venv, expected the same: compare"),
        (schema(None, BOTH), FAILED, "no schema of Heat's, expected one: correct `schema`"),
        (
            schema(BETWEEN, healthy(HOST, NEW), going_back=True),
            FAILED,
            f"at {BETWEEN}, expected {HEAD}, as {NEW} wants it: run heat-manage db_sync",
        ),
    ],
)
def test_the_schema_is_where_the_running_release_wants_it(check: Check, outcome: Outcome, words: str) -> None:
    assert check.outcome is outcome
    assert words in check.finding


BROKEN_DATABASES: dict[str, tuple[dict[str, Any], dict[str, str], str, Outcome, tuple[str, ...]]] = {
    # what is told instead, what the backup host tells; the check, its outcome, its words
    "a clock that is off": ({"ahead": 9.0}, {}, "clock", WARNED, ("9.0 s ahead of", "expected at most 2 s")),
    "no room for a dump": (
        {},
        {"backup_free": str(GIB // 2)},
        "backup space",
        FAILED,
        ("holds 1.0 GiB", "0.5 GiB free", "on controller-2", "expected at least as much", "backup.directory"),
    ),
    "space that nobody tells": ({}, {"backup_free": ""}, "backup space", WARNED, ("can't be told", "`df`")),
    "a database's address that mysqldump can't be told": (
        {},
        {f"conf__{OLD}__database": "unreadable"},
        "backup",
        FAILED,
        (f"connection in {OLD}'s heat.conf on controller-2 is no URL", "expected mysql+pymysql://", "percent-encode @"),
    ),
    "nothing that dumps": (
        {},
        {"dump_program": ""},
        "backup",
        FAILED,
        (
            "neither mysqldump nor mariadb-dump is on controller-2",
            "expected one",
            "install the MariaDB or MySQL client",
        ),
    ),
    "a folder that is closed": ({}, {"backup_writable": "no"}, "backup", FAILED, ("can't be written", "correct it")),
    "a stack without convergence": (
        {"in_progress": [stack("new"), stack("old", convergence=False)]},
        {},
        "legacy stacks",
        FAILED,
        ("without convergence: stack 'old' (old-id, project p, CREATE", "expected none", "wait for their end"),
    ),
    "a stranded stack": (
        {"work": Work((stack("lost"),), (), frozenset())},
        {},
        "stranded stacks",
        WARNED,
        ("stack 'lost' (lost-id", "expected none", "heat_stranded_stacks__lab"),
    ),
    "stacks that have been stranded for a short while": (
        {"work": Work((stack("lost"), stack("new", idle=70)), (), frozenset())},
        {},
        "stranded stacks",
        WARNED,
        ("stack 'lost'", "stack 'new'", "heat_stranded_stacks__lab; 1 of them once nothing has changed for 10 min"),
    ),
    "a table that can't be read": (
        {"longest": Unavailable("SELECT denied, grant it")},
        {},
        "longest resource",
        FAILED,
        ("SELECT denied, grant it",),
    ),
}


@pytest.mark.parametrize("case", BROKEN_DATABASES)
def test_what_is_wrong_in_the_database_is_told_and_stops_no_other_check(case: str) -> None:
    told, reported, name, outcome, words = BROKEN_DATABASES[case]
    found = database(replace(DATABASE, **told), **reported)
    assert [check.name for check in found.values() if check.outcome is not PASSED] == [name]
    assert found[name].outcome is outcome
    for word in words:
        assert word in found[name].finding


LOST, BUSY, CONVERGENT = stack("lost", convergence=False), stack("busy", convergence=False, idle=5), stack("new")


@pytest.mark.parametrize(
    ("in_progress", "work", "words", "unsaid"),
    [
        ([LOST], Work((LOST,), (), frozenset()), ("nobody works on 'lost'", "so restart one engine"), "wait for"),
        (
            [LOST, BUSY, CONVERGENT],
            Work((LOST, BUSY, CONVERGENT), (), frozenset()),
            ("nobody works on 'lost',", "wait for the others' end, then restart one engine", "marks it FAILED"),
            "'busy',",
        ),
        ([BUSY], Work((BUSY,), (), frozenset()), ("fails them: wait for their end",), "restart"),
        # An engine that lives holds its lock, or nobody knows which ones live.
        (
            [LOST],
            Work((LOST,), (HeldRow("lost-id", "lost", "p", None, "alive"),), frozenset({"alive"})),
            ("fails them: wait for their end",),
            "restart",
        ),
        ([LOST], Unavailable("RabbitMQ is away"), ("fails them: wait for their end",), "restart"),
        # A parent that waits for a nested stack: both are lost.
        (
            [LOST, replace(LOST, id="n", name="nested", owner_id="lost-id")],
            Work((LOST, replace(LOST, id="n", name="nested", owner_id="lost-id")), (), frozenset()),
            ("nobody works on 'lost', 'nested'", "so restart one engine"),
            "wait for",
        ),
    ],
)
def test_a_legacy_stack_that_nobody_works_on_is_not_to_be_waited_for(
    in_progress: list[UnfinishedStack], work: Work | Unavailable, words: tuple[str, ...], unsaid: str
) -> None:
    check = database(replace(DATABASE, in_progress=in_progress, work=work))["legacy stacks"]
    assert check.outcome is FAILED
    for word in words:
        assert word in check.finding
    assert unsaid not in check.finding.partition("fails them")[2]


@pytest.mark.parametrize(("found", "said"), [((LOST,), True), ((LOST, CONVERGENT), True), ((CONVERGENT,), False)])
def test_the_dag_that_ends_stranded_stacks_is_not_promised_to_legacy_ones(
    found: tuple[UnfinishedStack, ...], said: bool
) -> None:
    check = database(replace(DATABASE, work=Work(found, (), frozenset())))["stranded stacks"]
    assert ("it leaves legacy ones (no convergence) as they are" in check.finding) == said


def test_a_legacy_stack_is_in_no_danger_once_every_engine_has_started() -> None:
    told = replace(DATABASE, in_progress=[stack("old", convergence=False)])
    assert database(told, replace(MIGRATION, starts_engine=False))["legacy stacks"].outcome is WARNED


def test_a_backup_host_that_was_not_reached_leaves_the_other_checks() -> None:
    found = outcomes(check_database(DATABASE, MIGRATION, [], None))
    assert (found["backup space"], found["backup"]) == (SKIPPED, SKIPPED)
    assert FAILED not in found.values()


def test_a_database_that_is_away_is_asked_once() -> None:
    hook = mock.create_autospec(HeatDatabaseHook, instance=True)
    hook.revision.side_effect = UpgradeError("can't connect, start it")
    found = check_database(DatabaseFacts.read(hook, None), MIGRATION, [], None)
    assert found[0] == Check("schema", FAILED, "can't connect, start it")
    assert FAILED not in outcomes(found[1:]).values()
    assert len(hook.method_calls) == 1


def test_stranded_stacks_are_not_guessed_without_rabbitmq() -> None:
    hook = mock.create_autospec(HeatDatabaseHook, instance=True)
    hook.recent_events.return_value = []
    hook.server_time.return_value = NOW
    facts = DatabaseFacts.read(hook, None)
    assert facts.work == Unavailable.not_asked("RabbitMQ doesn't tell which engines are alive")
    assert facts.longest is None


def event(second: int, resource: str, status: str, action: str = "CREATE", stack_id: str = "s1") -> EventRow:
    return EventRow(stack_id, resource, "OS::Heat::TestResource", action, status, NOW + timedelta(seconds=second))


def test_the_longest_resource_is_the_one_with_most_time_from_its_beginning_to_its_end() -> None:
    events = [
        event(0, "cut off before", "COMPLETE"),
        event(0, "a", "IN_PROGRESS"),
        event(1, "b", "IN_PROGRESS"),
        event(2, "a", "IN_PROGRESS", stack_id="s2"),
        event(3, "endless", "IN_PROGRESS"),
        event(5, "a", "COMPLETE"),
        event(30, "a", "COMPLETE", stack_id="s2"),
        event(40, "b", "FAILED"),
        event(50, "a", "IN_PROGRESS", "UPDATE"),
        event(80, "a", "COMPLETE", "DELETE"),
    ]
    assert longest_resource(events) == LongestResource(39, "b", "OS::Heat::TestResource", "CREATE")
    assert str(longest_resource(events)) == "39 s (CREATE of b, OS::Heat::TestResource)"
    assert longest_resource([]) is None
