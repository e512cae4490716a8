"""What comes over a connection, piece by piece, into lines."""

from __future__ import annotations

import logging
import time

import pytest

from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.hooks.ssh_command import (
    LAST_LINES,
    LOGGED_AT_ONCE,
    LONGEST_LINE,
    MOST_LOGGED,
    MOST_RESULTS,
    PIECE,
    LogOffset,
    RunningCommand,
)


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


def follow(channel: Channel, *logged: int) -> RunningCommand:
    return RunningCommand(channel, "c1", LogOffset(*logged))  # type: ignore[arg-type]


def logged(running: RunningCommand) -> list[str]:
    """Read as long as anything comes, and return all that goes to the log."""
    lines: list[str] = []
    while not running.read():
        news = [line for _, line in running.news()]
        if not news and not running._channel.recv_ready() and not running._channel.recv_stderr_ready():
            return lines
        lines += news
    return lines


def test_lines_are_whole_whatever_the_pieces() -> None:
    channel = Channel(b"gr", "ü".encode()[:1], "ü".encode()[1:] + b"n\n\nlast")
    running = follow(channel)
    assert logged(running) == ["grün", ""]
    channel.eof_received = True
    assert logged(running) == ["last"]
    assert running.read()
    assert running.status == 0


def test_a_connection_that_breaks_is_over_and_has_no_status() -> None:
    channel = Channel(b"half a li")
    channel.closed = True
    running = follow(channel)
    assert logged(running) == ["half a li"]
    assert running.read()
    assert running.status == -1


def test_it_is_not_over_before_all_is_in_the_log() -> None:
    channel = Channel(b"one\n" * (LOGGED_AT_ONCE + 1))
    channel.eof_received = True
    running = follow(channel)
    assert not running.read()
    assert len(list(running.news())) == LOGGED_AT_ONCE
    assert not running.read()
    assert len(list(running.news())) == 1
    assert running.read()


def test_each_line_is_logged_once_and_results_never() -> None:
    channel = Channel(b"one\n::a=b\n", errors=b"oh\n")
    running = follow(channel)
    running.read()
    assert list(running.news()) == [(logging.INFO, "one"), (logging.WARNING, "oh")]
    assert list(running.news()) == []
    channel.pieces = [b"two\n"]
    running.read()
    assert list(running.news()) == [(logging.INFO, "two")]
    assert running.offset == (3, 1)
    assert running.results == ["::a=b"]
    assert running.stderr == ["oh"]


def test_what_another_connection_has_logged_is_not_logged_again() -> None:
    running = follow(Channel(b"one\n"), 2, 0)
    assert logged(running) == []
    assert running.offset == (2, 0), "it has not caught up yet"
    assert logged(follow(Channel(b"one\ntwo\nthree\n"), 2, 0)) == ["three"]


def test_what_was_read_and_not_logged_yet_is_logged_by_the_next_connection() -> None:
    running = follow(Channel(b"one\ntwo\n"))
    running.read()
    next(running.news())
    assert running.offset == (1, 0)


def test_a_line_without_end_costs_no_more_than_its_bytes() -> None:
    endless = Channel(*[b"x" * PIECE] * 200)
    running = follow(endless)
    begun = time.process_time()
    assert logged(running) == []
    assert time.process_time() - begun < 2, "it took time that grows with the square of the line"
    endless.pieces = [b"\nnext\n"]
    cut, following = logged(running)
    assert cut == "x" * LONGEST_LINE + " ... (cut)"
    assert following == "next"


def test_lines_without_end_take_neither_the_loop_nor_the_memory() -> None:
    running = follow(Channel(*[b"x\n" * (PIECE // 2)] * 4))
    running.read()
    assert len(list(running.news())) == LOGGED_AT_ONCE
    assert running.received == PIECE, "the rest is held back in the connection"
    lines = logged(running)
    assert len(lines) == MOST_LOGGED - LOGGED_AT_ONCE + 1
    assert lines[-1] == f"more than {MOST_LOGGED} lines: the rest of the output is not logged"


def test_of_many_errors_the_last_are_kept_and_the_steps_own() -> None:
    noise = b"".join(b"noise %d\n" % number for number in range(1000))
    running = follow(Channel(errors=b"error: the disk is full\n" + noise))
    logged(running)
    assert running.stderr[0] == "error: the disk is full"
    assert running.stderr[-1] == "noise 999"
    assert len(running.stderr) == LAST_LINES + 1


@pytest.mark.parametrize(
    "reported", [b"::a=" + b"x" * 2 * LONGEST_LINE, (b"::a=" + b"x" * 1000 + b"\n") * (MOST_RESULTS // 1000)]
)
def test_results_without_end_are_an_error(reported: bytes) -> None:
    running = follow(Channel(*[reported[at : at + PIECE] for at in range(0, len(reported), PIECE)], b"\n"))
    with pytest.raises(RemoteStepError, match=r"c1: a step reports .* expected at most 4194304 and 16384"):
        logged(running)
