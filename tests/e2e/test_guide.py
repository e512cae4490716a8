"""Heat's own guide loses work: here it is followed by the letter, under the traffic of the other tests."""

from __future__ import annotations

import pytest

from lab.cloud.model import Lab
from lab.cloud.status import answering_releases
from lab.scenarios.compare import by_the_guide
from lab.traffic import Account, table
from tests.e2e.labs import NEW, OLD, programs, shared_lab

lab = shared_lab("e2e-guide", "module", airflow=False)


@pytest.fixture(scope="module")
def account(lab: Lab) -> Account:
    return by_the_guide(lab)


def test_it_gets_to_the_new_release(lab: Lab, account: Account) -> None:
    assert answering_releases(lab) == {host.name: NEW for host in lab.hosts_with("api")}
    assert programs(lab, OLD) == []


def test_it_leaves_stacks_in_progress_for_ever(account: Account) -> None:
    assert account.stuck, table(account)
