"""`python -m lab.fresh [--short]`: the README's commands on a bare Debian 12, as root and as another user."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable

from lab.cloud.model import PROJECT_ROOT
from lab.fresh.settings import settings_environment, write_settings
from lab.fresh.system import System, bare_system, home
from lab.processes import LabError, exclusive, run

# Targets of make that are run in one go, one such after the other.
Runs = tuple[tuple[str, ...], ...]
# What the README names beside Debian 12, by Debian's names.
NAMED = ("python3", "git", "make", "ca-certificates")
OTHER = "somebody"
# Who runs which targets; those in one go share what they leave running. Root, who installs the packages, comes first.
README: Runs = (("demo", "stop"), ("test", "stop"))
FULL: dict[str, Runs] = {"root": README, OTHER: README}
SHORT: dict[str, Runs] = {"root": (("setup",), ("test-collect",)), OTHER: (("test-collect",), ("test-unit",))}
_STATE = PROJECT_ROOT / ".state/fresh"
_INSTALL = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "--no-install-recommends", *NAMED)
_BUNDLE = "srv/project.bundle"


class Parts:
    """Runs one part after the other, and knows how long each took."""

    def __init__(self) -> None:
        self._took: list[tuple[str, float]] = []

    def do(self, name: str, part: Callable[..., object], *arguments: object) -> None:
        """Do a part, and note its time."""
        print(f"--- {name}", flush=True)
        begun = time.monotonic()
        part(*arguments)
        self._took.append((name, time.monotonic() - begun))

    def table(self) -> str:
        """Return the time of each part."""
        return "\n".join(f"{seconds:6.0f} s  {name}" for name, seconds in self._took)


def main() -> int:
    """Try the promise; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lab.fresh", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="set-up, collection of all tests, lint and unit tests only"
    )
    parser.add_argument("--check", action="store_true", help="see whether a bare system can be had here, and end")
    arguments = parser.parse_args()
    parts = Parts()
    try:
        if arguments.check:
            bare_system(_STATE, {})
            return 0
        with exclusive(_STATE.with_name("fresh.lock")):
            _try(parts, SHORT if arguments.short else FULL)
    except LabError as error:
        print(f"{parts.table()}\non a bare system: {error}", file=sys.stderr)
        return 1
    print(parts.table())
    return 0


def _try(parts: Parts, commands: dict[str, Runs]) -> None:
    system = bare_system(_STATE, settings_environment(os.environ))
    try:
        parts.do(f"Debian 12, as {system.kind}", _lay, system)
        parts.do(f"what the README names: {', '.join(NAMED)}", _install, system)
        for account, runs in commands.items():
            parts.do(f"a clone for {account}", _clone, system, account)
            for targets in runs:
                parts.do(f"make {' '.join(targets)}, as {account}", _make, system, account, targets)
    finally:
        system.remove()
        shutil.rmtree(_STATE, ignore_errors=True)


def _lay(system: System) -> None:
    files = _STATE / "files"
    shutil.rmtree(files, ignore_errors=True)  # an aborted run's
    _STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.mkdir()
    write_settings(files)
    bundle = files / _BUNDLE
    bundle.parent.mkdir()
    run(["git", "-C", PROJECT_ROOT, "bundle", "create", "--quiet", bundle, "HEAD"], what="take the project's commits")
    system.lay()
    system.run("root", "rm", "-rf", "/etc/apt")  # this machine's takes its place
    system.add(files)


def _install(system: System) -> None:
    system.run("root", "apt-get", "update", "-qq")
    system.run("root", *_INSTALL, quiet=True)


def _clone(system: System, account: str) -> None:
    if account != "root":
        system.run("root", "useradd", "--create-home", "--shell", "/bin/bash", account)
    system.run(
        account, "git", "-c", "advice.detachedHead=false", "clone", "-q", f"/{_BUNDLE}", f"{home(account)}/project"
    )


def _make(system: System, account: str, targets: tuple[str, ...]) -> None:
    system.run(account, "make", "--no-print-directory", "-C", f"{home(account)}/project", *targets)


if __name__ == "__main__":
    sys.exit(main())
