"""Heat's own API, as users see it."""

from __future__ import annotations

import re
import time
import uuid
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from airflow.sdk import BaseHook

from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.read_only import ensure_writable

if TYPE_CHECKING:
    from keystoneauth1.adapter import Adapter
    from keystoneauth1.plugin import BaseAuthPlugin

SMOKE_TEMPLATE = {
    "heat_template_version": "2018-08-31",
    "parameters": {"length": {"type": "number", "default": 8}},
    "resources": {"value": {"type": "OS::Heat::RandomString", "properties": {"length": {"get_param": "length"}}}},
}
# What the router of an upgrade lets through to its own side, whoever works for users; see docs/flip.md.
TOKEN_HEADER = "X-Heat-Upgrade"  # noqa: S105 -- a name

# The options of keystoneauth that set the scope of a token.
_SCOPE = {
    "project_id",
    "project_name",
    "project_domain_id",
    "project_domain_name",
    "tenant_id",
    "tenant_name",
    "domain_id",
    "domain_name",
    "system_scope",
}


class BuildInfo(NamedTuple):
    """The releases that answered one call: the API's, and that of an engine in the API's vhost."""

    api: str
    engine: str


class HeatApiHook(BaseHook):
    """
    Ask Heat through its API.

    :param conn_id: Airflow connection of type heat_api or generic. With the extra ``auth_type`` ``none`` its host is
        Heat's endpoint including the project (``http://heat.example:8004/v1/admin``). Else its host is Keystone's URL,
        login and password are the user's, and the extras are those of keystoneauth's password plugin
        (``project_name``, ``user_domain_name``, ``project_domain_name``), ``region_name``, ``interface`` and ``verify``
        (a CA certificate's path, or false)
    :param project: id of the project to act in; by default the connection's own. Heat lets an administrator change
        stacks of other projects too, but makes their resources in the project of the token, and with the token's rights
    """

    conn_name_attr = "conn_id"
    conn_type = "heat_api"
    hook_name = "OpenStack Heat API"

    def __init__(self, conn_id: str, project: str | None = None) -> None:
        super().__init__()
        self.conn_id = conn_id
        self._in_project = project

    @cached_property
    def heat(self) -> Adapter:
        """Return a client of Heat, by the catalogue or at the endpoint that the connection names."""
        from keystoneauth1 import adapter, loading, session

        connection = self.get_connection(self.conn_id)
        # A field of the form that is left empty says nothing.
        options: dict[str, Any] = {
            key: value for key, value in connection.extra_dejson.items() if value not in ("", None)
        }
        where: dict[str, Any] = {key: options.pop(key) for key in ("region_name", "interface") if key in options}
        verify = _verification(options.pop("verify", True))
        kind = options.pop("auth_type", "password")
        if kind == "none":
            options["endpoint"] = connection.host
            if self._in_project:
                options["endpoint"] = f"{str(connection.host).rpartition('/')[0]}/{self._in_project}"
                # Without Keystone, Heat takes the project from here.
                where["additional_headers"] = {"X-Auth-Project": self._in_project}
        else:
            if self._in_project:
                options = {key: value for key, value in options.items() if key not in _SCOPE}
                options["project_id"] = self._in_project
            options |= {
                "auth_url": connection.host,
                "username": connection.login,
                "password": connection.password,
            }
        plugin: BaseAuthPlugin = loading.get_plugin_loader(kind).load_from_options(**options)
        return adapter.Adapter(session.Session(auth=plugin, verify=verify), service_type="orchestration", **where)

    @property
    def project(self) -> str:
        """Return the id of the project that calls are made for."""
        return self.heat.get_project_id() or str(self.heat.get_endpoint()).rpartition("/")[2]

    @property
    def versions_url(self) -> str:
        """Return where Heat shows its versions through the load balancer, without a login."""
        parts = urlsplit(str(self.heat.get_endpoint()))
        # What stands before the version may be a path of its own, as in https://cloud.example/orchestration/v1/project.
        path = re.split(r"/v\d[^/]*(?:/|$)", parts.path, maxsplit=1)[0]
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], f"{path.rstrip('/')}/", "", ""))

    @property
    def verify(self) -> bool | str:
        """Return whether the server's certificate is verified, or by which CA certificates' file."""
        verify = self.heat.session.verify
        return True if verify is None else verify

    def test_connection(self) -> tuple[bool, str]:
        """Return whether Heat answers this user, and with which releases, or what is wrong."""
        from keystoneauth1.exceptions import ClientException

        try:
            answer = self.heat.get("/build_info", timeout=30).json()
            found = BuildInfo(answer["api"]["revision"], answer["engine"]["revision"])
            return True, f"Heat answers in project {self.project}: API {found.api}, engine {found.engine}"
        except (ClientException, ValueError, KeyError) as error:
            return (
                False,
                f"Heat doesn't answer ({type(error).__name__}: {error}): check URL, login, project and domains",
            )

    def past_the_balancer(self, url: str, token: str = "") -> HeatApiHook:
        """
        Return a hook of one API, past the load balancer.

        :param url: the API's root as reachable from here
        :param token: what its router takes to its own side
        """
        from keystoneauth1 import adapter

        class Direct(adapter.Adapter):
            def request(self, url: str, method: str, **kwargs: Any) -> Any:
                # Not through a proxy of the environment's: the URL may be this machine's end of a tunnel.
                return super().request(url, method, proxies={"http": "", "https": ""}, **kwargs)

        hook = copy(self)
        headers = {TOKEN_HEADER: token} if token else {}
        # The catalogue would lead through the load balancer.
        vars(hook)["heat"] = Direct(
            self.heat.session, endpoint_override=f"{url}/v1/{self.project}", additional_headers=headers
        )
        return hook

    def build_info(self) -> BuildInfo:
        """
        Ask which releases answer: the API's, and that of an engine behind it.

        :raises UpgradeError: when the login is refused
        :raises TransientError: when it doesn't answer as Heat would
        """
        from keystoneauth1.exceptions import ClientException, Forbidden, Unauthorized

        try:
            answer = self.heat.get("/build_info", timeout=90).json()
            return BuildInfo(answer["api"]["revision"], answer["engine"]["revision"])
        except (ClientException, ValueError, KeyError) as error:
            kind = UpgradeError if isinstance(error, Unauthorized | Forbidden) else TransientError
            raise kind(
                f"build_info at {self.heat.get_endpoint()} failed ({type(error).__name__}: {error}), expected the "
                f"releases of the API and an engine: check the Airflow connection {self.conn_id!r} and the API's log, "
                "then clear this task"
            ) from error

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """
        Send a request; the answer shows no more than that Heat has accepted it.

        :param method: as ``PATCH``
        :param path: below the project, as ``/stacks/name/id``
        :param body: what to send as JSON
        :raises UpgradeError: when Heat or Keystone refuses it, or doesn't answer
        """
        from keystoneauth1.exceptions import ClientException

        ensure_writable(f"send Heat a {method} of {path}")
        try:
            # An engine answers: it may take Heat's whole rpc_response_timeout.
            self.heat.request(path, method, json=body, timeout=90)
        except ClientException as error:
            raise UpgradeError(
                f"{method} {path} failed ({type(error).__name__}: {error}), expected Heat to take it up: check that "
                f"Heat's API answers, and that the user of Airflow connection {self.conn_id!r} has a role in project "
                f"{self._in_project or 'of its own'}"
            ) from error

    def run_smoke_stack(self, timeout: float = 120) -> str:
        """
        Create a stack of one small resource, update and delete it, and see each complete.

        :param timeout: seconds for each of the three
        :return: the stack's name
        :raises UpgradeError: when it doesn't complete
        :raises TransientError: when Heat or Keystone don't answer
        """
        from keystoneauth1.exceptions import ClientException, HttpServerError, RetriableConnectionFailure

        ensure_writable("create a stack")
        name = f"heat-upgrade-smoke-{uuid.uuid4().hex[:8]}"
        try:
            body = {"stack_name": name, "template": SMOKE_TEMPLATE, "timeout_mins": 5}
            path = f"/stacks/{name}/{self.heat.post('/stacks', json=body).json()['stack']['id']}"
            self._wait_for(path, "CREATE_COMPLETE", timeout)
            self.heat.put(path, json={"template": SMOKE_TEMPLATE, "parameters": {"length": 16}})
            self._wait_for(path, "UPDATE_COMPLETE", timeout)
            self.heat.delete(path)
            self._wait_for(path, "DELETE_COMPLETE", timeout)
        except (ClientException, TimeoutError) as error:
            passes = isinstance(error, HttpServerError | RetriableConnectionFailure)
            raise (TransientError if passes else UpgradeError)(
                f"the smoke stack {name} failed ({error}), expected its creation, update and deletion, within "
                f"{timeout:.0f} s each: see the stack's events and the new engines' logs, delete it, clear this task"
            ) from error
        return name

    def _wait_for(self, path: str, expected: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while (status := self._status(path)) != expected:
            if status.endswith("_FAILED") or time.monotonic() > deadline:
                raise TimeoutError(f"it is {status}")
            time.sleep(0.5)

    def _status(self, path: str) -> str:
        from keystoneauth1.exceptions import NotFound

        try:
            return str(self.heat.get(path).json()["stack"]["stack_status"])
        except NotFound:
            return "DELETE_COMPLETE"


def _verification(value: bool | str) -> bool | str:
    """Return whether certificates are verified, or by which file, as requests wants it; forms know texts only."""
    known = {"true": True, "false": False}
    return known.get(str(value).lower(), value)
