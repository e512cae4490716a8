"""Read-only guard for dry runs and preflight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from heat_upgrade.exceptions import UpgradeError

# Of the process, not of a thread: hosts are asked in threads, and a task has a process to itself.
_readers: list[str] = []


@contextmanager
def read_only(who: str) -> Iterator[None]:
    """
    Keep this process from changing anything.

    :param who: what only reads meanwhile, for the message
    """
    _readers.append(who)
    try:
        yield
    finally:
        _readers.pop()


def ensure_writable(action: str) -> None:
    """
    Refuse to go on where nothing may be changed; every call that changes something begins with it.

    :param action: what is about to be done
    :raises UpgradeError: inside of ``read_only``
    """
    if _readers:
        raise UpgradeError(
            f"{_readers[-1]} was about to {action}, expected it to read only, and nothing was changed: this is a bug "
            "in the upgrade itself, please report it"
        )
