"""Heat's own API, as users see it."""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException

from heat_upgrade.exceptions import UpgradeError

if TYPE_CHECKING:
    from openstack.connection import Connection

SMOKE_TEMPLATE = {
    "heat_template_version": "2018-08-31",
    "resources": {"value": {"type": "OS::Heat::RandomString"}},
}


class BuildInfo(NamedTuple):
    """The releases that answered one call: the API's, and that of an engine in the API's vhost."""

    api: str
    engine: str


class HeatApiHook(BaseHook):
    """
    Ask Heat through its API.

    :param conn_id: Airflow connection of type generic. With the extra ``auth_type`` ``none``: host is Heat's endpoint
        including the project (``http://heat.example:8004/v1/admin``). Else host is Keystone's URL, login and password
        are the user's, and the other extras are openstacksdk's (``project_name``, ``user_domain_name``,
        ``region_name``, ...).
    """

    conn_name_attr = "conn_id"
    conn_type = "generic"
    hook_name = "Heat API"

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self.conn_id = conn_id

    @cached_property
    def cloud(self) -> Connection:
        """Return openstacksdk's connection to the cloud."""
        import openstack  # takes half a second: not while a DAG file is parsed

        connection = self.get_connection(self.conn_id)
        extra = dict(connection.extra_dejson)
        if extra.pop("auth_type", "password") == "none":
            return openstack.connect(
                load_yaml_config=False,
                load_envvars=False,
                auth_type="none",
                auth={"endpoint": connection.host},
                orchestration_endpoint_override=connection.host,
            )
        # Names that openstacksdk takes as options of the cloud, not of the login.
        options = {key: extra.pop(key) for key in ("region_name", "interface", "verify", "cacert") if key in extra}
        auth = {"auth_url": connection.host, "username": connection.login, "password": connection.password, **extra}
        return openstack.connect(load_yaml_config=False, load_envvars=False, auth=auth, **options)

    @property
    def project(self) -> str:
        """Return the id of the project that calls are made for."""
        return self.cloud.session.get_project_id() or str(self.cloud.orchestration.get_endpoint()).rpartition("/")[2]

    def build_info(self, url: str) -> BuildInfo:
        """
        Ask one API, past the load balancer, which releases answer: its own and that of an engine behind it.

        :param url: the API's root as reachable from here
        :raises AirflowException: when it doesn't answer as Heat would; may pass by itself
        """
        from keystoneauth1.exceptions import ClientException

        try:
            # Relative to an endpoint of our own: the catalogue would lead through the load balancer.
            answer = self.cloud.session.get(f"{url}/v1/{self.project}/build_info", timeout=90).json()
            return BuildInfo(answer["api"]["revision"], answer["engine"]["revision"])
        except (ClientException, ValueError, KeyError) as error:
            raise AirflowException(
                f"build_info at {url} failed ({type(error).__name__}: {error}), expected the API's and an engine's "
                f"release: check the Airflow connection {self.conn_id!r} and the API's log, then clear this task"
            ) from error

    def run_smoke_stack(self, timeout: int = 120) -> str:
        """
        Create a stack of one small resource through the load balancer, see it complete and delete it.

        :param timeout: seconds for each of the two
        :return: the stack's name
        :raises UpgradeError: when it doesn't complete
        """
        from openstack.exceptions import ResourceFailure, ResourceTimeout, SDKException

        heat = self.cloud.orchestration
        name = f"heat-upgrade-smoke-{uuid.uuid4().hex[:8]}"
        try:
            stack = heat.create_stack(name=name, template=SMOKE_TEMPLATE, timeout_mins=5)
            heat.wait_for_status(stack, "CREATE_COMPLETE", ["CREATE_FAILED"], interval=1, wait=timeout)
            heat.delete_stack(stack)
            heat.wait_for_delete(stack, interval=1, wait=timeout)
        except (ResourceFailure, ResourceTimeout, SDKException) as error:
            raise UpgradeError(
                f"the smoke stack {name} failed ({error}), expected CREATE_COMPLETE and then its deletion within "
                f"{timeout} s each: see the stack's events and the new engines' logs, delete the stack, clear this task"
            ) from error
        return name
