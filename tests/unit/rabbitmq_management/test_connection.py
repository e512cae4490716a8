"""What an Airflow connection says of the server, and what it may not leave open."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException

from rabbitmq_management.api import ManagementAPI
from rabbitmq_management.connection import Endpoint

SECRET = "hunter2-hunter2"


def endpoint(extra: dict[str, Any] | None = None, **settings: Any) -> Endpoint:
    usual = {"conn_type": "rabbitmq_management", "host": "rabbit.example", "login": "operator", "password": SECRET}
    connection = Connection(conn_id="broker", extra=json.dumps(extra or {}), **{**usual, **settings})
    return ManagementAPI.of("broker", connection).endpoint


@pytest.mark.parametrize(
    ("settings", "extra", "expected"),
    [
        ({}, {}, "https://rabbit.example:15671"),
        ({"schema": "http"}, {}, "http://rabbit.example:15672"),
        ({"host": "::1", "port": 1}, {}, "https://[::1]:1"),
        ({"port": 8443}, {"path_prefix": "/rabbitmq"}, "https://rabbit.example:8443/rabbitmq"),
        ({"port": 8443}, {"path_prefix": "/a/b.c_d~e-1/"}, "https://rabbit.example:8443/a/b.c_d~e-1"),
        ({}, {"path_prefix": None}, "https://rabbit.example:15671"),
    ],
)
def test_the_address_is_https_unless_the_connection_says_otherwise(settings, extra, expected):
    assert endpoint(extra, **settings).url == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, True),
        ({"verify": None}, True),  # as the form leaves it
        ({"verify": "TRUE"}, True),
        ({"verify": False}, False),
        ({"verify": "false"}, False),
        ({"ca_file": "/ca.pem"}, "/ca.pem"),
        ({"ca_file": "/ca.pem", "verify": True}, "/ca.pem"),
        ({"ca_file": ""}, True),
    ],
)
def test_certificates_are_verified_unless_the_connection_says_no(extra, expected):
    assert endpoint(extra).verify == expected


@pytest.mark.parametrize(
    ("settings", "risk"),
    [
        ({}, None),
        ({"extra": {"ca_file": "/ca.pem"}}, None),
        ({"extra": {"verify": False}}, "has verify false: whoever answers"),
        ({"schema": "http"}, "uses http: login and password can be read"),
    ],
)
def test_what_somebody_in_between_could_do_is_logged(connect, capsys, settings, risk):
    connect(1, **{"schema": "https", **settings}).get_conn()
    logged = capsys.readouterr().out
    assert f"Airflow connection 'broker' {risk}" in logged if risk else "broker" not in logged


@pytest.mark.parametrize(("given", "expected"), [(None, 10), ("", 10), (3, 3), ("2.5", 2.5), (300, 300)])
def test_the_time_out_is_in_seconds(given, expected):
    assert endpoint({"timeout": given}).timeout == expected


@pytest.mark.parametrize(
    ("settings", "extra", "expected"),
    [
        ({"conn_type": "http"}, {}, "type 'http', expected 'rabbitmq_management', whose defaults and extras"),
        ({"conn_type": "generic", "host": ""}, {}, "type 'generic', expected"),
        ({"schema": "ftp"}, {}, "scheme 'ftp', expected https, or http"),
        ({"host": f"operator:{SECRET}@host"}, {}, "a host that can't be used, expected a name or an IP address"),
        (
            {"host": "rmq.example/rabbitmq"},
            {},
            "a host that can't be used, expected a name or an IP address alone; a path goes to path_prefix",
        ),
        ({"host": ""}, {}, "a host that can't be used"),
        ({"host": "a b"}, {}, "a host that can't be used"),
        ({}, {"path_prefix": "rabbitmq"}, "path_prefix 'rabbitmq', expected RabbitMQ's management.path_prefix"),
        ({}, {"path_prefix": "/../admin"}, "path_prefix '/../admin'"),
        ({}, {"path_prefix": "/a?b#c"}, "path_prefix '/a?b#c'"),
        ({}, {"path_prefix": "/a%2f"}, "path_prefix '/a%2f'"),
        ({}, {"path_prefix": "//evil.example"}, "path_prefix '//evil.example'"),
        ({}, {"verify": "no"}, "verify 'no', expected true or false"),
        ({}, {"verify": 0}, "verify '0', expected true or false"),
        ({}, {"verify": False, "ca_file": "/ca.pem"}, "a ca_file and verify false, expected one of them"),
        ({}, {"timeout": 0}, "timeout '0', expected seconds above 0, at most 300"),
        ({}, {"timeout": "soon"}, "timeout 'soon'"),
        ({}, {"timeout": 301}, "timeout '301'"),
        ({}, {"timeout": "nan"}, "timeout 'nan'"),
        ({}, {"timeout": [1]}, "timeout '[1]'"),
    ],
)
def test_a_connection_that_cannot_be_used_is_refused_at_once_without_a_secret(settings, extra, expected):
    with pytest.raises(AirflowFailException) as caught:
        endpoint(extra, **settings)
    assert str(caught.value).startswith(f"Airflow connection 'broker' has {expected}")
    assert str(caught.value).endswith(": correct the connection")
    assert SECRET not in str(caught.value)


def test_the_password_is_in_no_representation():
    assert SECRET not in repr(endpoint())
