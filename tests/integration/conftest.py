"""A private RabbitMQ and MariaDB with Heat's real schema, and clients that speak to them as Heat does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import MySQLdb
import pytest
import requests

from lab.cloud.bring_up import take_down
from lab.cloud.mariadb import start_mariadb
from lab.cloud.model import AMQP_PORT, PROJECT_ROOT, Lab
from lab.cloud.rabbitmq import start_rabbitmq
from lab.passwords import write_private
from lab.processes import LabError, run, wait_until

RELEASE = "26.0.2"
HEAD = "97b2a986f922"
SCRIPTS = Path(__file__).parent / "heat"
UV = PROJECT_ROOT / ".venv/bin/uv"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}

_HEAT_CONF = """\
[DEFAULT]
transport_url = {transport_url}
auth_encryption_key = {key}
host = integration
num_engine_workers = 1
deferred_auth_method = password
keystone_backend = heat.engine.clients.os.keystone.fake_keystoneclient.FakeKeystoneClient
environment_dir = {venv}/etc/heat/environment.d
default_deployment_signal_transport = HEAT_SIGNAL
graceful_shutdown_timeout = 0
[database]
connection = {database_url}
"""


@dataclass
class RabbitMQ:
    """A broker to arrange things on, past the hook that is under test."""

    lab: Lab
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        account = self.lab.management()
        self.session.auth = (account.login, account.password)
        self.session.trust_env = False
        self.url = f"http://{account.host}:{account.port}/api"

    def call(self, method: str, *path: str, body: Any = None) -> Any:
        url = "/".join([self.url, *(quote(part, safe="") for part in path)])
        answer = self.session.request(method, url, json=body, timeout=10)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def make_vhost(self, name: str, **settings: str) -> None:
        self.call("PUT", "vhosts", name, body=settings)
        self.call("PUT", "permissions", name, "heat", body=EVERYTHING)

    def make_user(self, name: str, password: str, tags: str = "") -> None:
        self.call("PUT", "users", name, body={"password": password, "tags": tags})

    def make_queue(self, vhost: str, name: str, **settings: Any) -> None:
        self.call("PUT", "queues", vhost, name, body={"durable": False, **settings})

    def publish(self, vhost: str, queue: str) -> None:
        message = {"properties": {}, "routing_key": queue, "payload": "work", "payload_encoding": "string"}
        assert self.call("POST", "exchanges", vhost, "amq.default", "publish", body=message) == {"routed": True}

    def purge(self, vhost: str, queue: str) -> None:
        self.call("DELETE", "queues", vhost, queue, "contents")

    def rows(self, *path: str) -> list[dict[str, Any]]:
        return self.call("GET", *path)

    def transport_url(self, vhost: str, scheme: str = "rabbit") -> str:
        login = f"heat:{quote(self.lab.secrets['amqp'], safe='')}"
        return f"{scheme}://{login}@{self.lab.server_address}:{AMQP_PORT}/{quote(vhost, safe='')}"


@dataclass
class HeatDatabase:
    """Heat's database to arrange things in, past the hook that is under test."""

    lab: Lab

    @contextmanager
    def connected(self, *, root: bool = False) -> Iterator[Any]:
        account = self.lab.database()
        login: dict[str, Any] = {"host": account.host, "port": account.port, "user": account.login}
        password = account.password
        if root:
            login = {"unix_socket": str(self.lab.state / "mariadb/mariadb.sock"), "user": "root"}
            password = self.lab.secrets["database_root"]
        connection = MySQLdb.connect(**login, password=password, database="heat", autocommit=True)
        with closing(connection), closing(connection.cursor()) as cursor:
            yield cursor

    def execute(self, statement: str, *values: object, root: bool = False) -> list[Any]:
        with self.connected(root=root) as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def add_stack(self, name: str = "stack", *, status: str = "IN_PROGRESS", age: int = 0, **columns: Any) -> str:
        template = uuid.uuid4().int % 2**31
        self.execute("INSERT INTO raw_template (id) VALUES (%s)", template)
        stack_id = str(uuid.uuid4())
        row = {
            "id": stack_id,
            "name": name,
            "raw_template_id": template,
            "tenant": "project-1",
            "action": "CREATE",
            "status": status,
            "disable_rollback": 1,
            "convergence": 1,
            "current_traversal": "t1",
            **columns,
        }
        self._insert("stack", row, age)
        return stack_id

    def add_resource(self, stack_id: str, engine_id: str | None, *, name: str = "r", age: int = 0) -> None:
        row = {"stack_id": stack_id, "engine_id": engine_id, "name": name, "status": "IN_PROGRESS", "action": "CREATE"}
        self._insert("resource", row, age)

    def add_event(self, stack_id: str, *, age: int = 0, **columns: Any) -> None:
        self._insert("event", {"stack_id": stack_id, **columns}, age)

    def add_lock(self, stack_id: str, engine_id: str) -> None:
        self._insert("stack_lock", {"stack_id": stack_id, "engine_id": engine_id}, 0)

    def set_status(self, stack_id: str, status: str) -> None:
        self.execute("UPDATE stack SET status = %s WHERE id = %s", status, stack_id)

    def release(self, stack_id: str) -> None:
        self.execute("UPDATE resource SET engine_id = NULL WHERE stack_id = %s", stack_id)

    def empty(self) -> None:
        with self.connected() as cursor:
            cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
            cursor.execute("SHOW TABLES")
            for (table,) in cursor.fetchall():
                if table != "alembic_version":
                    cursor.execute(f"DELETE FROM `{table}`")

    def _insert(self, table: str, row: dict[str, Any], age: int) -> None:
        columns = ", ".join(f"`{name}`" for name in row)
        marks = ", ".join(["%s"] * len(row))
        self.execute(
            f"INSERT INTO {table} (created_at, {columns}) VALUES (UTC_TIMESTAMP() - INTERVAL %s SECOND, {marks})",
            age,
            *row.values(),
        )


@dataclass
class Client:
    """A process that speaks to RabbitMQ as a part of Heat does."""

    process: subprocess.Popen[str]

    def say(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Let it close its connections, and wait until it has."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(20)

    def kill(self) -> None:
        """End it and all that it has started, as a crash would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@pytest.fixture(scope="session")
def heat_venv() -> Path:
    """A virtual environment with Heat; kept, as it takes seconds to make."""
    venv = PROJECT_ROOT / ".state" / "venvs" / f"heat-{RELEASE}"
    done = venv / "installed"
    if not done.exists():
        shutil.rmtree(venv, ignore_errors=True)
        run([UV, "venv", "--quiet", venv], what=f"make {venv}")
        pins = PROJECT_ROOT / f"include/releases/openstack-heat-{RELEASE}.txt"
        run(
            [UV, "pip", "install", "--quiet", "--python", venv / "bin/python", "-r", pins],
            what=f"install Heat {RELEASE}",
        )
        done.touch()
    return venv


@pytest.fixture(scope="session")
def servers(heat_venv: Path) -> Iterator[Lab]:
    """MariaDB and RabbitMQ of a lab without hosts, with Heat's schema."""
    lab = Lab("integration", "small")
    take_down(lab, wipe=True)
    lab.state.mkdir(parents=True, mode=0o700)
    _ = lab.secrets  # made once, before the threads that read them
    try:
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(start_mariadb, lab), pool.submit(_start_rabbitmq, lab)]:
                started.result()
        conf = write_heat_conf(lab, heat_venv, "unused", lab.state / "sync.conf")
        run([heat_venv / "bin/heat-manage", "--config-file", conf, "db_sync"], what="make Heat's schema")
        yield lab
    finally:
        take_down(lab, wipe=True)


def _start_rabbitmq(lab: Lab) -> None:
    try:
        start_rabbitmq(lab)
    except LabError:  # asked too early, Erlang's port mapper refuses; what is wrong for good is so again
        start_rabbitmq(lab)


def write_heat_conf(lab: Lab, venv: Path, vhost: str, path: Path) -> Path:
    """Write a configuration that an engine on a vhost runs with."""
    text = _HEAT_CONF.format(
        transport_url=RabbitMQ(lab).transport_url(vhost),
        key=lab.secrets["auth_encryption_key"],
        venv=venv,
        database_url=lab.database_url(),
    )
    write_private(path, text)
    return path


@pytest.fixture(scope="session")
def rabbitmq(servers: Lab) -> RabbitMQ:
    return RabbitMQ(servers)


@pytest.fixture
def database(servers: Lab) -> HeatDatabase:
    """Heat's database, empty."""
    database = HeatDatabase(servers)
    database.empty()
    return database


@contextmanager
def new_vhost(rabbitmq: RabbitMQ) -> Iterator[str]:
    """Make a vhost, and delete it in the end unless the test has."""
    name = f"heat-{uuid.uuid4().hex[:8]}"
    rabbitmq.make_vhost(name)
    yield name
    with suppress(requests.HTTPError):
        rabbitmq.call("DELETE", "vhosts", name)


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A vhost of this test's own."""
    with new_vhost(rabbitmq) as name:
        yield name


Start = Callable[..., Client]


@contextmanager
def clients(venv: Path) -> Iterator[Start]:
    """Give a function that starts one of the scripts with Heat's interpreter and waits until it is ready."""
    started: list[Client] = []

    def start(script: str, *arguments: str) -> Client:
        process = subprocess.Popen(
            [venv / "bin/python", SCRIPTS / script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(Client(process))
        assert process.stdout and process.stdout.readline() == "ready\n"
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.kill()


@pytest.fixture
def client(heat_venv: Path) -> Iterator[Start]:
    """Start one of the scripts with Heat's interpreter."""
    with clients(heat_venv) as start:
        yield start


@pytest.fixture
def engine(rabbitmq: RabbitMQ, client: Start) -> Callable[..., Client]:
    """Start what looks like an engine to RabbitMQ."""
    return lambda vhost, engine_id: start_engine(rabbitmq, client, vhost, engine_id)


def start_engine(rabbitmq: RabbitMQ, start: Start, vhost: str, engine_id: str) -> Client:
    """Start what looks like an engine, and wait until RabbitMQ tells its program and consumers: up to 5 s."""
    one = start("engine.py", rabbitmq.transport_url(vhost), engine_id)
    wait_until(
        lambda: len(rabbitmq.rows("vhosts", vhost, "connections")) >= 3 and len(rabbitmq.rows("consumers", vhost)) >= 9,
        what=f"RabbitMQ shows {engine_id}",
    )
    return one


@pytest.fixture
def connections(servers: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set Airflow's connections; call it to change one."""

    def connect(name: str, **changed: Any) -> None:
        kind, schema, account = {
            "rabbitmq": ("rabbitmq_management", "http", servers.management()),
            "database": ("mysql", "heat", servers.database()),
        }[name]
        settings = {
            "conn_type": kind,
            "schema": schema,
            "host": account.host,
            "port": account.port,
            "login": account.login,
            "password": account.password,
            **changed,
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(settings))

    connect("rabbitmq")
    connect("database")
    return connect
