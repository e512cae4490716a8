"""`python -m lab.traffic` sends traffic and writes its account; `... compare` judges two accounts."""

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from lab.traffic.account import Account
from lab.traffic.generator import Pace
from lab.traffic.process import DATABASE, LOGIN
from lab.traffic.rules import verdict
from lab.traffic.run import Run, TrafficError
from lab.traffic.tables import table

LONGEST = 3600.0  # seconds; nobody's traffic goes on for ever


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status.

    :param arguments: of the command line.
    """
    if arguments[:1] == ["compare"]:
        return _compare(_compare_parser().parse_args(arguments[1:]))
    options = _parser().parse_args(arguments)
    if not options.database:
        _parser().error(f"no database: give --database, or set {DATABASE}")
    try:
        return _send(options)
    except (TrafficError, SQLAlchemyError) as error:
        print(f"traffic: {error}", file=sys.stderr)
        return 1


def _send(options: argparse.Namespace) -> int:
    end = _until(LONGEST if options.until_signal else options.seconds)
    run = Run(
        label=options.label,
        endpoint=options.endpoint,
        cfn_endpoint=options.cfn_endpoint,
        database=options.database,
        login=json.loads(os.environ.get(LOGIN, "null")),
        seed=options.seed,
        settle=options.settle,
        pace=Pace(create_every=options.create_every),
    )
    account = run.send(end)
    account.save(options.out)
    print(table(account))
    return 0


def _until(seconds: float) -> threading.Event:
    end = threading.Event()

    def stop(*_: object) -> None:
        end.set()
        # a second signal is meant to end it at once
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    timer = threading.Timer(seconds, end.set)
    timer.daemon = True
    timer.start()
    return end


def _compare(options: argparse.Namespace) -> int:
    control, upgrade = Account.load(options.control), Account.load(options.upgrade)
    print(table(control, upgrade))
    against = verdict(upgrade, control)
    print("\nVerdict:", "it holds" if not against else "it does not hold")
    for reason in against:
        print(f"  {reason}")
    return 1 if against else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab.traffic",
        description="Create, update and delete stacks, probe the API, and draw up an account.",
    )
    parser.add_argument("--endpoint", required=True, help="Heat's API, as http://127.0.0.1:8004/v1/admin")
    parser.add_argument("--cfn-endpoint", help="heat-api-cfn, as http://127.0.0.1:8000/v1")
    parser.add_argument("--database", default=os.environ.get(DATABASE), help=f"SQLAlchemy URL (default: ${DATABASE})")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float, help="how long to send")
    length.add_argument("--until-signal", action="store_true", help="send until SIGTERM or SIGINT")
    parser.add_argument("--settle", type=float, default=180.0, help="seconds to wait for the stacks at the end")
    parser.add_argument("--create-every", type=float, default=Pace.create_every, help="seconds from stack to stack")
    parser.add_argument("--seed", type=int, default=1, help="decides in which order the stacks come")
    parser.add_argument("--label", default="traffic", help="what the account calls the run")
    parser.add_argument("--out", type=Path, required=True, help="the account's file")
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.traffic compare", description="Judge an upgrade.")
    parser.add_argument("control", type=Path, help="the account of a run without an upgrade")
    parser.add_argument("upgrade", type=Path, help="the account of the run with the upgrade")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
