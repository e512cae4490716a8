"""Remote steps as text: what is sent to a host, the command that runs it, what comes back. Nothing here connects."""

from __future__ import annotations

import gzip
import hashlib
import io
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

STEPS_DIRECTORY = Path(__file__).with_name("scripts")
# Steps change what it goes by, and lay it into the environment of Heat's API.
ROUTER_DIRECTORY = Path(__file__).parents[1] / "router"

# Begins every command: a login shell may have written something without a line end, such as a terminal's title, and the
# first result, error or answer behind it would be taken for its rest. It leaves a line empty where there was nothing.
OWN_LINE = "echo; echo >&2\n"
# Runs before anything of ours is on the host, so it stands on the command line; the steps come on standard input.
# A folder of steps appears under its name only when it is whole, so that two steps may unpack at once.
UNPACK = """\
umask 077
unusable() {{
  printf "error: %s can't be made or written by %s: check layout.state in the cloud file, the user's sudo rights\
 and the space there, then clear this task\n" {state} "$(id -un)" >&2
  exit 1
}}
[ -d {state} ] || mkdir -p {state} 2>/dev/null || sudo -n install -d -m 700 -o "$(id -un)" {state} || unusable
if [ ! -d {state}/steps/{digest} ]; then
  mkdir -p {state}/steps && fresh=$(mktemp -d {state}/steps/new.XXXXXX) && tar -xzf - -C "$fresh" || unusable
  mv -T "$fresh" {state}/steps/{digest} 2>/dev/null || rm -rf "$fresh"
fi
"""
TALK = "exec env {settings} bash {state}/steps/{digest}/{run}"
RUN = TALK + " </dev/null\n"
# A step that only inspects leaves nothing behind, not even itself.
INSPECT = """\
umask 077
folder=$(mktemp -d "${{TMPDIR:-/tmp}}/heat-upgrade.XXXXXX") || {{
  printf "error: no temporary folder can be made in %s by %s: make space there, then clear this task\\n" \
    "${{TMPDIR:-/tmp}}" "$(id -un)" >&2
  exit 1
}}
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
tar -xzf - -C "$folder" || exit
env {settings} bash "$folder"/{run} </dev/null
"""


@dataclass(frozen=True)
class Step:
    """
    One thing to do on a host.

    :param name: the script in remote/scripts
    :param settings: what the script's head asks for; never a secret, since a process list shows it
    :param state: the upgrade's own folder on the host
    :param files: more files to lay beside the script, by name
    :param timeout: seconds that it may take as a job of its own on the host; 0 for one that is over in seconds
    :param read_only: whether it only inspects, and leaves the host as it was
    """

    name: str
    settings: Mapping[str, str]
    state: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    timeout: float = 0
    read_only: bool = False

    @property
    def bundle(self) -> bytes:
        """Return the scripts and this step's files as a gzipped tar."""
        return _bundle(tuple(sorted(self.files.items())))

    @property
    def command(self) -> str:
        """Return the shell command that unpacks the bundle from standard input and runs the step."""
        if self.read_only:
            return INSPECT.format(settings=self._settings, run=shlex.quote(self.name))
        return self.unpacking + self._run(shlex.quote(self.name))

    @property
    def job(self) -> Job:
        """Return the step as a job: the same one, whoever asks for the same thing to be done."""
        work = hashlib.sha256(self.command.encode()).hexdigest()[:16]
        become = self.settings.get("BECOME", "none")
        return Job(step=self.name, id=f"{self.name}-{work}", state=self.state, bundle=self._digest, become=become)

    @property
    def start_command(self) -> str:
        """Return the shell command that unpacks the bundle, starts the job unless it runs already, and follows it."""
        return self.unpacking + self._run(f"job start {shlex.quote(self.job.id)} {shlex.quote(self.name)}")

    @property
    def conversation(self) -> str:
        """Return the shell command that runs the step once its bundle is unpacked, and leaves standard input to it."""
        return TALK.format(**self._places(shlex.quote(self.name)))

    @property
    def unpacking(self) -> str:
        """Return the lines with which every command begins that does something on a host."""
        return UNPACK.format(state=shlex.quote(self.state), digest=self._digest)

    @property
    def last_line(self) -> str:
        """Return what the command of a step that does something runs once the bundle is unpacked."""
        return (self.start_command if self.timeout else self.command).removeprefix(self.unpacking).rstrip("\n")

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.bundle).hexdigest()[:16]

    @property
    def _settings(self) -> str:
        return " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(self.settings.items()))

    def _run(self, run: str) -> str:
        return RUN.format(**self._places(run))

    def _places(self, run: str) -> dict[str, str]:
        return {"settings": self._settings, "state": shlex.quote(self.state), "digest": self._digest, "run": run}


@dataclass(frozen=True)
class Job:
    """
    A step that runs on by itself once it has been started.

    :param step: the step's name
    :param id: names the job on its host
    :param state: the upgrade's own folder on the host
    :param bundle: digest of the scripts that it runs from
    :param become: how it gets root's rights: sudo or none
    """

    step: str
    id: str
    state: str
    bundle: str
    become: str

    @property
    def folder(self) -> str:
        """Return where its output lies on the host."""
        return f"{self.state}/jobs/{self.id}"

    @property
    def follow_command(self) -> str:
        """Return the shell command that writes what the job writes, from its beginning, and ends as it does."""
        return self._command("follow")

    @property
    def stop_command(self) -> str:
        """Return the shell command that ends the job and all that it has started."""
        return f"BECOME={shlex.quote(self.become)} {self._command('stop')}"

    def _command(self, verb: str) -> str:
        script = shlex.quote(f"{self.state}/steps/{self.bundle}/job")
        return f"bash {script} {verb} {shlex.quote(self.id)} </dev/null"


@dataclass(frozen=True)
class Machine:
    """
    A machine that SSH reaches: what makes its hook, and no secret, which the Airflow connection has.

    :param name: what messages call it
    :param ssh_conn_id: Airflow connection with the user and the key, the same for all hosts of a cloud
    :param address: name or IP address
    :param port: SSH port
    :param host_key: its public key as ``type base64``; without it the Airflow user's known_hosts decides
    """

    name: str
    ssh_conn_id: str
    address: str
    port: int = 22
    host_key: str | None = None


class PlacedStep(NamedTuple):
    """A step, and where it is done."""

    machine: Machine
    step: Step


# How a job can end without a status.
LOST, STOPPED = "lost", "stopped"


@dataclass(frozen=True)
class Outcome:
    """
    How a step ended.

    :param status: its exit code
    :param results: what it reported
    :param error: why it failed, in one line; empty where it didn't
    """

    status: int
    results: dict[str, str]
    error: str = ""

    @classmethod
    def of(cls, name: str, status: int, lines: list[str], stderr: list[str]) -> Outcome:
        """
        Judge what a step left behind.

        :param name: the step
        :param status: its exit code
        :param lines: the lines of its standard output that report something
        :param stderr: the lines of its standard error
        """
        return cls(status, results(lines), error(name, status, stderr) if status else "")

    @property
    def cut_off(self) -> str:
        """Return how a job ended without a status: lost or stopped; empty for every other end."""
        return self.results.get("job", "") if self.status else ""


def _files_of(directory: Path, prefix: str = "") -> dict[str, bytes]:
    return {
        f"{prefix}{path.relative_to(directory).as_posix()}": path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


@lru_cache(maxsize=8)
def _bundle(files: tuple[tuple[str, bytes], ...]) -> bytes:
    content = {**_files_of(STEPS_DIRECTORY), **_files_of(ROUTER_DIRECTORY, "router/")}
    packed = io.BytesIO()
    # No time stamps: the same steps give the same digest, so a host keeps one copy of them.
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, data in {**content, **dict(files)}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o700
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def results(lines: list[str]) -> dict[str, str]:
    """
    Return what a step reported: its lines of the form ::name=value.

    :param lines: the step's standard output
    """
    reported = (line[2:].partition("=") for line in lines if line.startswith("::"))
    return {name: value for name, _, value in reported}


def error(name: str, status: int, stderr: list[str]) -> str:
    """
    Return in one line why a step failed: its own last error, else the end of what it wrote to standard error.

    :param name: the step
    :param status: its exit code
    :param stderr: the lines of its standard error
    """
    own = [line.removeprefix("error: ") for line in stderr if line.startswith("error: ")]
    reason = own[-1] if own else " / ".join(stderr[-3:]) or "it wrote no error; its log is above"
    return f"step {name} ended with status {status}, expected 0: {reason}"
