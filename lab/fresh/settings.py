"""What a bare system needs of this machine's settings to reach its package registries: none of them is known here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.debian import BUNDLE, own_authorities

# Sources, and the keys and logins that they need. Nothing that hooks programs of this machine into apt.
_APT = ("sources.list", "sources.list.d", "keyrings", "trusted.gpg.d", "auth.conf", "auth.conf.d", "preferences.d")
_SYSTEM = ("etc/pip.conf", "etc/xdg/pip", "etc/uv", "usr/share/keyrings")
_HOME = (".config/pip", ".pip", ".config/uv", ".netrc")
# An account's home before it has one, and root's.
_HOMES = ("etc/skel", "root")
_ACQUIRE = ("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Check")
_PREFIXES = ("PIP_", "UV_")
# They name folders of this machine.
_LOCAL = ("_CACHE_DIR", "_FIND_LINKS")


def write_settings(target: Path, *, machine: Path = Path("/"), home: Path | None = None) -> None:
    """
    Write the files that a system needs to reach the registries as this machine does.

    :param target: becomes a part of the system's root.
    :param machine: this machine's root.
    :param home: the home of the account whose settings count; by default the caller's.
    """
    for name in _APT:
        _carry(machine / "etc/apt" / name, target / "etc/apt" / name)
    for name in _SYSTEM:
        _carry(machine / name, target / name)
    for name in _HOME:
        for folder in _HOMES:
            _carry((home or Path.home()) / name, target / folder / name)
    _write(target / "etc/apt/apt.conf.d/this-machine", _acquire())
    _write_authorities(target)


def settings_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables by which proxies and package indexes are named.

    What names certificates is left out: the system's own store has them.

    :param environment: this machine's.
    """
    return {
        name: value
        for name, value in environment.items()
        if name.lower().endswith("_proxy")
        or (name.startswith(_PREFIXES) and not name.endswith(_LOCAL) and "CERT" not in name)
    }


def _carry(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    elif source.exists():
        shutil.copy2(source, target)


def _acquire() -> str:
    """Return how apt fetches here: proxies, time-outs, which dates it minds."""
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    return "".join(f"{line}\n" for line in dumped.splitlines() if line.startswith(_ACQUIRE))


def _write_authorities(target: Path) -> None:
    """Add this machine's own to the store; before there is one, apt may need the whole list."""
    for number, text in enumerate(own_authorities()):
        _write(target / f"usr/local/share/ca-certificates/this-machine-{number}.crt", text)
    _carry(Path(os.environ.get("SSL_CERT_FILE", BUNDLE)), target / BUNDLE.relative_to("/"))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
