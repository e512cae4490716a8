"""Hosts and servers that have nothing for preflight to complain about; tests spoil one thing at a time."""

from __future__ import annotations

from datetime import UTC, datetime

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import Host
from heat_upgrade.hosts import HostState
from heat_upgrade.preflight.database import DatabaseFacts
from heat_upgrade.preflight.facts import HostFacts, LongestResource
from heat_upgrade.preflight.rabbitmq import BrokerFacts
from heat_upgrade.readings import Work
from rabbitmq_management.records import Node, Permission
from tests.unit._helpers.clouds.broken import DELETE, edited

OLD, NEW, NEXT = "25.0.2", "26.0.2", "27.0.1"
CLOUD = Cloud.model_validate({**edited({"windows": DELETE, "pending_release": DELETE}), "name": "lab"})
NAMES = tuple(host.name for host in CLOUD.hosts)
VHOSTS = {release.version: release.vhost for release in CLOUD.releases}
GIB = 1024**2  # KiB
BEFORE, BETWEEN, HEAD = "c6214ca60943", "d2db381e3324", "97b2a986f922"
LONGEST = LongestResource(42, "web", "OS::Nova::Server", "CREATE")


def healthy(host: Host, *releases: str, **reported: str) -> HostFacts:
    """
    Return what a host tells on which all of its services run.

    :param releases: the releases that run, the first one by default
    :param reported: what it reports beside that, ``__`` for a slash; an empty value is not reported
    """
    runs = releases or (OLD,)
    facts = {
        "sudo": "yes",
        "clock": "1795357000.5",
        "memory_available": str(8 * GIB),
        "installer": "yes",
        "python": "3.11.2",
        "python3": "3.8.10",
        "free_venv": str(20 * GIB),
        "backup_free": str(50 * GIB),
        "backup_writable": "yes",
        "dump_program": "mysqldump",
        "out_of_rotation": "no",
    }
    for role in host.api_roles:
        facts[f"healthcheck/{role}"] = "200"
    for release in runs:
        facts |= {
            f"memory/{release}": str(300 * 1024),
            f"stop_timeout/{release}": "1h",
            f"schema/{release}": BEFORE if release == OLD else f"{BEFORE} {BETWEEN} {HEAD}",
            f"conf/{release}/login": "heat",
            f"conf/{release}/database": "readable",
            f"conf/{release}/graceful_shutdown_timeout": "600",
            f"conf/{release}/health_backends": "disable_by_file",
            f"conf/{release}/health_file": f"/var/lib/heat/{host.name}/out",
            **{f"server/{release}/{role}": "uwsgi" for role in host.api_roles},
            **{f"sources/{release}/{role}": f"/etc/heat/{release}/heat.conf" for role in host.roles},
        }
    facts |= {name.replace("__", "/"): value for name, value in reported.items()}
    state = HostState(
        host=host,
        heat_host=host.name,
        services={(role, release): "active" for role in host.roles for release in runs},
        installed={release.version: release.version if release.version in runs else "" for release in CLOUD.releases},
        vhosts={release: VHOSTS[release] for release in runs},
    )
    told = {name: value for name, value in facts.items() if value}
    return HostFacts(state, told, login="heat@10.0.0.11:22", key="the cloud file", ahead=0.1)


def consumers(*names: str) -> dict[str, int]:
    """Return the consumers of a vhost with an engine on each of some hosts."""
    return {"engine": len(names), **{f"engine.{name}": 1 for name in names}}


BROKER = BrokerFacts(
    tags={"administrator"},
    nodes=[Node("rabbit@a", True, (), ())],
    consumers={"heat": consumers(*NAMES)},
    readers=[],
    queues=[],
    expiring=[],
    permissions=[Permission("heat", True)],
    changes=["created", "permissions of user 'heat'"],
)
DATABASE = DatabaseFacts(
    revision=BEFORE, ahead=0.2, size=GIB * 1024, longest=LONGEST, in_progress=[], work=Work((), (), frozenset())
)
NOW = datetime(2026, 11, 22, 3, 12, tzinfo=UTC)
