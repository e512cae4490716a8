"""Which failures of SSH may pass by themselves; real ones are in tests/integration/steps/test_step_ssh.py."""

from __future__ import annotations

import socket

import paramiko
import pytest

from heat_upgrade.hooks.host import is_final

KEY = paramiko.RSAKey.generate(1024)


@pytest.mark.parametrize(
    "error",
    [
        paramiko.AuthenticationException("Authentication failed."),
        paramiko.BadAuthenticationType("Bad authentication type", ["publickey"]),
        paramiko.BadHostKeyException("controller-1", KEY, KEY),
        paramiko.SSHException("Server 'controller-1' not found in known_hosts"),
        paramiko.SSHException("No authentication methods available"),
        FileNotFoundError(2, "No such file or directory", "/nonexistent/key"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:60],
)
def test_what_does_not_pass(error: Exception) -> None:
    assert is_final(error)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("timed out"),
        socket.gaierror(-3, "Temporary failure in name resolution"),
        EOFError(),
        paramiko.SSHException("Error reading SSH protocol banner"),
        paramiko.ssh_exception.NoValidConnectionsError({("10.0.0.11", 22): OSError("refused")}),
        # An sshd that ends while it is asked.
        paramiko.AuthenticationException("Authentication failed: transport shut down or saw EOF"),
        paramiko.AuthenticationException("Authentication timeout."),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:60],
)
def test_what_may_pass(error: Exception) -> None:
    assert not is_final(error)
