"""Which stacks come, and what their users do to them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Action = Literal["grow", "change", "delete", "signal", "cfn signal"]
Moment = Literal["at once", "in progress", "at rest"]

UPDATES = frozenset({"grow", "change"})
SIGNALS = frozenset({"signal", "cfn signal"})


@dataclass(frozen=True)
class Step:
    """Something that a user does to a stack after its creation.

    :param action: `grow` adds a resource, `change` changes each of them as well; a signal goes through heat-api, a
        `cfn signal` through heat-api-cfn.
    :param moment: `at once` is a second after the user's last change, `in progress` is three.
    """

    action: Action
    moment: Moment


@dataclass(frozen=True)
class Card:
    """One stack of the traffic: what it is made of, and what becomes of it."""

    shape: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Deck:
    """The cards that are dealt again and again.

    :param cards: each round has each of them once, shuffled.
    :param trickle: comes beside each of them, or None.
    """

    cards: tuple[Card, ...]
    trickle: Card | None = None

    def deal(self, seed: int) -> Iterator[Card]:
        """Deal the cards for ever, shuffled again each round.

        A deck instead of a die: a short control run sees whatever a long upgrade can see.

        :param seed: the same seed deals the same cards.
        """
        dealer = random.Random(seed)
        while True:
            yield from dealer.sample(self.cards, len(self.cards))


GROW_AT_ONCE = Step("grow", "at once")
GROW_EARLY = Step("grow", "in progress")
CHANGE_EARLY = Step("change", "in progress")
CHANGE_LATE = Step("change", "at rest")
DELETE_EARLY = Step("delete", "in progress")
DELETE_LATE = Step("delete", "at rest")
SIGNAL = Step("signal", "in progress")
CFN_SIGNAL = Step("cfn signal", "in progress")

# Users who touch whatever they like whenever they like: what an upgrade must not work on from two sides. Some of it
# Heat breaks by itself now and then; how often is in rates.py. The trickle has one stack that was begun in the last
# second before any moment of a run and is updated in the first second after it.
DECK = Deck(
    (
        Card("chain"),
        Card("chain", (GROW_EARLY,)),
        Card("chain", (GROW_EARLY, GROW_EARLY)),
        Card("chain", (CHANGE_EARLY,)),
        Card("chain", (DELETE_EARLY,)),
        Card("chain", (CHANGE_LATE, DELETE_LATE)),
        Card("slow chain"),
        Card("slow chain", (GROW_EARLY,)),
        Card("slow chain", (GROW_EARLY, DELETE_EARLY)),
        Card("slow chain", (DELETE_EARLY,)),
        Card("wide"),
        Card("wide", (GROW_EARLY,)),
        Card("wide", (GROW_EARLY, GROW_EARLY)),
        Card("wide", (GROW_EARLY, DELETE_EARLY)),
        Card("wide", (CHANGE_EARLY,)),
        Card("wide", (DELETE_EARLY,)),
        Card("wide", (CHANGE_LATE,)),
        Card("wide", (DELETE_LATE,)),
        Card("nested"),
        Card("nested", (GROW_EARLY,)),
        Card("nested", (DELETE_EARLY,)),
        Card("nested", (CHANGE_LATE,)),
        Card("nested", (DELETE_LATE,)),
        Card("strings", (CHANGE_LATE, DELETE_LATE)),
        Card("strings", (DELETE_LATE,)),
        Card("waiting", (SIGNAL, CFN_SIGNAL)),
        Card("nested waiting", (CFN_SIGNAL, SIGNAL)),
    ),
    trickle=Card("pair", (GROW_AT_ONCE,)),
)


def round_seconds(create_every: float) -> float:
    """Return in how many seconds each card of the deck has come once.

    :param create_every: seconds from one card to the next.
    """
    return len(DECK.cards) * create_every
