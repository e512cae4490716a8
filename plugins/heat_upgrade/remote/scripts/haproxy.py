"""Drain a server of HAProxy or make it ready again, and wait until HAProxy says so; or show what HAProxy thinks of it.

haproxy.py SOCKET drain|ready|show BACKEND/SERVER
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
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
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
    while not condition(line := row(path, name)):
        if time.monotonic() > deadline:
            sys.exit(
                f"error: {name} is {line['status']} after {seconds} s, expected {expected}: "
                "look at HAProxy's statistics page, then clear this task"
            )
        time.sleep(0.2)
    print(f"{name}: {line['status']}, {line['scur']} sessions")


def main():
    path, verb, name = sys.argv[1:]
    try:
        line = row(path, name)
        if verb == "show":
            print(f"::{name}={line['status']},{line['check_status']}")
            return
        if answer := ask(path, f"set server {name} state {verb}"):
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
