"""`python -m lab.compose up|down`: docker-compose.yaml with a cloud of systemd hosts, to look at and to play with."""

from __future__ import annotations

import sys

from lab.compose.deployment import Deployment, dag_id, stop_deployment
from lab.processes import LabError


def main(arguments: list[str]) -> int:
    """
    Run the command; return its exit status.

    :param arguments: of the command line.
    """
    if arguments not in (["up"], ["down"]):
        print("usage: python -m lab.compose up|down", file=sys.stderr)
        return 2
    try:
        if arguments == ["down"]:
            stop_deployment()
        else:
            _up()
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
