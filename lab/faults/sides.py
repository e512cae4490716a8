"""By what the router of a lab's host decides, read from its state file past the product's steps."""

from __future__ import annotations

from contextlib import suppress

from heat_upgrade.router.heat_upgrade_router import State
from heat_upgrade.router.state import StateError, read
from lab.cloud.model import LabHost


def state_of(host: LabHost, release: str) -> State | None:
    """
    Return the state of a host; None where there is none, or none that can be read.

    :param host: the host.
    :param release: whose APIs the router is in front of.
    """
    with suppress(StateError, OSError):
        return read(host.router(release))
    return None


def holds(host: LabHost, release: str) -> bool:
    """Tell whether changes wait on a host, for a bound or until they are released."""
    state = state_of(host, release)
    return state is not None and state.hold is not None and state.hold.holds(listed=True)


def is_open(host: LabHost, release: str) -> bool:
    """Tell whether a host's own side is open to the upgrade before users are sent there."""
    state = state_of(host, release)
    return state is not None and state.probe is not None
