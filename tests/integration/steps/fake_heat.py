"""
Stands in for openstack-heat where a test is about the steps and not about Heat: its programs start, answer and end.

It becomes ``heat.fake`` in a wheel, see ``wheel.py``. What a program does is said in [fake] of its heat.conf:

dies_with     write this to standard error and end with status 1
is_silent     listen nowhere
health        answer the health check with this status, whether the file that disables it exists or not
ends_with     after SIGTERM, end once this file exists
worker        start a process that SIGTERM doesn't end, and write its number here
slow_until    answer /slow once this file exists
"""

from __future__ import annotations

import argparse
import importlib
import signal
import subprocess
import sys
import threading
import time
from configparser import ConfigParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def wait_for(path: str | None) -> None:
    while path and not Path(path).exists():
        time.sleep(0.05)


class Conf:
    """A heat.conf as the fakes need it."""

    def __init__(self, *paths: str) -> None:
        self.parser = ConfigParser(interpolation=None, strict=False)
        self.parser.read(paths)

    def get(self, section: str, key: str) -> str | None:
        return self.parser.get(section, key, fallback=None)

    def start(self) -> None:
        if words := self.get("fake", "dies_with"):
            print(words, file=sys.stderr)
            sys.exit(1)

    @property
    def health(self) -> int:
        if status := self.get("fake", "health"):
            return int(status)
        follows = "disable_by_file" in (self.get("healthcheck", "backends") or "")
        file = self.get("healthcheck", "disable_by_file_path")
        return 503 if follows and file and Path(file).exists() else 200


def until_terminated(conf: Conf) -> None:
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    while not terminated.wait(0.1):
        pass
    wait_for(conf.get("fake", "ends_with"))


def engine() -> None:
    """Run as heat-engine does: until SIGTERM, and on until the work is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file", required=True)
    conf = Conf(parser.parse_args().config_file)
    conf.start()
    if file := conf.get("fake", "worker"):
        ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
        Path(file).write_text(str(subprocess.Popen([sys.executable, "-c", ignore]).pid))
    until_terminated(conf)


def uwsgi() -> None:
    """Serve an API as uWSGI does heat-api."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-socket", required=True)
    parser.add_argument("--module")
    parser.add_argument("--pyargv", required=True)
    arguments, _ = parser.parse_known_args()
    address, _, port = arguments.http_socket.rpartition(":")
    serve(Conf(arguments.pyargv.split()[1]), address, int(port))


def heat_api() -> None:
    """Serve an API as Heat's own program of releases up to 24 does: the last file that says where to listen counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file", action="append", required=True)
    conf = Conf(*parser.parse_args().config_file)
    paste = conf.get("paste_deploy", "api_paste_config")
    if paste and "heat_upgrade_router:guard_factory" in Path(paste).read_text():
        importlib.import_module("heat_upgrade_router")  # else it doesn't start
    serve(conf, conf.get("heat_api", "bind_host") or "0.0.0.0", int(conf.get("heat_api", "bind_port") or 8004))


def serve(conf: Conf, address: str, port: int) -> None:
    """Answer with the release until SIGTERM."""
    conf.start()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                wait_for(conf.get("fake", "slow_until"))
            body = (conf.get("revision", "heat_revision") or "").encode()
            self.send_response({"/": 300, "/healthcheck": conf.health}.get(self.path, 200))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    if not conf.get("fake", "is_silent"):
        server = ThreadingHTTPServer((address, port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    until_terminated(conf)
