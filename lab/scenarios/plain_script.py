"""The upgrade's remote commands as a plain script would run them: ssh, the same order, the same parallelism."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import Commands, HAProxy, Host
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import Step
from lab.cloud.model import Lab


class PlainScript:
    """
    Upgrade a lab's cloud without Airflow, and without the drain's gate.

    :param lab: the lab; nobody uses it.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cloud: Cloud = load_cloud(lab.clouds_directory / f"{lab.name}.yaml")
        self.key = lab.ssh_key
        self.known_hosts = lab.state / "plain-script-known-hosts"
        self.source, self.target = self.cloud.releases[:2]
        self._write_known_hosts()

    def run(self) -> float:
        """Run everything; return the seconds it took."""
        begun = time.monotonic()
        cloud = self.cloud
        engines = cloud.hosts_with("engine")
        self._at_once(cloud.hosts, self._look)
        self._at_once(cloud.hosts, self._prepare)
        self._at_once(cloud.hosts, self._look)
        self._back_up()
        make_vhost(self.lab, self.target.vhost)
        self._sync()
        self._at_once(engines, lambda host: self._on(host, steps.start_engine(cloud.deployment(host, self.target))))
        for wave in cloud.api_waves():
            self._at_once(wave, self._switch)
        self._at_once(cloud.hosts, self._look)
        for host in engines:
            self._on(host, steps.stop_engine(cloud.deployment(host, self.source)))
        self._at_once(cloud.hosts, self._look)
        return time.monotonic() - begun

    def _look(self, host: Host) -> None:
        self._on(host, steps.look(self.cloud, host))

    def _prepare(self, host: Host) -> None:
        source, target = (self.cloud.deployment(host, release) for release in (self.source, self.target))
        self._on(host, steps.prepare(source, target))

    def _back_up(self) -> None:
        host = self.cloud.backup_host
        source = self.cloud.deployment(host, self.source)
        self._on(host, steps.back_up_database(source, self.target.version, self.cloud.backup.directory))

    def _sync(self) -> None:
        host = self.cloud.hosts[0]
        # Any revision of the source's own: the step compares it with the target's newest.
        self._on(host, steps.sync_database(self.cloud.deployment(host, self.target), "c6214ca60943"))

    def _switch(self, host: Host) -> None:
        target = self.cloud.deployment(host, self.target)
        self._look(host)
        for role in host.api_roles:
            self._on(host, steps.leave_rotation(target, role), target.rotation(role))
        self._on(host, steps.switch_api(self.cloud.deployment(host, self.source), target))
        for role in host.api_roles:
            self._on(host, steps.rejoin_rotation(target, role), target.rotation(role))

    def _at_once(self, hosts: Iterable[Host], work: Callable[[Host], None]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, hosts))

    def _on(self, host: Host, step: Step, rotation: object = None) -> None:
        where: Host | HAProxy | Commands = host
        if isinstance(rotation, HAProxy | Commands) and rotation.address:
            where = rotation
        options = ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "BatchMode=yes", "-i", str(self.key)]
        command = ["ssh", *options, "-p", str(where.port), str(where.address), step.command]
        done = subprocess.run(command, input=step.bundle, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{host.name}: {step.name} ended with {done.returncode}: {done.stderr.decode()[-500:]}")

    def _write_known_hosts(self) -> None:
        rotations = [self.cloud.deployment(host, self.target).rotation("api") for host in self.cloud.hosts]
        reached = [*self.cloud.hosts, *(r for r in rotations if isinstance(r, HAProxy | Commands) and r.address)]
        lines = {f"[{place.address}]:{place.port} {place.host_key}" for place in reached}
        Path(self.known_hosts).write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")


def make_vhost(lab: Lab, vhost: str) -> None:
    """Give Heat a vhost, as a script's author would."""
    account = lab.management()
    api = f"http://{account.host}:{account.port}/api"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    for path, body in ((f"vhosts/{vhost}", {}), (f"permissions/{vhost}/heat", everything)):
        answer = requests.put(f"{api}/{path}", json=body, auth=(account.login, account.password), timeout=30)
        answer.raise_for_status()
