"""The upgrade's remote commands as a plain script would run them: ssh, the same order, the same parallelism."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import requests

from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.cloud.model import Cloud, Deployment
from heat_upgrade.cloud.sections import Commands, HAProxy, Host
from heat_upgrade.hooks.heat_api import TOKEN_HEADER
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import Step
from lab.cloud.model import Lab
from lab.http import local_session
from lab.processes import wait_until

Thing = TypeVar("Thing")


class Conversation:
    """The step on a host that does a flip's phases, asked line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.number = 0

    def ask(self, verb: str, *words: Any, **new: Any) -> None:
        """Ask for a phase, and see it done."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"verb": verb, "words": words, **new}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        self.number = answer["state"]["sequence"]


def at_once(things: Iterable[Thing], work: Callable[[Thing], None]) -> None:
    """Do something to all of some things side by side."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, things))


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
        apis = [host for host in cloud.hosts if host.api_roles]
        self._at_once(apis, self._start_beside)
        for wave in cloud.api_waves():
            self._at_once(wave, self._switch)
        self._at_once([host for host in apis if "api" in host.roles], self._prove)
        self._flip(apis, "changes", closed=False)
        self._at_once(cloud.hosts, self._look)
        self._flip(apis, "listed", closed=True)
        self._at_once(apis, self._close)
        self._at_once(engines, lambda host: self._on(host, steps.stop_engine(cloud.deployment(host, self.source))))
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

    def _both(self, host: Host) -> tuple[Deployment, Deployment]:
        return self.cloud.deployment(host, self.source), self.cloud.deployment(host, self.target)

    def _start_beside(self, host: Host) -> None:
        self._on(host, steps.start_beside(*self._both(host)))

    def _close(self, host: Host) -> None:
        self._on(host, steps.close_router(*self._both(host)))

    def _prove(self, host: Host) -> None:
        target, token = self.cloud.deployment(host, self.target), secrets.token_hex(32)
        self._on(host, steps.probe(target, token))
        listen = target.listen("api")
        use_a_stack(f"http://{listen.address}:{listen.port}/v1/admin", token, f"proof-{host.name}")
        self._on(host, steps.probe(target))

    def _flip(self, hosts: Sequence[Host], what: str, *, closed: bool) -> None:
        """Hold, prepare and release on all hosts at once, each phase over before the next; nothing is in flight."""
        with ExitStack() as stack:
            talks = [stack.enter_context(self._conversation(host)) for host in hosts]
            at_once(talks, lambda talk: talk.ask("show"))
            at_once(talks, lambda talk: talk.ask("hold", what, 10, 6))
            versions = [self.source.version, self.target.version]
            new = {"sides": versions, "default": versions[1], "projects": {}, "stacks": {}, "closed": closed}
            at_once(talks, lambda talk: talk.ask("prepare", talk.number, new=new))
            at_once(talks, lambda talk: talk.ask("release", talk.number))

    @contextmanager
    def _conversation(self, host: Host) -> Iterator[Conversation]:
        step = steps.route(self.cloud.deployment(host, self.target))
        subprocess.run([*self._ssh(host), step.unpacking], input=step.bundle, check=True)
        with subprocess.Popen(
            [*self._ssh(host), step.conversation], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield Conversation(process)
            assert process.stdin
            process.stdin.close()

    def _at_once(self, hosts: Iterable[Host], work: Callable[[Host], None]) -> None:
        at_once(hosts, work)

    def _on(self, host: Host, step: Step, rotation: object = None) -> None:
        where: Host | HAProxy | Commands = host
        if isinstance(rotation, HAProxy | Commands) and rotation.address:
            where = rotation
        done = subprocess.run([*self._ssh(where), step.command], input=step.bundle, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{host.name}: {step.name} ended with {done.returncode}: {done.stderr.decode()[-500:]}")

    def _ssh(self, where: Host | HAProxy | Commands) -> list[str]:
        options = ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "BatchMode=yes", "-i", str(self.key)]
        return ["ssh", *options, "-p", str(where.port), str(where.address)]

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


def use_a_stack(api: str, token: str, name: str) -> None:
    """Create, update and delete a small stack on an API's own side."""
    heat = local_session()
    heat.headers[TOKEN_HEADER] = token

    def ask(method: str, url: str, body: dict[str, Any] | None = None) -> requests.Response:
        return heat.request(method, url, json=body, timeout=60)

    template = {"heat_template_version": "2018-08-31", "resources": {"one": {"type": "OS::Heat::RandomString"}}}
    made = ask("POST", f"{api}/stacks", {"stack_name": name, "template": template})
    made.raise_for_status()
    url = f"{api}/stacks/{name}/{made.json()['stack']['id']}"
    for method, status in (("", "CREATE_COMPLETE"), ("PUT", "UPDATE_COMPLETE"), ("DELETE", "DELETE_COMPLETE")):
        if method:
            ask(method, url, {"template": template}).raise_for_status()
        wait_until(lambda s=status: _status(ask("GET", url)) == s, what=f"{name} is {status}")  # type: ignore[misc]


def _status(answer: requests.Response) -> str:
    return "DELETE_COMPLETE" if answer.status_code == 404 else str(answer.json()["stack"]["stack_status"])
