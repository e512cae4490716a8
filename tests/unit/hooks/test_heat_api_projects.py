"""In which project the hook acts, and as whom."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
from keystoneauth1 import adapter, exceptions

from heat_upgrade.exceptions import UpgradeError
from heat_upgrade.hooks.heat_api import HeatApiHook

PROJECT = "0123456789abcdef"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def connect(project: str | None = None, **extra: Any) -> HeatApiHook:
        connection = {
            "conn_type": "generic",
            "host": "http://heat.example:8004/v1/admin",
            "login": "operator",
            "password": "pa55-of-heat",
            "extra": extra,
        }
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
        return HeatApiHook("api", project)

    return connect


def test_without_keystone_the_project_stands_in_address_and_header(connect) -> None:
    heat = connect(PROJECT, auth_type="none").heat
    assert heat.get_endpoint() == f"http://heat.example:8004/v1/{PROJECT}"
    assert heat.additional_headers == {"X-Auth-Project": PROJECT}


def test_without_a_project_the_connection_s_own_address_is_used(connect) -> None:
    heat = connect(auth_type="none").heat
    assert heat.get_endpoint() == "http://heat.example:8004/v1/admin"
    assert not heat.additional_headers


SCOPE = {"project_name": "admin", "project_domain_name": "Default", "user_domain_name": "Default"}


def test_with_keystone_the_token_is_for_the_stack_s_project(connect) -> None:
    auth = connect(PROJECT, **SCOPE).heat.session.auth
    assert (auth._project_id, auth._project_name, auth._project_domain_name) == (PROJECT, None, None)
    assert auth._user_domain_name == "Default"
    assert connect(**SCOPE).heat.session.auth._project_name == "admin"


def test_a_refusal_names_the_project_and_what_to_check(connect) -> None:
    hook = connect(PROJECT, **SCOPE)
    with (
        mock.patch.object(adapter.Adapter, "request", side_effect=exceptions.Unauthorized("no role")),
        pytest.raises(
            UpgradeError, match=rf"PATCH /stacks/n/i failed .*'api' has a role in project {PROJECT}"
        ) as caught,
    ):
        hook.call("PATCH", "/stacks/n/i", {})
    assert "pa55-of-heat" not in str(caught.value)
