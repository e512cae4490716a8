"""The upgrade's remote steps for a given host and release: which script, with which settings. Nothing here connects."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from heat_upgrade.cloud.sections import Commands, HAProxy, Healthcheck, Supervisor, Uv
from heat_upgrade.remote.step import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heat_upgrade.cloud.model import Cloud, Deployment
    from heat_upgrade.cloud.sections import Host, Listen, Role

# Seconds that a step may take on the host. An installation may wait for a slow index; a large database takes hours.
INSTALLATION = 2 * 3600
LARGE_DATABASE = 12 * 3600
# Seconds to wait for another step on the host, and for what ends an engine that outstays its time.
MARGIN = 900
# Seconds for which a backup counts as taken before this upgrade, so that a second run doesn't take another.
BACKUP_IS_FRESH = 12 * 3600


def look(cloud: Cloud, host: Host) -> Step:
    """Build the step that tells what a host runs, of every release in the cloud file."""
    return _step("look", cloud.deployment(host, cloud.releases[0]), _to_look_at(cloud, host), read_only=True)


def check_host(target: Deployment) -> Step:
    """Build the step that tells what a host runs, and what else preflight asks before the target comes there."""
    cloud, host, installer = target.cloud, target.host, target.cloud.installer
    settings = {
        **_to_look_at(cloud, host),
        "VENV": target.venv,
        "CONFIG": target.config,
        "INSTALLER": installer.kind,
        "PYTHON": installer.python,
        "UV": installer.command if isinstance(installer, Uv) else "",
        "BACKUP_DIR": cloud.backup.directory if host == cloud.backup_host else "",
        "CLOUD": cloud.name,
        "PLACES_BESIDE": " ".join(
            f"{release.version}/{role}/{reachable(listen.address)}/{listen.port}"
            for release in cloud.releases
            for role in host.api_roles
            for listen in [cloud.deployment(host, release).beside(role)]
        ),
    }
    followers = [role for role in host.api_roles if isinstance(target.rotation(role), Healthcheck)]
    if followers:
        settings["HEALTHCHECK_FILE"] = _healthcheck_file(target)
        settings["URLS"] = " ".join(f"{role}={_url(target, role)}/healthcheck" for role in followers)
    return _step("check_host", target, settings, read_only=True)


def check_rotation(apis: Sequence[tuple[Deployment, Role]]) -> Step:
    """
    Build the step that tells what HAProxy thinks of some APIs.

    :param apis: APIs behind the same balancer, at least one
    """
    settings = [_rotation(target, role) for target, role in apis]
    servers = " ".join(each["SERVERS"] for each in settings)
    return _step("check_rotation", apis[0][0], {**settings[0], "SERVERS": servers}, read_only=True)


def prepare(source: Deployment, target: Deployment, *, keep_config: bool = False) -> Step:
    """
    Build the step that installs and configures the target release beside the source.

    :param source: the release that runs, whose configuration is carried over
    :param target: the release to put beside it
    :param keep_config: leave a configuration of the target's alone, with which it has served before
    """
    requirements = target.release.requirements
    files = {"requirements.txt": requirements.read_bytes()} if requirements else {}
    installer = target.cloud.installer
    settings = {
        "RELEASE": target.release.version,
        "VENV": target.venv,
        "CONFIG": target.config,
        "VHOST": target.vhost,
        "SOURCE_VENV": source.venv,
        "SOURCE_CONFIG": source.config,
        "REQUIREMENTS": "requirements.txt" if files else "",
        "KEEP_CONFIG": "yes" if keep_config else "",
        "INSTALLER": installer.kind,
        "PYTHON": installer.python,
        "UV": installer.command if isinstance(installer, Uv) else "",
        "UNITS": " ".join(f"{role}={target.unit(role)}" for role in target.host.roles),
        "HEALTHCHECK_FILE": _healthcheck_file(target),
        "STOP_TIMEOUT": str(target.cloud.services.stop_timeout),
        **_apis(target),
    }
    return _step("prepare", target, settings, files, timeout=INSTALLATION)


def preview_prepare(preparation: Step) -> Step:
    """Build the step that tells what a step of ``prepare`` would do, and how the new heat.conf would differ."""
    return replace(preparation, name="preview_prepare", timeout=0, read_only=True)


def back_up_database(source: Deployment, target_release: str, directory: str) -> Step:
    """Build the step that dumps Heat's database before its schema is migrated for a release."""
    settings = {
        "CLOUD": source.cloud.name,
        "CONFIG": source.config,
        "BACKUP_DIR": directory,
        "RELEASE": target_release,
        "FRESH": str(BACKUP_IS_FRESH),
    }
    return _step("back_up_database", source, settings, timeout=LARGE_DATABASE)


def sync_database(target: Deployment, revision: str) -> Step:
    """Build the step that migrates the database with the target's code."""
    settings = {"VENV": target.venv, "CONFIG": target.config, "REVISION": revision}
    return _step("sync_database", target, settings, timeout=LARGE_DATABASE)


def start_engine(target: Deployment) -> Step:
    """Build the step that starts the target's engine."""
    return _step("start_engine", target, {"UNIT": target.unit("engine"), "CONFIG": target.config})


def check_engine(target: Deployment, pid: str) -> Step:
    """Build the step that sees that the target's engine still is the process that it was after its start."""
    return _step("check_engine", target, {"UNIT": target.unit("engine"), "PID": pid})


def stop_engine(source: Deployment, *, outage: bool = False) -> Step:
    """
    Build the step that stops the source's engine.

    :param source: the release that runs
    :param outage: whether nothing runs in its place yet, so that the host has to remember what did
    """
    timeout = source.cloud.services.stop_timeout
    settings = {"UNIT": source.unit("engine"), "STOP_TIMEOUT": str(timeout), "LOCK_TIMEOUT": str(timeout)}
    # A stop that somebody else has begun is waited for first.
    return _step("stop_engine", source, settings | (_stopped(source) if outage else {}), timeout=2 * timeout + MARGIN)


def stop_api(source: Deployment) -> Step:
    """Build the step that stops the source's APIs on a host, with nothing in their place yet."""
    return _step("stop_api", source, _old_apis(source) | _stopped(source))


def start_api(target: Deployment) -> Step:
    """Build the step that starts the target's APIs on a host."""
    return _step("start_api", target, _new_apis(target))


def start_beside(source: Deployment, target: Deployment) -> Step:
    """
    Build the step that starts the source's APIs once more on a host, for the target's to hand requests to.

    :param source: the release that runs
    :param target: the release whose APIs will be in front of them
    """
    settings = {
        **_release(source),
        "ROUTER": target.router,
        "UNITS": _units(source, beside=True),
        "APIS": " ".join(f"{source.unit_beside(role)},{_beside_url(source, role)}/" for role in source.host.api_roles),
        **_apis(source, beside=True),
    }
    return _step("start_beside", source, settings)


def switch_api(source: Deployment, target: Deployment) -> Step:
    """Build the step that puts the target's APIs, with the router, in the place of the source's on a host."""
    settings = {
        **_release(target),
        "SOURCE": source.release.version,
        "SOURCE_ROUTER": source.router,
        "ROUTER": target.router,
        "UNITS": _units(target),
        "BESIDE_UNITS": " ".join(target.unit_beside(role) for role in target.host.api_roles),
        **{f"BESIDE_{_prefix(role)}": _beside_url(source, role) for role in source.host.api_roles},
        **_apis(target),
        **_old_apis(source),
        **_new_apis(target),
    }
    return _step("switch_api", target, settings)


def read_sides(front: Deployment) -> Step:
    """
    Build the step that tells by what a host's router decides.

    :param front: the release whose APIs are in front
    """
    return _step("read_sides", front, {"ROUTER": front.router}, read_only=True)


def read_counts(front: Deployment) -> Step:
    """
    Build the step that tells what a host's router has done, in numbers.

    :param front: the release whose APIs are, or were, in front
    """
    return _step("read_counts", front, {"ROUTER": front.router}, read_only=True)


def route(front: Deployment) -> Step:
    """
    Build the step that does the phases of a flip on a host, in a conversation.

    :param front: the release whose APIs are in front
    """
    return _step("route", front, {"ROUTER": front.router})


def probe(front: Deployment, token: str = "") -> Step:
    """
    Build the step that opens a host's own side to requests with a token, or closes it again.

    :param front: the release whose APIs are in front
    :param token: the token, of which the host gets the hash; empty to close it
    """
    digest = hashlib.sha256(token.encode()).hexdigest() if token else ""
    return _step("probe_router", front, {"ROUTER": front.router, "PROBE": digest})


def close_router(source: Deployment, target: Deployment) -> Step:
    """Build the step that stops whatever runs beside, and takes the router out of the target's services."""
    # The target's own, too: a host that was never swept has them from the direction that a run takes back.
    beside = [release.unit_beside(role) for release in (source, target) for role in source.host.api_roles]
    settings = {
        **_release(target),
        "OLD_UNITS": " ".join(beside),
        "ROUTER": target.router,
        "UNITS": _units(target),
        **_apis(target),
    }
    return _step("close_router", target, settings)


def _release(deployment: Deployment) -> dict[str, str]:
    return {
        "RELEASE": deployment.release.version,
        "VENV": deployment.venv,
        "CONFIG": deployment.config,
        "STOP_TIMEOUT": str(deployment.cloud.services.stop_timeout),
    }


def _units(deployment: Deployment, *, beside: bool = False) -> str:
    name = deployment.unit_beside if beside else deployment.unit
    return " ".join(f"{role}={name(role)}" for role in deployment.host.api_roles)


def _old_apis(source: Deployment) -> dict[str, str]:
    return {"OLD_UNITS": " ".join(source.unit(role) for role in source.host.api_roles)}


def _new_apis(target: Deployment) -> dict[str, str]:
    return {"APIS": " ".join(f"{target.unit(role)},{_url(target, role)}/" for role in target.host.api_roles)}


def _stopped(source: Deployment) -> dict[str, str]:
    return {"STOPPED": source.release.version}


def leave_rotation(target: Deployment, role: Role) -> Step:
    """Build the step that takes an API out of the rotation; ``Clients.balancer_machine`` says where it runs."""
    rotation = target.rotation(role)
    settings = _rotation(target, role)
    if isinstance(rotation, Healthcheck):
        settings["SETTLE"] = str(math.ceil(rotation.settle))
    if isinstance(rotation, Commands):
        settings["LEAVE"] = rotation.leave
    return _step("leave_rotation", target, settings)


def rejoin_rotation(target: Deployment, role: Role) -> Step:
    """Build the step that puts an API back into the rotation; ``Clients.balancer_machine`` says where it runs."""
    rotation = target.rotation(role)
    settings = _rotation(target, role)
    if isinstance(rotation, Commands):
        settings["REJOIN"] = rotation.rejoin
    return _step("rejoin_rotation", target, settings)


def _rotation(target: Deployment, role: Role) -> dict[str, str]:
    rotation = target.rotation(role)
    settings: dict[str, str] = {"ROTATION": rotation.kind, "LOCK": f"rotation-{target.host.name}-{role}"}
    if isinstance(rotation, HAProxy):
        settings |= {"SOCKET": rotation.socket, "SERVERS": f"{rotation.backend(role)}/{rotation.server}"}
    if isinstance(rotation, Healthcheck):
        settings |= {"HEALTHCHECK_FILE": rotation.file, "URLS": f"{_url(target, role)}/healthcheck"}
    return settings


def _to_look_at(cloud: Cloud, host: Host) -> dict[str, str]:
    deployments = [cloud.deployment(host, release) for release in cloud.releases]
    return {
        "UNITS": " ".join(f"{role}/{d.release.version}/{d.unit(role)}" for d in deployments for role in host.roles),
        "BESIDE_UNITS": " ".join(
            f"{role}/{d.release.version}/{d.unit_beside(role)}" for d in deployments for role in host.api_roles
        ),
        "ROUTERS": " ".join(f"{d.release.version}={d.router}" for d in deployments),
        "VENVS": " ".join(f"{d.release.version}={d.venv}" for d in deployments),
        "CONFIGS": " ".join(f"{d.release.version}={d.config}" for d in deployments),
    }


def _healthcheck_file(target: Deployment) -> str:
    rotation = target.rotation("api")
    return rotation.file if isinstance(rotation, Healthcheck) else f"{target.config.rpartition('/')[0]}/out-of-rotation"


def _url(deployment: Deployment, role: Role) -> str:
    return _at(deployment.listen(role))


def _beside_url(deployment: Deployment, role: Role) -> str:
    return _at(deployment.beside(role))


def _at(listen: Listen) -> str:
    return f"http://{bracketed(reachable(listen.address))}:{listen.port}"


def reachable(address: str) -> str:
    """
    Return where a service of a host is reached from that host.

    :param address: where it listens; 0.0.0.0 and :: stand for all addresses
    """
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104


def bracketed(address: str) -> str:
    """
    Return an address as it stands before a port.

    :param address: an IP address or a name
    """
    return f"[{address}]" if ":" in address else address


def _apis(deployment: Deployment, *, beside: bool = False) -> dict[str, str]:
    settings: dict[str, str] = {}
    for role in deployment.host.api_roles:
        listen = deployment.beside(role) if beside else deployment.listen(role)
        settings |= {
            f"{_prefix(role)}_ADDRESS": bracketed(listen.address),
            f"{_prefix(role)}_PORT": str(listen.port),
            f"{_prefix(role)}_PROCESSES": str(listen.processes),
            f"{_prefix(role)}_THREADS": str(listen.threads),
        }
    return settings


def _prefix(role: Role) -> str:
    return role.upper().replace("-", "_")


def _step(
    name: str,
    where: Deployment,
    settings: dict[str, str],
    files: dict[str, bytes] | None = None,
    *,
    timeout: float = 0,
    read_only: bool = False,
) -> Step:
    manager = where.service_manager
    common: dict[str, str] = {"STATE": where.state, "BECOME": where.cloud.become, "SERVICE_MANAGER": manager.kind}
    if isinstance(manager, Supervisor):
        common |= {"SUPERVISORCTL": " ".join(manager.supervisorctl), "UNIT_DIR": manager.conf_dir}
    else:
        common["UNIT_DIR"] = manager.unit_dir
    if where.cloud.services.user:
        common["SERVICE_USER"] = where.cloud.services.user
    return Step(name, {**common, **settings}, where.state, files or {}, timeout, read_only)
