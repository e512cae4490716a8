"""HAProxy in front of the APIs."""

from __future__ import annotations

import csv
import shutil
import socket
from collections.abc import Mapping

from lab.cloud.model import API_PORT, CFN_PORT, Lab, Role
from lab.processes import LabError, wait_until

# The timeouts are above the 60 s after which Heat gives an RPC call up: its own answer reaches the client.
_CONFIG = """\
global
    log stdout format raw local0
    nbthread 1
    maxconn 4000
    stats socket {socket} mode 600 level admin

defaults
    mode http
    log global
    option httplog
    option redispatch
    # uWSGI closes a connection after each answer without saying so: never send a second request on one.
    option http-server-close
    option httpchk GET /healthcheck
    http-check expect status 200
    retries 3
    timeout connect 5s
    timeout check 5s
    timeout client 180s
    timeout server 180s
    timeout queue 180s
    default-server check inter 1s fall 2 rise 1
"""
_PROXY = """
frontend {backend}_front
    bind {address}:{port}
    default_backend {backend}

backend {backend}
    balance roundrobin
"""
BACKENDS: dict[Role, str] = {"api": "heat_api", "api-cfn": "heat_api_cfn"}
_PORTS: dict[Role, int] = {"api": API_PORT, "api-cfn": CFN_PORT}


def start_haproxy(lab: Lab) -> None:
    """
    Start HAProxy, and wait until its admin socket answers.

    :raises LabError: if it does not come up.
    """
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if not haproxy:
        raise LabError("haproxy is not installed: on Debian, `apt-get install haproxy`")
    config = lab.state / "haproxy/haproxy.cfg"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(_config(lab), encoding="utf-8")
    server = lab.server("haproxy")
    server.start([haproxy, "-db", "-f", config])
    wait_until(lambda: bool(server_states(lab)), what="HAProxy answers", given_up=server.failure)


def server_states(lab: Lab) -> dict[str, str]:
    """Return the state of each server as HAProxy sees it, by ``backend/server``; empty if HAProxy is not up."""
    try:
        lines = _ask(lab, "show stat").lstrip("# ").splitlines()
    except OSError:
        return {}
    return {
        f"{row['pxname']}/{row['svname']}": row["status"]
        for row in csv.DictReader(lines)
        if row["svname"] not in ("FRONTEND", "BACKEND")
    }


def _ask(lab: Lab, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(lab.admin_socket))
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def configuration(
    socket: str, address: str, ports: Mapping[Role, int], servers: Mapping[Role, Mapping[str, str]]
) -> str:
    """
    Return HAProxy's configuration.

    :param socket: its admin socket.
    :param address: where it listens.
    :param ports: of each API, on the balancer and on the hosts.
    :param servers: the addresses of each API's hosts, by name.
    """
    text = _CONFIG.format(socket=socket)
    for role, backend in BACKENDS.items():
        text += _PROXY.format(backend=backend, address=address, port=ports[role])
        text += "".join(f"    server {name} {host}:{ports[role]}\n" for name, host in servers[role].items())
    return text


def _config(lab: Lab) -> str:
    servers = {role: {host.name: host.address for host in lab.hosts_with(role)} for role in BACKENDS}
    return configuration(str(lab.admin_socket), lab.balancer_address, _PORTS, servers)
