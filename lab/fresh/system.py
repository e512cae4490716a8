"""A bare Debian 12 to run commands in: a container where a Docker engine answers, else a folder to change root into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.cloud.model import PROJECT_ROOT
from lab.compose.engine import running_engine
from lab.compose.images import BASE, docker, ensure_base
from lab.debian import lay_debian
from lab.processes import LabError

_ENTER = Path(__file__).with_name("enter")
# A command with mounts and processes of its own, which end with whoever waits for it, even one that was killed.
_ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class System(ABC):
    """
    A bare system; it shares this machine's network.

    :param environment: variables of every command in it.
    """

    kind: str

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    @abstractmethod
    def lay(self) -> None:
        """Make it, in place of one that an aborted run may have left."""

    @abstractmethod
    def add(self, files: Path) -> None:
        """Copy what is in a folder into its root."""

    @abstractmethod
    def remove(self) -> None:
        """Remove it, with all that runs in it."""

    @abstractmethod
    def _command(self, account: str, own: Mapping[str, str], argv: Sequence[str]) -> list[str | Path]: ...

    @abstractmethod
    def _client(self) -> Mapping[str, str]: ...

    def run(self, account: str, *argv: str, quiet: bool = False) -> None:
        """
        Run a command.

        :param account: as whom.
        :param argv: the command.
        :param quiet: what it prints is seen only if it fails.
        :raises LabError: if it fails.
        """
        own = {"HOME": home(account), "USER": account, "LOGNAME": account, "PATH": _PATH, "LANG": "C.UTF-8"}
        command = self._command(account, own, argv)
        done = subprocess.run(
            command, env={**self._client(), **self._environment}, stdout=subprocess.PIPE if quiet else None, check=False
        )
        if done.returncode:
            sys.stdout.buffer.write(done.stdout or b"")
            raise LabError(f"`{' '.join(argv)}` as {account} exited {done.returncode}")


class Container(System):
    """
    A container of the official image.

    :param environment: variables of every command in it.
    :param engine: in which Docker's client finds its engine.
    """

    kind = f"a container of {BASE}"

    def __init__(self, environment: Mapping[str, str], engine: Mapping[str, str]) -> None:
        super().__init__(environment)
        self._engine = engine
        self._name = f"heat-upgrade-fresh-{zlib.crc32(str(PROJECT_ROOT).encode()):08x}"

    def lay(self) -> None:
        ensure_base(self._engine)
        self.remove()
        # A browser runs in it: it wants shared memory.
        options = ["--rm", "--init", "--network", "host", "--shm-size", "1g", "--name", self._name]
        docker(["run", "--detach", *options, BASE, "sleep", "infinity"], self._engine)

    def add(self, files: Path) -> None:
        docker(["cp", f"{files}/.", f"{self._name}:/"], self._engine)

    def remove(self) -> None:
        docker(["rm", "--force", self._name], self._engine)

    def _command(self, account: str, own: Mapping[str, str], argv: Sequence[str]) -> list[str | Path]:
        # Values with a name alone come from the client's environment: a proxy's login isn't for the process list.
        names = [*(f"{name}={value}" for name, value in own.items()), *self._environment]
        words = [word for name in names for word in ("--env", name)]
        return ["docker", "exec", "--user", account, *words, self._name, *argv]

    def _client(self) -> Mapping[str, str]:
        return {**os.environ, **self._engine}


class Chroot(System):
    """
    A system in a folder, whose commands have processes and mounts of their own: both end with the command.

    :param environment: variables of every command in it.
    :param root: the folder.
    """

    kind = "a folder to change root into"

    def __init__(self, environment: Mapping[str, str], root: Path) -> None:
        super().__init__(environment)
        self._root = root

    def lay(self) -> None:
        self.remove()
        lay_debian(self._root)

    def add(self, files: Path) -> None:
        subprocess.run(["cp", "-R", "--preserve=mode", f"{files}/.", self._root], check=True)

    def remove(self) -> None:
        if self._root.exists():
            shutil.rmtree(self._root)

    def _command(self, account: str, own: Mapping[str, str], argv: Sequence[str]) -> list[str | Path]:
        variables = [f"{name}={value}" for name, value in own.items()]
        return [*_ALONE, _ENTER, self._root, account, "env", *variables, *argv]

    def _client(self) -> Mapping[str, str]:
        return {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def bare_system(folder: Path, environment: Mapping[str, str]) -> System:
    """
    Return the system that can be had here: a container where a Docker engine answers, else one to change root into.

    :param folder: for what the system needs on disk.
    :param environment: variables of every command in it.
    :raises LabError: if neither can be had.
    """
    engine = running_engine() if shutil.which("docker") else None
    if engine is not None:
        return Container(environment, engine)
    if os.geteuid() != 0 or subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode:
        raise LabError(
            "no Docker engine answers, and without one it takes root with namespaces of its own to lay a bare system: "
            "run this as root outside of a container, or start Docker and let your account use it"
        )
    return Chroot(environment, folder / "root")


def home(account: str) -> str:
    """Return an account's home in a bare system."""
    return "/root" if account == "root" else f"/home/{account}"
