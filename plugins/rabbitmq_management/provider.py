"""What Airflow is told about this package, by the entry point ``apache_airflow_provider`` of what installs it."""

from __future__ import annotations

from typing import Any

# As packaging spells it: Airflow wants the name of the distribution that has the entry point.
PACKAGE_NAME = "airflow-provider-rabbitmq-management"
_INTEGRATION = "RabbitMQ management API"


def get_provider_info() -> dict[str, Any]:
    """
    Return the package's hook, trigger, sensor and connection type, by the schema of Airflow's provider info.

    A distribution that has this package beside others merges the lists into its own, as Airflow reads one provider per
    distribution.
    """
    return {
        "package-name": PACKAGE_NAME,
        "name": "RabbitMQ management",
        "description": "Read RabbitMQ's queues through its management API, and wait until they are drained.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://www.rabbitmq.com/docs/management",
                "tags": ["service"],
            }
        ],
        "hooks": [_modules("hooks.management")],
        "triggers": [_modules("triggers.queues")],
        "sensors": [_modules("sensors.queues")],
        "connection-types": [_connection_type()],
    }


def _modules(*names: str) -> dict[str, Any]:
    return {
        "integration-name": _INTEGRATION,
        "python-modules": [f"rabbitmq_management.{name}" for name in names],
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "rabbitmq_management",
        "hook-class-name": "rabbitmq_management.hooks.management.RabbitMQManagementHook",
        "hook-name": _INTEGRATION,
        "ui-field-behaviour": {
            "hidden-fields": ["extra"],
            "relabeling": {"schema": "Scheme", "login": "User"},
            "placeholders": {
                "host": "rabbitmq.example.org",
                "schema": "https (the default), or http where nobody can listen",
                "port": "15671, with http 15672",
                "login": "a user with the tag monitoring or administrator",
            },
        },
        "conn-fields": {
            "ca_file": _field("CA file", "string", "PEM file to verify the server with; empty: the system's CAs"),
            "verify": _field("Verify the certificate", "boolean", "Off: whoever answers gets the password", True),
            "path_prefix": _field("Path prefix", "string", "The server's management.path_prefix, such as /rabbitmq"),
            "timeout": _field("Time-out", "number", "Seconds to connect, and between two pieces of an answer", 10),
        },
    }


def _field(label: str, kind: str, description: str, default: object = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": [kind, "null"]}
    if default is not None:
        schema["default"] = default
    return {"label": label, "description": description, "schema": schema}
