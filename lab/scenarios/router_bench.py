"""What the router costs a request, under the uWSGI that the release's pins name: part of `make bench`."""

from __future__ import annotations

import http.client
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from heat_upgrade.router import state
from lab.cloud.model import PROJECT_ROOT
from lab.processes import clean_environment, run, wait_until

PINS = PROJECT_ROOT / "include" / "releases" / "openstack-heat-26.0.2.txt"
ROUTER = PROJECT_ROOT / "plugins" / "heat_upgrade" / "router"
OLD, NEW = "25.0.2", "26.0.2"
ROUNDS, REQUESTS = 10, 200
IDLE_BOUND, OVER_BOUND = 1.0, 5.0  # milliseconds at the median
FRONT, BESIDE, PLAIN = 28914, 28915, 28916  # ports
# Heat takes some milliseconds for its shortest answer; here the app takes none, so that the router's part shows.
APP = """\
import sys
sys.path.insert(0, {router!r})
import heat_upgrade_router
def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{{}}"]
routed = heat_upgrade_router.filter_factory(
    {{}}, api="orchestration", side={new!r}, other={old!r}, beside="http://127.0.0.1:{beside}", state={state!r}
)(plain)
"""
READ, CHANGE = ("GET", "/v1/project/stacks"), ("PUT", "/v1/project/stacks/name/11111111-1111-4111-8111-111111111111")


def main() -> int:
    """Measure with all APIs at once, turn by turn; return 0 if the router stays within its bounds."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        uwsgi = _install(folder)
        _write_app(folder)
        for function, port in (("plain", PLAIN), ("plain", BESIDE), ("routed", FRONT)):
            servers.enter_context(_serving(uwsgi, folder, function, port))
        idle = _compare("idle, read", PLAIN, READ), _compare("idle, change", PLAIN, CHANGE)
        _flip(folder, OLD)
        over = _compare("handed over, read", BESIDE, READ), _compare("handed over, change", BESIDE, CHANGE)
    print(f"bounds: idle {IDLE_BOUND} ms, handed over {OVER_BOUND} ms more at the median")
    return 0 if max(idle) <= IDLE_BOUND and max(over) <= OVER_BOUND else 1


def _install(folder: Path) -> Path:
    """Install what a release's API brings along, as far as the router and its server need it."""
    pins = re.findall(r"^(?:pyuwsgi|WebOb)==\S+", PINS.read_text("utf-8"), re.MULTILINE)
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv" / "bin" / "python"
    run([uv, "venv", "--quiet", folder / "venv"], what="make a venv")
    run([uv, "pip", "install", "--quiet", "--python", python, *pins], what="install uWSGI")
    return python.with_name("uwsgi")


def _write_app(folder: Path) -> None:
    (folder / "run").mkdir()
    state.create(folder, _fields(NEW))
    text = APP.format(router=str(ROUTER), new=NEW, old=OLD, beside=BESIDE, state=str(folder / state.STATE))
    (folder / "app.py").write_text(text, encoding="utf-8")


def _flip(folder: Path, default: str) -> None:
    held = state.hold(folder, "changes", 10, 5)
    state.release(folder, state.prepare(folder, held.sequence, _fields(default)).sequence)


def _fields(default: str) -> dict[str, object]:
    return {"sides": [OLD, NEW], "default": default, "projects": {}, "stacks": {}, "closed": False}


@contextmanager
def _serving(uwsgi: Path, folder: Path, function: str, port: int) -> Iterator[None]:
    """Serve as `prepare` has the APIs served."""
    words = ["--master", "--lazy-apps", "--enable-threads", "--need-app", "--die-on-term", "--disable-logging"]
    words += ["--processes", "2", "--threads", "8", "--add-header", "Connection: close"]
    words += ["--http-socket", f"127.0.0.1:{port}", "--module", f"app:{function}", "--pythonpath", str(folder)]
    with (folder / f"{port}.log").open("wb") as log:
        server = subprocess.Popen(
            [uwsgi, *words], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=clean_environment()
        )
    try:
        wait_until(lambda: _answers(port), what=f"uWSGI serves on port {port}")
        yield
    finally:
        server.terminate()
        server.wait(30)


def _answers(port: int) -> bool:
    try:
        return _milliseconds(port, READ) > 0
    except OSError:
        return False


def _milliseconds(port: int, request: tuple[str, str]) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(*request)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"port {port} answered {answer.status}, expected 200: nothing to compare")
    return (time.perf_counter() - began) * 1000


def _compare(what: str, without: int, request: tuple[str, str]) -> float:
    """Print how long a request takes without and with the router, and return the difference of the medians."""
    plain: list[float] = []
    routed: list[float] = []
    for _ in range(ROUNDS):  # turn by turn, so that both see the same machine
        plain += [_milliseconds(without, request) for _ in range(REQUESTS)]
        routed += [_milliseconds(FRONT, request) for _ in range(REQUESTS)]
    before, after = statistics.median(plain), statistics.median(routed)
    tail = statistics.quantiles(plain, n=100)[98], statistics.quantiles(routed, n=100)[98]
    print(f"{what:20} median {before:5.2f} ms without, {after:5.2f} with: {after - before:5.2f} more", end="; ")
    print(f"99th percentile {tail[0]:5.2f} and {tail[1]:5.2f}")
    return after - before


if __name__ == "__main__":
    sys.exit(main())
