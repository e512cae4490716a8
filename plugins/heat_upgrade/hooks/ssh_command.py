"""A command that runs over SSH, read as it writes: nobody has to wait in a thread for it."""

from __future__ import annotations

import codecs
import logging
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import paramiko

PIECE = 65536


class Told(NamedTuple):
    """How many lines of a command's output and of its errors are in the log."""

    lines: int = 0
    complaints: int = 0


class _Lines:
    """Bytes as they come, into whole lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        return whole

    def rest(self) -> list[str]:
        rest, self._rest = self._rest, ""
        return [rest] if rest else []


class RunningCommand:
    """
    A command on a host, until it is over.

    :param channel: the session in which it runs
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._out, self._err = _Lines(), _Lines()
        self.lines: list[str] = []
        self.complaints: list[str] = []
        self.told = Told()

    def read(self) -> bool:
        """Take what has come by now, without waiting, and say whether that was all."""
        channel = self._channel
        # Asked before the reading: what comes in between is read the next time.
        over = bool(channel.closed or (channel.eof_received and channel.exit_status_ready()))
        while channel.recv_ready():
            self.lines += self._out.feed(channel.recv(PIECE))
        while channel.recv_stderr_ready():
            self.complaints += self._err.feed(channel.recv_stderr(PIECE))
        if over:
            self.lines += self._out.rest()
            self.complaints += self._err.rest()
        return over

    def news(self) -> Iterator[tuple[int, str]]:
        """Give what the log doesn't have yet, each line with its level; results are for the upgrade alone."""
        lines, complaints = self.lines[self.told.lines :], self.complaints[self.told.complaints :]
        # One that is followed anew begins anew: until it has caught up there is nothing to tell.
        self.told = Told(max(self.told.lines, len(self.lines)), max(self.told.complaints, len(self.complaints)))
        yield from ((logging.INFO, line) for line in lines if not line.startswith("::"))
        yield from ((logging.WARNING, complaint) for complaint in complaints)

    @property
    def status(self) -> int:
        """Return the exit code of a command that is over; -1 when the connection ended before it did."""
        return self._channel.recv_exit_status()
