"""Finds passwords where they must not be, however they are written."""

from __future__ import annotations

import base64
import re
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

PROC = Path("/proc")


class Secrets:
    """
    What is looked for.

    URLs, shells, JSON, SQL and HTML each write odd characters in a way of their own, but leave a run of letters and
    digits as it is; base64, as in an HTTP header, doesn't. So the runs are looked for, plain and in base64.

    :param passwords: each by its name; each with a run of 12 letters and digits or more.
    """

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._marks = {mark: name for name, password in passwords.items() for mark in _marks(name, password)}

    def named_in(self, data: bytes) -> set[str]:
        """Return the names of the passwords that some data holds, or a good part of one."""
        return {name for mark, name in self._marks.items() if mark in data}


def _marks(name: str, password: str) -> Iterator[bytes]:
    runs = re.findall(rb"[A-Za-z0-9]{12,}", password.encode())
    if not runs:
        raise ValueError(f"password {name} has no run of 12 letters and digits, so it can't be looked for")
    for run in runs:
        yield run
        for offset in range(3):  # base64 takes three bytes at a time: the first and last of them are the neighbours'
            yield base64.b64encode(b"\0" * offset + run)[4 if offset else 0 : -4]


def in_files(secrets: Secrets, files: Iterable[Path]) -> dict[str, set[str]]:
    """Return the names of the passwords in each file that holds any, by its path; databases are read as bytes too."""
    found = {str(file): secrets.named_in(file.read_bytes()) for file in files if file.is_file()}
    return {file: names for file, names in found.items() if names}


def in_tables(secrets: Secrets, database: Path) -> dict[str, set[str]]:
    """
    Return the names of the passwords in each table of an SQLite database that holds any.

    A value that is long is scattered over the file, and some are compressed: the file's bytes alone hide them.

    :param database: the file.
    """
    found = {table: set[str]().union(*map(secrets.named_in, values)) for table, values in _tables(database)}
    return {table: names for table, names in found.items() if names}


def rows(database: Path, table: str) -> int:
    """Return how many rows a table of an SQLite database has."""
    with closing(_open(database)) as connection:
        return int(connection.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)


def _tables(database: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    with closing(_open(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            cursor = connection.execute(f'SELECT * FROM "{name}"')
            yield name, (data for row in cursor for value in row for data in _readings(value))


def _readings(value: object) -> Iterator[bytes]:
    data = value if isinstance(value, bytes) else str(value).encode()
    yield data
    with suppress(zlib.error):
        yield zlib.decompress(data)


class ProcessWatch:
    """
    Reads every process's command line again and again; a context manager.

    :param secrets: what no command line may hold.
    :param every: seconds from one look to the next.
    """

    def __init__(self, secrets: Secrets, *, every: float = 0.3) -> None:
        self.looks = 0
        self.commands: set[bytes] = set()
        self._secrets = secrets
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessWatch:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()

    def leaks(self) -> list[tuple[str, set[str]]]:
        """Return each program that was given a password, with the passwords' names."""
        found = ((command.split(b"\0")[0].decode(), self._secrets.named_in(command)) for command in set(self.commands))
        return [(program, names) for program, names in found if names]

    def _watch(self) -> None:
        while not self._end.is_set():
            self.commands |= set(_command_lines())
            self.looks += 1
            self._end.wait(self._every)


def _command_lines() -> Iterator[bytes]:
    for process in PROC.iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # it has ended
                yield (process / "cmdline").read_bytes()
