"""Which key decides whether a host is the right one; both ends run in this process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import paramiko
import pytest

from heat_upgrade.exceptions import HostAuthError
from heat_upgrade.hooks.host import HeatHostHook

A, B = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
OF_ANOTHER_TYPE = paramiko.RSAKey.generate(1024)
HOST = "10.0.0.11"


class _Server(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "password"


class Connect(Protocol):
    def __call__(
        self, named: paramiko.PKey | None, shown: paramiko.PKey, *known: paramiko.PKey, port: int = ..., **extra: str
    ) -> paramiko.SSHClient: ...


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Connect to a host that shows a key, where the cloud file names one and known_hosts knows some."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    servers: list[paramiko.Transport] = []

    def connected(
        named: paramiko.PKey | None, shown: paramiko.PKey, *known: paramiko.PKey, port: int = 22, **extra: str
    ) -> paramiko.SSHClient:
        name = HOST if port == 22 else f"[{HOST}]:{port}"
        lines = [f"{name} {key.get_name()} {key.get_base64()}\n" for key in known]
        (tmp_path / ".ssh/known_hosts").write_text("".join(lines))
        settings = {"conn_type": "ssh", "login": "heat", "password": "longenough"}
        monkeypatch.setenv("AIRFLOW_CONN_HOSTS", json.dumps({**settings, "extra": {"look_for_keys": "false", **extra}}))
        key = f"{named.get_name()} {named.get_base64()}" if named else None
        hook = HeatHostHook(ssh_conn_id="hosts", address=HOST, port=port, host_key=key, name="c1")
        # A socket of this process: it has no option of TCP's either.
        vars(hook)["host_proxy"], its_end = socket.socketpair()
        monkeypatch.setattr("heat_upgrade.hooks.host.notice_a_dead_peer", lambda _: None)
        servers.append(paramiko.Transport(its_end))
        servers[-1].add_server_key(shown)
        servers[-1].start_server(threading.Event(), _Server())
        return hook.get_conn()

    yield connected
    for server in servers:
        server.close()


@pytest.mark.parametrize("port", [22, 2222])
@pytest.mark.parametrize("known", [(), (B,), (A,), (B, A), (OF_ANOTHER_TYPE,)], ids=["none", "B", "A", "BA", "RSA"])
@pytest.mark.parametrize("extra", [{}, {"no_host_key_check": "true"}, {"allow_host_key_change": "true"}], ids=str)
def test_the_cloud_files_key_alone_decides(
    connect: Connect, port: int, known: tuple[paramiko.PKey, ...], extra: dict[str, str]
) -> None:
    assert connect(A, A, *known, port=port, **extra).get_transport().is_authenticated()
    with pytest.raises(HostAuthError, match="BadHostKeyException"):
        connect(A, B, *known, port=port, **extra)


def test_without_one_known_hosts_decides(connect: Connect) -> None:
    assert connect(None, B, B).get_transport().is_authenticated()
    with pytest.raises(HostAuthError, match="BadHostKeyException"):
        connect(None, A, B)
    with pytest.raises(HostAuthError, match="not found in known_hosts"):
        connect(None, A)


def test_a_connection_that_is_there_is_kept(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(A, A)
    hook = HeatHostHook(ssh_conn_id="hosts", address=HOST, host_key=f"{A.get_name()} {A.get_base64()}", name="c1")
    hook.client = client
    assert hook.get_conn() is client
