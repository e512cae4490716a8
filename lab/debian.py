"""Debian as this machine gets it: a bare system from its packages, and what it trusts beside Debian's authorities."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab.processes import LabError

CODENAME = "bookworm"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_SHIPPED = Path("/usr/share/ca-certificates")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def lay_debian(folder: Path) -> None:
    """
    Lay a bare Debian into a folder, which begins empty.

    :param folder: becomes the root of the system.
    :raises LabError: if it can't be done here, with the reason.
    """
    debootstrap = shutil.which("debootstrap") or shutil.which("debootstrap", path="/usr/sbin")
    if not debootstrap or os.geteuid() != 0:
        raise LabError(
            "only root with debootstrap can lay a bare Debian: `apt-get install debootstrap`, or let a Docker engine "
            "reach a registry"
        )
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [debootstrap, "--variant=minbase", CODENAME, folder, *_mirror()]
    laid = subprocess.run(command, capture_output=True, text=True, check=False)
    if laid.returncode:
        raise LabError(f"debootstrap exited {laid.returncode}:\n{(laid.stdout + laid.stderr)[-2000:]}")
    # As the official image has it: nobody needs a layer that survives a power cut half-written.
    (folder / "etc/dpkg/dpkg.cfg.d/docker-apt-speedup").write_text("force-unsafe-io\n", encoding="ascii")


def _mirror() -> list[str]:
    """Return where this machine's own packages come from, if it is a Debian of the same release."""
    wanted = ("Created-By: Packages", f"Codename: {CODENAME}", "Component: main")
    try:
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        return []
    return found[:1]


def own_authorities() -> list[str]:
    """Return the certificates that this machine trusts and Debian doesn't ship, as of a TLS-inspecting proxy."""
    bundle = Path(os.environ.get("SSL_CERT_FILE", BUNDLE))
    if not bundle.exists():
        return []
    shipped = {_bare(text) for file in _SHIPPED.rglob("*.crt") for text in _certificates(file)}
    return [text for text in _certificates(bundle) if _bare(text) not in shipped]


def _certificates(file: Path) -> Iterator[str]:
    for match in _CERTIFICATE.finditer(file.read_text(encoding="utf-8", errors="replace")):
        yield match[0].rstrip() + "\n"


def _bare(certificate: str) -> str:
    return "".join(certificate.split())
