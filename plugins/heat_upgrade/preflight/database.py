"""What is checked in Heat's database. ``DatabaseFacts.read`` asks; the checks judge what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from heat_upgrade.formatting import duration, first_few
from heat_upgrade.preflight.check import Check, check_clock, failed, judge, passed, skipped, warned
from heat_upgrade.preflight.facts import HostFacts, LongestResource, in_units
from heat_upgrade.readings import StackRow, Unavailable, Work, read
from heat_upgrade.stranded.rule import END_AFTER, STRANDED_AFTER, find_stranded

if TYPE_CHECKING:
    from heat_upgrade.cloud.sections import Release
    from heat_upgrade.hooks.heat_database import HeatDatabaseHook
    from heat_upgrade.readings import EventRow

# The events table has no index on times, and may be huge: only so many of the latest rows are read, and of those so
# many days.
EVENTS, EVENT_DAYS = 20000, 28

_BEGUN, _ENDED = "IN_PROGRESS", ("COMPLETE", "FAILED")


@dataclass(frozen=True)
class DatabaseFacts:
    """
    What Heat's database tells, each part or why it couldn't be read.

    :param revision: of the schema, None for an empty database
    :param ahead: seconds that its clock is ahead of Airflow's
    :param size: of its tables, in bytes
    :param longest: the resource that took longest lately, None if there is none
    :param in_progress: the stacks in progress
    :param work: what there is to work on, and which engines are alive
    """

    revision: str | Unavailable | None
    ahead: float | Unavailable
    size: int | Unavailable
    longest: LongestResource | Unavailable | None
    in_progress: Sequence[StackRow] | Unavailable
    work: Work | Unavailable

    @classmethod
    def read(cls, database: HeatDatabaseHook, work: Callable[[], Work] | None) -> DatabaseFacts:
        """
        Ask the database for all of it; what doesn't answer at all is asked once.

        :param database: the hook
        :param work: reads what there is to work on, which takes RabbitMQ too; None if that doesn't answer
        """
        revision = read(database.revision)
        if isinstance(revision, Unavailable):
            return cls(revision, *[Unavailable.not_asked("the database doesn't answer")] * 5)
        return cls(
            revision=revision,
            ahead=read(partial(_ahead, database)),
            size=read(database.size),
            longest=read(lambda: longest_resource(database.recent_events(EVENTS, EVENT_DAYS))),
            in_progress=read(database.stacks_in_progress),
            work=read(work) if work else Unavailable.not_asked("RabbitMQ doesn't tell which engines are alive"),
        )


def _ahead(database: HeatDatabaseHook) -> float:
    return (database.server_time() - datetime.now(UTC)).total_seconds()


def longest_resource(events: Iterable[EventRow]) -> LongestResource | None:
    """
    Return the resource that took longest from its beginning to its end.

    :param events: oldest first; a stack's own events are none of a resource
    """
    begun: dict[tuple[str, str, str], datetime] = {}
    longest = None
    for event in events:
        key = (event.stack_id, event.resource, event.action)
        if event.status == _BEGUN:
            begun[key] = event.time
        elif event.status in _ENDED and key in begun:
            took = (event.time - begun.pop(key)).total_seconds()
            if longest is None or took > longest.seconds:
                longest = LongestResource(took, event.resource, event.type, event.action)
    return longest


@dataclass(frozen=True)
class Migration:
    """
    What the database may have to be brought to.

    :param source: the release that runs, None if that isn't known
    :param target: the release that is to come
    :param going_back: whether the target is the older one, for which nothing is migrated
    :param cloud: the cloud's name
    :param starts_engine: whether an engine of the target is still to be started beside those that work
    """

    source: Release | None
    target: Release
    going_back: bool
    cloud: str
    starts_engine: bool


def check_database(
    facts: DatabaseFacts, migration: Migration, hosts: Sequence[HostFacts], backup_host: HostFacts | None
) -> list[Check]:
    """
    Make every check of the database.

    :param facts: what it has told
    :param migration: what is to come
    :param hosts: the hosts that answered: their code knows revisions
    :param backup_host: the one that backs the database up, None if it didn't answer
    """
    ago = "see `chronyc tracking` or `timedatectl` on its host"
    return [
        judge("schema", facts.revision, partial(schema, migration=migration, hosts=hosts)),
        judge("clock", facts.ahead, partial(check_clock, todo=ago)),
        judge("backup space", facts.size, partial(backup_space, host=backup_host)),
        backup_tools("backup", backup_host, migration.source),
        last_backup("last backup", backup_host),
        judge("longest resource", facts.longest, longest),
        judge("legacy stacks", facts.in_progress, partial(legacy_stacks, migration=migration, work=facts.work)),
        judge("stranded stacks", facts.work, partial(stranded_stacks, cloud=migration.cloud)),
    ]


def schema(name: str, revision: str | None, *, migration: Migration, hosts: Sequence[HostFacts]) -> Check:
    """Check that the database is where the running release wants it, and say what is to be migrated."""
    if revision is None:
        return failed(
            name,
            "the database has no schema of Heat's, expected one: correct `schema` of the Airflow connection, or run "
            "heat-manage db_sync with the running release",
        )
    if migration.source is None:
        return skipped(name, f"at {revision}; it isn't known which release runs")
    source, target = (_known(hosts, release.version) for release in (migration.source, migration.target))
    if revision in source[:-1] and revision not in target[-1:]:
        return failed(
            name,
            f"at {revision}, expected {source[-1]}, as {migration.source.version} wants it: run heat-manage db_sync "
            "with the running release first",
        )
    if revision not in (source + target):
        return _foreign(name, revision, migration.source, source)
    return passed(name, f"at {revision}; {_pending(revision, target, migration)}")


def _known(hosts: Sequence[HostFacts], version: str) -> list[str]:
    return max((host.schema(version) for host in hosts), key=len, default=[])


def _foreign(name: str, revision: str, source: Release, known: Sequence[str]) -> Check:
    if not known:
        return warned(
            name,
            f"at {revision}; which one {source.version} wants can't be read from its venv, expected the same: compare "
            "with `heat-manage db_version` of a fresh database",
        )
    return warned(
        name,
        f"at {revision}, which {source.version} doesn't know, expected {known[-1]}: right after a way back from a "
        "newer release, else see who has migrated it",
    )


def _pending(revision: str, target: Sequence[str], migration: Migration) -> str:
    if migration.going_back:
        return f"the newer schema serves {migration.target.version} too, nothing to migrate"
    if not target:
        return f"{migration.target.version} isn't installed anywhere yet, sync_database tells its migrations"
    if revision not in target or revision == target[-1]:
        return "nothing to migrate"
    pending = target[list(target).index(revision) + 1 :]
    return f"{len(pending)} to migrate for {migration.target.version}, to {pending[-1]}"


def backup_space(name: str, size: int, *, host: HostFacts | None) -> Check:
    """Check that a dump fits where it goes, compressed or not."""
    told = f"the database holds {in_units(size / 1024)}"
    if host is None:
        return skipped(name, f"{told}; the backup host wasn't asked")
    free = host.number("backup_free")
    if free is None:
        return warned(name, f"{told}; the free space for its dump can't be told: see `df` on {host.state.host.name}")
    told += f", {in_units(free)} free for its compressed dump on {host.state.host.name}"
    if free < size / 1024:
        return failed(name, f"{told}, expected at least as much: free space, or name another backup.directory")
    return passed(name, told)


def backup_tools(name: str, host: HostFacts | None, source: Release | None) -> Check:
    """Check that a dump can be made and written."""
    if host is None:
        return skipped(name, "the backup host wasn't asked")
    where = host.state.host.name
    if not (program := host.reported.get("dump_program")):
        return failed(
            name,
            f"neither mysqldump nor mariadb-dump is on {where}, expected one of them: install the MariaDB or MySQL "
            "client, or name another host",
        )
    if host.reported.get("backup_writable") != "yes":
        return failed(
            name, f"backup.directory can't be written on {where}, expected so: correct it, or give the user the right"
        )
    if source and host.configured(source.version, "database") == "unreadable":
        return failed(
            name,
            f"[database] connection in {source.version}'s heat.conf on {where} is no URL of a MySQL or MariaDB, "
            "expected mysql+pymysql://user:password@host/name: correct it (percent-encode @ in the password)",
        )
    return passed(name, f"by {program} on {where}")


def last_backup(name: str, host: HostFacts | None) -> Check:
    """Say how old the newest backup is."""
    newest = host.number("backup_newest") if host else None
    if host is None or newest is None:
        return passed(name, "none yet; a run takes one before it migrates")
    age = (host.number("clock") or newest) - newest
    return passed(name, f"{duration(age)} ago; a run takes one before it migrates")


def longest(name: str, found: LongestResource | None) -> Check:
    """Say which resource took longest: what an engine that stops may have to wait for."""
    return passed(name, f"{found or 'none'} in the last {EVENTS} events of {EVENT_DAYS} days")


def legacy_stacks(
    name: str, in_progress: Sequence[StackRow], *, migration: Migration, work: Work | Unavailable
) -> Check:
    """Check that no stack without convergence is in progress: an engine that starts fails those of other vhosts."""
    legacy = [stack for stack in in_progress if not stack.convergence]
    if not legacy:
        return passed(name, f"none of {len(in_progress)} stacks in progress is without convergence")
    told = f"in progress without convergence: {first_few(legacy)}"
    if not migration.starts_engine:
        return warned(name, f"{told}; expected none, but no engine starts beside theirs any more")
    todo = "wait for their end"
    if lost := [repr(stack.name) for stack in legacy if stack.id in _stranded_ids(work)]:
        others = "wait for the others' end, then " if len(lost) < len(legacy) else ""
        todo = (
            f"nobody works on {first_few(lost)}, and no update ends a legacy stack as it should, so {others}restart "
            "one engine of the running release while it is idle, which marks it FAILED"
        )
    return failed(name, f"{told}; expected none, since an engine that starts fails them: {todo}")


def _stranded_ids(work: Work | Unavailable) -> set[str]:
    """Return the ids of all stacks known to be stranded, nested ones too."""
    if isinstance(work, Unavailable):
        return set()
    return {id_ for stack in find_stranded(work, STRANDED_AFTER) for id_ in stack.ids}


def stranded_stacks(name: str, work: Work, *, cloud: str) -> Check:
    """Name the stacks that are in progress with nobody working on them; a run doesn't wait for those."""
    stranded = find_stranded(work, STRANDED_AFTER)
    if not stranded:
        return passed(name, "none")
    fresh = len(stranded) - len(find_stranded(work, END_AFTER))
    wait = f"; {fresh} of them once nothing has changed for {duration(END_AFTER)}" if fresh else ""
    if any(not stack.convergence for stack in stranded):
        wait += (
            "; it leaves legacy ones (no convergence) as they are, unless they are being deleted: an engine's start "
            "marks them FAILED"
        )
    return warned(
        name,
        f"{first_few(stranded)}: in progress and nobody works on it, expected none; a run "
        f"doesn't wait for it: bring it to an end with the DAG heat_stranded_stacks__{cloud}{wait}",
    )


def logins(hosts: Mapping[str, HostFacts], source: Release | None) -> dict[str, str]:
    """
    Return as which RabbitMQ user the running release logs in, by host.

    :param hosts: the hosts that answered
    :param source: the release that runs, None if that isn't known
    """
    return {name: facts.configured(source.version, "login") for name, facts in hosts.items()} if source else {}
