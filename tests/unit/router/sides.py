"""Both sides of a host without Heat: an API beside, a front before the router, and the folder between them."""

from __future__ import annotations

import http.client
import io
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from heat_upgrade.router import state
from heat_upgrade.router.heat_upgrade_router import Router, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

OLD, NEW = "25.0.2", "26.0.2"
ROOT = "11111111-1111-4111-8111-111111111111"
CHILD = "22222222-2222-4222-8222-222222222222"
GRANDCHILD = "33333333-3333-4333-8333-333333333333"
AT_REST = "44444444-4444-4444-8444-444444444444"
MISSING = "55555555-5555-4555-8555-555555555555"
PROJECT, CANARY = "a" * 32, "b" * 32
NOWHERE = "http://127.0.0.1:1"


class FakeEngines:
    """Heat's engines, as far as the router asks them; real ones are asked in the lab."""

    def __init__(self) -> None:
        self.parents = {
            ROOT: (None, PROJECT),
            CHILD: (ROOT, PROJECT),
            GRANDCHILD: (CHILD, PROJECT),
            AT_REST: (None, CANARY),
        }
        self.names: dict[tuple[str, str], str] = {}
        self.asked: list[str] = []
        self.fails = False

    def above(self, stack: str) -> tuple[str | None, str] | None:
        """Return a stack's parent and project."""
        self.asked.append(stack)
        if self.fails:
            raise TimeoutError("no reply")
        return self.parents.get(stack)

    def identify(self, context: Any, name: str) -> str | None:
        """Return the id of a stack with a name."""
        if self.fails:
            raise TimeoutError("no reply")
        return self.names.get((context.project_id, name))


class Here:
    """The API here: it tells what it got; it may take its time."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.wait: Any = None
        self.entered = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.got.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], body))
        self.entered.set()
        if self.wait:
            assert self.wait.wait(30)
        start_response("200 OK", [("X-Side", "here"), ("Content-Length", "4")])
        return [b"here"]


@dataclass
class Beside:
    """The API beside: what it got, and what it answers."""

    port: int = 0
    got: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def _handler(beside: Beside) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            beside.got.append((self.command, self.path, dict(self.headers.items()), body))
            if beside.answer:
                beside.answer(self)
                return
            self.send_response(200)
            self.send_header("X-Side", "beside")
            self.send_header("Content-Length", "6")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"beside")

        def log_message(self, format: str, *args: object) -> None:
            pass

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler._take)
    return Handler


@contextmanager
def serving(server: Any) -> Iterator[None]:
    """Serve in a thread meanwhile."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Beside(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def api_beside() -> Iterator[Beside]:
    """Run an API beside meanwhile."""
    beside = Beside()
    server = _Beside(("127.0.0.1", 0), _handler(beside))
    beside.port = server.server_port
    with serving(server):
        yield beside


class _Front(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def get_environ(self) -> dict[str, Any]:
        """Add what uWSGI, mod_wsgi and eventlet tell and wsgiref doesn't."""
        return {**super().get_environ(), "REQUEST_URI": self.path}


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def side(self) -> str:
        """Who answered: ``here``, ``beside``, or the router itself, by its status."""
        return self.headers.get("X-Side", str(self.status))


@contextmanager
def front(app: Any) -> Iterator[Callable[..., Answered]]:
    """Serve an app over a socket, and give what sends a request to it."""
    server = make_server("127.0.0.1", 0, app, _Front, _Quiet)
    with serving(server):

        def send(method: str, path: str, body: Any = None, **headers: str) -> Answered:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            try:
                connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
                answer = connection.getresponse()
                return Answered(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                connection.close()

        yield send


def fields(default: str = OLD, **more: Any) -> dict[str, Any]:
    """Return what a state says, by default that everything is on the old side."""
    return {"sides": [OLD, NEW], "default": default, "projects": {}, "stacks": {}, "closed": False, **more}


def folder(directory: Path, **more: Any) -> Path:
    """Make the folder that the router and the upgrade share."""
    directory.mkdir()
    (directory / "run").mkdir()
    state.create(directory, fields(**more))
    return directory


def flip(directory: Path, what: str = "changes", **more: Any) -> State:
    """Do on one host what a flip does."""
    known = state.read(directory)
    assert known is not None
    plain = {**known._asdict(), "sides": sorted(known.sides)}
    held = state.hold(directory, what, 10, 5)
    ready = state.prepare(directory, held.sequence, {**plain, **more})
    return state.release(directory, ready.sequence)


def router(directory: Path, beside: str = NOWHERE, app: Any = None, api: str = "orchestration", **more: Any) -> Router:
    """Return a router as its host's API of the new release has it."""
    place = {"side": NEW, "other": OLD, **more}
    return Router(app or Here(), api=api, beside=beside, state=str(directory / "state.json"), **place)


def call(app: Any, method: str, path: str, body: bytes = b"", query: str = "", **environ: Any) -> Answered:
    """Call an app as a WSGI server does, without one."""
    answer: list[Any] = []
    asked = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "api",
        "SERVER_PORT": "8004",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "wsgi.input": io.BytesIO(body),
        **environ,
    }

    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        answer[:] = [int(status[:3]), dict(headers)]

    blocks = app(asked, start)
    text = b"".join(blocks)
    if hasattr(blocks, "close"):
        blocks.close()
    return Answered(*answer, text)


def counts(directory: Path) -> dict[str, float]:
    """Return what this process's routers have counted."""
    found: dict[str, float] = {}
    for path in (directory / "run").glob("*.json"):
        found.update(json.loads(path.read_text())["counts"])
    return found
