"""All of a cloud that a run could change, to be compared before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.rabbitmq import management_get
from tests.e2e.labs import files_below

# Where the services that an upgrade has set up keep their logs: a balancer's checks show there.
LOGS = "var/lib/heat-upgrade/log"
# What Heat's own engines write while nobody does anything.
HEARTBEATS = {("service", "updated_at")}


@dataclass(frozen=True)
class Picture:
    """
    What a cloud is like.

    :param files: of the hosts, the balancer's too, and the backups, by path: mode, size, time of the last change and
        digest; but for logs, sockets and what keeps pids.
    :param folders: of the hosts, by path: the time of the last change; but for those of the files left out.
    :param processes: of the hosts' service managers: pid and command line.
    :param rabbitmq: the definitions that it would export, and who reads which queue.
    :param tables: of the database: how each was made, and its rows.
    """

    files: dict[str, tuple[int, int, int, str]]
    folders: dict[str, int]
    processes: dict[str, str]
    rabbitmq: dict[str, Any]
    tables: dict[str, tuple[str, list[str]]]


def picture(lab: Lab) -> Picture:
    """Take a lab's picture as it is now."""
    return Picture(
        files={
            str(file): _file(file)
            for folder in _folders(lab)
            for file in files_below(folder)
            if f"/{LOGS}/" not in str(file)
        },
        folders={str(path): path.stat().st_mtime_ns for folder in _folders(lab) for path in _directories(folder)},
        processes=dict(_processes(lab)),
        rabbitmq=_rabbitmq(lab),
        tables=dict(_tables(lab)),
    )


def changes(before: Picture, after: Picture) -> dict[str, tuple[Any, Any]]:
    """Return what differs, by part and name: how it was and how it is; None where it wasn't or isn't."""
    parts = ((vars(before)[part], vars(after)[part]) for part in vars(before))
    return {
        name: (then.get(name), now.get(name))
        for then, now in parts
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    }


def _folders(lab: Lab) -> Iterator[Path]:
    for host in (*lab.hosts, lab.balancer):
        yield from (path for path in host.root.iterdir() if path.is_dir() and path.name not in ("run", "var"))
        yield from (path for path in (host.root / "var").glob("*") if path.is_dir() and path.name != "log")
    yield lab.state / "backups"


def _directories(folder: Path) -> Iterator[Path]:
    yield from (path for path in (folder, *folder.rglob("*")) if path.is_dir() and not path.is_symlink())


def _file(file: Path) -> tuple[int, int, int, str]:
    found = file.stat()
    return found.st_mode, found.st_size, found.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()


def _processes(lab: Lab) -> Iterator[tuple[str, str]]:
    """Yield the processes that run from a host's files."""
    roots = [str(host.root) for host in lab.hosts]
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_text(encoding="utf-8", errors="replace").replace("\0", " ")
        except OSError:  # it has ended
            continue
        if any(f"{root}/opt/heat/" in line or f"{root}/etc/supervisord" in line for root in roots):
            yield file.parent.name, line


def _rabbitmq(lab: Lab) -> dict[str, Any]:
    definitions = management_get(lab, "definitions")
    readers = {(row["queue"]["vhost"], row["queue"]["name"], row["consumer_tag"]) for row in _consumers(lab)}
    return {**{kind: _sorted(rows) for kind, rows in definitions.items()}, "readers": sorted(readers)}


def _consumers(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = management_get(lab, "consumers")
    return found


def _sorted(rows: Any) -> Any:
    return sorted(map(repr, rows)) if isinstance(rows, list) else rows


def _tables(lab: Lab) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    for (table,) in query(lab, "SHOW TABLES"):
        made = query(lab, f"SHOW CREATE TABLE `{table}`")[0][1]
        columns = [row[0] for row in query(lab, f"SHOW COLUMNS FROM `{table}`")]
        kept = ", ".join(f"`{column}`" for column in columns if (table, column) not in HEARTBEATS)
        yield table, (made, sorted(map(repr, query(lab, f"SELECT {kept} FROM `{table}`"))))
