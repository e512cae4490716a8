"""Make the accounts and the catalogue that /etc/keystone/accounts.json describes, unless they are there."""

import json
from pathlib import Path
from typing import Any

from keystoneauth1.adapter import Adapter
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

HERE = "http://127.0.0.1:5000/v3"
FILES = Path("/etc/keystone")


class Identity(Adapter):
    """Keystone's API."""

    def ensure(self, kind: str, names: dict[str, str], **rest: str) -> str:
        """
        Return the id of something, made if it isn't there.

        :param kind: what it is, as ``users``.
        :param names: what it is found by.
        :param rest: what else it is made of.
        """
        found = self.get(f"/{kind}", params=names).json()[kind]
        if not found:
            one = kind.removesuffix("s")
            found = [self.post(f"/{kind}", json={one: names | rest}).json()[one]]
        return str(found[0]["id"])

    def make_account(self, user: dict[str, Any]) -> None:
        """Make a user with roles in a project, in the user's domain, or in all of the domain's projects."""
        domain = self.ensure("domains", {"name": user["domain"]})
        user_id = self.ensure("users", {"name": user["name"], "domain_id": domain}, password=user["password"])
        where = f"domains/{domain}"
        if "project" in user:
            where = "projects/" + self.ensure("projects", {"name": user["project"], "domain_id": domain})
        for name in user["roles"]:
            role = f"{where}/users/{user_id}/roles/" + self.ensure("roles", {"name": name})
            self.put(f"/OS-INHERIT/{role}/inherited_to_projects" if user.get("inherited") else f"/{role}")

    def make_service(self, kind: str, url: str, region: str) -> None:
        """Enter a service into the catalogue."""
        service = self.ensure("services", {"type": kind}, name=kind)
        for interface in ("public", "internal"):
            self.ensure("endpoints", {"service_id": service, "interface": interface, "region_id": region}, url=url)


def main() -> None:
    """Make all of it."""
    administrator = Password(
        HERE,
        username="admin",
        password=(FILES / "administrator").read_text(encoding="utf-8"),
        user_domain_id="default",
        project_name="admin",
        project_domain_id="default",
    )
    # Keystone may only just be starting.
    identity = Identity(Session(administrator, connect_retries=8), endpoint_override=HERE)
    wanted = json.loads((FILES / "accounts.json").read_text(encoding="utf-8"))
    for role in wanted["roles"]:
        identity.ensure("roles", {"name": role})
    for user in wanted["users"]:
        identity.make_account(user)
    for kind, url in wanted["services"].items():
        identity.make_service(kind, url, wanted["region"])


if __name__ == "__main__":
    main()
