"""A mail server and a web server that keep what they are sent."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

# What the servers are to be told by, and nobody else.
MAIL_PASSWORD, TOKEN, PATH = "mail-@-secret", "hook-token-secret", "/path-secret"


@dataclass
class Sinks:
    """
    Two servers on loopback.

    :param mail_port: of the mail server
    :param web_port: of the web server
    :param mails: what the mail server has taken
    :param logins: names and passwords by which it was logged in to
    :param posts: what the web server has taken: path, headers and JSON
    """

    mail_port: int = 0
    web_port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    posts: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def bodies(self) -> list[dict[str, Any]]:
        """Return the messages that the web server was sent, in order."""
        return [body for _, _, body in self.posts]

    def letters(self) -> dict[str, str]:
        """Return the messages that the mail server was sent, by subject."""
        return {mail["Subject"]: mail.get_body().get_content() for mail in self.mails}  # type: ignore[union-attr]


class _Mail(socketserver.StreamRequestHandler):
    sinks: ClassVar[Sinks]

    def handle(self) -> None:
        self._say("220 sink")
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            if verb == "EHLO":
                self._say("250-sink\r\n250 AUTH PLAIN")
            elif verb == "AUTH":
                self.sinks.logins.append(base64.b64decode(rest.removeprefix("PLAIN ")).decode())
                self._say("235 welcome")
            elif verb == "DATA":
                self._say("354 go on")
                self._take()
                self._say("250 taken")
            else:
                self._say("221 bye" if verb == "QUIT" else "250 fine")

    def _take(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        self.sinks.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class _Web(BaseHTTPRequestHandler):
    sinks: ClassVar[Sinks]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.sinks.posts.append((self.path, dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def sinks() -> Iterator[Sinks]:
    """Run both servers."""
    kept = Sinks()
    handlers: tuple[Any, Any] = (type("Mail", (_Mail,), {"sinks": kept}), type("Web", (_Web,), {"sinks": kept}))
    with (
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), handlers[0]) as mail,
        ThreadingHTTPServer(("127.0.0.1", 0), handlers[1]) as web,
    ):
        kept.mail_port, kept.web_port = mail.server_address[1], web.server_address[1]
        servers: tuple[socketserver.BaseServer, ...] = (mail, web)
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kept
        for server in servers:
            server.shutdown()
