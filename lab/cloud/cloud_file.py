"""What the upgrade is told about the lab: the cloud file, and Airflow's connections."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from lab.cloud.haproxy import BACKENDS
from lab.cloud.heat_config import API_PROCESSES
from lab.cloud.host import PYTHON, login_name
from lab.cloud.model import API_PORT, BESIDE, CFN_PORT, PROJECT_ROOT, RELEASES, SSH_PORT, Lab, LabHost
from lab.passwords import write_private


def write_cloud_file(lab: Lab) -> Path:
    """Write the lab's cloud file, and return where it is."""
    file = lab.clouds_directory / f"{lab.name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"# Written by `python -m lab up --name {lab.name}`.\n" + yaml.safe_dump(_cloud(lab), sort_keys=False)
    # In place only if it says something new: Airflow parses its DAGs again when a file changes.
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        partial = file.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    return file


def write_connections(lab: Lab) -> Path:
    """Write the lab's connections for Airflow's LocalFilesystemBackend, and return where they are."""
    file = lab.airflow_home / "connections.yaml"
    management, database = lab.management(), lab.database()
    connections = {
        _connection(lab, "ssh"): {
            "conn_type": "ssh",
            "login": login_name(),
            "extra": json.dumps({"key_file": str(lab.ssh_key)}),
        },
        _connection(lab, "rabbitmq"): {
            "conn_type": "rabbitmq_management",
            "schema": "http",
            "host": management.host,
            "port": management.port,
            "login": management.login,
            "password": management.password,
        },
        _connection(lab, "database"): {
            "conn_type": "heat_database",
            "host": database.host,
            "port": database.port,
            "login": database.login,
            "password": database.password,
            "schema": "heat",
        },
        _connection(lab, "api"): {
            "conn_type": "heat_api",
            "host": lab.endpoint,
            "extra": json.dumps({"auth_type": "none"}),
        },
    }
    write_private(file, yaml.safe_dump(connections, sort_keys=False))
    return file


def _connection(lab: Lab, kind: str) -> str:
    return f"heat_{lab.name.replace('-', '_')}_{kind}"


def _cloud(lab: Lab) -> dict[str, Any]:
    tools = Path(sys.executable).parent
    # A host that is named {host}: what is the same on all of them, as the cloud file's templates want it.
    any_host = LabHost("{host}", "{address}", (), "healthcheck", lab.state / "hosts/{host}", lab.state)
    return {
        "releases": [
            {"version": version, "vhost": vhost, "requirements": str(_pins(version))}
            for version, vhost in RELEASES.items()
        ],
        "hosts": [_host(lab, host) for host in lab.hosts],
        "connections": {kind: _connection(lab, kind) for kind in ("ssh", "rabbitmq", "database", "api")},
        "service_manager": {
            "kind": "supervisor",
            "supervisorctl": [str(tools / "supervisorctl"), "-c", str(any_host.supervisor_conf)],
            "conf_dir": str(any_host.root / "etc/supervisor.d"),
        },
        "become": "none",
        "installer": {"kind": "uv", "command": str(tools / "uv"), "python": str(PYTHON)},
        "layout": {
            "venv": str(any_host.venv()),
            "config": str(any_host.config()),
            "unit": "heat-{role}-{release}",
            "state": str(any_host.root / "var/lib/heat-upgrade"),
        },
        "services": {
            "stop_timeout": 3600,
            "api": _listen(API_PORT),
            "api-cfn": _listen(CFN_PORT),
        },
        "rotation": {"kind": "healthcheck", "file": str(any_host.rotation_file), "settle": 3},
        "waves": [1],
        "drain": {"interval": 3, "readings": 3, "timeout": 1800},
        # For a run whose form names projects.
        "canary": {"minutes": 2},
        "backup": {"host": lab.hosts[0].name, "directory": str(lab.state / "backups")},
    }


def _pins(release: str) -> Path:
    return PROJECT_ROOT / f"include/releases/openstack-heat-{release}.txt"


def _listen(port: int) -> dict[str, Any]:
    # Hosts of a lab share 127.0.0.1.
    beside = {"address": "{address}", "port": port + BESIDE}
    return {"address": "{address}", "port": port, "processes": API_PROCESSES, "threads": 8, "beside": beside}


def _host(lab: Lab, host: LabHost) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": host.name,
        "address": host.address,
        "port": SSH_PORT,
        "host_key": host.host_key,
        "roles": list(host.roles),
    }
    if host.rotation == "haproxy":
        entry["rotation"] = {
            "kind": "haproxy",
            "address": lab.balancer.address,
            "port": SSH_PORT,
            "host_key": lab.balancer.host_key,
            "socket": str(lab.admin_socket),
            "backends": dict(BACKENDS),
            "server": "{host}",
        }
    return entry
