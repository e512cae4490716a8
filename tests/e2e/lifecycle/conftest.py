"""A lab on its first release, to the next one and back; its cloud may have servers to tell."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from lab.cloud.model import Lab
from lab.passwords import write_private
from tests.e2e.labs import LIFE, shared_lab
from tests.e2e.lifecycle.sinks import MAIL_PASSWORD, PATH, TOKEN, Sinks, sinks

# On the first release until one of the stories upgrades it.
lab = shared_lab(LIFE, "package")


@pytest.fixture(scope="module")
def told(lab: Lab) -> Iterator[Sinks]:
    """Give the lab's cloud servers to tell, and take them away from it afterwards."""
    cloud_file, connections = lab.clouds_directory / f"{lab.name}.yaml", lab.airflow_home / "connections.yaml"
    before = cloud_file.read_text(encoding="utf-8"), connections.read_text(encoding="utf-8")
    plain = json.dumps({"disable_ssl": True, "disable_tls": True, "from_email": "heat@example.org", "retry_limit": 0})
    headers = json.dumps({"headers": {"X-Hook": TOKEN}})
    with sinks() as found:
        mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": found.mail_port, "extra": plain}
        mail |= {"login": "heat", "password": MAIL_PASSWORD}
        url = f"http://127.0.0.1:{found.web_port}{PATH}"
        more = {
            "night_mail": mail,
            "night_hook": {"conn_type": "http", "host": url, "password": TOKEN, "extra": headers},
            "night_nobody": {"conn_type": "http", "host": f"http://127.0.0.1:1{PATH}"},
        }
        write_private(connections, yaml.safe_dump({**yaml.safe_load(before[1]), **more}))
        yield found
        cloud_file.write_text(before[0], encoding="utf-8")
        write_private(connections, before[1])
