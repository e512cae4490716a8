"""What the entry point ``apache_airflow_provider`` declares to Airflow."""

from __future__ import annotations

from typing import Any

from rabbitmq_management.provider import get_provider_info as rabbitmq_info

_INTEGRATION = "OpenStack Heat"
# The families of tasks, a file each.
_HOOKS = ("host", "heat_api", "heat_database", "rabbitmq", "vhosts")
_OPERATORS = (
    "api_watch",
    "apis",
    "approvals",
    "canary",
    "database",
    "dry_run",
    "engines",
    "flip",
    "gates",
    "preflight",
    "prepare",
    "report",
    "stranded",
    "verify",
    "vhosts",
)
_TRIGGERS = ("api_watch", "canary", "drain", "job", "run", "stacks")


def get_provider_info() -> dict[str, Any]:
    """
    Return hooks, tasks and connection types, by the schema of Airflow's provider info.

    Those of the RabbitMQ package are among them: Airflow reads one provider of each distribution.
    """
    rabbitmq = rabbitmq_info()
    return {
        "package-name": "heat-rolling-upgrade",
        "name": "OpenStack Heat upgrades",
        "description": "Upgrade OpenStack Heat release by release without losing users' stacks.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.openstack.org/heat/latest/",
                "tags": ["service"],
            },
            *rabbitmq["integrations"],
        ],
        "hooks": [_modules("hooks", *_HOOKS), *rabbitmq["hooks"]],
        "operators": [_modules("operators", *_OPERATORS)],
        "sensors": [_modules("sensors", "drain"), *rabbitmq["sensors"]],
        "triggers": [_modules("triggers", *_TRIGGERS), *rabbitmq["triggers"]],
        "notifications": ["heat_upgrade.notifications.webhook.WebhookNotifier"],
        "connection-types": [_heat_api(), _heat_database(), *rabbitmq["connection-types"]],
    }


def _modules(room: str, *names: str) -> dict[str, Any]:
    return {
        "integration-name": _INTEGRATION,
        "python-modules": [f"heat_upgrade.{room}.{name}" for name in names],
    }


def _heat_api() -> dict[str, Any]:
    return {
        "connection-type": "heat_api",
        "hook-class-name": "heat_upgrade.hooks.heat_api.HeatApiHook",
        "hook-name": "OpenStack Heat API",
        "ui-field-behaviour": {
            "hidden-fields": ["port", "schema"],
            "relabeling": {"host": "Keystone URL", "login": "User"},
            "placeholders": {
                "host": "https://keystone.example:5000/v3; with the type none Heat's endpoint and project",
                "login": "a user with a role in every project whose stacks may be stranded",
                "extra": "further options of keystoneauth's plugin, as JSON",
            },
        },
        "conn-fields": {
            "auth_type": _field(
                "Authentication", "keystoneauth's plugin, or none for a Heat without Keystone", "password"
            ),
            "project_name": _field("Project", "The project of the smoke stack"),
            "project_domain_name": _field("Project's domain", "As Default"),
            "user_domain_name": _field("User's domain", "As Default"),
            "region_name": _field("Region", "Which endpoint of the catalogue; empty: any"),
            "interface": _field("Interface", "public (the default), internal or admin"),
            "verify": _field("Verify certificates", "Path of a CA file, or false; empty: the system's CAs"),
        },
    }


def _heat_database() -> dict[str, Any]:
    return {
        "connection-type": "heat_database",
        "hook-class-name": "heat_upgrade.hooks.heat_database.HeatDatabaseHook",
        "hook-name": "OpenStack Heat database",
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {"schema": "Database", "login": "User"},
            "placeholders": {
                "host": "as in [database] connection of heat.conf",
                "port": "3306",
                "schema": "heat",
                "login": "an account that can only read is enough",
                "extra": '{"ssl": {"ca": "/etc/ssl/certs/ca-certificates.crt"}}',
            },
        },
    }


def _field(label: str, description: str, default: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"]}
    if default is not None:
        schema["default"] = default
    return {"label": label, "description": description, "schema": schema}
