"""The net under a dry run and preflight: while hands are off, whatever would change something refuses to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from heat_upgrade.exceptions import UpgradeError

# Of the process, not of a thread: hosts are asked in threads, and a task has a process to itself.
_off: list[str] = []


@contextmanager
def hands_off(who: str) -> Iterator[None]:
    """
    Keep this process from changing anything.

    :param who: what only looks meanwhile, for the message
    """
    _off.append(who)
    try:
        yield
    finally:
        _off.pop()


def about_to(do: str) -> None:
    """
    Refuse to go on where nothing may be changed; every call that changes something begins with it.

    :param do: what is about to be done
    :raises UpgradeError: while hands are off
    """
    if _off:
        raise UpgradeError(
            f"{_off[-1]} was about to {do}, expected it to do no more than look, and nothing was changed: this is a "
            "mistake in the upgrade itself, please report it"
        )
