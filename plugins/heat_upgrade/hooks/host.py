"""SSH to one host of a cloud."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import paramiko
from airflow.providers.ssh.hooks.ssh import SSHHook

from heat_upgrade import remote
from heat_upgrade.exceptions import HostUnreachable, RemoteStepError
from heat_upgrade.steps import reachable

if TYPE_CHECKING:
    from heat_upgrade.remote import Step

# What paramiko reports when a connection ends before the command did.
NO_EXIT_STATUS = -1


class HeatHostHook(SSHHook):
    """
    Run the upgrade's steps on a host.

    :param ssh_conn_id: Airflow connection with the user and the key, the same for all hosts of a cloud
    :param address: name or IP address that SSH reaches
    :param port: SSH port
    :param host_key: the host's public key as ``type base64``; without it the Airflow user's known_hosts decides
    :param name: the host's name in the cloud file, for messages
    """

    def __init__(self, *, ssh_conn_id: str, address: str, port: int = 22, host_key: str | None, name: str) -> None:
        super().__init__(ssh_conn_id=ssh_conn_id, remote_host=address, port=port, conn_timeout=20)
        self.name = name
        if host_key:
            kind, encoded = host_key.split()[:2]
            self.host_key = self._host_key_mappings[kind](data=b64decode(encoded))
            # A key in the cloud file is checked, whatever the connection says of other hosts.
            self.no_host_key_check = self.allow_host_key_change = False

    def run_step(self, step: Step, *, silence: float = 900) -> dict[str, str]:
        """
        Run a step, log what it writes as it comes, and return what it reports.

        :param step: what to run
        :param silence: seconds without a line of output after which the connection counts as broken
        :raises HostUnreachable: when the host can't be reached or the connection breaks off
        :raises RemoteStepError: when the step ends with another status than 0
        """
        try:
            status, lines, complaints = self._run(step, silence)
        except (OSError, EOFError, paramiko.SSHException) as broken:
            raise HostUnreachable(
                f"{self.name}: SSH to {self.username}@{self.remote_host}:{self.port} failed "
                f"({type(broken).__name__}: {broken}), expected a session: check the host, its sshd and host key, "
                f"and the Airflow connection {self.ssh_conn_id!r}; then clear this task"
            ) from broken
        if status == NO_EXIT_STATUS:
            raise HostUnreachable(
                f"{self.name}: the SSH connection broke off while step {step.name} ran, expected it to last: "
                "the step may still go on there and the next try waits for it; clear this task"
            )
        if status:
            raise RemoteStepError(f"{self.name}: {remote.error(step.name, status, complaints)}")
        return remote.results(lines)

    def _run(self, step: Step, silence: float) -> tuple[int, list[str], list[str]]:
        with self.get_conn() as client:
            stdin, stdout, stderr = client.exec_command(step.command, timeout=silence)
            # A step that has ended by now leaves it unread; its status says why, or that the connection broke.
            with suppress(OSError):
                stdin.write(step.bundle)
                stdin.channel.shutdown_write()
            try:
                lines = list(self._logged(stdout))
            except TimeoutError:
                raise HostUnreachable(
                    f"{self.name}: step {step.name} has written nothing for {silence:g} s, expected its end or a line: "
                    "look for it on the host, where it may still go on and the next try waits for it; clear this task"
                ) from None
            complaints = stderr.read().decode("utf-8", "replace").splitlines()
            for complaint in complaints:
                self.log.warning("%s: %s", self.name, complaint)
            return stdout.channel.recv_exit_status(), lines, complaints

    def _logged(self, output: paramiko.ChannelFile) -> Iterator[str]:
        for line in output:
            text = line.rstrip("\n")
            if not text.startswith("::"):
                self.log.info("%s: %s", self.name, text)
            yield text

    @contextmanager
    def local_url(self, address: str, port: int) -> Iterator[str]:
        """
        Give an HTTP service of the host a URL on this machine, through the SSH connection.

        :param address: address that the service listens on, as the host sees it
        :param port: its port
        """
        with self.get_tunnel(remote_port=port, remote_host=reachable(address)) as tunnel:
            yield f"http://127.0.0.1:{tunnel.local_bind_port}"
