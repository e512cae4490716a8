"""The router in real APIs: Heat's own routing, its pipelines under uWSGI, and what a real heat-engine tells."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from heat_upgrade.router import state
from heat_upgrade.router.paste import Place, with_router
from lab.cloud.model import Lab
from lab.http import local_session
from lab.processes import clean_environment, wait_until
from tests.integration.conftest import RELEASE, SCRIPTS, HeatDatabase, RabbitMQ
from tests.integration.test_drain_gate import HeatEngine
from tests.unit.router.sides import OLD, Beside, api_beside
from tests.unit.router.sides import fields as state_fields

ROUTER = Path(state.__file__).parent
API, CFN = 28924, 28920  # ports
NOAUTH = """
[DEFAULT]
log_file =
[paste_deploy]
flavor = noauth
api_paste_config = {paste}
[oslo_policy]
enforce_new_defaults = false
enforce_scope = false
[oslo_messaging_rabbit]
heartbeat_timeout_threshold = 0
"""
CFN_NOAUTH = "noauth = cors request_id http_proxy_to_wsgi cfnversionnegotiation noauth context apicfnv1app\n"


@pytest.mark.parametrize("seed", [1, 2])
def test_it_finds_the_stack_that_heats_own_routing_finds(heat_venv: Path, seed: int) -> None:
    done = subprocess.run(
        [heat_venv / "bin/python", SCRIPTS / "compare_routing.py", str(seed), "20000"],
        capture_output=True,
        text=True,
        env=clean_environment(PYTHONPATH=str(ROUTER)),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *differences, summary = done.stdout.splitlines()
    assert not differences, differences[:3]
    assert int(summary.split()[0]) > 1000


@dataclass
class Host:
    """A host with the new release's APIs in front, and something beside that counts as the old one."""

    folder: Path
    beside: Beside
    session: requests.Session

    def flip(self, **fields: Any) -> None:
        """Go by another state."""
        held = state.hold(self.folder, "changes", 10, 10)
        new = state_fields(**{"default": RELEASE, **fields})
        state.release(self.folder, state.prepare(self.folder, held.sequence, new).sequence)

    def crosses(self, method: str, path: str, port: int = API, **more: Any) -> bool:
        """Send a request, and return whether it went to the API beside; here Heat itself has to answer it."""
        before = len(self.beside.got)
        answer = self.session.request(
            method, f"http://127.0.0.1:{port}{path}", allow_redirects=False, timeout=60, **more
        )
        assert answer.headers.get("X-Side") == "beside" or answer.headers["X-Openstack-Request-Id"].startswith("req-")
        assert answer.status_code < 502, answer.text
        return len(self.beside.got) > before

    def query(self, action: str, name: str, project: str = "admin") -> bool:
        """Send a query to heat-api-cfn for a project."""
        return self.crosses(
            "POST", "/v1/", CFN, data={"Action": action, "StackName": name}, headers={"X-Auth-Project": project}
        )


@contextmanager
def serving(venv: Path, conf: Path, module: str, port: int) -> Iterator[None]:
    """Serve one of Heat's APIs as `prepare` has it served."""
    words = ["--master", "--lazy-apps", "--enable-threads", "--need-app", "--die-on-term", "--processes", "2"]
    words += [
        "--threads",
        "4",
        "--add-header",
        "Connection: close",
        "--http-socket",
        f"127.0.0.1:{port}",
        "--module",
        f"heat.wsgi.{module}:application",
    ]
    words += ["--pythonpath", str(conf.parent), "--pyargv", f"--config-file {conf}"]
    log = conf.parent / f"{module}.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [venv / "bin/uwsgi", *words], stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=clean_environment()
        )
    try:
        wait_until(
            lambda: _versions(port) == 300,
            what=f"{module} serves",
            given_up=lambda: log.read_text()[-3000:] if server.poll() is not None else None,
        )
        yield
    finally:
        server.terminate()
        server.wait(30)


def _versions(port: int) -> int:
    try:
        return local_session().get(f"http://127.0.0.1:{port}/", timeout=10).status_code
    except requests.ConnectionError:
        return 0


@pytest.fixture(scope="module")
def host(servers: Lab, heat_venv: Path, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Both APIs of the new release with the router, a real engine of theirs, and an API beside."""
    directory, vhost = tmp_path_factory.mktemp("host"), "router"
    rabbitmq.make_vhost(vhost)
    folder = directory / "router"
    (folder / "run").mkdir(parents=True)
    state.create(folder, state_fields())
    with ExitStack() as running:
        beside = running.enter_context(api_beside())
        engine = HeatEngine(servers, heat_venv, vhost, directory)
        running.callback(engine.kill)
        _add_router(heat_venv, engine.conf, folder, beside.url)
        wait_until(
            lambda: any(row["queue"]["name"] == "engine" for row in rabbitmq.rows("consumers", vhost)),
            what="heat-engine listens",
            given_up=lambda: engine.log.read_text()[-2000:] if engine.process.poll() is not None else None,
        )
        for module, port in (("api", API), ("cfn", CFN)):
            running.enter_context(serving(heat_venv, engine.conf, module, port))
        yield Host(folder, beside, local_session())


def _add_router(venv: Path, conf: Path, folder: Path, beside: str) -> None:
    shutil.copy(ROUTER / "heat_upgrade_router.py", conf.parent)
    paste = conf.parent / "api-paste.ini"
    text = (venv / "etc/heat/api-paste.ini").read_text("utf-8")
    section = "[composite:api-cfn]\npaste.composite_factory = heat.api:pipeline_factory\n"
    assert section in text
    place = Place(RELEASE, OLD, {"orchestration": beside, "cfn": beside}, str(folder / state.STATE))
    paste.write_text(with_router(text.replace(section, section + CFN_NOAUTH), place), encoding="utf-8")
    with conf.open("a", encoding="utf-8") as file:
        file.write(NOAUTH.format(paste=paste))


@pytest.fixture
def stacks(database: HeatDatabase) -> dict[str, str]:
    """A tree of three, and stacks of the same name in two projects."""

    def add(name: str, **columns: Any) -> str:
        # As Heat writes them: it lists no row whose column `backup` is NULL.
        return database.add_stack(name, **{"tenant": "admin", "backup": 0, **columns})

    root = add("same")
    child = add("child", owner_id=root)
    grandchild = add("grandchild", owner_id=child)
    other = add("same", tenant="other", status="COMPLETE")
    template, environment = json.dumps({"heat_template_version": "2018-08-31"}), json.dumps({"parameters": {}})
    database.execute("UPDATE raw_template SET template = %s, environment = %s", template, environment)
    return {"root": root, "child": child, "grandchild": grandchild, "other": other}


def test_before_the_flip_everything_is_handed_over(host: Host, stacks: dict[str, str]) -> None:
    host.flip(default=OLD)
    for method, path in (("GET", "/v1/admin/stacks"), ("POST", "/v1/admin/stacks"), ("DELETE", "/v1/admin/stacks/x/y")):
        assert host.crosses(method, path)
    assert host.query("DeleteStack", "same")
    assert host.beside.got[-1][1] == "/v1/"


def test_after_the_flip_a_tree_stays_whole(host: Host, stacks: dict[str, str]) -> None:
    host.flip(stacks={stacks["root"]: OLD})
    for name in ("root", "child", "grandchild"):
        path = f"admin/stacks/{name.replace('root', 'same')}/{stacks[name]}"
        assert host.crosses("PATCH", f"/v1/{path}", json={"existing": True})
        assert host.crosses("DELETE", f"//v1.0/{path.upper().replace('STACKS', 'stacks')}")
        assert host.crosses("POST", f"/v1/signal/arn%3Aopenstack%3Aheat%3A%3A{path.replace('/', ':', 1)}", CFN, json={})
    assert not host.crosses("PATCH", f"/v1/other/stacks/same/{stacks['other']}", json={"existing": True})
    assert not host.crosses("POST", "/v1/admin/stacks", json={"stack_name": "n", "template": {}})
    assert not host.crosses("GET", "/v1/admin/stacks")
    assert not host.crosses("DELETE", "/v1/admin/stacks/same/00000000-0000-4000-8000-000000000000")


@pytest.mark.parametrize("action", ["DeleteStack", "UpdateStack"])
def test_a_name_is_looked_up_in_the_callers_project(host: Host, stacks: dict[str, str], action: str) -> None:
    host.flip(stacks={stacks["root"]: OLD})
    assert host.query(action, "same")
    assert host.query(action, "grandchild")
    assert not host.query(action, "same", project="other")
    assert not host.query(action, "unknown")
    assert not host.query("DescribeStacks", "same")


def test_a_canary_is_known_by_its_login(host: Host, stacks: dict[str, str]) -> None:
    host.flip(default=OLD, projects={"other": RELEASE})

    def new(path: str, login: str) -> bool:
        body = {"stack_name": "n", "template": {}}
        return host.crosses("POST", f"/v1/{path}/stacks", json=body, headers={"X-Auth-Project": login})

    assert [new("other", "other"), new("admin", "other"), new("other", "admin")] == [False, False, True]
    assert not host.query("CreateStack", "n", project="other")
    assert host.query("CreateStack", "n")
    assert not host.crosses("DELETE", f"/v1/other/stacks/same/{stacks['other']}", headers={"X-Auth-Project": "other"})
    assert host.crosses("DELETE", f"/v1/admin/stacks/child/{stacks['child']}")
