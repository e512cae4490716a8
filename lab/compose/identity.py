"""Keystone: what its machine is given, who there is, and how Heat and its users log in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lab.cloud.model import OPERATOR

MACHINE = "lab-keystone"
URL = f"http://{MACHINE}:5000/v3"
REGION = "lab"
# Its passwords, beside those that any lab has: of its database, its first administrator and the users below.
SECRETS = ("keystone_database", "administrator", "service", "domain_admin", "user", "operator")
# Whose stacks the traffic's are; and who upgrades, with a role in all projects.
USER, USERS_PROJECT = "demo", "demo"
_DOMAINS = {"user_domain_name": "Default", "project_domain_name": "Default"}

CONFIGURATION = """\
[database]
connection = {database_url}

[fernet_tokens]
key_repository = /var/lib/keystone/fernet-keys

[fernet_receipts]
key_repository = /var/lib/keystone/receipt-keys

[token]
# Less than an upgrade takes: who sends requests all the while has to log in again on the way.
expiration = 180

[identity]
# As few as there may be: Heat logs in for every stack, and these passwords are long and random.
password_hash_rounds = 4

[cache]
# There is one process, so nothing can be out of date in another one's memory.
backend = dogpile.cache.memory
"""
_HEAT_CONF = """
[DEFAULT]
deferred_auth_method = trusts
stack_user_domain_name = heat
stack_domain_admin = heat_domain_admin
stack_domain_admin_password = {domain_admin_password}

[clients_keystone]
auth_uri = {url}

[keystone_authtoken]
auth_type = v3password
auth_url = {url}
www_authenticate_uri = {url}
username = heat
password = {password}
user_domain_name = Default
project_name = service
project_domain_name = Default

[trustee]
auth_type = v3password
auth_url = {url}
username = heat
password = {password}
user_domain_name = Default
"""


def heat_configuration(secrets: Mapping[str, str]) -> str:
    """
    Return the part of heat.conf by which Heat asks Keystone who somebody is, and acts for users by their trusts.

    :param secrets: the cloud's passwords.
    """
    passwords = {"password": secrets["service"], "domain_admin_password": secrets["domain_admin"]}
    return _HEAT_CONF.format(url=URL, **passwords)


def accounts(secrets: Mapping[str, str], services: Mapping[str, str]) -> dict[str, Any]:
    """
    Return who there is beside the administrator, and what the catalogue has beside Keystone.

    :param secrets: the cloud's passwords.
    :param services: the URL of each service by its type.
    """

    def user(name: str, secret: str, roles: list[str], **where: Any) -> dict[str, Any]:
        return {"name": name, "password": secrets[secret], "domain": "Default", "roles": roles, **where}

    return {
        "region": REGION,
        "roles": ["heat_stack_owner", "heat_stack_user"],
        "users": [
            user("heat", "service", ["service"], project="service"),
            user("heat_domain_admin", "domain_admin", ["admin"], domain="heat"),
            user(USER, "user", ["member", "heat_stack_owner"], project=USERS_PROJECT),
            user(OPERATOR, "operator", ["admin"], inherited=True),
        ],
        "services": dict(services),
    }


def login(secrets: Mapping[str, str], url: str) -> dict[str, str]:
    """
    Return what keystoneauth's password plugin wants to know of the user whose stacks the traffic's are.

    :param secrets: the cloud's passwords.
    :param url: Keystone's, as it is reached from where the user is.
    """
    return {"auth_url": url, "username": USER, "password": secrets["user"], "project_name": USERS_PROJECT, **_DOMAINS}


def connection(secrets: Mapping[str, str]) -> dict[str, str]:
    """
    Return Airflow's connection to Heat: somebody who has a role in each project, for stranded stacks are in any.

    :param secrets: the cloud's passwords.
    """
    extra = {"project_name": "admin", **_DOMAINS, "region_name": REGION}
    account = {"host": URL, "login": OPERATOR, "password": secrets["operator"]}
    return {"conn_type": "generic", **account, "extra": json.dumps(extra)}
