"""The lab's tool: `python -m lab up|status|down`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from lab.cloud.bring_up import bring_up, stop_airflow, take_down
from lab.cloud.model import PROJECT_ROOT, Lab
from lab.cloud.status import print_status
from lab.compose.deployment import stop_deployment
from lab.processes import LabError


def main() -> int:
    """Run one command; return its exit status."""
    arguments = _parser().parse_args()
    try:
        return int(arguments.run(arguments) or 0)
    except LabError as error:
        print(f"lab {arguments.name}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="A real Heat cloud on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = _command(commands, "up", _up, "start it, and wait until Heat answers")
    up.add_argument("--fresh", action="store_true", help="remove what is there first: start with the first release")
    _command(commands, "status", _status, "show what runs, and which release each host serves")
    airflow = commands.add_parser("airflow", help="Airflow for it").add_subparsers(required=True, metavar="COMMAND")
    _command(airflow, "up", _airflow_up, "start Airflow for its cloud, and wait until every component is alive")
    _command(airflow, "down", _airflow_down, "stop its Airflow")
    down = _command(commands, "down", _down, "stop all of it")
    down.add_argument("--wipe", action="store_true", help="remove its state as well")
    stop = commands.add_parser("stop", help="stop every lab of this checkout")
    stop.set_defaults(run=_stop, name="stop")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    help_text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=help_text.capitalize())
    parser.add_argument("--name", default="demo", help="which lab; several can run at once (default: %(default)s)")
    parser.add_argument("--size", choices=("full", "small"), help="4 hosts or 2 (default: as it was made, else full)")
    parser.set_defaults(run=run)
    return parser


def _up(arguments: argparse.Namespace) -> None:
    if arguments.fresh:
        take_down(Lab(arguments.name), wipe=True)
    bring_up(Lab(arguments.name, arguments.size))


def _status(arguments: argparse.Namespace) -> int:
    return 0 if print_status(Lab(arguments.name, arguments.size)) else 1


def _stop(_: argparse.Namespace) -> None:
    # A lab writes its size before it starts anything.
    for size in sorted((PROJECT_ROOT / ".state").glob("*/size")):
        take_down(Lab(size.parent.name))
        print(f"lab {size.parent.name} is stopped")
    stop_deployment()


def _airflow_up(arguments: argparse.Namespace) -> None:
    from lab.airflow.server import airflow_login, start_airflow

    begun = time.monotonic()
    lab = Lab(arguments.name)
    start_airflow(lab)
    login, password = airflow_login(lab)
    print(
        f"Airflow is up after {time.monotonic() - begun:.1f} s: {lab.airflow_url}, login {login}, password {password}"
    )


def _airflow_down(arguments: argparse.Namespace) -> None:
    stop_airflow(Lab(arguments.name))


def _down(arguments: argparse.Namespace) -> None:
    take_down(Lab(arguments.name), wipe=arguments.wipe)


if __name__ == "__main__":
    sys.exit(main())
