"""The search for passwords finds one, however and wherever it is written: else tests that rely on it prove nothing."""

from __future__ import annotations

import base64
import html
import json
import shlex
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from lab.passwords import load_secrets
from lab.processes import wait_until
from tests.e2e.leaks import ProcessWatch, Secrets, in_files, in_tables

Write = Callable[[str], str]

WAYS: dict[str, Write] = {
    "raw": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded, slashes kept": quote,
    "as a form": quote_plus,
    "quoted for a shell": shlex.quote,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "Python": repr,
    "HTML": html.escape,
    "SQL": lambda text: "'" + text.replace("'", "''") + "'",
    "an HTTP header": lambda text: base64.b64encode(f"operator:{text}".encode()).decode(),
    "an HTTP header of a shorter login": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "an HTTP header of another login": lambda text: base64.b64encode(f"heat:{text}".encode()).decode(),
    "its first half": lambda text: text[: len(text) // 2],
}


@pytest.fixture
def password(tmp_path: Path) -> str:
    return load_secrets(tmp_path / "secrets.yaml")["database"]


@pytest.fixture
def secrets(password: str) -> Secrets:
    return Secrets({"planted": password})


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS.keys())
def test_a_log_with_a_password_is_found(write: Write, password: str, secrets: Secrets, tmp_path: Path) -> None:
    log, other = tmp_path / "task.log", tmp_path / "other.log"
    log.write_text(f"connected as heat with {write(password)} to the database\n")
    other.write_text("connected as heat to the database\n")
    assert in_files(secrets, [log, other]) == {str(log): {"planted"}}


@pytest.mark.parametrize("kind", ["text", "bytes", "compressed", "long"])
def test_a_table_with_a_password_is_found(kind: str, password: str, secrets: Secrets, tmp_path: Path) -> None:
    text = json.dumps({"password": password})
    values = {
        "text": text,
        "bytes": text.encode(),
        "compressed": zlib.compress(text.encode()),
        "long": "x" * 4090 + text + "x" * 90_000,
    }
    with sqlite3.connect(tmp_path / "airflow.db") as connection:
        connection.execute("CREATE TABLE xcom (key TEXT, value BLOB)")
        connection.execute("CREATE TABLE other (key TEXT)")
        connection.execute("INSERT INTO xcom VALUES ('return_value', ?)", [values[kind]])
        connection.execute("INSERT INTO other VALUES ('nothing')")
    connection.close()
    assert in_tables(secrets, tmp_path / "airflow.db") == {"xcom": {"planted"}}


def test_a_process_that_is_given_a_password_is_found(password: str, secrets: Secrets) -> None:
    with ProcessWatch(secrets, every=0.05) as watch:
        looks = watch.looks
        wait_until(lambda: watch.looks > looks, what="the first look")
        assert watch.leaks() == []
        planted = [sys.executable, "-c", "input()", f"--url=mysql://heat:{quote(password, safe='')}@db/heat"]
        with subprocess.Popen(planted, stdin=subprocess.PIPE) as child:
            wait_until(lambda: bool(watch.leaks()), what="the watch has seen it")
            child.communicate(b"\n")
    assert watch.leaks() == [(sys.executable, {"planted"})]


def test_a_password_that_cannot_be_looked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="weak has no run of 12"):
        Secrets({"weak": "a@b/c"})
