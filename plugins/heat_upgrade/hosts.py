"""What the hosts of a cloud really run: asked of the hosts, never remembered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from heat_upgrade.clients import Clients
from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.flip.rule import Sides
from heat_upgrade.readings import Unavailable, read
from heat_upgrade.remote import steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.sections import Host, Role
    from heat_upgrade.hooks.host import HeatHostHook

Answer = TypeVar("Answer")

# A service in one of these states still works, or will.
ALIVE = frozenset({"active", "starting", "stopping"})
SSH_SESSIONS_AT_ONCE = 16


@dataclass(frozen=True)
class RouterState:
    """
    What stands in front of a release's APIs on a host, in short.

    :param default: the release whose side takes what is new
    :param listed: how many stacks stay on the other side
    :param closed: whether there is no other side any more
    """

    default: str
    listed: int = 0
    closed: bool = False


@dataclass(frozen=True)
class HostState:
    """
    What one host runs.

    :param host: the host
    :param heat_host: the name under which its engine is known to Heat: ``host`` in heat.conf
    :param services: state of each service, by role and release
    :param installed: version found in each release's venv, by release; empty where there is none
    :param vhosts: vhost that each release's heat.conf names, by release
    :param beside: state of each API that runs beside another release's, by role and release
    :param routers: what stands in front of each release's APIs, by release; also what an earlier upgrade has left
    :param stopped: release that a cold upgrade has stopped here, until another one starts; empty otherwise
    """

    host: Host
    heat_host: str
    services: Mapping[tuple[str, str], str] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)
    vhosts: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[tuple[str, str], str] = field(default_factory=dict)
    routers: Mapping[str, RouterState] = field(default_factory=dict)
    stopped: str = ""

    @classmethod
    def parse(cls, host: Host, results: Mapping[str, str]) -> HostState:
        """Read what the step ``look`` reported."""
        words = {tuple(key.split("/")): value for key, value in results.items()}
        return cls(
            host=host,
            heat_host=results.get("heat_host", ""),
            services={(key[0], key[1]): value for key, value in words.items() if key[0] in host.roles},
            installed={key[1]: value for key, value in words.items() if key[0] == "installed"},
            # A transport_url that names none means RabbitMQ's own default.
            vhosts={key[1]: value or "/" for key, value in words.items() if key[0] == "vhost"},
            beside={(key[1], key[2]): value for key, value in words.items() if key[0] == "beside"},
            routers={key[1]: _router(value) for key, value in words.items() if key[0] == "router"},
            stopped=results.get("stopped", ""),
        )

    def releases(self, role: Role) -> set[str]:
        """Return the releases of which a service is alive."""
        return {release for (name, release), state in self.services.items() if name == role and state in ALIVE}

    @property
    def running(self) -> set[str]:
        """Return the releases of which any service is alive."""
        return {release for (_, release), state in self.services.items() if state in ALIVE}

    @property
    def idle(self) -> bool:
        """Return whether a service of some role runs on no release at all."""
        return any(not self.releases(role) for role in self.host.roles)

    @property
    def router(self) -> RouterState | None:
        """Return what stands in front of the APIs that users reach, while it isn't closed; None where nothing does."""
        releases = set[str]().union(*(self.releases(role) for role in self.host.api_roles))
        routers = [self.routers[release] for release in releases if release in self.routers]
        return next((router for router in routers if not router.closed), None)

    def upgraded(self, target: str) -> bool:
        """Return whether each of the host's services runs on the target alone."""
        return all(self.releases(role) == {target} for role in self.host.roles)

    def moved(self, target: str) -> bool:
        """Return whether each API runs on the target alone, and the engine, if there is one, at least there too."""
        return self.apis_moved(target) and ("engine" not in self.host.roles or target in self.releases("engine"))

    def apis_moved(self, target: str) -> bool:
        """Return whether each of the host's APIs runs on the target alone."""
        return all(self.releases(role) == {target} for role in self.host.api_roles)

    def users_on(self, target: str) -> bool:
        """Return whether the host's APIs send whatever isn't listed to the target's side."""
        return self.apis_moved(target) and (self.router is None or self.router.default == target)

    def only_on(self, target: str) -> bool:
        """Return whether the host's APIs send everything to the target's side, with a router or without."""
        return self.users_on(target) and not (self.router and self.router.listed)

    def closed(self, target: str) -> bool:
        """Return whether the target's side is the only one that the host's APIs know."""
        return self.apis_moved(target) and self.router is None


def _router(summary: str) -> RouterState:
    state = json.loads(summary)
    return RouterState(state["default"], state["listed"], state["closed"])


def inspect(cloud: Cloud, hosts: Sequence[Host]) -> dict[str, HostState | Unavailable]:
    """
    Ask hosts, at once, what they run.

    :param cloud: the cloud
    :param hosts: some of its hosts
    """

    def look(host: Host, hook: HeatHostHook) -> HostState:
        return HostState.parse(host, hook.run_step(steps.look(cloud, host), idle_timeout=120))

    return ask(cloud, hosts, look)


def ask(
    cloud: Cloud, hosts: Sequence[Host], question: Callable[[Host, HeatHostHook], Answer]
) -> dict[str, Answer | Unavailable]:
    """
    Ask hosts something, at once, and return each one's answer, or why there is none.

    :param cloud: the cloud
    :param hosts: some of its hosts
    :param question: asks one of them
    """
    clients = Clients(cloud)
    # The hooks read their connections here, in the task's own thread.
    asked = [partial(question, host, clients.host(host)) for host in hosts]
    with ThreadPoolExecutor(SSH_SESSIONS_AT_ONCE) as pool:
        found = pool.map(read, asked)
        return {host.name: answer for host, answer in zip(hosts, found, strict=True)}


def states_of(cloud: Cloud, hosts: Sequence[Host]) -> dict[str, HostState]:
    """
    Ask hosts, at once, what they run.

    :raises TransientError: when one of them can't be reached
    :raises UpgradeError: when one of them answers with an error
    """
    states: dict[str, HostState] = {}
    for name, state in inspect(cloud, hosts).items():
        if isinstance(state, Unavailable):
            raise state.error
        states[name] = state
    return states


def sides_of(cloud: Cloud, host: Host, target: str) -> Sides:
    """
    Ask the router of one host by what it decides; a flip leaves all of them alike.

    :param cloud: the cloud
    :param host: a host with an API
    :param target: the release whose APIs are in front there
    """
    front = cloud.deployment(host, cloud.release(target))
    return Sides.of_json(json.loads(Clients(cloud).host(host).run_step(steps.read_sides(front))["state"]))


def refuse_unless_in_front(states: Mapping[str, HostState], target: str) -> None:
    """
    Refuse a flip that some hosts' APIs wouldn't take: they would send one stack's changes to two sides.

    :param states: of all hosts with an API
    :param target: the release that has to be in front
    :raises UpgradeError: when it isn't so on some of them
    """
    if left := [name for name, state in states.items() if not state.apis_moved(target)]:
        raise UpgradeError(
            f"{', '.join(left)}: an API of {target} isn't in front there, expected it on every host with an API: "
            "clear these hosts' switch_api"
        )
