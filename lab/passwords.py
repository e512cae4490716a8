"""The lab's secrets: made once per lab, kept in one private file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import yaml

# Every character that has a meaning in a URL, a shell, an ini file or SQL: a leak or a quoting error shows at once.
_AWKWARD = "@ / % ? # ' \""
_NAMES = ("database", "database_root", "amqp", "management")
# oslo.messaging hands the password on to kombu with its slashes unquoted, so that no real cloud can have one here.
_UNUSABLE = {"amqp": "/"}


def load_secrets(path: Path, more: Sequence[str] = ()) -> dict[str, str]:
    """
    Return the secrets of a lab; make them if there are none yet.

    :param path: the file, readable by its owner only.
    :param more: names of passwords beside those that every lab has.
    """
    if not path.exists():
        made = {name: _password(_UNUSABLE.get(name, "")) for name in (*_NAMES, *more)}
        made["airflow"] = secrets.token_urlsafe(12)  # typed by people
        made["auth_encryption_key"] = secrets.token_hex(16)
        write_private(path, yaml.safe_dump(made))
    loaded: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def _password(unusable: str) -> str:
    return f"{secrets.token_hex(6)}{_AWKWARD.replace(unusable, '') if unusable else _AWKWARD}{secrets.token_hex(6)}"


def write_private(path: Path, text: str) -> None:
    """
    Write a file that only its owner can read, whole or not at all.

    :param path: the file.
    :param text: what it holds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)
