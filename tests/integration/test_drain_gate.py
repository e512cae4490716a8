"""The whole gate on real parts: the trigger, run by asyncio, against a real RabbitMQ, MariaDB and heat-engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from heat_upgrade.readings import Broker, Database, Reading
from heat_upgrade.triggers.drain import OldEnginesDrainedTrigger
from lab.cloud.model import Lab
from lab.processes import wait_until
from tests.integration.conftest import (
    SCRIPTS,
    HeatDatabase,
    RabbitMQ,
    clients,
    new_vhost,
    start_engine,
    write_heat_conf,
)

INTERVAL, READINGS = 0.3, 3
OLD, NEW, UNKNOWN = "old-engine", "new-engine", "unknown-engine"


class Gate:
    """A trigger that runs as in a triggerer, and what it has read so far."""

    def __init__(self, old: str, new: str, *, stranded: tuple[str, ...] = (), arguments: Any = None) -> None:
        self.taken: list[Reading] = []
        self.event: dict[str, Any] | None = None
        self.trigger = OldEnginesDrainedTrigger(
            **arguments
            or {
                "old_vhost": old,
                "new_vhost": new,
                "rabbitmq_conn_id": "rabbitmq",
                "database_conn_id": "database",
                "interval": INTERVAL,
                "readings": READINGS,
                "timeout": 120,
                "deadline": time.time() + 120,
                "stranded_stacks": list(stranded),
            }
        )
        read = self.trigger.read

        async def reading() -> Reading:
            self.taken.append(await read())
            return self.taken[-1]

        self.trigger.read = reading  # type: ignore[method-assign]
        self.thread = threading.Thread(target=lambda: asyncio.run(self._fire()), daemon=True)
        self.thread.start()

    async def _fire(self) -> None:
        async for event in self.trigger.run():
            self.event = event.payload

    def wait_readings(self, more: int) -> list[Reading]:
        """Wait for so many more readings, and return them; the gate must stay closed meanwhile."""
        before = len(self.taken)
        wait_until(lambda: len(self.taken) >= before + more or self.event is not None, what="more readings", timeout=60)
        assert self.event is None, self.event
        return self.taken[before:]

    def holds(self) -> list[Reading]:
        """Assert that the gate stays closed for longer than it would need to open."""
        return self.wait_readings(READINGS + 3)

    def outcome(self, timeout: float = 60) -> dict[str, Any]:
        """Wait for the gate's one event."""
        self.thread.join(timeout)
        assert self.event is not None, f"no event after {timeout} s and {len(self.taken)} readings"
        return self.event

    def opens(self) -> dict[str, Any]:
        event = self.outcome()
        assert event["status"] == "drained", event["message"]
        return event

    def end(self) -> dict[str, Any]:
        """Let the time be up, and return what the gate then says."""
        self.trigger.arguments = replace(self.trigger.arguments, deadline=0)
        return self.outcome()


@pytest.fixture(scope="module")
def served(rabbitmq: RabbitMQ, heat_venv: Path) -> Iterator[str]:
    """An old vhost with an engine that listens and does nothing; what a test adds it takes away again."""
    with new_vhost(rabbitmq) as name, clients(heat_venv) as start:
        start_engine(rabbitmq, start, name, OLD)
        yield name


@pytest.fixture(scope="module")
def new_side(rabbitmq: RabbitMQ) -> Iterator[str]:
    """The new side's vhost, with the queues of an engine."""
    with new_vhost(rabbitmq) as name:
        rabbitmq.make_queue(name, f"heat-engine-listener.{NEW}")
        yield name


@pytest.fixture
def gate(new_side: str, database: HeatDatabase, connections: Callable[..., None]) -> Iterator[Callable[..., Gate]]:
    """Start a gate in front of an old vhost's engines; whatever comes of the test, it ends."""
    started: list[Gate] = []

    def start(old_vhost: str, **options: Any) -> Gate:
        started.append(Gate(old_vhost, new_side, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_it_opens_while_engines_listen_and_do_nothing(gate, served):
    waiting = gate(served)
    waiting.opens()
    assert len(waiting.taken) == READINGS + 1
    assert all(isinstance(r.broker, Broker) and isinstance(r.database, Database) for r in waiting.taken)
    assert {r.broker.running_engines for r in waiting.taken} == {frozenset({OLD})}


def test_it_holds_while_an_old_engine_holds_a_resource_though_every_queue_is_empty(gate, served, database):
    stack = database.add_stack("s", status="COMPLETE")
    database.add_resource(stack, OLD)
    waiting = gate(served)
    readings = waiting.holds()
    assert {queue.messages for r in readings for queue in r.broker.queues} == {0}
    database.release(stack)
    waiting.opens()


def test_it_holds_for_every_stack_of_t0_and_for_no_later_one(gate, served, database):
    stacks = [database.add_stack(name) for name in ("first", "second")]
    waiting = gate(served)
    waiting.holds()
    begun_later = database.add_stack("later")
    database.add_resource(begun_later, NEW)
    database.set_status(stacks[0], "COMPLETE")
    waiting.holds()
    # The new side updates the first: that is none of the old side's business.
    database.set_status(stacks[0], "IN_PROGRESS")
    database.execute("UPDATE stack SET deleted_at = UTC_TIMESTAMP() WHERE id = %s", stacks[1])
    waiting.opens()


def test_it_holds_while_an_api_is_connected_to_the_old_vhost(gate, served, rabbitmq, client):
    api = client("engine.py", rabbitmq.transport_url(served), "api", "uwsgi")
    waiting = gate(served)
    # RabbitMQ tells the program of a client that has just come only after some seconds.
    wait_until(lambda: "uwsgi" in {c.program for c in waiting.wait_readings(1)[-1].broker.connections}, what="uwsgi")
    waiting.holds()
    api.end()
    for topic in ("engine_worker", "heat-engine-listener"):
        rabbitmq.call("DELETE", "queues", served, f"{topic}.api")
    waiting.opens()


def test_t0_is_taken_once_no_call_waits_for_an_engine(gate, served, rabbitmq, database, client):
    queue = f"engine.host-of-{OLD}"
    keeper = client("consumer.py", rabbitmq.transport_url(served, "amqp"), queue)
    for _ in range(2):  # the engine and the keeper take turns
        rabbitmq.publish(served, queue)
    waiting = gate(served)
    waiting.holds()
    # The stack of a call that waited: T0 has to know it.
    stack = database.add_stack("of a queued call")
    assert keeper.say("ack") == "acked"
    keeper.end()
    waiting.holds()
    database.set_status(stack, "COMPLETE")
    waiting.opens()


@pytest.mark.parametrize("kind", ["policies", "operator-policies"])
def test_it_holds_while_a_policy_expires_messages(gate, served, rabbitmq, kind):
    body = {"pattern": "^engine", "definition": {"message-ttl": 60000}, "apply-to": "queues"}
    rabbitmq.call("PUT", kind, served, "ttl", body=body)
    waiting = gate(served)
    waiting.holds()
    rabbitmq.call("DELETE", kind, served, "ttl")
    waiting.opens()


OUTAGES = {
    "RabbitMQ's management is down": ("rabbitmq", {"port": 1}, "Connection refused"),
    "RabbitMQ's management answers 401": ("rabbitmq", {"password": "wrong-password"}, "401"),
    "the database is down": ("database", {"port": 1}, "Can't connect"),
    "the database refuses": ("database", {"password": "wrong-password"}, "Access denied"),
}


@pytest.mark.parametrize(("server", "changed", "reason"), OUTAGES.values(), ids=OUTAGES.keys())
def test_it_holds_while_a_server_is_out_of_reach_and_opens_once_that_is_fixed(
    gate, served, connections, servers, server, changed, reason
):
    connections(server, **changed)
    waiting = gate(served)
    for one in waiting.holds():
        part = one.broker if server == "rabbitmq" else one.database
        assert reason in part.reason
    connections(server)
    event = waiting.opens()
    assert servers.management().password not in str(event)
    assert servers.database().password not in str(event)


def test_an_outage_in_the_middle_starts_the_count_again(gate, served, connections):
    waiting = gate(served)
    waiting.wait_readings(1)
    connections("database", port=1)
    waiting.holds()
    before = len(waiting.taken)
    connections("database")
    waiting.opens()
    assert len(waiting.taken) - before >= READINGS


def test_work_without_a_consumer_is_reported_at_once(gate, vhost, rabbitmq):
    rabbitmq.make_queue(vhost, "engine_worker")
    rabbitmq.publish(vhost, "engine_worker")
    waiting = gate(vhost)
    event = waiting.outcome(10)
    assert event["status"] == "failed"
    assert len(waiting.taken) == 1
    assert f"start an engine of the old release on vhost '{vhost}' again" in event["message"]


def test_leftovers_of_a_dead_engine_are_told_and_not_waited_for(gate, served, rabbitmq):
    rabbitmq.make_queue(served, "engine_worker.dead")
    rabbitmq.publish(served, "engine_worker.dead")
    assert "queue 'engine_worker.dead' (1 ready, 0 unacknowledged)" in gate(served).opens()["table"]
    rabbitmq.call("DELETE", "queues", served, "engine_worker.dead")


def test_a_vhost_whose_engines_were_retired_needs_one_reading(gate, vhost, engine, database):
    engine(vhost, OLD).end()
    database.add_resource(database.add_stack(), NEW)
    waiting = gate(vhost)
    waiting.opens()
    assert len(waiting.taken) == 1


def test_a_vhost_that_was_deleted_needs_one_reading(gate):
    waiting = gate("deleted")
    waiting.opens()
    assert len(waiting.taken) == 1


def test_unless_an_engine_that_nobody_knows_holds_something(gate, database):
    database.add_lock(database.add_stack("s"), UNKNOWN)
    waiting = gate("deleted")
    waiting.holds()
    database.execute("DELETE FROM stack_lock")
    waiting.opens()


def test_what_was_stranded_before_the_upgrade_is_named_and_not_waited_for(gate, served, database):
    stack = database.add_stack("stranded", age=9000)
    database.add_resource(stack, UNKNOWN)
    table = gate(served, stranded=(stack,)).opens()["table"]
    assert table.count("'stranded'") == 2


def test_a_restart_of_the_triggerer_takes_t0_again_and_loses_nothing(gate, served, database):
    stack = database.add_stack("s")
    first = gate(served)
    first.wait_readings(4)
    _, arguments = first.trigger.serialize()
    first.end()
    second = gate(served, arguments=json.loads(json.dumps(arguments)))
    second.holds()
    database.set_status(stack, "COMPLETE")
    second.opens()


def test_a_timeout_names_stacks_engines_and_queues(gate, served, rabbitmq, database, client):
    keeper = client("consumer.py", rabbitmq.transport_url(served, "amqp"), "engine_worker.kept")
    rabbitmq.publish(served, "engine_worker.kept")
    database.add_resource(database.add_stack("in flight", age=3700), OLD, name="server")
    waiting = gate(served)
    waiting.holds()
    message = waiting.end()["message"]
    for text in ("'in flight'", "project project-1", "age 1 h 1 min", "resource server", OLD, "'engine_worker.kept'"):
        assert text in message, message
    keeper.end()
    rabbitmq.call("DELETE", "queues", served, "engine_worker.kept")


class TamperingProxy(ThreadingHTTPServer):
    """The real management API, but for what ``tamper`` changes in the totals of queues."""

    daemon_threads = True

    def __init__(self, lab: Lab) -> None:
        super().__init__(("127.0.0.1", 0), _TamperingHandler)
        account = lab.management()
        self.real = f"http://{account.host}:{account.port}"
        self.tamper: Callable[[list[dict[str, Any]]], Any] = lambda rows: rows


class _TamperingHandler(BaseHTTPRequestHandler):
    server: TamperingProxy

    def do_GET(self) -> None:
        headers = {"Authorization": self.headers["Authorization"]}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(self.server.real + self.path, headers=headers, timeout=10)
        content = answer.content
        if "enable_queue_totals" in self.path:
            content = json.dumps(self.server.tamper(answer.json())).encode()
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def proxy(servers: Lab) -> Iterator[TamperingProxy]:
    with TamperingProxy(servers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


TAMPERED: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "messages left out": lambda rows: [{k: v for k, v in row.items() if k != "messages"} for row in rows],
    "a queue left out": lambda rows: rows[1:],
    "nothing listed": lambda rows: [],
    "a queue is down": lambda rows: [{**rows[0], "state": "down"}, *rows[1:]],
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED.keys())
def test_it_holds_while_rabbitmq_tells_only_a_part(gate, served, connections, proxy, tamper):
    proxy.tamper = tamper
    connections("rabbitmq", host="127.0.0.1", port=proxy.server_port)
    waiting = gate(served)
    waiting.holds()
    proxy.tamper = lambda rows: rows
    waiting.opens()


class HeatEngine:
    """A real heat-engine on a vhost."""

    def __init__(self, lab: Lab, venv: Path, vhost: str, directory: Path) -> None:
        self.venv = venv
        self.conf = write_heat_conf(lab, venv, vhost, directory / "heat.conf")
        self.log = directory / "engine.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [venv / "bin/heat-engine", "--config-file", self.conf],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def create_stack(self, name: str, seconds: list[int]) -> str:
        """Begin a stack of resources that take so many seconds, one after the other."""
        resources = {
            f"r{n}": {
                "type": "OS::Heat::TestResource",
                "properties": {"value": "x", "action_wait_secs": {"create": wait}},
                **({"depends_on": f"r{n - 1}"} if n else {}),
            }
            for n, wait in enumerate(seconds)
        }
        template = json.dumps({"heat_template_version": "2018-08-31", "resources": resources})
        done = subprocess.run(
            [self.venv / "bin/python", SCRIPTS / "create_stack.py", self.conf, name, template],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.split()[-1]

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@pytest.fixture
def heat_engine(servers: Lab, heat_venv: Path, vhost: str, rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[HeatEngine]:
    running = HeatEngine(servers, heat_venv, vhost, tmp_path)
    try:
        wait_until(
            lambda: any(row["queue"]["name"] == "engine_worker" for row in rabbitmq.rows("consumers", vhost)),
            what="heat-engine listens",
            given_up=lambda: running.log.read_text()[-2000:] if running.process.poll() is not None else None,
        )
        yield running
    finally:
        running.kill()


def status(database: HeatDatabase, stack_id: str) -> str:
    return database.execute("SELECT status FROM stack WHERE id = %s", stack_id)[0][0]


def test_a_real_engine_at_work_holds_the_gate_until_its_stack_is_complete(gate, vhost, heat_engine, database):
    stack_id = heat_engine.create_stack("chain", [6, 6])
    waiting = gate(vhost)
    while status(database, stack_id) == "IN_PROGRESS":
        waiting.wait_readings(1)
    readings = list(waiting.taken)
    assert status(database, stack_id) == "COMPLETE"
    waiting.opens()
    # As many more as one needs, or two that saw the end coming before those: each takes as long as the machine lets it.
    assert len(waiting.taken) - len(readings) <= READINGS + 2
    busy = [r for r in readings if r.held_by_old]
    silent = [r for r in busy if not any(queue.messages for queue in r.broker.queues)]
    # What makes the rule necessary: an engine at work shows empty queues.
    assert len(silent) > 0.9 * len(busy) > 5
    assert {r.broker.running_engines for r in readings} == {frozenset({row.engine_id for row in busy[0].held_by_old})}


def test_what_a_killed_engine_leaves_behind_is_not_drained_and_says_what_helps(gate, vhost, heat_engine, database):
    stack_id = heat_engine.create_stack("orphan", [60])
    waiting = gate(vhost)
    wait_until(lambda: bool(waiting.taken and waiting.taken[-1].held_by_running), what="the engine works on it")
    heat_engine.kill()
    waiting.holds()
    [row] = waiting.taken[-1].held_by_old
    event = waiting.end()
    assert event["status"] == "timed out"
    for text in ("'orphan'", stack_id, row.engine_id, "doesn't run any more", "waiting won't help", "stack update"):
        assert text in event["message"], event["message"]


def test_readings_are_an_interval_apart_and_of_one_moment(gate, served):
    waiting = gate(served)
    waiting.opens()
    assert max(one.seconds for one in waiting.taken) < 10
    began = [one.began for one in waiting.taken]
    assert all((later - earlier).total_seconds() > 0.9 * INTERVAL for earlier, later in pairwise(began))
