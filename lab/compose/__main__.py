"""
`python -m lab.compose engine|up|down`: docker-compose.yaml with a cloud of systemd hosts, to look at and to play with.

``engine`` sees that a Docker engine answers, starting one if it may, and does nothing else.
"""

from __future__ import annotations

import sys

from lab.compose.deployment import Deployment, dag_id, stop_deployment
from lab.compose.engine import start_engine
from lab.processes import LabError


def main(arguments: list[str]) -> int:
    """
    Run the command; return its exit status.

    :param arguments: of the command line.
    """
    commands = {"engine": start_engine, "up": _up, "down": stop_deployment}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: python -m lab.compose {'|'.join(commands)}", file=sys.stderr)
        return 2
    try:
        commands[arguments[0]]()
    except LabError as error:
        print(f"lab under Compose: {error}", file=sys.stderr)
        return 1
    return 0


def _up() -> None:
    deployment = Deployment()
    deployment.up()
    login, password = deployment.login
    print(f"Airflow is at {deployment.url}, login {login}, password {password}; its DAG is {dag_id()}")
    user = deployment.cloud.login()
    print(f"Keystone is at {user['auth_url']}, user {user['username']}, password {user['password']}")
    print(f"Heat is at {deployment.cloud.endpoint}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
