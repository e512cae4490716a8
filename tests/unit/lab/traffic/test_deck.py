"""The deck: the same cards for the same seed, all in each round, and nothing left out."""

from itertools import islice

import pytest

from lab.traffic.deck import DECK, SIGNALS, UPDATES, round_seconds
from lab.traffic.shapes import files, template

SHAPES = sorted({card.shape for card in (*DECK.cards, *filter(None, [DECK.trickle]))})
CHANGED = sorted({card.shape for card in DECK.cards if "change" in {step.action for step in card.steps}})


def test_the_same_seed_deals_the_same_cards() -> None:
    assert list(islice(DECK.deal(7), 100)) == list(islice(DECK.deal(7), 100))
    assert list(islice(DECK.deal(7), 100)) != list(islice(DECK.deal(8), 100))


def test_each_round_holds_every_card() -> None:
    cards = DECK.deal(1)
    for _ in range(3):
        dealt = list(islice(cards, len(DECK.cards)))
        assert sorted(map(repr, dealt)) == sorted(map(repr, DECK.cards))
    assert round_seconds(2.0) == 2 * len(DECK.cards)


def early(shape: str) -> set[tuple[str, ...]]:
    """Return what users do to stacks of a shape while they are in progress."""
    return {
        tuple(step.action for step in card.steps if step.moment != "at rest")
        for card in DECK.cards
        if card.shape == shape
    }


def test_the_deck_leaves_nothing_out() -> None:
    assert {("delete",)} <= early("wide") & early("nested") & early("chain")
    assert {("grow",), ("change",)} <= early("wide") & early("chain")
    assert ("grow", "grow") in early("wide") & early("chain")
    assert ("grow", "delete") in early("wide") & early("slow chain")
    assert all({"signal", "cfn signal"} in map(set, early(shape)) for shape in ("waiting", "nested waiting"))
    assert DECK.trickle
    assert [step.moment for step in DECK.trickle.steps] == ["at once"]
    # Beside those who touch stacks in progress there are users who wait, or never touch theirs again.
    assert {card.shape for card in DECK.cards if not card.steps} >= {"chain", "slow chain", "wide", "nested"}
    assert {card.shape for card in DECK.cards if card.steps and card.steps[0].moment == "at rest"} >= {
        *("chain", "wide", "nested", "strings")
    }


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
    assert {step.action for card in DECK.cards for step in card.steps} == {*UPDATES, *SIGNALS, "delete"}
