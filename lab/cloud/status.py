"""Show what runs of a lab."""

from __future__ import annotations

from lab.cloud.bring_up import build_info, cfn_answers
from lab.cloud.haproxy import BACKENDS, server_states
from lab.cloud.host import programs
from lab.cloud.model import Lab, LabHost

SERVERS = ("mariadb", "epmd", "rabbitmq", "haproxy")


def print_status(lab: Lab) -> bool:
    """Print a table of the servers and the hosts; tell whether all of it runs."""
    servers = {name: lab.server(name).running() for name in SERVERS}
    airflow = lab.airflow_url if lab.server("airflow").running() else "not started"
    rotation = server_states(lab)
    rows = [_host_row(host, rotation) for host in lab.hosts]
    print(f"lab {lab.name} ({lab.size}), {lab.endpoint}")
    print("  servers: " + ", ".join(f"{name} {'up' if up else 'DOWN'}" for name, up in servers.items()))
    print(f"  Airflow: {airflow}")
    header = ("host", "address", "sshd", "api", "engine that answered", "cfn", "rotation", "services")
    _print_table([header, *rows])
    return all(servers.values()) and not any("DOWN" in row for row in rows)


def answering_releases(lab: Lab) -> dict[str, str]:
    """
    Return the release that the API of each host answers with.

    An engine of another release that answers it is named as well; ``none`` stands for no answer.
    """
    found = {}
    for host in lab.hosts_with("api"):
        api, engine = build_info(host) or ("none", "none")
        found[host.name] = api if api == engine else f"{api} (an engine of {engine} answers)"
    return found


def _host_row(host: LabHost, rotation: dict[str, str]) -> tuple[str, ...]:
    info = (build_info(host) or ("DOWN", "DOWN")) if "api" in host.roles else ("-", "-")
    cfn = "-"
    if "api-cfn" in host.roles:
        cfn = "up" if cfn_answers(host) else "DOWN"
    states = [rotation.get(f"{BACKENDS[role]}/{host.name}", "DOWN") for role in host.apis]
    up = {True: "up", False: "DOWN"}
    return (
        host.name,
        host.address,
        up[host.sshd.running()],
        *info,
        cfn,
        " ".join(states),
        _services(host),
    )


def _services(host: LabHost) -> str:
    states = programs(host)
    if not states:
        return "DOWN"
    return ", ".join(name if state == "RUNNING" else f"{name} {state}" for name, state in sorted(states.items()))


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
