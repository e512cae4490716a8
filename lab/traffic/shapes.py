"""The templates of the traffic's stacks."""

import json
import random
from collections.abc import Sequence
from typing import Any

from lab.traffic.deck import UPDATES, Action

Template = dict[str, Any]

# Seconds until a stack that nobody signals fails: far more than any user of the traffic takes.
SIGNAL_TIMEOUT = 120
SIGNALS = 2
INNER = "inner.yaml"


def template(shape: str, *, seed: int, done: Sequence[Action] = ()) -> Template:
    """Make the template of a stack.

    :param shape: one of the shapes of a deck.
    :param seed: decides how long its resources take.
    :param done: what its user has done to it so far; each update adds a resource.
    """
    resources = _SHAPES[shape](random.Random(seed), 2 if "change" in done else 1)
    updates = [action for action in done if action in UPDATES]
    resources |= {f"added-{number}": test_resource(2) for number in range(1, len(updates) + 1)}
    return _hot(resources)


def files(shape: str) -> dict[str, str]:
    """Return the files that the template of a stack refers to.

    :param shape: one of the shapes of a deck.
    """
    return {INNER: json.dumps(_hot(_waiting(random.Random(), 1)))} if shape == "nested waiting" else {}


def test_resource(seconds: int, version: int = 1, *, after: str | None = None) -> Template:
    """Describe a resource that takes its time.

    :param seconds: how long its creation takes; Heat looks every 2 s.
    :param version: another version is an update in place.
    :param after: the resource that it waits for.
    """
    resource: Template = {
        "type": "OS::Heat::TestResource",
        "properties": {
            "value": f"version {version}",
            "action_wait_secs": {"create": seconds, "update": min(seconds, 4), "delete": 1},
        },
    }
    if after:
        resource["depends_on"] = after
    return resource


def group(count: int, member: Template) -> Template:
    """Describe a group, which Heat makes as a nested stack.

    :param count: how many members.
    :param member: the definition of each.
    """
    return {"type": "OS::Heat::ResourceGroup", "properties": {"count": count, "resource_def": member}}


def _hot(resources: Template) -> Template:
    return {"heat_template_version": "2021-04-16", "resources": resources}


def _chain(dice: random.Random, version: int) -> Template:
    links = {"link-0": test_resource(dice.randint(1, 4), version)}
    for number in range(1, 4):
        links[f"link-{number}"] = test_resource(dice.randint(1, 4), version, after=f"link-{number - 1}")
    return links


def _slow_chain(dice: random.Random, version: int) -> Template:
    first = test_resource(dice.randint(15, 30), version)
    return {"link-0": first, "link-1": test_resource(2, version, after="link-0")}


def _pair(dice: random.Random, version: int) -> Template:
    first = test_resource(dice.randint(3, 5), version)
    return {"link-0": first, "link-1": test_resource(2, version, after="link-0")}


def _wide(dice: random.Random, version: int) -> Template:
    return {f"part-{number}": test_resource(dice.randint(2, 10), version) for number in range(6)}


def _nested(dice: random.Random, version: int) -> Template:
    return {"outer": group(2, group(2, test_resource(dice.randint(3, 8), version)))}


def _strings(dice: random.Random, version: int) -> Template:
    lengths = {f"string-{number}": dice.randint(8, 32) + version for number in range(3)}
    return {
        name: {"type": "OS::Heat::RandomString", "properties": {"length": length}} for name, length in lengths.items()
    }


def _waiting(_: random.Random, version: int) -> Template:
    """Describe what stays in progress until its user signals.

    A handle that is meant to be signalled through heat-api asks Keystone for a token, which a lab may not have.
    Signals through heat-api reach this one as well.
    """
    handle = {"type": "OS::Heat::WaitConditionHandle", "properties": {"signal_transport": "CFN_SIGNAL"}}
    properties = {"handle": {"get_resource": "handle"}, "timeout": SIGNAL_TIMEOUT, "count": SIGNALS}
    wait = {"type": "OS::Heat::WaitCondition", "properties": properties}
    return {"handle": handle, "wait": wait, "last": test_resource(2, version, after="wait")}


def _nested_waiting(dice: random.Random, version: int) -> Template:
    return {"inner": {"type": INNER}, "beside": test_resource(dice.randint(2, 6), version)}


_SHAPES = {
    "chain": _chain,
    "slow chain": _slow_chain,
    "pair": _pair,
    "wide": _wide,
    "nested": _nested,
    "strings": _strings,
    "waiting": _waiting,
    "nested waiting": _nested_waiting,
}
