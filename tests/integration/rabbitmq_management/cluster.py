"""Three nodes of a real RabbitMQ on this machine, of which single ones can be killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from lab.cloud.model import AMQP_PORT, FIRST_RELEASE, MANAGEMENT_PORT, OPERATOR, RELEASES, Lab
from lab.cloud.rabbitmq import SERVER, definitions, environment, start_epmd
from lab.passwords import write_private
from lab.processes import Server, wait_until

VHOST = RELEASES[FIRST_RELEASE]
# Any of the lab's own ports that nothing else of such a lab takes.
_DISTRIBUTION = ("distribution", "log_triggerer", "log_worker")

_CONFIG = """\
listeners.tcp.1 = {address}:{amqp}
management.tcp.ip = {address}
management.tcp.port = {management}
load_definitions = {directory}/definitions.json
log.console = true
log.file = false
cluster_partition_handling = ignore
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.randomized_startup_delay_range.min = 0
cluster_formation.randomized_startup_delay_range.max = 0
"""


@dataclass
class Node:
    """One of the cluster's nodes."""

    lab: Lab
    number: int
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.name = f"broker-{self.number}@localhost"
        self.directory = self.lab.state / f"broker-{self.number}"
        self.address = self.lab.address(20 + self.number)
        self.session.auth = (OPERATOR, self.lab.secrets["management"])
        self.session.trust_env = False

    @property
    def server(self) -> Server:
        return self.lab.server(f"broker-{self.number}")

    def start(self, nodes: list[Node]) -> None:
        self._write_config(nodes)
        variables = environment(
            self.lab,
            self.directory,
            node=self.name,
            distribution=_DISTRIBUTION[self.number - 1],
            emulator="+S 1:1",  # one scheduler each: they share few cores
        )
        self.server.start([SERVER], env=variables, cwd=self.directory)
        wait_until(self._serves, what=f"{self.name} serves", given_up=self.server.failure)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.server.stop(grace=0)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        url = f"http://{self.address}:{MANAGEMENT_PORT}/api/{path}"
        answer = self.session.request(method, url, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def connection(self) -> str:
        """Return an Airflow connection to this node, as an environment variable holds it."""
        settings = {"conn_type": "rabbitmq_management", "schema": "http", "host": self.address, "port": MANAGEMENT_PORT}
        return json.dumps({**settings, "login": OPERATOR, "password": self.lab.secrets["management"]})

    def _serves(self) -> bool:
        try:
            listeners = self.call("GET", "overview").get("listeners", [])
        except requests.RequestException:
            return False
        return any(one["protocol"] == "amqp" and one["node"] == self.name for one in listeners)

    def _write_config(self, nodes: list[Node]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        peers = "".join(f"cluster_formation.classic_config.nodes.{one.number} = {one.name}\n" for one in nodes)
        config = _CONFIG.format(
            address=self.address, amqp=AMQP_PORT, management=MANAGEMENT_PORT, directory=self.directory
        )
        (self.directory / "rabbitmq.conf").write_text(config + peers)
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, self.lab.secrets["auth_encryption_key"])
            cookie.chmod(0o400)
        accounts = definitions(self.lab.secrets["amqp"], self.lab.secrets["management"])
        write_private(self.directory / "definitions.json", json.dumps(accounts))


@contextmanager
def cluster(lab: Lab) -> Iterator[list[Node]]:
    """Start three nodes that know each other, and remove them in the end."""
    nodes = [Node(lab, number) for number in (1, 2, 3)]
    _remove(lab, nodes)
    lab.state.mkdir(parents=True, mode=0o700)
    try:
        start_epmd(lab)
        for node in nodes:  # one by one: the first makes the cluster that the others join
            node.start(nodes)
        yield nodes
    finally:
        _remove(lab, nodes)


def _remove(lab: Lab, nodes: list[Node]) -> None:
    for node in nodes:
        node.kill()
    lab.server("epmd").stop(grace=0)
    shutil.rmtree(lab.state, ignore_errors=True)
