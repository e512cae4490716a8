"""
Change what the routers of a host go by: the side of the upgrade that writes the state file.

    python3 state.py DIRECTORY show
    python3 state.py DIRECTORY converse                  the verbs below, as JSON, one question and one answer a line
    python3 state.py DIRECTORY create < NEW              where no state is there yet, or just this one
    python3 state.py DIRECTORY hold WHAT SECONDS TIMEOUT
    python3 state.py DIRECTORY prepare SEQUENCE < NEW    while the hold with that sequence lasts
    python3 state.py DIRECTORY release SEQUENCE
    python3 state.py DIRECTORY inherit OTHER < NEW       what routers of another direction went by, else NEW
    python3 state.py DIRECTORY probe [HASH]              open this host's own side to a token, or close it
    python3 state.py DIRECTORY summary                   the state without its lists
    python3 state.py DIRECTORY counts                    what the routers of this host have done, in numbers

NEW is a JSON object with ``sides``, ``default``, ``projects``, ``stacks`` and ``closed``. Each verb prints the state as
JSON, after ``hold`` with ``touched``, the ids of the stacks that were changed through this host lately.

A flip keeps one invariant: **changes go by the new state on some host only if no host goes by the old one.**

1. ``hold changes`` on all hosts. It answers when no change is under way on that host that began before. If the upgrade
   is cut off here, the hold runs out by itself, and changes go on by the old state.
2. Read which stacks are in flight, and ``prepare`` the new state on all hosts. A host takes it only while its hold is
   in force, and keeps the locks without which no change begins, so it can't be late by a moment. From then on that host
   waits to be told: another host may be ahead or behind.
3. When all hosts are prepared, ``release`` them all. Whoever finds one host released, finishes. Where no host is, and
   one didn't take the new state, ``prepare`` the old state on the others and release them.

Runs on the host with its own Python, 3.8 or newer, as the account that owns the directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__:
    from .heat_upgrade_router import LISTED, OTHERS, TOUCHED_FOR, VERSION, Hold, State, parse
else:  # run as a file
    from heat_upgrade_router import (  # type: ignore[import-not-found,no-redef]
        LISTED,
        OTHERS,
        TOUCHED_FOR,
        VERSION,
        Hold,
        State,
        parse,
    )

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATE = "state.json"
WRITERS = "writers.lock"
POLL = 0.01  # seconds
SILENCE = 60  # seconds after which whoever asks counts as gone
KINDS = ("read", "create", "change")
# What is told of the routers' counts, by the name that they have there.
COUNTED = {
    **{f"{side}_{kind}": f"{side}_{kind}" for side in ("here", "beside") for kind in KINDS},
    **{f"{name}_{kind}": name for name in ("held", "longest_held") for kind in KINDS},
    "refused": "refused",
    "lost": "lost",
}
MOST = 1e12  # of anything that is counted
LARGEST = 2**20  # bytes of a file with counts
LOOKS = 3  # at such a file, which its process may be writing


class StateError(Exception):
    """The state can't be changed as asked; nothing was changed. The text says what to do."""


def locks_of(what: str) -> list[str]:
    """Return the locks that changes keep which a hold is about."""
    return [LISTED] if what == "listed" else [LISTED, OTHERS]


def read(directory: Path) -> State | None:
    """
    Return the state of a host, or None where there is none yet.

    :param directory: where it lies.
    :raises StateError: if what lies there is no state.
    """
    path = directory / STATE
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateError(
            f"{path} holds {error}, expected version {VERSION}: until it is whole, this host's APIs refuse what they "
            "can't tell; copy the file of another host of the cloud there, then clear this task"
        ) from error


def create(directory: Path, new: dict[str, Any]) -> State:
    """
    Make the directory's files before any router reads them.

    :param directory: an existing directory; what is made takes its group.
    :param new: the fields of the state.
    :raises StateError: if another state is there.
    """
    with _writing(directory):
        for name in (LISTED, OTHERS):
            (directory / name).touch()
            _share(directory / name, directory)
        known = read(directory)
        if known is None:
            return _write(directory, _planned(new, 1, None))
        return _same(known, _planned(new, known.sequence, None)._replace(probe=known.probe))


def inherit(directory: Path, other: Path, new: dict[str, Any]) -> State:
    """
    Make the directory's files, and go on by what the routers of the other direction went by, if anything.

    :param directory: an existing directory.
    :param other: the directory of the routers before the other release's APIs; it may not exist.
    :param new: the fields of the state where an upgrade begins.
    """
    with _writing(directory):
        for name in (LISTED, OTHERS):
            (directory / name).touch()
            _share(directory / name, directory)
        states = [state for state in (read(directory), read(other)) if state]
        newest = max(states, key=lambda state: state.sequence, default=None)
        if newest is None or newest.closed:
            _forget_counts(directory)
            # A number above all that a router may have seen.
            return _write(directory, _planned(new, newest.sequence + 1 if newest else 1, None))
        return _write(directory, newest)


def probe(directory: Path, digest: str | None) -> State:
    """
    Open this host's own side to requests with the upgrade's token, or close it again.

    :param directory: where the state lies.
    :param digest: the token's SHA-256 in hexadecimal digits; None to close it.
    """
    with _writing(directory):
        known = _known(directory)
        return known if known.probe == digest else _write(directory, known._replace(probe=digest))


def hold(directory: Path, what: str, seconds: float, timeout: float) -> State:
    """
    Hold changes, and return when none is under way that began before.

    :param directory: where the state lies.
    :param what: ``changes`` or ``listed``.
    :param seconds: how long the hold lasts at most.
    :param timeout: seconds for the changes under way; then the hold is let go.
    :raises StateError: if they took longer, or if the state waits to be released.
    """
    with _writing(directory):
        known = _known(directory)
        if known.hold and known.hold.until is None:
            raise StateError(f"the state {known.sequence} waits to be released: release it, or prepare another one")
        new_hold = Hold(what, time.monotonic() + seconds, seconds)
        state = _write(directory, known._replace(sequence=known.sequence + 1, hold=new_hold))
        try:
            with _alone(directory, what, timeout):
                return state
        except StateError:
            _write(directory, state._replace(sequence=state.sequence + 1, hold=None))
            raise


def prepare(directory: Path, sequence: int, new: dict[str, Any]) -> State:
    """
    Replace who works on what, and go on to hold changes until they are released.

    :param directory: where the state lies.
    :param sequence: the hold's, as :func:`hold` returned it.
    :param new: the fields of the state; after a hold of the listed stacks, only stacks may go.
    :raises StateError: if that hold isn't in force any more; nothing was changed then.
    """
    with _writing(directory):
        known = _known(directory)
        if known.hold is None or known.sequence not in (sequence, sequence + 1):
            raise StateError(f"the state has sequence {known.sequence}, expected {sequence} with a hold: hold again")
        endless = known.hold._replace(until=None)
        planned = _planned(new, sequence + 1, endless)._replace(probe=known.probe)
        if known.sequence == sequence + 1:
            return _same(known, planned)
        if known.hold.what == "listed" and not _only_shorter(known, planned):
            raise StateError("only the listed stacks are held, so nothing but their list may change: hold changes")
        with _alone(directory, known.hold.what, timeout=1):
            if not known.hold.holds(listed=True):
                raise StateError(f"the hold {sequence} has run out after {known.hold.seconds} s: hold again")
            return _write(directory, planned)


def release(directory: Path, sequence: int) -> State:
    """
    Let go what is held: changes go by the state as it is.

    :param directory: where the state lies.
    :param sequence: that of the state to release, as :func:`prepare` or :func:`hold` returned it.
    :raises StateError: if another state is there.
    """
    with _writing(directory):
        known = _known(directory)
        if known.hold is None and known.sequence == sequence + 1:
            return known
        if known.hold is None or known.sequence != sequence:
            raise StateError(f"the state has sequence {known.sequence}, expected {sequence} with a hold: look again")
        return _write(directory, known._replace(sequence=sequence + 1, hold=None))


def touched(directory: Path) -> list[str]:
    """Return the ids of the stacks that were changed through this host lately, as its routers tell."""
    found: set[str] = set()
    for told in _told(directory):
        stacks = told.get("touched")
        found.update(stacks if isinstance(stacks, dict) else ())
    return sorted(found)


def counts(directory: Path) -> dict[str, float]:
    """
    Return what this host's routers have counted since the upgrade came, of all their processes.

    :param directory: where the state lies.
    """
    found: dict[str, float] = dict.fromkeys(COUNTED.values(), 0)
    for told in _told(directory):
        numbers = told.get("counts")
        for name, number in numbers.items() if isinstance(numbers, dict) else ():
            what = COUNTED.get(name)
            if what and type(number) in (int, float) and 0 <= number <= MOST:
                found[what] = max(found[what], number) if what.startswith("longest_") else found[what] + number
    return found


def _told(directory: Path) -> list[dict[str, Any]]:
    """Return what the routers' processes have written, one of which may be at that right now."""
    found = []
    for path in sorted((directory / "run").glob("*.json")):
        for _ in range(LOOKS):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                told = json.loads(_first_line(path))
                if isinstance(told, dict):
                    found.append(told)
                break
    return found


def _first_line(path: Path) -> bytes:
    # The folder is the services' account's: a link or a pipe there shall lead root nowhere.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(LARGEST).split(b"\n")[0]


def _forget_counts(directory: Path) -> None:
    """Take away what the routers of an earlier upgrade have counted, all of which have ended."""
    for path in (directory / "run").glob("*.json"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < time.time() - TOUCHED_FOR:
                path.unlink()


def _known(directory: Path) -> State:
    known = read(directory)
    if known is None:
        raise StateError(f"{directory / STATE} is missing, expected the routers' state: create it")
    return known


def _planned(new: dict[str, Any], sequence: int, held: Hold | None) -> State:
    try:
        fields = {name: new[name] for name in ("default", "projects", "stacks", "closed")}
        return State(sequence=sequence, sides=frozenset(new["sides"]), probe=None, hold=held, **fields)
    except (KeyError, TypeError) as error:
        raise StateError(f"the new state has no good {error}: correct what the upgrade was given") from error


def _same(known: State, planned: State) -> State:
    """Return a state if it is what it shall be."""
    if known != planned:
        raise StateError(f"another state is there, with sequence {known.sequence}: look again")
    return known


def _only_shorter(known: State, planned: State) -> bool:
    kept = {stack: side for stack, side in known.stacks.items() if stack in planned.stacks}
    return known._replace(sequence=planned.sequence, stacks=kept, closed=planned.closed, hold=planned.hold) == planned


def _shown(state: State) -> dict[str, Any]:
    held = state.hold._asdict() if state.hold else None
    return {"version": VERSION, **state._asdict(), "sides": sorted(state.sides), "hold": held}


def _write(directory: Path, state: State) -> State:
    text = json.dumps(_shown(state)) + "\n"
    try:
        parse(text)
    except ValueError as error:
        raise StateError(f"the new state has an {error}: correct what the upgrade was given") from error
    fresh = directory / f"{STATE}.new"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _share(fresh, directory)
    # The kernel's own time stamps are coarse: two changes within some milliseconds could look alike to a router.
    os.utime(fresh, ns=(time.time_ns(), time.time_ns()))
    fresh.replace(directory / STATE)
    return state


def _share(path: Path, directory: Path) -> None:
    """Let the services' account, whose group the directory has, read a file and nobody else."""
    path.chmod(0o640)
    group = directory.stat().st_gid
    if path.stat().st_gid != group:
        os.chown(path, -1, group)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    with (directory / WRITERS).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _alone(directory: Path, what: str, timeout: float) -> Iterator[None]:
    """Keep what every change needs that a hold is about."""
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        for name in locks_of(what):
            file = stack.enter_context((directory / name).open("rb"))
            while not _try_lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise StateError(f"changes under way take longer than {timeout} s: hold again when they are done")
                time.sleep(POLL)
        yield


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def converse(directory: Path) -> None:
    """
    Answer questions from standard input, each a line: an object with ``verb``, ``words``, and maybe ``new``.

    So a flip has one process on each host, and no phase of it waits for another one to start.

    :param directory: where the state lies.
    """
    while line := _next_line():
        question = json.loads(line)
        new = [question["new"]] if "new" in question else []
        answer: dict[str, Any]
        try:
            answer = {"state": ANSWERS[question["verb"]](directory, *question["words"], *new)}
        except StateError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _next_line() -> str:
    # Its default ends the process, and with it the step's lock on the host.
    signal.alarm(SILENCE)
    line = sys.stdin.readline()
    signal.alarm(0)
    return line


def _held(directory: Path, what: str, seconds: float, timeout: float) -> dict[str, Any]:
    state = hold(directory, what, seconds, timeout)
    return {**_shown(state), "touched": touched(directory)}


def _summary(directory: Path) -> dict[str, Any]:
    known = _known(directory)
    return {"default": known.default, "listed": len(known.stacks), "closed": known.closed, "hold": bool(known.hold)}


ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {
    "show": lambda directory: _shown(_known(directory)),
    "hold": _held,
    "prepare": lambda directory, sequence, new: _shown(prepare(directory, sequence, new)),
    "release": lambda directory, sequence: _shown(release(directory, sequence)),
}
VERBS: dict[str, Callable[..., dict[str, Any]]] = {
    "show": ANSWERS["show"],
    "summary": _summary,
    "counts": counts,
    "create": lambda directory: _shown(create(directory, json.load(sys.stdin))),
    "inherit": lambda directory, other: _shown(inherit(directory, Path(other), json.load(sys.stdin))),
    "hold": lambda directory, what, seconds, timeout: _held(directory, what, float(seconds), float(timeout)),
    "prepare": lambda directory, sequence: _shown(prepare(directory, int(sequence), json.load(sys.stdin))),
    "release": lambda directory, sequence: _shown(release(directory, int(sequence))),
    "probe": lambda directory, digest="": _shown(probe(directory, digest or None)),
}


def main(directory: Path, verb: str, *words: str) -> int:
    """Do what the command line says; return the exit status."""
    try:
        if verb == "converse":
            converse(directory)
        else:
            sys.stdout.write(json.dumps(VERBS[verb](directory, *words)) + "\n")
    except StateError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
