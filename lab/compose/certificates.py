"""An authority of the lab's own, and a certificate for its servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.processes import run

_DAYS = "30"


def make_certificates(folder: Path, names: Sequence[str]) -> None:
    """
    Make ca.crt, server.crt and server.key, unless they are there.

    :param folder: where they go.
    :param names: the servers' host names; 127.0.0.1 is added, where their ports are published.
    """
    if (folder / "server.crt").exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", _DAYS]
    authority: list[str | Path] = ["-keyout", folder / "ca.key", "-out", folder / "ca.crt"]
    run([*new, "-subj", "/CN=lab authority", *authority], what="make the lab's authority")
    alternatives = ",".join([*(f"DNS:{name}" for name in names), "IP:127.0.0.1"])
    server: list[str | Path] = ["-keyout", folder / "server.key", "-out", folder / "server.crt.partial"]
    signer: list[str | Path] = [
        "-CA",
        folder / "ca.crt",
        "-CAkey",
        folder / "ca.key",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]
    subject = ["-subj", "/CN=lab server", "-addext", f"subjectAltName={alternatives}"]
    run([*new, *subject, *signer, *server], what="make the servers' certificate")
    (folder / "server.crt.partial").rename(folder / "server.crt")
