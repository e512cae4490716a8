"""Ask all hosts and load balancers at once what preflight wants to know of them. Nothing changes there."""

from __future__ import annotations

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from heat_upgrade.clients import Clients
from heat_upgrade.cloud.sections import HAProxy
from heat_upgrade.hosts import SSH_SESSIONS_AT_ONCE, HostState
from heat_upgrade.preflight.facts import HostFacts
from heat_upgrade.readings import Unavailable, read
from heat_upgrade.remote import steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from heat_upgrade.cloud.model import Cloud, Deployment
    from heat_upgrade.cloud.sections import Release, Role
    from heat_upgrade.hooks.host import HeatHostHook

# Seconds without a word after which a host counts as away.
_IDLE_TIMEOUT = 120

S = TypeVar("S")
T = TypeVar("T")
Api = tuple["Deployment", "Role"]
Hosts = dict[str, HostFacts | Unavailable]
# By the host's name and the API.
Rotations = dict[tuple[str, "Role"], str | Unavailable]


def ask_all(cloud: Cloud, target: Release) -> tuple[Hosts, Rotations]:
    """
    Ask all hosts what they run and have, and every HAProxy, each once, what it thinks of its servers.

    :param cloud: the cloud
    :param target: the release that is to come
    :return: the facts of each host, and of each API behind an HAProxy its status and check
    """
    clients = Clients(cloud)
    deployments = [cloud.deployment(host, target) for host in cloud.hosts]
    # The hooks read their connections here, in the task's own thread.
    hosts = [(one, read(partial(clients.host, one.host))) for one in deployments]
    balancers = [(apis, read(partial(clients.balancer, *apis[0]))) for apis in _behind_haproxy(deployments)]
    with ThreadPoolExecutor(SSH_SESSIONS_AT_ONCE) as pool:
        facts = {one.host.name: pool.submit(_ask, _ask_host, one, hook) for one, hook in hosts}
        answers = [(apis, pool.submit(_ask, _ask_balancer, apis, hook)) for apis, hook in balancers]
    rotations = {
        (one.host.name, role): _status(one, role, answer.result()) for apis, answer in answers for one, role in apis
    }
    return {name: answer.result() for name, answer in facts.items()}, rotations


def _ask(ask: Callable[[S, HeatHostHook], T], subject: S, hook: HeatHostHook | Unavailable) -> T | Unavailable:
    return hook if isinstance(hook, Unavailable) else read(partial(ask, subject, hook))


def _ask_host(target: Deployment, hook: HeatHostHook) -> HostFacts:
    reported = hook.run_step(steps.check_host(target), idle_timeout=_IDLE_TIMEOUT)
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


def _behind_haproxy(deployments: Iterable[Deployment]) -> list[list[Api]]:
    """Return the APIs of each HAProxy: one that has many is asked once."""
    behind: dict[HAProxy, list[Api]] = defaultdict(list)
    for one in deployments:
        for role in one.host.api_roles:
            way = one.rotation(role)
            if isinstance(way, HAProxy):
                behind[way.model_copy(update={"server": ""})].append((one, role))
    return list(behind.values())


def _ask_balancer(apis: list[Api], hook: HeatHostHook) -> dict[str, str]:
    return hook.run_step(steps.check_rotation(apis), idle_timeout=_IDLE_TIMEOUT)


def _status(target: Deployment, role: Role, answer: dict[str, str] | Unavailable) -> str | Unavailable:
    way = target.rotation(role)
    assert isinstance(way, HAProxy)  # noqa: S101
    if isinstance(answer, Unavailable):
        return answer
    return answer.get(f"{way.backend(role)}/{way.server}") or Unavailable(f"HAProxy says nothing of {way.server}")
