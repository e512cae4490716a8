"""
A filter before Heat's API that hands what belongs to the other release to that release's API beside it.

This one file is laid into the environment of a release of Heat (22 to 27, Python 3.8 to 3.13) and stands first in the
pipelines of its api-paste.ini while an upgrade lasts. It keeps one promise: **a request that changes a stack reaches
the release that works on that stack, or none.** Where it can't tell, it answers 503.

Who works on what is in one file, which the upgrade replaces as a whole (``State``): a release by default, a release
for some projects (canaries) and a release for some stacks (those in flight at the flip). The most particular word
counts: the stack itself, else the nearest stack above it, else the project, else the default. A stack that an engine
makes for a nested resource is in no list, so the stacks above it are looked up at Heat's engines and remembered.

Which stack a request means:

- heat-api: its id stands in the path of each request that changes it. A path with a name alone gets a redirect,
  whatever its method (``lookup`` in heat/api/openstack/v1/stacks.py), from either release.
- heat-api-cfn: its id stands in the ARN of a signal, or in ``StackName`` if that is an ARN. A bare ``StackName`` is a
  name within the project of whoever asks: Heat's own pipeline is asked who that is (``identity_factory``).
- Software configs and deployments name no stack. They are rows in the database under optimistic locks and reach no
  engine that works on a stack, so either release may serve them. Previews and validation change nothing.
- Routes lets ``_method`` in a query string overrule the method, so a GET with it counts as a change.

While the state holds changes, they wait here until it lets go, or until its time is up: then nothing has moved.
Router and upgrade agree on when that is, as both read the monotonic clock of the host.
Each change keeps a shared lock (flock) on a file beside the state until it is answered. Whoever gets the exclusive
lock knows that no earlier change is under way in any process of this host, and that none begins while he keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import http.client
import io
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LOG = logging.getLogger("heat_upgrade_router")
VERSION = 1  # of the state file
HOLDS = ("changes", "listed")  # what may be held: every change, or those of stacks that the state names
LONGEST_HOLD = 60  # seconds
LISTED, OTHERS = "listed.lock", "others.lock"  # for changes of stacks that the state names, and for all others
LOOK_EVERY = 0.02  # seconds between two looks at a state that holds
PATIENCE = 30.0  # seconds after which a request is refused that several holds in a row have kept waiting
LOOKUP_TIMEOUT = 10  # seconds for an engine to tell the stack above
CONNECT_TIMEOUT = 10.0  # seconds; from then on Heat's own time-outs count
DEPTH = 50  # Heat nests 5 deep by default
REMEMBERED = 50_000  # stacks whose parent is kept in memory
FORM_LIMIT = 8 * 2**20  # bytes of a form in heat-api-cfn; Heat takes templates of half a MiB
IN_MEMORY = 2**20  # bytes of a body of unknown length; the rest goes to a temporary file
BLOCK = 2**16
TOUCHED_FOR = 15.0  # seconds for which the ids of changed stacks are told; by then the database shows the change
TOUCHED = 500
READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CFN_READS = re.compile(r"(List|Describe|Get|Validate|Estimate)\w+")  # the others change a stack
ALWAYS_HERE = frozenset({"", "/", "/healthcheck"})  # the list of versions names no stack and asks no engine
SHA256 = re.compile(r"[0-9a-f]{64}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ARN_PATH = re.compile(r"stacks/([^/]+)/([^/]+)")  # as in heat/common/identifier.py
HOP_BY_HOP = re.compile("connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect", re.IGNORECASE)
QUESTION = "heat_upgrade.question"
BESIDE_PROGRAM = "heat-api-beside"
TOKEN_HEADER = "HTTP_X_HEAT_UPGRADE"  # noqa: S105 -- a name


class UnsureError(Exception):
    """Which release a request belongs to can't be told, or that release can't be reached: nothing was sent."""


class LostError(Exception):
    """A request was sent, and no answer came."""


class RefusedError(Exception):
    """Heat's own pipeline refused a request before it reached Heat: that is its answer."""

    def __init__(self, head: list[Any], body: list[bytes]) -> None:
        super().__init__(head[0])
        self.head, self.body = head, body


class Router:
    """The filter itself: find out what a request means, wait while it is held, and pass it on."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        *,
        api: str,
        side: str,
        other: str,
        beside: str,
        state: str,
        engines: Any = None,
    ) -> None:
        self._app, self._api, self._side = app, api, side
        self._beside = Beside(beside)
        self._state = StateFile(state, frozenset({side, other}))
        self._folder = Path(state).parent
        self._counts = Counts(self._folder / "run", api)
        self._engines = engines or Engines()
        self._known: dict[str, tuple[str | None, str]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        token = environ.pop(TOKEN_HEADER, None)
        if environ.get("PATH_INFO", "") in ALWAYS_HERE:
            return self._app(environ, start_response)
        try:
            if token and self._opens(token):
                return self._app(environ, start_response)
            meaning = meaning_of(self._api, environ)
            with self._passage(environ, meaning) as side:
                here = side == self._side
                self._counts.add({f"{'here' if here else 'beside'}_{meaning.kind}": 1}, meaning)
                return (self._app if here else self._beside.answer)(environ, start_response)
        except RefusedError as refusal:
            start_response(*refusal.head)
            return refusal.body
        except (UnsureError, LostError) as error:
            # As it came, so still quoted; a query may hold a signature.
            LOG.error("%s %.300s: %s", environ["REQUEST_METHOD"], raw_path(environ).partition("?")[0], error)
            self._counts.add({"refused" if isinstance(error, UnsureError) else "lost": 1})
            return refuse(start_response, error)

    def _opens(self, token: str) -> bool:
        probe = self._state.read().probe
        return probe is not None and hmac.compare_digest(hashlib.sha256(token.encode("latin-1")).hexdigest(), probe)

    @contextlib.contextmanager
    def _passage(self, environ: dict[str, Any], meaning: Meaning) -> Iterator[str]:
        """Wait while a request is held, then yield the release that it goes to; until the end that stays true."""
        began, waits, known, lock = time.monotonic(), False, None, None
        while True:
            state = self._state.read()
            if state is not known:
                stacks, project = self._lineage(environ, meaning, state)
                listed = not state.stacks.keys().isdisjoint(stacks)
                known = state
            if meaning.kind == "read":
                break
            if not (state.hold and state.hold.holds(listed)):
                lock = shared_lock(self._folder / (LISTED if listed else OTHERS))
                if lock is not None and self._state.read() is state:
                    break
                _unlock(lock)
            if time.monotonic() - began > PATIENCE:
                raise UnsureError(f"held for more than {PATIENCE} s")
            waits = True
            time.sleep(LOOK_EVERY)
        try:
            if waits:
                waited = time.monotonic() - began
                self._counts.add({f"held_{meaning.kind}": 1, f"longest_held_{meaning.kind}": waited})
            yield state.side(stacks, project)
        finally:
            _unlock(lock)

    def _lineage(self, environ: dict[str, Any], meaning: Meaning, state: State) -> tuple[list[str], str | None]:
        """Return the ids of a request's stack and those above it, as far as they are needed, and their project."""
        stack, project = meaning.stack, meaning.project
        if meaning.kind == "read" or not (state.stacks or state.projects):
            return [stack] if stack else [], project
        if meaning.name is not None or (meaning.kind == "create" and state.projects):
            stack, project = self._ask(environ, meaning.name)
        lineage: list[str] = []
        while stack and len(lineage) < DEPTH:
            lineage.append(stack)
            above = None if stack in state.stacks else self._above(stack)
            stack, project = above or (None, project)
        return lineage, project

    def _above(self, stack: str) -> tuple[str | None, str] | None:
        """Return the stack above one and its project, which never change; None where there is no such stack."""
        if stack not in self._known:
            began = time.monotonic()
            try:
                found = self._engines.above(stack)
            except Exception as error:
                raise UnsureError(f"no engine tells what is above stack {stack}: {first_line(error)}") from error
            self._counts.add({"looked_up": 1, "longest_look_up": time.monotonic() - began})
            if found is None:
                return None
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[stack] = found
        return self._known[stack]

    def _ask(self, environ: dict[str, Any], name: str | None) -> tuple[str | None, str | None]:
        """Let Heat's own pipeline tell the project of whoever asks, and the id of the stack that has a name there."""
        question: dict[str, Any] = {"name": name, "engines": self._engines}
        head: list[Any] = []
        form = environ["wsgi.input"]
        body = form.getvalue() if isinstance(form, io.BytesIO) else b""
        asked = {**environ, QUESTION: question, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}

        def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
            head[:] = [status, headers]
            return lambda block: None

        answer: Any = self._app(asked, start)
        refusal = list(answer)
        if hasattr(answer, "close"):
            answer.close()
        if "error" in question:
            raise UnsureError(f"no engine tells which stack {name!r:.100} is: {first_line(question['error'])}")
        if "project" not in question:
            raise RefusedError(head, refusal)
        return question.get("stack"), question["project"]


class Hold(NamedTuple):
    """
    Changes wait until ``until``, by this host's monotonic clock, which is at most ``seconds`` after the hold began.

    Without ``until`` they wait to be told, and are refused if that takes too long: other hosts may be ahead.
    """

    what: str
    until: float | None
    seconds: float

    def holds(self, listed: bool) -> bool:
        """Return whether a change waits; a time from before a reboot is over."""
        in_force = self.until is None or 0 < self.until - time.monotonic() <= self.seconds
        return in_force and (listed or self.what == "changes")


class State(NamedTuple):
    """
    Who works on what: one of two releases by default, by project id and by stack id.

    A request with the token whose hash is ``probe`` goes to this API's own side: so the upgrade tries a side before
    users are sent there. Once ``closed`` is seen all is this API's own, whatever becomes of the file.
    """

    sequence: int
    sides: frozenset[str]
    default: str
    projects: dict[str, str]
    stacks: dict[str, str]
    closed: bool
    probe: str | None
    hold: Hold | None

    def side(self, stacks: Iterable[str], project: str | None) -> str:
        """
        Return the release that works on a stack.

        :param stacks: the stack's id, then those above it.
        :param project: its project's id, where known.
        """
        named = next((self.stacks[stack] for stack in stacks if stack in self.stacks), None)
        return named or self.projects.get(project or "", self.default)


def parse(text: str | bytes) -> State:
    """
    Return the state that a file holds.

    :param text: the whole file.
    :raises ValueError: if it is anything else than a state of this version that makes sense.
    """
    try:
        data = json.loads(text)
        hold = None if data["hold"] is None else Hold(*(data["hold"][field] for field in Hold._fields))
        plain = {field: data[field] for field in State._fields}
        state = State(**{**plain, "sides": frozenset(data["sides"]), "hold": hold})
        named = {state.default, *state.projects.values(), *state.stacks.values()}
        checks = {
            f"version {data['version']!r}": data["version"] == VERSION,
            f"sequence {state.sequence!r}": type(state.sequence) is int and state.sequence > 0,
            f"sides {sorted(named | state.sides)}": len(state.sides) == 2 and named <= state.sides,
            f"hold until {hold and hold.until!r}": hold is None or hold.until is None or hold.until > 0,
            f"closed {state.closed!r}": state.closed in ((False,) if state.projects or state.stacks else (False, True)),
            f"probe {state.probe!r}": state.probe is None or bool(SHA256.fullmatch(state.probe)),
            "stack id": all(map(UUID.fullmatch, state.stacks)),
            f"hold {hold}": hold is None or (hold.what in HOLDS and 0 < hold.seconds <= LONGEST_HOLD),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no state of the upgrade: {error!r}") from error
    wrong = [name for name, right in checks.items() if not right]
    if wrong:
        raise ValueError(f"unknown {', '.join(wrong)}")
    return state


class StateFile:
    """The state file, read again only when it has been replaced."""

    def __init__(self, path: str, sides: frozenset[str]) -> None:
        self._path = Path(path)
        self._sides = sides
        self._known: tuple[object, State | str] = (None, "not read yet")
        self._newest = 0
        self._closed: State | None = None
        self._lock = threading.Lock()

    def read(self) -> State:
        """
        Return the state.

        :raises UnsureError: if there is none, if it can't be read, or if it is older than one that was seen before.
        """
        if self._closed:
            return self._closed
        try:
            found = self._path.stat()
            if self._key(found) != self._known[0]:
                self._load()
        except OSError as error:
            raise UnsureError(f"{self._path}: {error.strerror}") from error
        state = self._known[1]
        if isinstance(state, str):
            raise UnsureError(f"{self._path}: {state}")
        return state

    @staticmethod
    def _key(found: os.stat_result) -> tuple[int, ...]:
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _load(self) -> None:
        with self._lock, self._path.open("rb") as file:
            key = self._key(os.fstat(file.fileno()))
            try:
                state = parse(file.read())
                if state.sides != self._sides:
                    raise ValueError(f"of {sorted(state.sides)}, expected {sorted(self._sides)}")
                if state.sequence < self._newest:
                    raise ValueError(f"sequence {state.sequence} came after {self._newest}")
                self._newest = state.sequence
                self._known = (key, state)
                self._closed = state if state.closed and not state.hold else None
            except ValueError as error:
                LOG.error("%s: %s", self._path, error)
                self._known = (key, str(error))


class Meaning(NamedTuple):
    """What a request means: its kind (``read``, ``create`` or ``change``) and the stack, by id or by name."""

    kind: str
    stack: str | None = None
    name: str | None = None
    project: str | None = None


def plain_id(text: str) -> str | None:
    """
    Return a stack's id as Heat writes it, or None if the text is none.

    MySQL compares without case, accents, widths and trailing spaces, so many spellings find the same stack. Folding
    too much does no harm: an id that names no stack is refused by either release.
    """
    folded = "".join(c for c in unicodedata.normalize("NFKD", text).lower() if c in "0123456789abcdef-")
    return folded if UUID.fullmatch(folded) else None


def arn_stack(arn: str) -> str | None:
    """Return the id in the ARN of a stack or resource, as heat/common/identifier.py reads it; None in other text."""
    fields = arn.split(":")
    path = ARN_PATH.match(":".join(fields[5:]))
    if fields[0].lower() != "arn" or fields[1:3] != ["openstack", "heat"] or not path:
        return None
    return plain_id(unquote(path.group(2)))


def words_of(environ: dict[str, Any]) -> list[str]:
    """Return the decoded path after the version, which WebOb cuts off for Heat with all the slashes before it."""
    path = str(environ.get("PATH_INFO", ""))
    words = path.lstrip("/").split("/")
    return words[1:] if re.match(r"v\d", words[0]) else path.split("/")[1:]


def meaning_of(api: str, environ: dict[str, Any]) -> Meaning:
    """Return what a request to one of the two APIs means."""
    return orchestration(environ) if api == "orchestration" else cfn(environ)


def orchestration(environ: dict[str, Any]) -> Meaning:
    """Return what a request to heat-api means."""
    words = words_of(environ)
    reads = environ["REQUEST_METHOD"] in READS and "_method" not in environ.get("QUERY_STRING", "")
    previews = words[1:] in (["validate"], ["stacks", "preview"]) or (len(words) == 5 and words[4] == "preview")
    stack = plain_id(words[3]) if len(words) > 3 and words[1] == "stacks" else None
    kind = "read" if reads or previews else "create" if words[1:] == ["stacks"] else "change"
    return Meaning(kind, stack, project=words[0] if words else None)


def cfn(environ: dict[str, Any]) -> Meaning:
    """Return what a request to heat-api-cfn means; its body can be read again afterwards."""
    words = words_of(environ)
    reads = environ["REQUEST_METHOD"] in READS and "_method" not in environ.get("QUERY_STRING", "")
    if words[:1] in (["signal"], ["waitcondition"]):
        return Meaning("read" if reads else "change", arn_stack("/".join(words[1:])))
    parameters = _parameters(environ)
    action, name = parameters.get("Action"), parameters.get("StackName")
    if (CFN_READS.fullmatch(action or "") and words in ([], [""])) or (reads and not action):
        return Meaning("read")
    if action == "CreateStack":
        return Meaning("create")
    stack = arn_stack(name or "")
    return Meaning("change", stack, None if stack else name)


def _parameters(environ: dict[str, Any]) -> Any:
    """Return the parameters of a query, read as Heat reads them: WebOb has rules of its own about ; and order."""
    from webob import Request  # type: ignore[import-untyped]

    body = b""
    for block in body_blocks(environ):
        body += block
        if len(body) > FORM_LIMIT:
            raise UnsureError(f"a form of more than {FORM_LIMIT} bytes")
    environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    try:
        return dict(Request({**environ, "wsgi.input": io.BytesIO(body)}).params)
    except ValueError as error:  # no UTF-8
        raise UnsureError(f"a form that can't be read: {error}") from error


def body_blocks(environ: dict[str, Any]) -> Iterator[bytes]:
    """
    Yield a request's body as it comes in.

    :raises LostError: if the client goes away before its end.
    """
    stream, length = environ["wsgi.input"], environ.get("CONTENT_LENGTH") or ""
    if not length and is_chunked(environ):
        yield from iter(_chunks(stream), b"")
        return
    left = int(length or 0)
    while left:
        block = stream.read(min(BLOCK, left))
        if not block:
            raise LostError("the client's body ended early")
        left -= len(block)
        yield block


def is_chunked(environ: dict[str, Any]) -> bool:
    """Return whether a request's body comes in chunks, its length unknown."""
    return "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()


def _chunks(stream: Any) -> Callable[[], bytes]:
    """Return what reads the next block of a body in chunks, which uWSGI does by a function of its own."""
    try:
        from uwsgi import chunked_read  # type: ignore[import-untyped]
    except ImportError:
        return lambda: stream.read(BLOCK)
    return chunked_read  # type: ignore[no-any-return]


class Engines:
    """What Heat's engines know of stacks, asked as Heat's API asks them."""

    def above(self, stack: str) -> tuple[str | None, str] | None:
        """Return the id of the stack above one, if any, and its project; None where there is no such stack."""
        from heat.common import context  # type: ignore[import-not-found]

        found = self._call(
            context.get_admin_context(), "list_stacks", filters={"id": stack}, show_nested=True, show_hidden=True
        )
        return (found[0]["parent"], found[0]["stack_identity"]["tenant"]) if found else None

    def identify(self, context: Any, name: str) -> str | None:
        """Return the id of the stack with a name in the project of a request's context; None where there is none."""
        try:
            return str(self._call(context, "identify_stack", stack_name=name)["stack_id"])
        except Exception as error:
            if type(error).__name__.startswith(("EntityNotFound", "Forbidden")):
                return None
            raise

    def _call(self, context: Any, method: str, **arguments: Any) -> Any:
        from heat.rpc import client  # type: ignore[import-not-found]

        version = "1.33" if method == "list_stacks" else None
        return client.EngineClient().call(context, (method, arguments), version=version, timeout=LOOKUP_TIMEOUT)


class Beside:
    """The other release's API on this host. Each request has a connection of its own: none can be stale."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ValueError(f"beside is {url!r}, expected http://ADDRESS:PORT")
        self._host, self._port = parts.hostname, parts.port

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """
        Hand a request over as it came, and return the answer as it comes.

        :raises UnsureError: if nothing could be sent.
        :raises LostError: if the answer didn't come.
        """
        with contextlib.ExitStack() as unless_answered:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT)
            unless_answered.callback(connection.close)
            try:
                connection.connect()
            except OSError as error:
                raise UnsureError(f"the API beside at {self._host}:{self._port}: {error}") from error
            connection.sock.settimeout(None)
            try:
                _send(connection, environ)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise LostError(f"the API beside at {self._host}:{self._port}: {error!r}") from error
            unless_answered.pop_all()
        headers = [(k, v) for k, v in response.getheaders() if not HOP_BY_HOP.fullmatch(k)]
        start_response(f"{response.status} {response.reason}", headers)
        return Answer(connection, response)


class Answer:
    """The body of an answer, block by block as it comes in."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response, self._left = connection, response, response.length

    def __iter__(self) -> Iterator[bytes]:
        while self._left != 0:
            block = self._response.read1(BLOCK if self._left is None else min(BLOCK, self._left))
            if not block:
                break
            if self._left is not None:
                self._left -= len(block)
            yield block
        if self._left:
            raise LostError(f"the answer of the API beside ended {self._left} bytes early")

    def close(self) -> None:
        """Give up the connection, as WSGI asks for."""
        self._response.close()
        self._connection.close()


def _send(connection: http.client.HTTPConnection, environ: dict[str, Any]) -> None:
    headers = {key[5:].replace("_", "-").title(): value for key, value in environ.items() if key.startswith("HTTP_")}
    headers = {key: value for key, value in headers.items() if not HOP_BY_HOP.fullmatch(key)}
    headers.setdefault("Host", f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}")
    # To WSGI a header Content_Length looks like one, too. The true ones are elsewhere.
    headers.update({"Connection": "close", "Content-Length": "", "Content-Type": environ.get("CONTENT_TYPE", "")})
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as spool:
        blocks, length = body_blocks(environ), environ.get("CONTENT_LENGTH")
        if not length and is_chunked(environ):
            # uWSGI takes no chunks from an HTTP socket, so the body goes on in one piece.
            for block in blocks:
                spool.write(block)
            length = str(spool.tell())
            spool.seek(0)
            blocks = iter(lambda: spool.read(BLOCK), b"")
        headers["Content-Length"] = length or ""
        connection.putrequest(environ["REQUEST_METHOD"], raw_path(environ), skip_host=True, skip_accept_encoding=True)
        for key in (key for key, value in headers.items() if value):
            connection.putheader(key, headers[key])
        connection.endheaders()
        with contextlib.suppress(ConnectionError):  # it may answer before it has read all
            for block in blocks:
                connection.send(block)


def raw_path(environ: dict[str, Any]) -> str:
    """Return path and query as they stood in the request's first line, where the server tells them."""
    raw = environ.get("REQUEST_URI") or ""
    if not raw.startswith("/"):
        path = environ.get("RAW_PATH_INFO") or quote(
            (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/:@!$&'()*+,;=~"
        )
        raw = path + ("?" + environ["QUERY_STRING"] if environ.get("QUERY_STRING") else "")
    return quote(raw.encode("latin-1"), safe="".join(map(chr, range(0x21, 0x7F))))


class Counts:
    """What this process did, in a file of its own for the upgrade's report. A failure to write stops nothing."""

    def __init__(self, folder: Path, api: str) -> None:
        self._folder, self._api = folder, api
        self._lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._numbers: dict[str, float] = {}
        self._touched: dict[str, float] = {}

    def add(self, numbers: dict[str, float], meaning: Meaning | None = None) -> None:
        """
        Add to some numbers; of those called ``longest_...`` the greatest stays.

        :param numbers: what to add.
        :param meaning: the request. If it changes a stack, the stack's id is told for a while: what a signal sets off
            may begin only after its answer.
        """
        with self._lock:
            for name, number in numbers.items():
                known = self._numbers.get(name, 0)
                self._numbers[name] = max(known, number) if name.startswith("longest_") else known + number
            if meaning and meaning.kind == "change" and meaning.stack:
                self._touch(meaning.stack)
            self._write()

    def _touch(self, stack: str) -> None:
        now = time.monotonic()
        self._touched.pop(stack, None)
        self._touched[stack] = now
        recent = [(k, v) for k, v in self._touched.items() if v > now - TOUCHED_FOR]
        self._touched = dict(recent[-TOUCHED:])

    def _write(self) -> None:
        try:
            if self._file is None or self._file[0] != os.getpid():
                path = self._folder / f"{self._api}-{os.getpid()}.json"
                self._file = (os.getpid(), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            text = json.dumps({"counts": self._numbers, "touched": self._touched}).encode() + b"\n"
            os.pwrite(self._file[1], text, 0)
            os.ftruncate(self._file[1], len(text))
        except OSError as error:
            LOG.debug("counts can't be written: %s", error)


class Guard:
    """
    The filter before the API beside: it passes everything on, and keeps the locks of changes meanwhile.

    The router that has handed a change over keeps them as well; but it may be killed before the API beside is done.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], *, api: str, state: str) -> None:
        self._app, self._api, self._folder = app, api, Path(state).parent

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with contextlib.ExitStack() as stack:
            try:
                # What the router never holds must not keep a lock here: a hold would wait for it in vain.
                if meaning_of(self._api, environ).kind != "read":
                    for name in (LISTED, OTHERS):
                        stack.callback(_unlock, self._wait_for(self._folder / name))
            except (UnsureError, LostError) as error:
                return refuse(start_response, error)
            return self._app(environ, start_response)

    def _wait_for(self, path: Path) -> int:
        began = time.monotonic()
        while (lock := shared_lock(path)) is None:
            if time.monotonic() - began > PATIENCE:
                raise UnsureError(f"{path} was locked for more than {PATIENCE} s")
            time.sleep(LOOK_EVERY)
        return lock


def shared_lock(path: Path) -> int | None:
    """Return the open lock file, or None while somebody has it for himself."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UnsureError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def first_line(error: Exception) -> str:
    """Return what an error says, without the traceback that one from an engine brings along."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.200}"


def refuse(start_response: Callable[..., Any], error: Exception) -> list[bytes]:
    """Answer a request that was not passed on, or whose answer was lost, as Heat words its errors."""
    code, title = (503, "Service Unavailable") if isinstance(error, UnsureError) else (502, "Bad Gateway")
    told = {"message": "Heat is being upgraded. Please try again.", "traceback": None, "type": type(error).__name__}
    body = json.dumps({"code": code, "title": title, "explanation": told["message"], "error": told}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Retry-After", "2")]
    start_response(f"{code} {title}", headers)
    return [body]


class Identity:
    """The last filter before Heat: it answers the router's question, and lets everything else through."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        question = environ.get(QUESTION)
        if question is None:
            return self._app(environ, start_response)
        context = environ["webob.adhoc_attrs"]["context"]  # heat.common.context puts it there
        try:
            question["stack"] = question["name"] and question["engines"].identify(context, question["name"])
            question["project"] = context.project_id
        except Exception as error:
            question["error"] = error
        start_response("204 No Content", [])
        return []


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[..., Router]:
    """
    Return what puts the router before an app, for PasteDeploy.

    :param global_conf: of no use here.
    :param local_conf: ``api`` (``orchestration`` or ``cfn``), ``side`` (this release), ``other`` (the other one),
        ``beside`` (``http://ADDRESS:PORT`` of its API on this host) and ``state`` (the path of the state file).
    """
    return lambda app: Router(app, **local_conf)


def identity_factory(global_conf: dict[str, str], **local_conf: str) -> type[Identity]:
    """Return what puts the filter that answers the router's questions before an app, for PasteDeploy."""
    return Identity


def guard_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[..., Guard]:
    """
    Return what puts the guard before the API beside, for PasteDeploy.

    :param global_conf: of no use here.
    :param local_conf: ``api`` (``orchestration`` or ``cfn``), and ``state``, the path of the state file.
    """
    # oslo.messaging tells RabbitMQ this name: so the drain tells the API beside from one that nobody has stopped.
    sys.argv[0] = BESIDE_PROGRAM
    return lambda app: Guard(app, **local_conf)
