"""A plain client of Heat's API, as most are: every request on a connection of its own."""

import time
from typing import Any

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
        answer = self._send("build_info", "GET", "/build_info", 200, probe=True)
        if answer is None:
            return
        for service, build in answer.json().items():
            self._ledger.release(service, build["revision"])

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

    def create(self, name: str, template: dict[str, Any]) -> str | None:
        """Create a stack and return its id, or None where that failed.

        :param name: its name.
        :param template: as a mapping.
        """
        body = {"stack_name": name, "template": template, "timeout_mins": STACK_MINUTES}
        answer = self._send("create", "POST", "/stacks", 201, body)
        return None if answer is None else str(answer.json()["stack"]["id"])

    def update(self, name: str, stack_id: str, template: dict[str, Any]) -> None:
        """Update a stack.

        :param name: its name.
        :param stack_id: its id.
        :param template: the new one, as a mapping.
        """
        self._send("update", "PUT", f"/stacks/{name}/{stack_id}", 202, {"template": template})

    def delete(self, name: str, stack_id: str) -> None:
        """Delete a stack.

        :param name: its name.
        :param stack_id: its id.
        """
        self._send("delete", "DELETE", f"/stacks/{name}/{stack_id}", 204)

    def resource_status(self, name: str, stack_id: str, resource: str) -> str | None:
        """Return the status of a resource, as CREATE_COMPLETE, or None where that failed.

        :param name: its stack's name.
        :param stack_id: its stack's id.
        :param resource: its name in the template.
        """
        answer = self._send("show", "GET", f"/stacks/{name}/{stack_id}/resources/{resource}", 200)
        return None if answer is None else str(answer.json()["resource"]["resource_status"])

    def _send(
        self,
        kind: str,
        method: str,
        path: str,
        expected: int,
        body: Any = None,
        *,
        telling: str = "",
        probe: bool = False,
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
        self._ledger.answered(kind, seconds, probe=probe)
        return answer
