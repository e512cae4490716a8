"""The decks: the same cards for the same seed, all in each round, and nothing left out of the whole one."""

from itertools import islice

import pytest

from lab.traffic.deck import CALM, DECKS, DEFAULT_DECK, UPDATES, WHOLE, Deck, round_seconds
from lab.traffic.shapes import files, template

SHAPES = sorted({card.shape for deck in DECKS.values() for card in (*deck.cards, *filter(None, [deck.trickle]))})
CHANGED = sorted({card.shape for card in WHOLE.cards if "change" in {step.action for step in card.steps}})


def test_the_same_seed_deals_the_same_cards() -> None:
    assert list(islice(WHOLE.deal(7), 100)) == list(islice(WHOLE.deal(7), 100))
    assert list(islice(WHOLE.deal(7), 100)) != list(islice(WHOLE.deal(8), 100))


@pytest.mark.parametrize("deck", DECKS.values(), ids=DECKS)
def test_each_round_holds_every_card(deck: Deck) -> None:
    cards = deck.deal(1)
    for _ in range(3):
        dealt = list(islice(cards, len(deck.cards)))
        assert sorted(map(repr, dealt)) == sorted(map(repr, deck.cards))
    assert round_seconds(2.0, next(name for name, other in DECKS.items() if other is deck)) == 2 * len(deck.cards)


def early(shape: str) -> set[tuple[str, ...]]:
    """Return what users do to stacks of a shape while they are in progress."""
    return {
        tuple(step.action for step in card.steps if step.moment != "at rest")
        for card in WHOLE.cards
        if card.shape == shape
    }


def test_the_whole_deck_leaves_nothing_out() -> None:
    assert {("delete",)} <= early("wide") & early("nested") & early("chain")
    assert {("grow",), ("change",)} <= early("wide") & early("chain")
    assert ("grow", "grow") in early("wide") & early("chain")
    assert ("grow", "delete") in early("wide") & early("slow chain")
    assert all({"signal", "cfn signal"} in map(set, early(shape)) for shape in ("waiting", "nested waiting"))
    assert WHOLE.trickle
    assert [step.moment for step in WHOLE.trickle.steps] == ["at once"]
    assert set(CALM.cards) <= set(WHOLE.cards)


def test_the_deck_that_is_sent_is_one_that_there_is() -> None:
    assert DEFAULT_DECK in DECKS


@pytest.mark.parametrize("shape", SHAPES)
def test_growing_leaves_every_resource_alone(shape: str) -> None:
    first = template(shape, seed=3)["resources"]
    grown = template(shape, seed=3, done=["grow"])["resources"]
    again = template(shape, seed=3, done=["grow", "grow"])["resources"]
    assert again.keys() - grown.keys() == {"added-2"}
    assert grown.keys() - first.keys() == {"added-1"}
    assert {name: again[name] for name in first} == {name: grown[name] for name in first} == first


@pytest.mark.parametrize("shape", CHANGED)
def test_changing_changes_every_resource(shape: str) -> None:
    first = template(shape, seed=3)["resources"]
    grown = template(shape, seed=3, done=["grow"])["resources"]
    changed = template(shape, seed=3, done=["change"])["resources"]
    assert changed.pop("added-1") == grown.pop("added-1")
    assert changed.keys() == first.keys()
    assert all(changed[name] != first[name] for name in first)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_template_refers_to_comes_with_it(shape: str) -> None:
    types = {resource["type"] for resource in template(shape, seed=3)["resources"].values()}
    assert {kind for kind in types if kind.endswith(".yaml")} == set(files(shape))


def test_a_signal_is_no_update() -> None:
    assert template("waiting", seed=1, done=["signal", "cfn signal"]) == template("waiting", seed=1)
    assert {step.action for card in DECKS["calm"].cards for step in card.steps} <= {*UPDATES, "delete"}
