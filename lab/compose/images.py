"""The images for Compose: from a registry where one answers, else from Debian's packages under the same names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.cloud.model import PROJECT_ROOT
from lab.processes import LabError

BASE = "debian:bookworm-slim"
SERVERS = {"postgres:15-bookworm": "postgres", "redis:7.2-bookworm": "redis"}
_PULL = 300.0
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def ensure_images(environment: Mapping[str, str]) -> None:
    """
    See that the base image and the servers' images are there, and that builds trust what this machine trusts.

    :param environment: in which Docker's client finds its engine.
    :raises LabError: if one of them can neither be pulled nor made.
    """
    trust_own_authorities()
    if not _there(BASE, environment) and not _pulled(BASE, environment):
        _debootstrap(environment)
    for image, folder in SERVERS.items():
        if not _there(image, environment) and not _pulled(image, environment):
            context = PROJECT_ROOT / "lab/compose/images" / folder
            docker(["build", "--quiet", *proxy_arguments(), "--tag", image, str(context)], environment)


def docker(arguments: list[str], environment: Mapping[str, str]) -> str:
    """
    Run Docker's client and return what it prints.

    :raises LabError: if it fails, with the end of what it said.
    """
    done = subprocess.run(
        ["docker", *arguments],
        # The engine of Debian 12 has no BuildKit that this client could drive.
        env={**os.environ, "DOCKER_BUILDKIT": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"docker {arguments[0]} exited {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def proxy_arguments() -> list[str]:
    """Return the build arguments that hand this machine's proxies on; Docker keeps them out of the image."""
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return [word for name in names if name in os.environ for word in ("--build-arg", name)]


def trust_own_authorities() -> None:
    """Give builds the authorities that this machine trusts and Debian doesn't ship, as a TLS-inspecting proxy needs."""
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    if not bundle.exists():
        return
    shipped = {
        _bare(text) for file in Path("/usr/share/ca-certificates").rglob("*.crt") for text in _certificates(file)
    }
    own = [text for text in _certificates(bundle) if _bare(text) not in shipped]
    for number, text in enumerate(own):
        (PROJECT_ROOT / f"deploy/ca/this-machine-{number}.crt").write_text(text, encoding="ascii")


def _certificates(file: Path) -> Iterator[str]:
    for match in _CERTIFICATE.finditer(file.read_text(encoding="utf-8", errors="replace")):
        yield match[0].rstrip() + "\n"


def _bare(certificate: str) -> str:
    return "".join(certificate.split())


def _there(image: str, environment: Mapping[str, str]) -> bool:
    try:
        docker(["image", "inspect", image], environment)
    except LabError:
        return False
    return True


def _pulled(image: str, environment: Mapping[str, str]) -> bool:
    try:
        command = ["docker", "pull", "--quiet", image]
        pulled = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, timeout=_PULL, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return pulled.returncode == 0


def _debootstrap(environment: Mapping[str, str]) -> None:
    debootstrap = shutil.which("debootstrap") or shutil.which("debootstrap", path="/usr/sbin")
    if not debootstrap or os.geteuid() != 0:
        raise LabError(
            f"{BASE} can't be pulled, and only root with debootstrap can make it from Debian's packages: "
            "`apt-get install debootstrap`, or let Docker reach a registry"
        )
    print(f"{BASE} can't be pulled: making it from Debian's packages", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=PROJECT_ROOT / ".state") as folder:
        command = [debootstrap, "--variant=minbase", "bookworm", folder]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise LabError(f"debootstrap exited {made.returncode}:\n{made.stdout[-2000:]}")
        # As the official image has it: nobody needs a layer that survives a power cut half-written.
        (Path(folder) / "etc/dpkg/dpkg.cfg.d/docker-apt-speedup").write_text("force-unsafe-io\n", encoding="ascii")
        _import(Path(folder), environment)


def _import(folder: Path, environment: Mapping[str, str]) -> None:
    with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
        imported = subprocess.run(
            ["docker", "import", "--change", 'CMD ["bash"]', "-", BASE],
            stdin=tar.stdout,
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
    if imported.returncode or tar.returncode:
        raise LabError(f"docker import of {BASE} exited {imported.returncode}: {imported.stderr.decode()[-1000:]}")
