"""What comes over a connection, piece by piece, into lines."""

from __future__ import annotations

import logging

from heat_upgrade.hooks.ssh_command import RunningCommand, Told


class Channel:
    """A session whose pieces a test hands out."""

    def __init__(self, *pieces: bytes, errors: bytes = b"") -> None:
        self.pieces, self.errors = list(pieces), [errors] if errors else []
        self.closed = False
        self.eof_received = False

    def recv_ready(self) -> bool:
        return bool(self.pieces)

    def recv(self, _: int) -> bytes:
        return self.pieces.pop(0)

    def recv_stderr_ready(self) -> bool:
        return bool(self.errors)

    def recv_stderr(self, _: int) -> bytes:
        return self.errors.pop(0)

    def exit_status_ready(self) -> bool:
        return self.eof_received

    def recv_exit_status(self) -> int:
        return 0 if self.eof_received else -1


def follow(channel: Channel, *told: int) -> RunningCommand:
    running = RunningCommand(channel)  # type: ignore[arg-type]
    running.told = Told(*told)
    return running


def test_lines_are_whole_whatever_the_pieces() -> None:
    channel = Channel(b"gr", "ü".encode()[:1])
    running = follow(channel)
    assert not running.read()
    assert running.lines == []
    channel.pieces = ["ü".encode()[1:] + b"n\n\nlast"]
    assert not running.read()
    assert running.lines == ["grün", ""]
    channel.eof_received = True
    assert running.read()
    assert running.lines == ["grün", "", "last"]
    assert running.status == 0


def test_a_connection_that_breaks_is_over_and_has_no_status() -> None:
    channel = Channel(b"half a li")
    channel.closed = True
    running = follow(channel)
    assert running.read()
    assert (running.lines, running.status) == (["half a li"], -1)


def test_each_line_is_told_once_and_results_never() -> None:
    channel = Channel(b"one\n::a=b\n", errors=b"oh\n")
    running = follow(channel)
    running.read()
    assert list(running.news()) == [(logging.INFO, "one"), (logging.WARNING, "oh")]
    assert list(running.news()) == []
    channel.pieces = [b"two\n"]
    running.read()
    assert list(running.news()) == [(logging.INFO, "two")]
    assert running.told == (3, 1)


def test_what_another_connection_has_told_is_not_told_again() -> None:
    running = follow(Channel(b"one\n"), 2, 0)
    running.read()
    assert list(running.news()) == []
    assert running.told == (2, 0), "it has not caught up yet"
    again = follow(Channel(b"one\ntwo\nthree\n"), 2, 0)
    again.read()
    assert list(again.news()) == [(logging.INFO, "three")]
