"""Drain a server of HAProxy or make it ready again, and wait until HAProxy says so; or show what HAProxy thinks of it.

haproxy.py SOCKET drain|ready|show BACKEND/SERVER

A balancer may be older than what it balances: this keeps to what Python 3.6 reads.
"""

import csv
import io
import socket
import sys
import time

DRAIN_SECONDS = 120
READY_SECONDS = 60


def ask(path, command):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(command.encode() + b"\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return answer.decode().strip()


def row(path, name):
    """Return HAProxy's statistics of one server."""
    backend, _, server = name.partition("/")
    table = csv.DictReader(io.StringIO(ask(path, "show stat").lstrip("# ")))
    for line in table:
        if (line["pxname"], line["svname"]) == (backend, server):
            return line
    sys.exit(
        f"error: HAProxy at {path} has no server {name}: correct rotation.backends or rotation.server in the cloud file"
    )


def idle(line):
    return int(line["scur"]) == 0 and int(line["qcur"] or 0) == 0


def up(line):
    return line["status"].startswith(("UP", "no check"))


def wait(path, name, condition, seconds, expected):
    deadline = time.monotonic() + seconds
    line = row(path, name)
    while not condition(line):
        if time.monotonic() > deadline:
            sys.exit(
                f"error: {name} is {line['status']} after {seconds} s, expected {expected}: "
                "look at HAProxy's statistics page, then clear this task"
            )
        time.sleep(0.2)
        line = row(path, name)
    print(f"{name}: {line['status']}, {line['scur']} sessions")


def main():
    path, verb, name = sys.argv[1:]
    try:
        line = row(path, name)
        if verb == "show":
            print(f"::{name}={line['status']},{line['check_status']}")
            return
        answer = ask(path, f"set server {name} state {verb}")
        if answer:
            sys.exit(
                f"error: HAProxy refused 'set server {name} state {verb}': {answer}; the socket needs 'level admin'"
            )
        if verb == "drain":
            wait(path, name, idle, DRAIN_SECONDS, "no session")
        else:
            wait(path, name, up, READY_SECONDS, "UP")
    except OSError as error:
        sys.exit(
            f"error: HAProxy's socket {path} can't be used ({error}): check rotation.socket and the SSH user's rights"
        )


main()
