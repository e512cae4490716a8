"""SSH to one host of a cloud."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from typing import TYPE_CHECKING

import paramiko
from airflow.providers.ssh.hooks.ssh import SSHHook
from paramiko.config import SSH_PORT

from heat_upgrade.exceptions import HostAuthError, HostUnreachableError, JobLostError, JobTimeoutError, RemoteStepError
from heat_upgrade.hooks.ssh_command import LAST_LINES, NOTHING_LOGGED, Conversation, LogOffset, RunningCommand
from heat_upgrade.read_only import ensure_writable
from heat_upgrade.remote.step import LOST, OWN_LINE, STOPPED, Outcome
from heat_upgrade.remote.steps import reachable

if TYPE_CHECKING:
    from heat_upgrade.remote.step import Job, Step

# What paramiko reports when a connection ends before the command did.
NO_EXIT_STATUS = -1
CUT_OFF = {
    LOST: "the job has ended without a status (killed, or the host was restarted)",
    STOPPED: "the job was stopped, with the task that waited for it",
}
# Seconds that ending a job may take; Airflow gives a trigger 30 for it.
STOP_TIMEOUT = 25
# Seconds in which a command has to begin, with what it is given.
BEGIN_TIMEOUT = 60
# Seconds between two reads of what has come over the connection.
READ_EVERY = 0.02
# Seconds after which a host that doesn't answer any more counts as gone; by itself TCP waits for a quarter of an hour.
DEAD_PEER = 60
FINAL = (paramiko.AuthenticationException, paramiko.BadHostKeyException, FileNotFoundError, PermissionError)
# What paramiko has no exceptions of its own for.
PASSING_TEXTS = ("transport shut down", "Authentication timeout")
FINAL_TEXTS = ("not found in known_hosts", "No authentication methods available", "Incompatible ssh")


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
        # Not three times: a wrong key stays wrong, and for the rest the task's own retries wait longer each time.
        self.conn_retry_attempts = 1
        self.name = name
        self._own_key: paramiko.PKey | None = None
        if host_key:
            kind, encoded = host_key.split()[:2]
            self._own_key = self.host_key = self._host_key_mappings[kind](data=b64decode(encoded))
            # A key in the cloud file is checked, whatever the connection says of other hosts.
            self.no_host_key_check = self.allow_host_key_change = False

    def get_conn(self) -> paramiko.SSHClient:
        """
        Connect, unless that has been done.

        :raises HostAuthError: when the host is another one, or doesn't accept the login
        :raises HostUnreachableError: when it can't be reached
        """
        try:
            client = self._connect_to(self._own_key) if self._own_key else super().get_conn()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._unreachable(error) from error
        notice_a_dead_peer(client)
        return client

    def _connect_to(self, key: paramiko.PKey) -> paramiko.SSHClient:
        """Connect as SSHHook does, but to the host with the cloud file's key alone: there known_hosts comes first."""
        if self.client and (transport := self.client.get_transport()) and transport.is_active():
            return self.client
        # One that knows no other host, and rejects those it doesn't know.
        client = paramiko.SSHClient()
        name = self.remote_host if self.port == SSH_PORT else f"[{self.remote_host}]:{self.port}"
        client.get_host_keys().add(name, key.get_name(), key)
        client.connect(
            hostname=self.remote_host,
            port=self.port or SSH_PORT,
            username=self.username,
            password=self.password.strip() if self.password else None,
            pkey=self.pkey,
            key_filename=self.key_file,
            look_for_keys=self.look_for_keys,
            disabled_algorithms=self.disabled_algorithms,
            sock=self.host_proxy,
            compress=self.compress,
            timeout=self.conn_timeout,
            banner_timeout=self.banner_timeout,
            auth_timeout=self.auth_timeout,
        )
        if transport := client.get_transport():
            transport.set_keepalive(self.keepalive_interval)
        self.client = client
        return client

    def run_step(self, step: Step, *, idle_timeout: float = 900, timeout: float = 3600) -> dict[str, str]:
        """
        Run a step, log what it writes as it comes, and return what it reports.

        :param step: what to run
        :param idle_timeout: seconds without any output after which the connection counts as broken
        :param timeout: seconds that it may take, whatever it writes
        :raises HostUnreachableError: when the host can't be reached or the connection breaks off
        :raises HostAuthError: when the host doesn't accept the login, or has another key
        :raises JobTimeoutError: when it takes too long
        :raises RemoteStepError: when the step ends with another status than 0
        """
        if not step.read_only:
            ensure_writable(f"run step {step.name} on {self.name}")
        with self._command(step.command, step.bundle) as running:
            self._follow(step, running, idle_timeout, timeout)
            outcome = self._outcome(step.name, running)
        return judge(self.name, outcome)

    def _follow(self, step: Step, running: RunningCommand, idle_timeout: float, timeout: float) -> None:
        begun = heard = time.monotonic()
        received = 0
        while not running.read():
            self._log_news(running)
            now = time.monotonic()
            if now - begun > timeout:
                raise JobTimeoutError(
                    f"{self.name}: step {step.name} has not ended within {timeout:g} s, expected its end: see on the "
                    "host what it does, where it may still go on, then clear this task"
                )
            if running.received > received:
                received, heard = running.received, now
                continue
            if now - heard > idle_timeout:
                raise HostUnreachableError(
                    f"{self.name}: step {step.name} has written nothing for {idle_timeout:g} s, expected its end or a "
                    "line: look for it on the host, where it may still go on and the next try waits for it; clear this "
                    "task"
                )
            time.sleep(READ_EVERY)
        self._log_news(running)

    def _log_news(self, running: RunningCommand) -> None:
        for level, line in running.news():
            self.log.log(level, "%s: %s", self.name, line)

    def _unreachable(self, error: Exception) -> HostAuthError | HostUnreachableError:
        kind = HostAuthError if is_final(error) else HostUnreachableError
        return kind(
            f"{self.name}: SSH to {self.username}@{self.remote_host}:{self.port} failed "
            f"({type(error).__name__}: {error}), expected a session: check the host, its sshd and host key, "
            f"and the Airflow connection {self.ssh_conn_id!r}; then clear this task"
        )

    @contextmanager
    def started(self, step: Step) -> Iterator[RunningCommand]:
        """
        Start a step as a job of its own, unless it runs already, and follow it for a while; it goes on by itself.

        :param step: what to do
        :raises HostUnreachableError: when the host can't be reached or the connection breaks off
        """
        ensure_writable(f"start step {step.name} on {self.name}")
        with self._command(step.start_command, step.bundle) as running:
            yield running

    @contextmanager
    def followed(self, job: Job, offset: LogOffset) -> Iterator[RunningCommand]:
        """
        Follow a job that was started, from the beginning of its output.

        :param job: the job
        :param offset: how much of its output is in the log by now
        :raises HostUnreachableError: when the host can't be reached or the connection breaks off
        """
        with self._command(job.follow_command, offset=offset) as running:
            yield running

    def outcome(self, job: Job, running: RunningCommand) -> Outcome:
        """
        Return how a job ended.

        :param job: the job
        :param running: what followed it, which is over
        :raises HostUnreachableError: when the connection broke off before the job ended
        """
        return self._outcome(job.step, running)

    def stop_job(self, job: Job) -> None:
        """
        End a job and all that it has started.

        :param job: the job
        :raises HostUnreachableError: when the host can't be reached
        """
        ensure_writable(f"stop step {job.step} on {self.name}")
        # A connection of its own: this may interrupt what uses the other one.
        other = copy(self)
        other.client = None
        vars(other).pop("host_proxy", None)
        deadline = time.monotonic() + STOP_TIMEOUT
        lines: list[str] = []
        with other._command(job.stop_command) as running:
            while not running.read() and time.monotonic() < deadline:
                lines += [line for _, line in running.news()]
                time.sleep(READ_EVERY)
            lines += [line for _, line in running.news()]
        self.log.info("%s: %s", self.name, " / ".join(lines[-LAST_LINES:]) or f"job {job.id} is ending")

    def _outcome(self, name: str, running: RunningCommand) -> Outcome:
        if (status := running.status) == NO_EXIT_STATUS:
            raise HostUnreachableError(
                f"{self.name}: the SSH connection broke off while step {name} ran, expected it to last: "
                "the step may still go on there and the next try waits for it; clear this task"
            )
        return Outcome.of(name, status, running.results, running.stderr)

    @contextmanager
    def _command(
        self, command: str, given: bytes = b"", offset: LogOffset = NOTHING_LOGGED
    ) -> Iterator[RunningCommand]:
        with self._connected() as client:
            yield RunningCommand(self._begin(client, command, given), self.name, offset)

    @contextmanager
    def _connected(self) -> Iterator[paramiko.SSHClient]:
        try:
            with self.get_conn() as client:
                yield client
        except (OSError, EOFError, paramiko.SSHException) as broken:
            raise self._unreachable(broken) from broken

    def _begin(self, client: paramiko.SSHClient, command: str, given: bytes | None) -> paramiko.Channel:
        # paramiko itself would wait for ever for a server that doesn't answer a command's request.
        limit = threading.Timer(BEGIN_TIMEOUT, client.close)
        limit.daemon = True
        limit.start()
        try:
            # Not by exec_command of the client, whose file of standard input closes it when nobody holds it any more.
            if (transport := client.get_transport()) is None:
                raise EOFError  # closed meanwhile
            channel = transport.open_session(timeout=self.conn_timeout)
            channel.settimeout(self.conn_timeout)
            channel.exec_command(OWN_LINE + command)
            # A command that has ended by now leaves it unread; its status says why, or that the connection broke.
            with suppress(OSError):
                if given is not None:
                    channel.sendall(given)
                    channel.shutdown_write()
            return channel
        finally:
            limit.cancel()

    @contextmanager
    def conversation(self, step: Step) -> Iterator[Conversation]:
        """
        Run a step that is asked and answers line by line, until it isn't needed any more.

        :param step: the step
        :raises HostUnreachableError: when the host can't be reached or the connection breaks off
        :raises RemoteStepError: when the step can't be laid on the host
        """
        ensure_writable(f"run step {step.name} on {self.name}")
        with self._connected() as client:
            # By a command of its own: what unpacks it reads standard input to its end.
            laid = RunningCommand(self._begin(client, step.unpacking, step.bundle), self.name)
            self._follow(step, laid, BEGIN_TIMEOUT, BEGIN_TIMEOUT)
            judge(self.name, self._outcome(step.name, laid))
            yield Conversation(self._begin(client, step.conversation, None), self.name, step.name)

    @contextmanager
    def local_url(self, address: str, port: int) -> Iterator[str]:
        """
        Give an HTTP service of the host a URL on this machine, through the SSH connection.

        :param address: address that the service listens on, as the host sees it
        :param port: its port
        """
        with self.get_tunnel(remote_port=port, remote_host=reachable(address)) as tunnel:
            yield f"http://127.0.0.1:{tunnel.local_bind_port}"


def judge(name: str, outcome: Outcome) -> dict[str, str]:
    """
    Return what a step reported, if it ended well.

    :param name: the host's name, for messages
    :param outcome: how it ended
    :raises JobLostError: when it was a job that has ended without a status
    :raises RemoteStepError: when it ended with another status than 0
    """
    if outcome.cut_off:
        raise JobLostError(
            f"{name}: {CUT_OFF[outcome.cut_off]}, expected it to end by itself: the next try starts it again; should "
            "that not help, see to the host, then clear this task"
        )
    if outcome.status:
        raise RemoteStepError(f"{name}: {outcome.error}")
    return outcome.results


def is_final(error: Exception) -> bool:
    """
    Return whether another try to connect would fail as well.

    :param error: what connecting raised
    """
    said = str(error)
    if any(text in said for text in PASSING_TEXTS):
        return False
    return isinstance(error, FINAL) or any(text in said for text in FINAL_TEXTS)


def notice_a_dead_peer(client: paramiko.SSHClient) -> None:
    """
    Let a connection break when its other end is gone without a word, as after a power cut.

    :param client: a client that is connected
    """
    transport = client.get_transport()
    # The keep-alive of the SSH connection gives TCP something that has to be acknowledged.
    if transport and isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER * 1000)
