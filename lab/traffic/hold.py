"""One stack that keeps an engine busy for a known time, for tests of what waits for it."""

import time
from itertools import pairwise

from lab.traffic.client import HeatClient
from lab.traffic.ledger import Ledger
from lab.traffic.run import TrafficError
from lab.traffic.shapes import test_resource


def hold_old_side(endpoint: str, seconds: int, *, name: str = "held", followers: int = 0, timeout: float = 60.0) -> str:
    """Create a stack with a resource that takes its time, or several in a row; return its id once an engine is at it.

    :param endpoint: Heat's API with the project.
    :param seconds: how long the resource takes.
    :param name: the stack's name.
    :param followers: how many more such resources there are, each begun when the one before is done.
    :param timeout: how long to wait until an engine has begun, in seconds.
    :raises TrafficError: if the stack is refused, or no engine begins.
    """
    ledger = Ledger()
    client = HeatClient(endpoint, None, ledger)
    names = ["only", *(f"follower-{number}" for number in range(1, followers + 1))]
    resources = {"only": test_resource(seconds)}
    resources |= {name: test_resource(seconds, after=before) for before, name in pairwise(names)}
    stack_id = client.create(name, {"heat_template_version": "2021-04-16", "resources": resources})
    if stack_id is None:
        raise TrafficError(f"stack {name} was refused: {ledger.requests(0, 1).failures[0].error}")
    deadline = time.monotonic() + timeout
    while (found := client.find(name, stack_id, "only")) is None or found.status != "CREATE_IN_PROGRESS":
        if time.monotonic() >= deadline:
            raise TrafficError(f"stack {name}: no engine began within {timeout:g} s; do the engines run?")
        time.sleep(0.5)
    return stack_id
