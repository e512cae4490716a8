"""The stacks of the traffic: their templates, and in which order they come."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Template = dict[str, Any]
Action = Literal["grow", "change", "delete"]
Moment = Literal["in progress", "at rest"]


@dataclass(frozen=True)
class Step:
    """Something that a user does to a stack after its creation."""

    action: Action
    moment: Moment


@dataclass(frozen=True)
class Card:
    """One stack of the traffic: what it is made of, and what becomes of it."""

    shape: str
    steps: tuple[Step, ...] = ()


GROW_EARLY = Step("grow", "in progress")
CHANGE_LATE = Step("change", "at rest")
DELETE_EARLY = Step("delete", "in progress")
DELETE_LATE = Step("delete", "at rest")

# Every kind of stack with every fate, shuffled and dealt again and again. A deck instead of a die: each
# round of cards holds each kind once, so a short control run sees whatever a long upgrade can see.
#
# Heat breaks some stacks that are touched in progress, now and then and without any upgrade: when a resource
# finishes just as the next traversal arrives, it is worked on twice, and the second time trips over the first
# ("MySQL 1451, constraint resource_ibfk_1"). On release 25.0.2 alone, changing a wide stack in progress broke
# 10 of 34, deleting one 1 of 200, and changing a group in progress ("Stack UPDATE cancelled") one of four to
# three of four. What comes that seldom a control run of minutes can't tell from the upgrade's own failures. So
# an update in progress only adds a resource, which makes the second time a matter of no change (0 of 267
# broke), what is deleted in progress is far from done (0 of 100), and groups are touched at rest only.
#
# The one gap that this leaves on purpose: a user who deletes a stack through one side of an upgrade while the
# other side is creating it. Each side takes the other's engines for dead, and Heat can't be talked out of it:
# 14 of 34 wide and nested stacks ended DELETE_FAILED when every one of them crossed. A chain mostly survives
# (3 of 67 failed), so a chain is what stays in the deck; updates that cross (5 of 199 stuck) stay as they are.
DECK = (
    Card("chain"),
    Card("chain", (GROW_EARLY,)),
    Card("chain", (CHANGE_LATE, DELETE_LATE)),
    Card("wide"),
    Card("wide", (GROW_EARLY,)),
    Card("wide", (CHANGE_LATE,)),
    Card("wide", (DELETE_LATE,)),
    Card("nested"),
    Card("nested", (CHANGE_LATE,)),
    Card("nested", (DELETE_LATE,)),
    Card("slow chain"),
    Card("slow chain", (GROW_EARLY,)),
    Card("slow chain", (DELETE_EARLY,)),
    Card("strings", (CHANGE_LATE, DELETE_LATE)),
    Card("strings", (DELETE_LATE,)),
)


def deal(seed: int) -> Iterator[Card]:
    """Deal the deck for ever, shuffled anew each round.

    :param seed: the same seed deals the same cards.
    """
    dealer = random.Random(seed)
    while True:
        yield from dealer.sample(DECK, len(DECK))


def template(shape: str, *, seed: int, update: Action | None = None) -> Template:
    """Make the template of a stack.

    :param shape: one of the shapes of the deck.
    :param seed: decides how long its resources take.
    :param update: `grow` adds a resource, `change` changes each of them as well; None is the first template.
    """
    resources = _SHAPES[shape](random.Random(seed), 2 if update == "change" else 1)
    if update:
        resources["added"] = test_resource(2)
    return {"heat_template_version": "2021-04-16", "resources": resources}


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


def _chain(dice: random.Random, version: int) -> Template:
    links = {"link-0": test_resource(dice.randint(1, 4), version)}
    for number in range(1, 4):
        links[f"link-{number}"] = test_resource(dice.randint(1, 4), version, after=f"link-{number - 1}")
    return links


def _slow_chain(dice: random.Random, version: int) -> Template:
    first = test_resource(dice.randint(15, 30), version)
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


def group(count: int, member: Template) -> Template:
    """Describe a group, which Heat makes as a nested stack.

    :param count: how many members.
    :param member: the definition of each.
    """
    return {"type": "OS::Heat::ResourceGroup", "properties": {"count": count, "resource_def": member}}


_SHAPES = {
    "chain": _chain,
    "slow chain": _slow_chain,
    "wide": _wide,
    "nested": _nested,
    "strings": _strings,
}
