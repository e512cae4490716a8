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
from typing import Any

import requests

from heat_upgrade.cloud.loader import load_cloud
from heat_upgrade.cloud.model import Cloud, Deployment
from heat_upgrade.cloud.sections import Commands, HAProxy, Host
from heat_upgrade.hooks.heat_api import TOKEN_HEADER
from heat_upgrade.operators.flip import HELD_FOR, UNDER_WAY
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import Step
from lab.cloud.model import Lab
from lab.http import local_session
from lab.processes import wait_until


class Talk:
    """
    A conversation with a step on a host.

    :param process: the step's, which answers a line with a line
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, verb: str, *words: Any, **new: Any) -> dict[str, Any]:
        """Ask, and return the state that the host has then."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps({"verb": verb, "words": words, **new}), file=self._process.stdin, flush=True)
        answers = (line for line in self._process.stdout if line.startswith("{"))
        answer = json.loads(next(answers, '{"error": "the step has ended"}'))
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        state: dict[str, Any] = answer["state"]
        return state


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
        engines, fronts = cloud.hosts_with("engine"), [host for host in cloud.hosts if host.api_roles]
        self._at_once(cloud.hosts, self._look)
        self._at_once(cloud.hosts, self._prepare)
        self._at_once(cloud.hosts, self._look)
        self._back_up()
        make_vhost(self.lab, self.target.vhost)
        self._sync()
        self._at_once(engines, lambda host: self._on(host, steps.start_engine(cloud.deployment(host, self.target))))
        self._at_once(fronts, lambda host: self._on(host, steps.start_beside(*self._both(host))))
        for wave in cloud.api_waves():
            self._at_once(wave, self._switch)
        self._at_once([host for host in fronts if "api" in host.roles], self._prove)
        self._flip(fronts, "changes", closed=False)
        self._at_once(cloud.hosts, self._look)
        self._flip(fronts, "listed", closed=True)
        self._at_once(fronts, lambda host: self._on(host, steps.close_router(*self._both(host))))
        self._at_once(engines, lambda host: self._on(host, steps.stop_engine(cloud.deployment(host, self.source))))
        self._at_once(cloud.hosts, self._look)
        return time.monotonic() - begun

    def _both(self, host: Host) -> tuple[Deployment, Deployment]:
        return self.cloud.deployment(host, self.source), self.cloud.deployment(host, self.target)

    def _look(self, host: Host) -> None:
        self._on(host, steps.look(self.cloud, host))

    def _prepare(self, host: Host) -> None:
        self._on(host, steps.prepare(*self._both(host)))

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
        self._exchange_apis(host)
        for role in host.api_roles:
            self._on(host, steps.rejoin_rotation(target, role), target.rotation(role))

    def _exchange_apis(self, host: Host) -> None:
        self._on(host, steps.switch_api(*self._both(host)))

    def _prove(self, host: Host) -> None:
        target, token = self.cloud.deployment(host, self.target), secrets.token_hex(32)
        self._on(host, steps.probe(target, token))
        listen = target.listen("api")
        use_a_stack(f"http://{listen.address}:{listen.port}/v1/admin", token, f"proof-{host.name}")
        self._on(host, steps.probe(target))

    def _flip(self, fronts: Sequence[Host], what: str, *, closed: bool) -> None:
        """Send everybody to the target's side, or close the other one; nothing is in flight, as nobody uses the lab."""
        after = {"default": self.target.version, "projects": {}, "stacks": {}, "closed": closed}
        new = {"sides": sorted([self.source.version, self.target.version]), **after}
        with ExitStack() as stack, ThreadPoolExecutor(len(fronts)) as pool:
            talks = list(pool.map(lambda host: stack.enter_context(self._talk(host)), fronts))
            held = list(pool.map(lambda talk: talk.ask("hold", what, HELD_FOR, UNDER_WAY), talks))
            ready = list(pool.map(lambda talk, state: talk.ask("prepare", state["sequence"], new=new), talks, held))
            list(pool.map(lambda talk, state: talk.ask("release", state["sequence"]), talks, ready))

    @contextmanager
    def _talk(self, host: Host) -> Iterator[Talk]:
        step = steps.route(self.cloud.deployment(host, self.target))
        subprocess.run(self._ssh(host, step.unpacking), input=step.bundle, capture_output=True, check=True)
        command = self._ssh(host, step.conversation)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield Talk(process)

    def _at_once(self, hosts: Iterable[Host], work: Callable[[Host], None]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, hosts))

    def _on(self, host: Host, step: Step, rotation: object = None) -> None:
        where: Host | HAProxy | Commands = host
        if isinstance(rotation, HAProxy | Commands) and rotation.address:
            where = rotation
        done = subprocess.run(self._ssh(where, step.command), input=step.bundle, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{host.name}: {step.name} ended with {done.returncode}: {done.stderr.decode()[-500:]}")

    def _ssh(self, where: Host | HAProxy | Commands, command: str) -> list[str]:
        options = ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "BatchMode=yes", "-i", str(self.key)]
        return ["ssh", *options, "-p", str(where.port), str(where.address), command]

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

    def is_in(status: str) -> bool:
        answer = ask("GET", url)
        return status == ("DELETE_COMPLETE" if answer.status_code == 404 else answer.json()["stack"]["stack_status"])

    template = {"heat_template_version": "2018-08-31", "resources": {"one": {"type": "OS::Heat::RandomString"}}}
    made = ask("POST", f"{api}/stacks", {"stack_name": name, "template": template})
    made.raise_for_status()
    url = f"{api}/stacks/{name}/{made.json()['stack']['id']}"
    wait_until(lambda: is_in("CREATE_COMPLETE"), what=f"{name} is there")
    ask("PUT", url, {"template": template}).raise_for_status()
    wait_until(lambda: is_in("UPDATE_COMPLETE"), what=f"{name} is updated")
    ask("DELETE", url).raise_for_status()
    wait_until(lambda: is_in("DELETE_COMPLETE"), what=f"{name} is gone")
