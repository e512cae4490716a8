"""What the routers of a cloud's hosts have done: asked of the hosts, for the run's report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from heat_upgrade import hosts
from heat_upgrade.exceptions import TransientError
from heat_upgrade.remote import steps
from heat_upgrade.router.state import COUNTED, MOST

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Cloud, Deployment
    from heat_upgrade.cloud.sections import Host
    from heat_upgrade.hooks.host import HeatHostHook
    from heat_upgrade.readings import Unavailable

# As many for each host, whatever it tells.
NAMES = tuple(dict.fromkeys(COUNTED.values()))
# Seconds without a word from a host.
SILENCE = 30

Counts = dict[str, float]


def counts_of(cloud: Cloud, release: str) -> dict[str, Counts | Unavailable]:
    """
    Ask every host with an API, at once, what its router has done.

    :param cloud: the cloud
    :param release: the version whose APIs are, or were, behind the routers
    """

    def counts(host: Host, hook: HeatHostHook) -> Counts:
        return _counts(cloud.deployment(host, cloud.release(release)), hook)

    return hosts.ask(cloud, cloud.api_hosts, counts)


def _counts(front: Deployment, hook: HeatHostHook) -> Counts:
    told = hook.run_step(steps.read_counts(front), idle_timeout=SILENCE).get("counts", "")
    try:
        numbers: dict[str, Any] = dict(json.loads(told))
        counts = {name: numbers[name] for name in NAMES}
        if all(type(number) in (int, float) and 0 <= number <= MOST for number in counts.values()):
            return counts
    except (ValueError, TypeError, KeyError):
        pass
    raise TransientError(
        f"{front.host.name}: its router's counts can't be read, expected numbers: the report is without"
    )
