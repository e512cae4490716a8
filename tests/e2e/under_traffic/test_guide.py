"""Heat's own guide loses work: here it is followed by the letter, under the traffic of the other tests."""

from __future__ import annotations

import pytest

from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.scenarios.compare import by_the_guide
from lab.traffic import Account, table
from tests.e2e.labs import next_move, programs

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def move(lab: Lab, control: Account) -> tuple[str, str]:
    return next_move(lab)


@pytest.fixture(scope="module")
def account(lab: Lab, move: tuple[str, str]) -> Account:
    return by_the_guide(lab, *move)


def test_it_gets_to_the_next_release(lab: Lab, move: tuple[str, str], account: Account) -> None:
    source, target = move
    assert answering_releases(lab) == {host.name: target for host in lab.hosts_with("api")}
    assert programs(lab, source) == []


def test_it_leaves_stacks_in_progress_for_ever(account: Account) -> None:
    assert account.stuck, table(account)
