"""A private RabbitMQ with its management plugin."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import requests

from lab.cloud.model import AMQP_PORT, FIRST_RELEASE, MANAGEMENT_PORT, OPERATOR, RELEASES, Lab
from lab.http import local_session
from lab.passwords import write_private
from lab.processes import LabError, clean_environment, run, wait_until

# Not the one in the search path: Debian's wrapper wants to become the account rabbitmq.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_CONTROL = SERVER.with_name("rabbitmqctl")

_CONFIG = """\
listeners.tcp.1 = {address}:{amqp}
management.tcp.ip = {address}
management.tcp.port = {management}
load_definitions = {directory}/definitions.json
log.console = true
log.file = false
"""


def start_rabbitmq(lab: Lab) -> None:
    """
    Start RabbitMQ, and wait until the first release's vhost serves.

    :raises LabError: if it does not come up.
    """
    if not SERVER.exists():
        raise LabError(f"{SERVER} is not there: on Debian, `apt-get install rabbitmq-server`")
    directory = lab.state / "rabbitmq"
    directory.mkdir(parents=True, exist_ok=True)
    _write_config(lab, directory)
    start_epmd(lab)
    server = lab.server("rabbitmq")
    server.start([SERVER], env=environment(lab, directory, node=_node(lab)), cwd=directory)
    wait_until(lambda: _serves(lab), what="RabbitMQ serves", given_up=server.failure)


def management_get(lab: Lab, path: str) -> Any:
    """
    Read from RabbitMQ's management API.

    :param path: what follows ``/api/``.
    """
    account = lab.management()
    answer = local_session().get(
        f"http://{account.host}:{account.port}/api/{path}", auth=(account.login, account.password), timeout=10
    )
    answer.raise_for_status()
    return answer.json()


def live_engines(lab: Lab) -> set[str]:
    """Return the ids of the engines that listen, in all the releases' vhosts: Heat's own table knows later who died."""
    own = "heat-engine-listener."
    vhosts = {vhost["name"] for vhost in management_get(lab, "vhosts")} & set(RELEASES.values())
    queues = {c["queue"]["name"] for vhost in vhosts for c in management_get(lab, f"consumers/{vhost}")}
    return {queue.removeprefix(own) for queue in queues if queue.startswith(own)}


def stop_management(lab: Lab) -> None:
    """Stop RabbitMQ's management API; the broker serves on."""
    rabbitmqctl(lab, "eval", "application:stop(rabbitmq_management).")


def start_management(lab: Lab) -> None:
    """Start RabbitMQ's management API again."""
    rabbitmqctl(lab, "eval", "application:start(rabbitmq_management).")


def management_call(lab: Lab, method: str, path: str, body: Any = None) -> None:
    """
    Change something through RabbitMQ's management API.

    :param method: PUT or DELETE.
    :param path: what follows ``/api/``.
    :param body: what to send.
    """
    account = lab.management()
    answer = local_session().request(
        method,
        f"http://{account.host}:{account.port}/api/{path}",
        json=body,
        auth=(account.login, account.password),
        timeout=10,
    )
    answer.raise_for_status()


def rabbitmqctl(lab: Lab, *arguments: str) -> str:
    """
    Run an administrator's command on the lab's RabbitMQ and return what it says.

    :param arguments: the command's words.
    """
    variables = environment(lab, lab.state / "rabbitmq", node=_node(lab))
    return run([_CONTROL, *arguments], what=f"rabbitmqctl {arguments[0]}", env=variables)


def _node(lab: Lab) -> str:
    return f"{lab.name}@localhost"


def _serves(lab: Lab) -> bool:
    try:
        vhost = management_get(lab, f"vhosts/{RELEASES[FIRST_RELEASE]}")
        return "running" in vhost["cluster_state"].values() and _accepts_clients(lab)
    except requests.RequestException:
        return False


def _accepts_clients(lab: Lab) -> bool:
    overview = management_get(lab, "overview")
    return any(listener["protocol"] == "amqp" for listener in overview.get("listeners", []))


def start_epmd(lab: Lab) -> None:
    """Start Erlang's port mapper ourselves: RabbitMQ would leave behind a daemon that nobody knows."""
    epmd = shutil.which("epmd") or "/usr/bin/epmd"
    port = lab.own_port("epmd")
    lab.server("epmd").start([epmd, "-address", "127.0.0.1", "-port", str(port)])
    wait_until(lambda: _accepts(port), what="epmd answers", given_up=lab.server("epmd").failure)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def environment(
    lab: Lab, directory: Path, *, node: str, distribution: str = "distribution", emulator: str = ""
) -> dict[str, str]:
    """
    Return what a node of RabbitMQ and its commands run with.

    :param directory: where the node keeps everything.
    :param node: the node's name.
    :param distribution: which of the lab's own ports other nodes reach it at.
    :param emulator: more arguments of Erlang's emulator.
    """
    return clean_environment(
        HOME=str(directory),  # the Erlang cookie
        ERL_EPMD_ADDRESS="127.0.0.1",
        ERL_EPMD_PORT=str(lab.own_port("epmd")),
        RABBITMQ_CONF_ENV_FILE=os.devnull,
        RABBITMQ_CONFIG_FILE=str(directory / "rabbitmq.conf"),
        RABBITMQ_DIST_PORT=str(lab.own_port(distribution)),
        RABBITMQ_ENABLED_PLUGINS_FILE=str(directory / "enabled_plugins"),
        RABBITMQ_LOG_BASE=str(directory / "log"),
        RABBITMQ_MNESIA_BASE=str(directory / "mnesia"),
        RABBITMQ_NODENAME=node,
        RABBITMQ_PID_FILE=str(directory / "rabbitmq.pid"),
        RABBITMQSERVER_ADDITIONAL_ERL_ARGS=f"-kernel inet_dist_use_interface {{127,0,0,1}} {emulator}",
    )


def _write_config(lab: Lab, directory: Path) -> None:
    (directory / "enabled_plugins").write_text("[rabbitmq_management].\n", encoding="utf-8")
    config = _CONFIG.format(address=lab.server_address, amqp=AMQP_PORT, management=MANAGEMENT_PORT, directory=directory)
    (directory / "rabbitmq.conf").write_text(config, encoding="utf-8")
    write_private(
        directory / "definitions.json",
        json.dumps(definitions(lab.secrets["amqp"], lab.secrets["management"]), indent=1),
    )


def definitions(amqp: str, management: str) -> dict[str, Any]:
    """
    Return what a broker has before anything of Heat runs: the first release's vhost, Heat's account, an administrator.

    :param amqp: the password of Heat's account.
    :param management: the administrator's.
    """
    vhost = RELEASES[FIRST_RELEASE]
    everything = {"vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [
            _user("heat", amqp, tags=""),
            _user(OPERATOR, management, tags="administrator"),
        ],
        "vhosts": [{"name": vhost}],
        "permissions": [{"user": user, **everything} for user in ("heat", OPERATOR)],
    }


def _user(name: str, password: str, *, tags: str) -> dict[str, str]:
    salt = os.urandom(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }
