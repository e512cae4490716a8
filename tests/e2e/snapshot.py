"""What a cloud is like, read past the product, to be compared before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cloud.mariadb import query
from lab.cloud.model import Lab
from lab.cloud.rabbitmq import management_get

# Where the services that an upgrade has set up keep their logs: a balancer's checks show there.
LOGS = "var/lib/heat-upgrade/log"
# Where the routers count what they do, for as long as their APIs run.
COUNTS = "router/run"
# What Heat's own engines write while nobody does anything.
HEARTBEATS = {("service", "updated_at")}

Part = Mapping[str, Any]


@dataclass(frozen=True)
class CloudSnapshot:
    """
    What a cloud was like at a moment, part by part; ``PARTS`` has what each part holds, by name.

    :param parts: those that were read
    """

    parts: Mapping[str, Part]

    def __getitem__(self, part: str) -> Part:
        """Return one part."""
        return self.parts[part]


def snapshot(lab: Lab, *parts: str) -> CloudSnapshot:
    """
    Read some parts of a lab's cloud as they are now.

    :param lab: the lab
    :param parts: names of ``PARTS``
    """
    return CloudSnapshot({part: PARTS[part](lab) for part in parts})


def changes(before: CloudSnapshot, after: CloudSnapshot) -> dict[str, tuple[Any, Any]]:
    """Return what differs, by part and name: how it was and how it is; None where it wasn't or isn't."""
    return {
        f"{part}: {name}": (then.get(name), now.get(name))
        for part, then, now in ((part, before[part], after[part]) for part in before.parts)
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    }


def files_below(directory: Path) -> list[Path]:
    """Return all the files in a directory and below; none if there is no such directory."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def vhosts(lab: Lab) -> set[str]:
    """Return the names of RabbitMQ's vhosts."""
    return {vhost["name"] for vhost in management_get(lab, "vhosts")}


def _configuration(lab: Lab) -> Part:
    """Read what an upgrade writes for good, and the backups, by path."""
    files = [file for host in lab.hosts for file in files_below(host.root / "etc")]
    files += [file for host in lab.hosts for file in (host.root / "opt/heat").glob("*/installed-requirements.txt")]
    files = [file for file in files if f"/{COUNTS}/" not in str(file)]
    return {str(file.relative_to(lab.state)): _file(file) for file in [*files, *files_below(lab.state / "backups")]}


def _files(lab: Lab) -> Part:
    """Read all files of the hosts, the balancer's too, and the backups; no logs, counts, sockets and pids."""
    return {
        str(file): _file(file)
        for folder in _folders(lab)
        for file in files_below(folder)
        if f"/{LOGS}/" not in str(file) and f"/{COUNTS}/" not in str(file)
    }


def _file(file: Path) -> tuple[int, int, int, str]:
    found = file.stat()
    return found.st_mode, found.st_size, found.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()


def _directories(lab: Lab) -> Part:
    """Read the time of the last change of all folders that those files are in."""
    return {
        str(path): path.stat().st_mtime_ns
        for folder in _folders(lab)
        for path in (folder, *folder.rglob("*"))
        if path.is_dir() and not path.is_symlink() and not str(path).endswith(f"/{COUNTS}")
    }


def _folders(lab: Lab) -> Iterator[Path]:
    for host in (*lab.hosts, lab.balancer):
        yield from (path for path in host.root.iterdir() if path.is_dir() and path.name not in ("run", "var"))
        yield from (path for path in (host.root / "var").glob("*") if path.is_dir() and path.name != "log")
    yield lab.state / "backups"


def _processes(lab: Lab) -> Part:
    """Read the processes that run from a host's files: the command line by pid."""
    roots = [str(host.root) for host in lab.hosts]
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_text(encoding="utf-8", errors="replace").replace("\0", " ")
        except OSError:  # it has ended
            continue
        if any(f"{root}/opt/heat/" in line or f"{root}/etc/supervisord" in line for root in roots):
            found[file.parent.name] = line
    return found


def _starts(lab: Lab) -> Part:
    """Read how often each host has started each service."""
    return lab.service_starts()


def _rights(lab: Lab) -> Part:
    """Read permissions, topic permissions and policies of every vhost."""
    listed = ("vhosts/{}/permissions", "vhosts/{}/topic-permissions", "policies/{}")
    return {vhost: [management_get(lab, path.format(vhost)) for path in listed] for vhost in vhosts(lab)}


def _broker(lab: Lab) -> Part:
    """Read the definitions that RabbitMQ would export, and who reads which queue."""
    consumers = management_get(lab, "consumers")
    readers = sorted((row["queue"]["vhost"], row["queue"]["name"], row["consumer_tag"]) for row in consumers)
    definitions = management_get(lab, "definitions")
    return {**{kind: _sorted(rows) for kind, rows in definitions.items()}, "readers": readers}


def _sorted(rows: Any) -> Any:
    return sorted(map(repr, rows)) if isinstance(rows, list) else rows


def _schema(lab: Lab) -> Part:
    """Read the revision of the database's schema."""
    ((found,),) = query(lab, "SELECT version_num FROM alembic_version")
    return {"revision": str(found)}


def _tables(lab: Lab) -> Part:
    """Read how each table of the database was made, and its rows."""
    found = {}
    for (table,) in query(lab, "SHOW TABLES"):
        made = query(lab, f"SHOW CREATE TABLE `{table}`")[0][1]
        columns = [row[0] for row in query(lab, f"SHOW COLUMNS FROM `{table}`")]
        kept = ", ".join(f"`{column}`" for column in columns if (table, column) not in HEARTBEATS)
        found[table] = made, sorted(map(repr, query(lab, f"SELECT {kept} FROM `{table}`")))
    return found


PARTS: Mapping[str, Callable[[Lab], Part]] = {
    "configuration": _configuration,
    "files": _files,
    "folders": _directories,
    "processes": _processes,
    "starts": _starts,
    "rights": _rights,
    "broker": _broker,
    "schema": _schema,
    "tables": _tables,
}
# All that an upgrade leaves, as far as another run could touch it: users may be at work.
LASTING = ("configuration", "starts", "rights", "schema")
# All that anything could change while nobody is at work.
EVERYTHING = ("files", "folders", "processes", "broker", "tables")
