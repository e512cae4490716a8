"""What is checked in RabbitMQ. ``BrokerFacts.read`` asks; the checks judge what it was told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from heat_upgrade.formatting import first_few
from heat_upgrade.preflight.check import Check, failed, judge, passed, skipped, warned
from heat_upgrade.readings import WORK_TOPICS, Unavailable, is_notification, read
from rabbitmq_management.records import STATISTICS_ON

if TYPE_CHECKING:
    from heat_upgrade.cloud.sections import Release
    from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
    from heat_upgrade.hooks.vhosts import VhostHook
    from heat_upgrade.readings import ClientConnection
    from rabbitmq_management.records import ExpiringPolicy, Node, Permission, QueueReading

# Topics, engines' own queues, fanouts (with rabbit_stream_fanout one stream for all) and replies; what others read from
# Heat are its notifications.
HEAT_QUEUE = re.compile(
    r"(engine|engine_worker|heat-engine-listener)(\.|_fanout_|(_fanout)?$)|reply_|notifications\.|amq\."
)

Consumers = Mapping[str, int]


@dataclass(frozen=True)
class BrokerFacts:
    """
    What RabbitMQ tells, each part or why it couldn't be read.

    :param tags: of the upgrade's own user
    :param nodes: the cluster's nodes
    :param consumers: for each vhost that exists how many consumers each queue has
    :param readers: who reads Heat's notifications in the source's vhost
    :param queues: what the source's queues hold
    :param expiring: what makes messages of the source's vhost vanish
    :param permissions: of all users on the source's vhost
    :param changes: what the target's vhost lacks to serve like the source's, in words
    """

    tags: set[str] | Unavailable
    nodes: Sequence[Node] | Unavailable
    consumers: Mapping[str, Consumers] | Unavailable
    readers: Sequence[ClientConnection] | Unavailable
    queues: Sequence[QueueReading] | Unavailable
    expiring: Sequence[ExpiringPolicy] | Unavailable
    permissions: Sequence[Permission] | Unavailable
    changes: Sequence[str] | Unavailable

    @classmethod
    def read(cls, rabbitmq: VhostHook, source: Release | None, target: Release) -> BrokerFacts:
        """
        Ask RabbitMQ for all of it; what doesn't answer at all is asked once.

        :param rabbitmq: the hook
        :param source: the release that runs, None if that isn't known
        :param target: the release that is to come
        """
        tags = read(rabbitmq.tags)
        if isinstance(tags, Unavailable):
            return cls(tags, *[Unavailable.not_asked("the management API doesn't answer")] * 7)
        nodes = read(rabbitmq.nodes)
        if source is None:
            nothing = Unavailable.not_asked("it isn't known which release runs")
            return cls(tags, nodes, *[nothing] * 6)
        unseen = _unseen(nodes)
        consumers = read(partial(_consumers, rabbitmq, source, target)) if unseen is None else unseen
        if not isinstance(consumers, Unavailable) and source.vhost not in consumers:
            gone = Unavailable.not_asked(f"vhost {source.vhost!r} is gone, which is over once the upgrade is")
            return cls(tags, nodes, consumers, *[gone] * 5)
        return cls(
            tags=tags,
            nodes=nodes,
            consumers=consumers,
            readers=read(partial(rabbitmq.notification_readers, source.vhost)) if unseen is None else unseen,
            queues=read(partial(_queues, rabbitmq, source.vhost)) if unseen is None else unseen,
            expiring=read(partial(rabbitmq.expiring_policies, source.vhost)),
            permissions=read(partial(rabbitmq.permissions, source.vhost)),
            changes=read(lambda: [str(change) for change in rabbitmq.changes(source.vhost, target.vhost)]),
        )

    @property
    def answers(self) -> bool:
        """Return whether the management API answers the upgrade's user at all."""
        return not isinstance(self.tags, Unavailable)

    @property
    def shows_engines(self) -> bool:
        """Return whether it can tell which engines listen."""
        return self.answers and not _silent(self.nodes)


def _silent(nodes: Sequence[Node] | Unavailable) -> str:
    return "" if isinstance(nodes, Unavailable) else ", ".join(node.name for node in nodes if node.silent)


def _unseen(nodes: Sequence[Node] | Unavailable) -> Unavailable | None:
    """Return what stands in place of all that rests on statistics: else each would fail for the same reason."""
    silent = _silent(nodes)
    return Unavailable.not_asked(f"can't be told without statistics of {silent}") if silent else None


def _queues(rabbitmq: HeatRabbitMQHook, vhost: str) -> list[QueueReading]:
    """Read them once more if they can't be: a queue that is made or deleted just now shows in some answers only."""
    first = read(partial(rabbitmq.queues, vhost))
    return rabbitmq.queues(vhost) if isinstance(first, Unavailable) else first


def _consumers(rabbitmq: HeatRabbitMQHook, *releases: Release) -> dict[str, Consumers]:
    vhosts = [release.vhost for release in releases if rabbitmq.vhost_exists(release.vhost)]
    return {vhost: rabbitmq.consumers(vhost) for vhost in vhosts}


def check_rabbitmq(
    facts: BrokerFacts, source: Release | None, target: Release, logins: Mapping[str, str], *, stopped: bool = False
) -> list[Check]:
    """
    Make every check of RabbitMQ.

    :param facts: what it has told
    :param source: the release that runs, None if that isn't known
    :param target: the release that is to come
    :param logins: for each host the user in transport_url of its running release
    :param stopped: whether a cold upgrade that is to go on has stopped engines
    """
    old = source.vhost if source else ""
    return [
        judge("management user", facts.tags, rights),
        judge("nodes", facts.nodes, nodes),
        judge("alarms", facts.nodes, alarms),
        judge("engines", facts.consumers, partial(engines, stopped=stopped)),
        judge("vhost", facts.consumers, partial(only_heat, vhost=old, readers=facts.readers)),
        judge("queues", facts.queues, partial(queues, stopped=stopped)),
        judge("expiry", facts.expiring, partial(expiry, vhost=old)),
        judge("permissions", facts.permissions, partial(permissions, vhost=old, logins=logins)),
        judge("new vhost", facts.changes, partial(inheritance, source=old, target=target.vhost)),
    ]


def rights(name: str, tags: set[str]) -> Check:
    """Check that the upgrade's user may make vhosts, permissions and policies."""
    if "administrator" in tags:
        return passed(name, "administrator")
    return failed(
        name,
        f"has the tags {sorted(tags)}, expected administrator, since the run makes a vhost with its permissions and "
        "policies: set it with `rabbitmqctl set_user_tags USER administrator`",
    )


def nodes(name: str, found: Sequence[Node]) -> Check:
    """Check that the cluster is whole."""
    down = [node.name for node in found if not node.running]
    split = [node.name for node in found if node.partitions]
    if down or split:
        told = [f"{', '.join(down)} doesn't run"] * bool(down) + [f"{', '.join(split)} sees a partition"] * bool(split)
        return failed(name, f"{'; '.join(told)}, expected a whole cluster: see `rabbitmqctl cluster_status`")
    if silent := _silent(found):
        return skipped(name, f"all {len(found)} run; partitions can't be told without statistics of {silent}")
    return passed(name, f"all {len(found)} run" if len(found) > 1 else f"{found[0].name} runs" if found else "none")


def alarms(name: str, found: Sequence[Node]) -> Check:
    """Check that RabbitMQ takes messages: in an alarm it blocks whoever sends any."""
    if ringing := [f"{alarm} on {node.name}" for node in found for alarm in node.alarms or ()]:
        return failed(
            name,
            f"{', '.join(ringing)}, expected none, since RabbitMQ takes no message now: free memory or disk there, see "
            "`rabbitmq-diagnostics alarms`",
        )
    if silent := _silent(found):
        return failed(
            name,
            f"{silent} shows no statistics, so alarms, partitions, consumers and clients can't be told, expected them: "
            f"wait if it has just started, else {STATISTICS_ON}",
        )
    return passed(name, "none")


def engines(name: str, consumers: Mapping[str, Consumers], *, stopped: bool) -> Check:
    """Check that any engine listens at all."""
    if stopped:
        return skipped(name, "a cold upgrade has stopped them")
    listening = {vhost: queues.get("engine", 0) for vhost, queues in consumers.items()}
    if not any(listening.values()):
        vhosts = ", ".join(map(repr, consumers)) or "no vhost of Heat's"
        return failed(
            name,
            f"no engine listens on {vhosts}, expected some: start Heat's engines, or correct the releases' `vhost` in "
            "the cloud file",
        )
    return passed(name, ", ".join(f"{count} on {vhost!r}" for vhost, count in listening.items()))


def only_heat(
    name: str, consumers: Mapping[str, Consumers], *, vhost: str, readers: Sequence[ClientConnection] | Unavailable
) -> Check:
    """Check that Heat has the vhost for itself: else the drain couldn't tell its clients from others'."""
    if others := sorted(queue for queue in consumers.get(vhost, {}) if not HEAT_QUEUE.match(queue)):
        return failed(
            name,
            f"vhost {vhost!r} is used by others than Heat (queues {first_few(others)}), expected a vhost of Heat's "
            "own: move Heat to one first, by [DEFAULT] transport_url and a restart of all its services",
        )
    if read_by_others := sorted(filter(is_notification, consumers.get(vhost, {}))):
        known = "" if isinstance(readers, Unavailable) else first_few(sorted(set(map(str, readers))))
        return failed(
            name,
            f"{known or 'another program'} reads Heat's notifications in vhost {vhost!r} (queues "
            f"{first_few(read_by_others)}), expected no client but Heat's own, since the drain waits until only "
            "engines are connected, and nobody would read those of the new vhost: give notifications a vhost of their "
            "own, by [oslo_messaging_notifications] transport_url in heat.conf and by the reader's configuration, such "
            "as messaging_urls in ceilometer.conf",
        )
    return passed(name, f"{vhost!r} is Heat's own" if vhost in consumers else f"{vhost!r} is gone")


def queues(name: str, found: Sequence[QueueReading], *, stopped: bool) -> Check:
    """Check that no work waits for engines that don't come."""
    if stopped:
        return skipped(name, "a cold upgrade has stopped the engines that read them")
    if lost := [str(queue) for queue in found if queue.name in WORK_TOPICS and queue.messages and not queue.consumers]:
        return failed(
            name,
            f"{', '.join(lost)} of the running release has no reader, expected an engine to work it off: start one",
        )
    ready, taken = sum(queue.ready for queue in found), sum(queue.unacknowledged for queue in found)
    return passed(name, f"{ready} messages ready, {taken} unacknowledged in {len(found)} queues")


def expiry(name: str, found: Sequence[ExpiringPolicy], *, vhost: str) -> Check:
    """Check that no message vanishes unread: the drain could never tell an empty queue from a lost message."""
    if found:
        told = ", ".join(f"{policy.name} ({policy.setting})" for policy in found)
        return failed(
            name,
            f"{told} makes messages of vhost {vhost!r} vanish, expected no expiry on engines' queues: delete it, or "
            "narrow its pattern to others' queues",
        )
    return passed(name, f"no message of an engine expires in {vhost!r}")


def permissions(name: str, found: Sequence[Permission], *, vhost: str, logins: Mapping[str, str]) -> Check:
    """Check that Heat's user may use the vhost: the new one gets the same permissions."""
    users = sorted({login for login in logins.values() if login})
    allowed = {permission.user for permission in found if permission.complete}
    if barred := [user for user in users if user not in allowed]:
        return failed(
            name,
            f"user {', '.join(map(repr, barred))}, as which Heat logs in, lacks permissions on vhost {vhost!r}, "
            "expected configure, write and read, which the new vhost gets as well: "
            f"`rabbitmqctl set_permissions -p {vhost} {barred[0]} '.*' '.*' '.*'`",
        )
    if not users:
        return warned(name, f"Heat's user isn't known from any heat.conf, expected one of {sorted(allowed)}")
    return passed(name, f"{', '.join(map(repr, users))} may use {vhost!r}")


def inheritance(name: str, changes: Sequence[str], *, source: str, target: str) -> Check:
    """Say what the new vhost is going to get from the old one."""
    if not changes:
        return passed(name, f"{target!r} has all that it needs")
    return passed(name, f"{target!r} gets what {source!r} has: {', '.join(changes)}")
