"""
A command that runs over SSH, read as it writes: nobody has to wait in a thread for it.

Neither how fast it writes nor how much is up to the host: a read takes in a bounded piece, and what isn't taken in the
connection holds back. Kept are results and the end of what it wrote to standard error; the rest goes to the log.
"""

from __future__ import annotations

import codecs
import json
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from heat_upgrade.exceptions import HostUnreachableError, RemoteStepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import paramiko

# Bytes that one read takes in of each of the two streams.
PIECE = 65536
# Characters of a line, and of all results of a step.
LONGEST_LINE, MOST_RESULTS = 16384, 4 * 1024**2
# Lines that go to the log at once, and of one command in all.
LOGGED_AT_ONCE, MOST_LOGGED = 500, 20000
# The last lines of standard error that are kept: an error's text.
LAST_LINES = 20

_OWN_ERROR = "error: "
LOG = logging.getLogger(__name__)


class LogOffset(NamedTuple):
    """How many lines of a command's output and of its standard error are in the log."""

    output: int = 0
    stderr: int = 0


NOTHING_LOGGED = LogOffset()


class _Lines:
    """Bytes as they come, into whole lines; of one that is too long the beginning."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self.count = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, str]]:
        """Yield the lines that are whole now, each with its number."""
        first, *others = self._decoder.decode(data).split("\n")
        self._grow(first)
        for piece in others:
            yield self._next()
            self._grow(piece)

    def rest(self) -> Iterator[tuple[int, str]]:
        """Yield what stands behind the last line's end."""
        if self._rest:
            yield self._next()

    def _grow(self, piece: str) -> None:
        self._rest += piece[: LONGEST_LINE + 1 - len(self._rest)]

    def _next(self) -> tuple[int, str]:
        line, self._rest = self._rest, ""
        self.count += 1
        return self.count, line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ... (cut)"


def _is_own_line(number: int, line: str) -> bool:
    """Return whether a line is what every command begins with, after a login shell that has written nothing."""
    return number == 1 and not line


class RunningCommand:
    """
    A command on a host, until it is over.

    :param channel: the session in which it runs
    :param host: what messages call the host
    :param offset: what another connection to the same job has logged
    """

    def __init__(self, channel: paramiko.Channel, host: str, offset: LogOffset = NOTHING_LOGGED) -> None:
        self._channel = channel
        self._host = host
        self._output, self._stderr = _Lines(), _Lines()
        self._unlogged: deque[tuple[LogOffset, int, str]] = deque()
        self._result_size = 0
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._own_error = ""
        self._muted = False
        # Up to where lines are in the log, and up to where they have been read for it.
        self.offset = self._read = offset
        self.results: list[str] = []
        self.received = 0

    def read(self) -> bool:
        """
        Take in what has come by now, without waiting, and return whether that was all.

        :raises RemoteStepError: when it reports more than any step does
        """
        if self._unlogged:
            return False
        channel = self._channel
        # Asked before the reading: what comes in between is read the next time.
        over = bool(channel.closed or (channel.eof_received and channel.exit_status_ready()))
        if channel.recv_ready():
            self._take_output(self._output.feed(self._counted(channel.recv(PIECE))))
        if channel.recv_stderr_ready():
            self._take_stderr(self._stderr.feed(self._counted(channel.recv_stderr(PIECE))))
        if over and not channel.recv_ready() and not channel.recv_stderr_ready():
            self._take_output(self._output.rest())
            self._take_stderr(self._stderr.rest())
            return not self._unlogged
        return False

    def news(self) -> Iterator[tuple[int, str]]:
        """Yield what goes to the log next, each line with its level; results are for the upgrade alone."""
        for _ in range(min(LOGGED_AT_ONCE, len(self._unlogged))):
            self.offset, level, line = self._unlogged.popleft()
            yield level, line

    @property
    def stderr(self) -> list[str]:
        """Return the end of what it wrote to standard error, with its own last error before it."""
        return [self._own_error, *self._last_lines] if self._own_error else list(self._last_lines)

    @property
    def status(self) -> int:
        """Return the exit code of a command that is over; -1 when the connection ended before it did."""
        return self._channel.recv_exit_status()

    def _counted(self, data: bytes) -> bytes:
        self.received += len(data)
        return data

    def _take_output(self, lines: Iterator[tuple[int, str]]) -> None:
        for number, line in lines:
            if line.startswith("::"):
                self._keep(line)
            elif number > self._read.output and not _is_own_line(number, line):
                self._log(self._read._replace(output=number), logging.INFO, line)

    def _take_stderr(self, lines: Iterator[tuple[int, str]]) -> None:
        for number, line in lines:
            if line:
                self._last_lines.append(line)
            if line.startswith(_OWN_ERROR):
                self._own_error = line
            if number > self._read.stderr and not _is_own_line(number, line):
                self._log(self._read._replace(stderr=number), logging.WARNING, line)

    def _keep(self, result: str) -> None:
        self._result_size += len(result)
        if len(result) > LONGEST_LINE or self._result_size > MOST_RESULTS:
            raise RemoteStepError(
                f"{self._host}: a step reports {self._result_size} characters or more, the last result alone "
                f"{len(result)}, expected at most {MOST_RESULTS} and {LONGEST_LINE}: check what answers on that host"
            )
        self.results.append(result)

    def _log(self, offset: LogOffset, level: int, line: str) -> None:
        self._read = offset
        if self._muted:
            return
        if offset.output + offset.stderr > MOST_LOGGED:
            self._muted = True
            level, line = logging.WARNING, f"more than {MOST_LOGGED} lines: the rest of the output is not logged"
        self._unlogged.append((offset, level, line))


class Conversation:
    """
    A step on a host that answers each question, a line, with another line; both are JSON.

    :param channel: the session in which it runs
    :param host: what messages call the host
    :param step: the step's name
    """

    def __init__(self, channel: paramiko.Channel, host: str, step: str) -> None:
        self._channel, self._host, self._step = channel, host, step
        self._answers = channel.makefile("r")

    def ask(self, question: Mapping[str, Any], timeout: float) -> Any:
        """
        Ask, and return the answer.

        :param question: what to ask
        :param timeout: seconds that the answer may take
        :raises HostUnreachableError: when no answer comes
        :raises RemoteStepError: when the step has ended with an error
        """
        self._channel.settimeout(timeout)
        line = said = ""
        with suppress(OSError):
            self._channel.sendall(json.dumps(question).encode() + b"\n")
            while (line := self._answers.readline(MOST_RESULTS)) and not line.startswith("{"):
                if said_before := line.rstrip("\n"):
                    LOG.info("%s: %s", self._host, said_before)
            said = "" if line.endswith("\n") else self._channel.recv_stderr(PIECE).decode("utf-8", "replace").strip()
        if said:
            raise RemoteStepError(f"{self._host}: {said.splitlines()[-1].removeprefix(_OWN_ERROR)}")
        if not line.endswith("\n"):
            raise HostUnreachableError(
                f"{self._host}: step {self._step} has ended, or has not answered within {timeout:g} s, expected an "
                "answer: check the host and its sshd, then clear this task"
            )
        return json.loads(line)
