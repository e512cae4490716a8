"""The images for Compose: from a registry where one answers, else from Debian's packages under the same names."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.cloud.model import PROJECT_ROOT
from lab.debian import lay_debian, own_authorities
from lab.processes import LabError

BASE = "debian:bookworm-slim"
SERVERS = {"postgres:15-bookworm": "postgres", "redis:7.2-bookworm": "redis"}
_PULL = 300.0


def ensure_images(environment: Mapping[str, str]) -> None:
    """
    See that the base image and the servers' images are there, and that builds trust what this machine trusts.

    :param environment: in which Docker's client finds its engine.
    :raises LabError: if one of them can neither be pulled nor made.
    """
    trust_own_authorities()
    ensure_base(environment)
    for image, folder in SERVERS.items():
        if not _there(image, environment) and not _pulled(image, environment):
            context = PROJECT_ROOT / "lab/compose/images" / folder
            docker(["build", "--quiet", *proxy_arguments(), "--tag", image, str(context)], environment)


def ensure_base(environment: Mapping[str, str]) -> None:
    """
    See that the base image is there.

    :param environment: in which Docker's client finds its engine.
    :raises LabError: if it can neither be pulled nor made.
    """
    if not _there(BASE, environment) and not _pulled(BASE, environment):
        _lay(environment)


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
    """Give builds the authorities that this machine trusts and Debian doesn't ship."""
    for number, text in enumerate(own_authorities()):
        (PROJECT_ROOT / f"deploy/ca/this-machine-{number}.crt").write_text(text, encoding="ascii")


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


def _lay(environment: Mapping[str, str]) -> None:
    print(f"{BASE} can't be pulled: making it from Debian's packages", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=PROJECT_ROOT / ".state") as folder:
        lay_debian(Path(folder))
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
