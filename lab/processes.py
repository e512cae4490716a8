"""Start servers, remember them by pid file, and stop exactly those again."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_POLL = 0.1
# What a server of the lab may see of the caller's environment: enough to run, and to reach a package index.
_KEPT = {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
_KEPT_PREFIXES = ("PIP_", "UV_")
_KEPT_SUFFIXES = ("_proxy", "_PROXY")

_held_locks: list[int] = []


class LabError(Exception):
    """Raised when a part of the lab can't be brought up or reached."""


def clean_environment(**extra: str) -> dict[str, str]:
    """
    Return the environment that servers of the lab start with.

    :param extra: variables to add or to replace.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.endswith(_KEPT_SUFFIXES)
    }
    return {**kept, "LANG": "C.UTF-8", "TZ": "UTC", **extra}


def wait_until(
    ready: Callable[[], bool], *, what: str, timeout: float = 120.0, given_up: Callable[[], str | None] | None = None
) -> None:
    """
    Poll until ``ready`` says so.

    :param ready: returns True once the wait is over.
    :param what: what is waited for, for the error.
    :param timeout: seconds to wait at most.
    :param given_up: returns the reason why waiting on is pointless, or None.
    :raises LabError: on a timeout, or once ``given_up`` has a reason.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if given_up and (reason := given_up()):
            raise LabError(f"{what}: {reason}")
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not so after {timeout:.0f} s")
        time.sleep(_POLL)


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """
    Hold a lock, after waiting for whoever has it.

    The commands that are run meanwhile hold it as well: one that outlives an aborted run is waited for by the next.

    :param file: the lock's file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run, which holds {file}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        _held_locks.append(lock.fileno())
        try:
            yield
        finally:
            _held_locks.remove(lock.fileno())


def run(argv: Sequence[str | Path], *, what: str, env: Mapping[str, str] | None = None, told: str = "") -> str:
    """
    Run a command to its end and return its standard output.

    :param argv: the command; no secret belongs here, everybody can read it.
    :param what: what it does, for the error.
    :param env: its whole environment; the clean one of the lab by default.
    :param told: its standard input.
    :raises LabError: if it fails, with the end of what it said.
    """
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            env=dict(env or clean_environment()),
            input=told,
            pass_fds=_held_locks,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(
            f"{what}: {argv[0]} is not installed: lab/debian-packages installs what the lab needs"
        ) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{what}: {argv[0]} exited {done.returncode}\n{said}")
    return done.stdout


@dataclass(frozen=True)
class _Stat:
    pid: int
    state: str
    parent: int
    session: int
    started: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name is in brackets and may hold spaces and brackets itself.
    fields = text.rpartition(")")[2].split()
    return _Stat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def _all_processes() -> Iterator[_Stat]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) and stat.state not in "ZX":
            yield stat


@dataclass(frozen=True)
class Server:
    """
    A server that outlives the command that starts it.

    It leads a session of its own, so that all that it starts is found again, also when it died before its
    children. A pid that the kernel has given away since is told apart by its start time.

    :param name: what it is called in messages.
    :param record: its pid file; holds the pid and its start time in clock ticks since boot.
    :param log: where its output is appended.
    """

    name: str
    record: Path
    log: Path

    def start(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """
        Start the server unless it runs.

        :param argv: the command, which stays in the foreground; no secret belongs here.
        :param env: its whole environment; the clean one of the lab by default.
        :param cwd: the directory to run it in.
        """
        if self.running():
            return
        self.stop()  # what an aborted run may have left of it
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env or clean_environment()),
                cwd=cwd,
                start_new_session=True,
            )
        stat = _stat(child.pid)
        self.record.write_text(f"{child.pid} {stat.started if stat else 0}\n", encoding="utf-8")

    def running(self) -> bool:
        """Tell whether the process that was started is alive."""
        recorded = self._recorded()
        return recorded is not None and any(stat.pid == recorded[0] for stat in self._members())

    def connections(self) -> list[int]:
        """Return the processes that it has forked into sessions of their own, as sshd does for each connection."""
        everybody, recorded = list(_all_processes()), self._recorded()
        sessions = {stat.session for stat in everybody if recorded and stat.parent == recorded[0] != stat.session}
        return [stat.pid for stat in everybody if stat.session in sessions]

    def started(self) -> float:
        """Return when it was started, in seconds since the epoch; 0 if it never was."""
        return self.record.stat().st_mtime if self.record.exists() else 0.0

    def failure(self) -> str | None:
        """Return why the server is gone, with the end of its log; None while it runs."""
        if self.running():
            return None
        said = self.log.read_text(encoding="utf-8", errors="replace")[-1500:] if self.log.exists() else ""
        return f"{self.name} has ended; {self.log} ends with:\n{said}"

    def stop(self, *, grace: float = 20.0) -> None:
        """
        Stop the server and all that it has started.

        :param grace: seconds from SIGTERM to SIGKILL; 0 kills at once.
        """
        members = self._members()
        if grace and members:
            leader = [stat.pid for stat in members if stat.pid == stat.session]
            send_signal(leader or [stat.pid for stat in members], signal.SIGTERM)
            self._wait_gone(grace)
        while members := self._members():
            send_signal([stat.pid for stat in members], signal.SIGKILL)
            self._wait_gone(1.0)
        self.record.unlink(missing_ok=True)

    def _wait_gone(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._members() and time.monotonic() < deadline:
            time.sleep(_POLL)

    def _recorded(self) -> tuple[int, int] | None:
        try:
            pid, started = self.record.read_text(encoding="utf-8").split()
            return int(pid), int(started)
        except (FileNotFoundError, ValueError):  # absent, or cut off by an aborted run
            return None

    def _members(self) -> list[_Stat]:
        recorded = self._recorded()
        if recorded is None:
            return []
        pid, started = recorded
        members = [stat for stat in _all_processes() if stat.session == pid]
        stranger = any(stat.pid == pid and stat.started != started for stat in members)
        older = any(stat.started < started for stat in members)
        return [] if stranger or older else members


def stop_marked(marker: str) -> None:
    """
    Kill the processes that have a variable in their environment: the rest that no session leads to.

    :param marker: the variable, as ``NAME=value``.
    """
    while pids := [stat.pid for stat in _all_processes() if marker.encode() in _environ(stat.pid)]:
        send_signal(pids, signal.SIGKILL)
        time.sleep(_POLL)


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or somebody else's
        return []


def children(pid: int) -> list[int]:
    """Return the processes that a process has started; none once it has ended."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has ended
            found += map(int, thread.read_text(encoding="utf-8").split())
    return found


def send_signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
