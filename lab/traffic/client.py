"""A plain client of Heat's API, as most are: every request on a connection of its own."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import requests
from keystoneauth1.exceptions import ClientException
from requests.adapters import HTTPAdapter

from lab.traffic.ledger import Ledger
from lab.traffic.login import Login

# Heat gives up on an engine after 60 s and answers 500; a client that leaves earlier would hide which.
TIMEOUT = (10.0, 75.0)
# No stack takes a minute. A parent that waits for a stack which nobody works on any more holds an engine for as
# long as this, and an engine that shall stop with it.
STACK_MINUTES = 5


class Found(NamedTuple):
    """A resource of a stack or of one nested in it; its path is `PROJECT/stacks/NAME/ID/resources/RESOURCE`."""

    status: str
    path: str


class HeatClient:
    """Sends requests and writes into a ledger what became of them.

    :param endpoint: the API's address with the project, as http://127.0.0.1:8004/v1/admin.
    :param cfn_endpoint: heat-api-cfn's address, or None where the cloud has none.
    :param login: who the user is, or None where nobody asks; `%(project_id)s` in the endpoint is the user's project.
    """

    def __init__(self, endpoint: str, cfn_endpoint: str | None, ledger: Ledger, login: Login | None = None) -> None:
        if login:
            endpoint %= {"project_id": login.project_id}
        self.endpoint = endpoint.rstrip("/")
        self.cfn_endpoint = cfn_endpoint.rstrip("/") if cfn_endpoint else None
        self._ledger = ledger
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of this machine is none of the cloud's business
        self._session.headers["Connection"] = "close"
        self._session.mount("http://", HTTPAdapter(pool_maxsize=64))
        self._session.auth = login

    def probe(self) -> None:
        """Ask for build_info, which the API can only answer with the help of an engine."""
        answer = self._send("build_info", "GET", "/build_info", 200)
        if answer is None:
            return
        builds = answer.json()
        self._ledger.release(builds["api"]["revision"], builds["engine"]["revision"])

    def probe_cfn(self) -> None:
        """Ask heat-api-cfn for a stack that doesn't exist, which takes an engine to say and costs little.

        Listing the stacks would take it seconds: it knows no paging.
        """
        query = "Action=GetTemplate&StackName=no-such-stack&Version=2010-05-15"
        self._send("cfn", "GET", f"{self.cfn_endpoint}/?{query}", 400, telling="could not be found")

    def in_progress(self) -> set[str] | None:
        """List the names of the stacks in progress, or None where that failed."""
        answer = self._send("list", "GET", "/stacks?status=IN_PROGRESS", 200)
        return None if answer is None else {stack["stack_name"] for stack in answer.json()["stacks"]}

    def create(self, name: str, template: dict[str, Any], files: Mapping[str, str] | None = None) -> str | None:
        """Create a stack and return its id, or None where that failed.

        :param name: its name.
        :param template: as a mapping.
        :param files: what the template refers to.
        """
        body = {"stack_name": name, "template": template, "files": files or {}, "timeout_mins": STACK_MINUTES}
        answer = self._send("create", "POST", "/stacks", 201, body)
        return None if answer is None else str(answer.json()["stack"]["id"])

    def update(
        self, name: str, stack_id: str, template: dict[str, Any], files: Mapping[str, str] | None = None
    ) -> None:
        """Update a stack.

        :param name: its name.
        :param stack_id: its id.
        :param template: the new one, as a mapping.
        :param files: what the template refers to.
        """
        body = {"template": template, "files": files or {}}
        self._send("update", "PUT", f"/stacks/{name}/{stack_id}", 202, body)

    def delete(self, name: str, stack_id: str) -> None:
        """Delete a stack.

        :param name: its name.
        :param stack_id: its id.
        """
        self._send("delete", "DELETE", f"/stacks/{name}/{stack_id}", 204)

    def show(self, name: str, stack_id: str) -> None:
        """Show a stack, which may be deleted since.

        :param name: its name.
        :param stack_id: its id.
        """
        self._send("show", "GET", f"/stacks/{name}/{stack_id}", 200)

    def find(self, name: str, stack_id: str, resource: str) -> Found | None:
        """Find a resource in a stack or in those nested in it; None where there is none yet, or that failed.

        :param name: the stack's name.
        :param stack_id: the stack's id.
        :param resource: its name in the template.
        """
        answer = self._send("resources", "GET", f"/stacks/{name}/{stack_id}/resources?nested_depth=2", 200)
        for found in answer.json()["resources"] if answer is not None else ():
            if found["resource_name"] == resource:
                href = next(link["href"] for link in found["links"] if link["rel"] == "self")
                return Found(found["resource_status"], urlsplit(href).path.partition("/v1/")[2])
        return None

    def signal(self, path: str) -> None:
        """Signal a resource through heat-api.

        :param path: as `find` returns it.
        """
        own = path.partition("/")[2]
        self._send("signal", "POST", f"/{own}/signal", 200, {"status": "SUCCESS"})

    def cfn_signal(self, path: str) -> None:
        """Signal a wait condition's handle through heat-api-cfn, or through heat-api where the cloud has none.

        :param path: as `find` returns it.
        """
        if self.cfn_endpoint is None:
            self.signal(path)
            return
        project, _, own = path.partition("/")
        arn = quote(f"arn:openstack:heat::{project}:{own}", safe="")
        self._send("cfn signal", "PUT", f"{self.cfn_endpoint}/waitcondition/{arn}", 200, {"status": "SUCCESS"})

    def _send(
        self, kind: str, method: str, path: str, expected: int, body: Any = None, *, telling: str = ""
    ) -> requests.Response | None:
        url = path if path.startswith("http") else self.endpoint + path
        began = time.monotonic()
        try:
            answer = self._session.request(method, url, json=body, timeout=TIMEOUT)
        except (requests.RequestException, ClientException) as error:
            self._ledger.failed(kind, f"{type(error).__name__}: {error}"[:200], time.monotonic() - began)
            return None
        seconds = time.monotonic() - began
        if answer.status_code != expected or telling not in answer.text:
            self._ledger.failed(kind, f"{answer.status_code} {' '.join(answer.text.split())[:200]}", seconds)
            return None
        self._ledger.answered(kind, seconds)
        return answer
