"""The traffic in a process of its own, so that what runs beside it is not slowed down."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lab.traffic.account import Account
from lab.traffic.generator import Pace
from lab.traffic.run import TrafficError

# Both hold a password, and a command line is everybody's to read.
DATABASE, LOGIN = "HEAT_LAB_DATABASE", "HEAT_LAB_LOGIN"
ROOT = Path(__file__).resolve().parents[2]


class Traffic:
    """Sends traffic from `start` until `stop`.

    :param endpoint: Heat's API with the project.
    :param database: SQLAlchemy URL of Heat's database.
    :param out: where the account goes; the log goes beside it.
    :param label: what the run is called in the account.
    :param cfn_endpoint: heat-api-cfn, or None.
    :param login: how the user logs in, as `Login` wants it, or None.
    :param seed: decides in which order the stacks come.
    :param create_every: seconds from one new stack to the next.
    :param environment: more variables for the process, for example by which the lab finds it.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        database: str,
        out: Path,
        label: str,
        cfn_endpoint: str | None = None,
        login: Mapping[str, str] | None = None,
        seed: int = 1,
        create_every: float = Pace.create_every,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.out = out
        self.log = out.with_suffix(".log")
        self._environment = {**(environment or {}), DATABASE: database, LOGIN: json.dumps(login)}
        self._command = [sys.executable, "-m", "lab.traffic", "--endpoint", endpoint, "--label", label]
        self._command += ["--seed", str(seed), "--create-every", str(create_every)]
        self._command += ["--until-signal", "--out", str(out)]
        if cfn_endpoint:
            self._command += ["--cfn-endpoint", cfn_endpoint]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start sending."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.unlink(missing_ok=True)
        environment = {**os.environ, **self._environment}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
            )

    def stop(self, timeout: float = 400.0) -> Account:
        """Stop sending, wait until the stacks are done, and return the account.

        :param timeout: how long the traffic may take for that, in seconds.
        :raises TrafficError: if it was not running, or leaves no account.
        """
        if self._process is None:
            raise TrafficError("the traffic was not started: call start() first")
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self.out.exists():
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise TrafficError(f"the traffic left no account in {self.out}; the end of {self.log}:\n{tail}")
        return Account.load(self.out)
