"""Requests reach the API beside as they came, and its answers come back as they were, over real sockets."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import make_server

import pytest

from heat_upgrade.router.heat_upgrade_router import LostError
from tests.unit.router.sides import NEW, NOWHERE, PROJECT, ROOT, Answered, call, counts, folder, front, router, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from tests.unit.router.conftest import Host

LIST = f"/v1/{PROJECT}/stacks"
STACK = f"{LIST}/name/{ROOT}"


@pytest.fixture
def send(host: Host) -> Iterator[Callable[..., Answered]]:
    """Send a request to a server with the router, everything being on the other side."""
    with front(host.router()) as sender:
        yield sender


def answering(status: int, headers: dict[str, str], body: bytes = b"") -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("body", [None, b"", b'{"a": 1}'])
def test_every_method_goes_over_and_back(
    host: Host, send: Callable[..., Answered], method: str, body: bytes | None
) -> None:
    answered = send(method, f"{STACK}?a=b&a=%20&c", body, X_Auth_Token="secret", Content_Type="application/json")
    assert (answered.status, answered.side) == (200, "beside")
    assert answered.body == (b"" if method == "HEAD" else b"beside")
    (got, path, headers, content) = host.beside.got[0]
    assert (got, path, content) == (method, f"{STACK}?a=b&a=%20&c", body or b"")
    assert (headers["X-Auth-Token"], headers["Content-Type"]) == ("secret", "application/json")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/p/stacks/a%2Fb/c%20d",
        "/v1/p/stacks/%C3%A4%F0%9F%94%A5/x",
        "/v1/p/stacks/%FF%FE",
        "/v1/p/stacks/a;b=c,d/(e)'f'!*~$&+@:",
        "/v1//p///stacks/",
        "/v1/p/stacks/%2e%2e/..%2f/./x",
        "/v1/p/stacks/%25%32%66?x=%2525&y=a+b%2Bc&=&&z",
        '/v1/p/stacks/"<>\\^`{|}',
        "/v1/p/stacks?",
        "/v1/signal/arn%3Aopenstack%3Aheat%3A%3Ap%3Astacks%2Fn%2Fx%2Fresources%2Fr?Signature=a%2Bb%3D",
    ],
)
def test_a_path_goes_over_to_the_letter(host: Host, send: Callable[..., Answered], path: str) -> None:
    assert send("GET", path).side == "beside"
    assert host.beside.got[0][1] == path


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"REQUEST_URI": "/v1/p/a%2Fb?x=%20"}, "/v1/p/a%2Fb?x=%20"),
        ({"RAW_PATH_INFO": "/v1/p/a%2Fb"}, "/v1/p/a%2Fb?x=y"),
        ({}, "/v1/p/%C3%A4%20b?x=y"),
        ({"SCRIPT_NAME": "/heat"}, "/heat/v1/p/%C3%A4%20b?x=y"),
        ({"REQUEST_URI": "http://api/v1/p"}, "/v1/p/%C3%A4%20b?x=y"),
        ({"REQUEST_URI": "/v1/p/\xc3\xa4\x01 b"}, "/v1/p/%C3%A4%01%20b"),
    ],
)
def test_a_path_is_taken_from_what_the_server_tells(host: Host, told: dict[str, str], expected: str) -> None:
    assert host.ask("GET", "/v1/p/\xc3\xa4 b", query="x=y", **told).side == "beside"
    assert host.beside.got[0][1] == expected


def test_headers_go_over_but_for_those_of_one_connection(host: Host, send: Callable[..., Answered]) -> None:
    headers = {
        "Host": "heat.example.org:8004",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_For": "192.0.2.1, 192.0.2.2",
        "Forwarded": "for=192.0.2.1",
        "Accept": "application/json",
        "User_Agent": "odd \u00fc",
        "Connection": "keep-alive",
        "Keep_Alive": "timeout=5",
        "TE": "trailers",
        "Upgrade": "h2c",
        "Expect": "nothing",
    }
    assert send("GET", LIST, **headers).side == "beside"
    got = host.beside.got[0][2]
    for name in ("Host", "X-Forwarded-Proto", "X-Forwarded-For", "Forwarded", "Accept", "User-Agent"):
        assert got[name] == headers[name.replace("-", "_")]
    assert got["Connection"] == "close"
    assert not {"Keep-Alive", "Te", "Upgrade", "Expect"} & got.keys()


def test_a_header_that_only_looks_like_a_length_stays_behind(host: Host) -> None:
    assert host.ask("GET", LIST, HTTP_CONTENT_LENGTH="100", HTTP_CONTENT_TYPE="text/odd").side == "beside"
    assert not {"Content-Length", "Content-Type"} & host.beside.got[0][2].keys()


def test_without_a_host_header_the_server_is_named(host: Host) -> None:
    assert host.ask("GET", LIST).side == "beside"
    assert host.beside.got[0][2]["Host"] == "api:8004"


@pytest.mark.parametrize("status", [200, 201, 202, 300, 302, 400, 401, 403, 404, 409, 413, 500, 501, 503])
def test_answers_come_back_as_they_were(host: Host, send: Callable[..., Answered], status: int) -> None:
    body = json.dumps({"stack": "\u00e4"}).encode()
    headers = {
        "Location": f"http://heat.example.org:8004{STACK}",
        "Content-Type": "application/json; charset=UTF-8",
        "X-Openstack-Request-Id": "req-1",
        "Content-Length": str(len(body)),
    }
    host.beside.answer = answering(status, headers, body)
    answered = send("PUT", STACK, b"{}")
    assert (answered.status, answered.body) == (status, body)
    assert headers.items() <= answered.headers.items()


def test_an_answer_without_a_body_comes_back_without(host: Host, send: Callable[..., Answered]) -> None:
    host.beside.answer = answering(204, {})
    assert (send("DELETE", STACK).status, send("DELETE", STACK).body) == (204, b"")


def test_headers_that_come_twice_come_back_twice(host: Host) -> None:
    def twice(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Set-Cookie", "a")
        handler.send_header("Set-Cookie", "b")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    host.beside.answer = twice
    got: list[Any] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": LIST, "SERVER_NAME": "a", "SERVER_PORT": "1", "wsgi.input": None}
    list(host.router()(environ, lambda status, headers: got.extend(headers)))
    assert [value for key, value in got if key == "Set-Cookie"] == ["a", "b"]


def test_a_large_body_goes_over_and_back_piece_by_piece(host: Host, send: Callable[..., Answered]) -> None:
    size = 64 * 2**20
    digest = hashlib.sha256(b"x" * size).hexdigest()

    def large(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        handler.wfile.write(b"y" * size)

    host.beside.answer = large
    answered = send("POST", LIST, b"x" * size)
    assert hashlib.sha256(host.beside.got[0][3]).hexdigest() == digest
    assert len(answered.body) == size


@pytest.mark.parametrize("size", [0, 1, 100_000, 5 * 2**20])
def test_a_body_in_chunks_goes_over_in_one_piece(host: Host, size: int) -> None:
    """mod_wsgi and eventlet give chunks as a stream that ends; uWSGI gives them by a function of its own."""
    environ = {
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input": io.BytesIO(b"z" * size),
        "wsgi.input_terminated": True,
    }
    assert host.ask("POST", LIST, **environ).side == "beside"
    (_, _, headers, body) = host.beside.got[0]
    assert (len(body), headers["Content-Length"]) == (size, str(size))
    assert "Transfer-Encoding" not in headers


def test_an_answer_that_comes_slowly_comes_back_as_it_comes(host: Host) -> None:
    goes_on = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nfirst\r\n")
        handler.wfile.flush()
        assert goes_on.wait(10)
        handler.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")

    host.beside.answer = slow
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": LIST, "SERVER_NAME": "a", "SERVER_PORT": "1", "wsgi.input": None}
    blocks = iter(host.router()(environ, lambda status, headers: None))
    assert next(blocks) == b"first"
    goes_on.set()
    assert b"".join(blocks) == b"last"


def test_an_answer_may_take_longer_than_it_takes_to_connect(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heat_upgrade.router.heat_upgrade_router.CONNECT_TIMEOUT", 0.2)

    def late(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.6)
        answering(202, {"Content-Length": "0"})(handler)

    host.beside.answer = late
    assert host.ask("PUT", STACK).status == 202


def test_an_answer_that_comes_before_the_body_was_read_comes_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            with server.accept()[0] as client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        app = router(folder(tmp_path / "early"), f"http://127.0.0.1:{server.getsockname()[1]}")
        answered = call(app, "POST", LIST, b"x" * 2**24)
        thread.join()
    assert answered.status == 413


def test_where_no_api_is_beside_nothing_crosses(host: Host) -> None:
    app = router(host.directory, NOWHERE, host.here)
    for method, path in (("GET", LIST), ("POST", LIST), ("DELETE", STACK)):
        answered = call(app, method, path)
        assert (answered.status, answered.headers["Retry-After"]) == (503, "2")
    assert not host.here.got


def _dies(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.shutdown(socket.SHUT_RDWR)


def test_an_api_beside_that_dies_over_a_request_is_told_and_not_asked_again(host: Host) -> None:
    host.beside.answer = _dies
    answered = host.ask("POST", LIST)
    assert answered.status == 502
    assert len(host.beside.got) == 1
    assert not host.here.got
    assert counts(host.directory)["lost"] == 1


@pytest.mark.parametrize("length", [None, "100"])
def test_an_answer_that_is_cut_off_doesnt_pass_for_a_whole_one(host: Host, length: str | None) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header(*(("Content-Length", length) if length else ("Transfer-Encoding", "chunked")))
        handler.end_headers()
        handler.wfile.write(b"half" if length else b"8\r\nhalf")
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    host.beside.answer = cut
    with pytest.raises((LostError, http.client.IncompleteRead)):
        host.ask("GET", LIST)


def test_a_body_that_the_client_cuts_off_isnt_taken_for_a_whole_one(host: Host) -> None:
    server = make_server("127.0.0.1", 0, host.router())
    with serving(server), socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.sendall(f"POST {LIST} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf".encode())
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.0 502")
    assert not [body for *_, body in host.beside.got if body == b"half" * 25]


def test_many_at_once(host: Host) -> None:
    host.state(default=NEW, stacks={ROOT: "25.0.2"})
    app = host.router()
    sides: list[tuple[str, str]] = []

    def user(path: str, side: str) -> None:
        sides.extend((call(app, "PUT", path, b"{}").side, side) for _ in range(20))

    threads = [
        threading.Thread(target=user, args=case)
        for case in ((STACK, "beside"), (LIST, "here"), (f"{LIST}/n/{PROJECT}", "here")) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sides) == 240
    assert all(side == expected for side, expected in sides)
    told = counts(host.directory)
    assert (told["here_create"] + told["here_change"], told["beside_change"]) == (160, 80)
