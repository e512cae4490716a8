"""Ask all hosts and load balancers at once what preflight wants to know of them. Nothing changes there."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from heat_upgrade import steps
from heat_upgrade.cloud import HAProxy
from heat_upgrade.drain import Unread
from heat_upgrade.hosts import HostState, at_once, hook_for, rotation_hook
from heat_upgrade.preflight.facts import HostFacts

if TYPE_CHECKING:
    from heat_upgrade.cloud import Cloud, Deployment, Release, Role
    from heat_upgrade.hooks.host import HeatHostHook

# Seconds without a word after which a host counts as away.
_SILENCE = 120
# An API on a host.
Api = tuple[str, "Role"]


def ask_hosts(cloud: Cloud, target: Release) -> dict[str, HostFacts | Exception]:
    """
    Ask all hosts what they run and have; one that can't be asked gives its error.

    :param cloud: the cloud
    :param target: the release that is to come
    """
    # The hooks read their connections here, in the task's own thread.
    pairs = [(cloud.deployment(host, target), hook_for(cloud, host)) for host in cloud.hosts]
    return {one.host.name: found for (one, _), found in zip(pairs, at_once(_ask_host, pairs), strict=True)}


def _ask_host(target: Deployment, hook: HeatHostHook) -> HostFacts:
    reported = hook.run_step(steps.check_host(target), silence=_SILENCE)
    now = time.time()
    verified = not (hook.no_host_key_check or hook.allow_host_key_change)
    known_from = "the cloud file" if target.host.host_key else "the Airflow user's known_hosts"
    return HostFacts(
        state=HostState.parse(target.host, reported),
        reported=reported,
        login=f"{hook.username}@{hook.remote_host}:{hook.port}",
        key=known_from if verified else "",
        ahead=float(reported.get("clock", now)) - now,
    )


def ask_balancers(cloud: Cloud, target: Release) -> dict[Api, str | Unread]:
    """
    Ask every HAProxy, each once, what it thinks of the cloud's APIs: a server's status and how it was checked.

    :param cloud: the cloud
    :param target: the release that is to come
    """
    behind: dict[HAProxy, list[tuple[Deployment, Role]]] = defaultdict(list)
    for host in cloud.hosts:
        for role in host.api_roles:
            way = cloud.deployment(host, target).rotation(role)
            if isinstance(way, HAProxy):
                behind[way.model_copy(update={"server": ""})].append((cloud.deployment(host, target), role))
    pairs = [(apis, rotation_hook(*apis[0])) for apis in behind.values()]
    answers = zip(pairs, at_once(_ask_balancer, pairs), strict=True)
    return {(one.host.name, role): _server(one, role, answer) for (apis, _), answer in answers for one, role in apis}


def _ask_balancer(apis: list[tuple[Deployment, Role]], hook: HeatHostHook) -> dict[str, str]:
    return hook.run_step(steps.check_rotation(apis), silence=_SILENCE)


def _server(target: Deployment, role: Role, answer: dict[str, str] | Exception) -> str | Unread:
    way = target.rotation(role)
    assert isinstance(way, HAProxy)  # noqa: S101
    if isinstance(answer, Exception):
        return Unread(str(answer))
    return answer.get(f"{way.backend(role)}/{way.server}", "") or Unread("HAProxy says nothing of it")
