"""The lab's tool: `python -m lab up|status|down`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from lab.bring_up import bring_up, take_down
from lab.cloud_lab import Lab
from lab.processes import LabError
from lab.status import print_status


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
    down = _command(commands, "down", _down, "stop all of it")
    down.add_argument("--wipe", action="store_true", help="remove its state as well")
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


def _down(arguments: argparse.Namespace) -> None:
    take_down(Lab(arguments.name), wipe=arguments.wipe)


if __name__ == "__main__":
    sys.exit(main())
