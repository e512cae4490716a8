"""back_up_database with a real MariaDB: what it writes is the database, and nobody sees the password."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import MySQLdb
import pytest

from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import Step
from lab.cloud.model import Lab
from lab.processes import wait_until
from tests.integration.steps.conftest import NEW, Machine

SCHEMA = [
    "CREATE TABLE stack (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(255), body LONGBLOB, at DATETIME(6))",
    "CREATE TABLE event (id INT PRIMARY KEY, stack INT, FOREIGN KEY (stack) REFERENCES stack (id))",
    "CREATE TRIGGER stamp BEFORE INSERT ON stack FOR EACH ROW SET NEW.at = '2026-01-02 03:04:05.678901'",
    "CREATE VIEW names AS SELECT name FROM stack",
    "CREATE PROCEDURE empty_events() DELETE FROM event",
]


@pytest.fixture
def database(steps_database: Lab) -> Lab:
    return steps_database


@contextmanager
def connected(lab: Lab, name: str = "heat", *, root: bool = False) -> Iterator[Any]:
    account = lab.database()
    login: dict[str, Any] = {"host": account.host, "port": account.port, "user": "heat", "password": account.password}
    if root:
        socket = str(lab.state / "mariadb/mariadb.sock")
        login = {"unix_socket": socket, "user": "root", "password": lab.secrets["database_root"]}
    connection = MySQLdb.connect(**login, database=name, autocommit=True, charset="utf8mb4")
    with closing(connection), closing(connection.cursor()) as cursor:
        yield cursor


@pytest.fixture
def host(machine: Machine, database: Lab, tmp_path: Path) -> Machine:
    """The host that takes the backup; Heat's database holds a bit of everything."""
    machine.database = f"{database.database_url()}?charset=utf8mb4"
    machine.configure()
    with connected(database, "mysql", root=True) as cursor:
        cursor.execute("DROP DATABASE IF EXISTS heat")
        cursor.execute("CREATE DATABASE heat CHARACTER SET utf8mb4")
    with connected(database) as cursor:
        for statement in SCHEMA:
            cursor.execute(statement)
        rows = [("ünïcode 🔥 ' \" \\ \n", os.urandom(5000)), ("-- Dump completed", b"\0\x1a"), (None, None)]
        cursor.executemany("INSERT INTO stack (name, body) VALUES (%s, %s)", rows)
        cursor.execute("INSERT INTO event VALUES (1, 2), (2, NULL)")
    return machine


def back_up(machine: Machine, tmp_path: Path) -> Step:
    return steps.back_up_database(machine.source, NEW, str(tmp_path / "backups"))


def content(lab: Lab, name: str) -> dict[str, Any]:
    """Return all that is in a database."""
    with connected(lab, name, root=True) as cursor:

        def rows(statement: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement)
            return sorted(cursor.fetchall(), key=repr)

        routines = "SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA="
        return {
            "tables": [(table, rows(f"SELECT * FROM `{table}`")) for table, _ in rows("SHOW FULL TABLES")],
            "made": [rows(f"SHOW CREATE TABLE {table}") for table in ("stack", "event")],
            "triggers": [row[:4] for row in rows("SHOW TRIGGERS")],
            "routines": rows(f"{routines}'{name}'"),
        }


def restored(lab: Lab, dump: Path) -> dict[str, Any]:
    """Restore a dump as an operator would, and return all that is in it."""
    with connected(lab, "mysql", root=True) as cursor:
        cursor.execute("DROP DATABASE IF EXISTS scratch")
        cursor.execute("CREATE DATABASE scratch CHARACTER SET utf8mb4")
        cursor.execute("GRANT ALL ON scratch.* TO heat@'%'")  # a view reads with its maker's rights
    options = lab.state / "root.cnf"
    options.write_text(f"[client]\nsocket={lab.state}/mariadb/mariadb.sock\nuser=root\n")
    subprocess.run(
        ["mysql", f"--defaults-file={options}", "scratch"],
        input=gzip.decompress(dump.read_bytes()),
        env={**os.environ, "MYSQL_PWD": lab.secrets["database_root"]},
        check=True,
    )
    return content(lab, "scratch")


def test_the_dump_restores_to_the_same_database(host: Machine, database: Lab, tmp_path: Path) -> None:
    done = host.run(back_up(host, tmp_path))
    dump = Path(done["backup"])
    assert re.fullmatch(rf"heat-{host.source.cloud.name}-before-{NEW}-\d{{8}}T\d{{6}}Z\.sql\.gz", dump.name)
    assert int(done["bytes"]) == dump.stat().st_size > 5000
    assert [path.name for path in dump.parent.iterdir()] == [dump.name]
    assert dump.stat().st_mode & 0o077 == 0, "a dump holds what Heat's users have"
    assert restored(database, dump) == content(database, "heat")


@pytest.mark.parametrize("password", ["Kq3/9xT+Zw==", "12/abc#d?e[f", "a%40b%0Ac"])
def test_the_dump_is_made_with_the_login_that_heat_has(
    host: Machine, database: Lab, tmp_path: Path, password: str
) -> None:
    with connected(database, "mysql", root=True) as cursor:
        cursor.execute("CREATE OR REPLACE USER odd@'%%' IDENTIFIED BY %s", [unquote(password)])
        cursor.execute("GRANT ALL ON *.* TO odd@'%'")
    host.database = re.sub("//[^@]*@", f"//odd:{password}@", database.database_url())
    host.configure()
    assert restored(database, Path(host.run(back_up(host, tmp_path))["backup"])) == content(database, "heat")


@pytest.mark.usefixtures("sudo")
def test_root_writes_the_dump_where_the_ssh_user_may_not(host: Machine, database: Lab, tmp_path: Path) -> None:
    dump = Path(host.run(back_up(host, tmp_path), BECOME="sudo")["backup"])
    assert dump.stat().st_uid == 0
    assert restored(database, dump) == content(database, "heat")


def test_one_dump_is_enough_for_an_upgrade(host: Machine, tmp_path: Path) -> None:
    first = host.run(back_up(host, tmp_path))["backup"]
    assert host.run(back_up(host, tmp_path))["backup"] == first
    yesterday = Path(first).stat().st_mtime - steps.BACKUP_IS_FRESH - 120
    os.utime(first, (yesterday, yesterday))
    older = Path(first).rename(
        Path(first).with_name(f"{Path(first).name.partition(NEW)[0]}{NEW}-20200101T000000Z.sql.gz")
    )
    second = host.run(back_up(host, tmp_path))["backup"]
    assert second != str(older)
    other = steps.back_up_database(host.source, "27.0.1", str(tmp_path / "backups"))
    assert "before-27.0.1" in host.run(other)["backup"], "another upgrade's dump doesn't count"
    step = back_up(host, tmp_path)
    north = dataclasses.replace(step, settings={**step.settings, "CLOUD": "north"})
    assert "heat-north-before" in host.run(north)["backup"], "another cloud's dump doesn't count"


@contextmanager
def table_locked(lab: Lab) -> Iterator[None]:
    """Hold every dump up half-way: it waits for this table."""
    with connected(lab) as cursor:
        cursor.execute("LOCK TABLES stack WRITE")
        yield
        cursor.execute("UNLOCK TABLES")


def process_list() -> dict[int, bytes]:
    """Return the command line and the environment of each process, as far as this account may read them."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
        except OSError:
            continue
    return found


def dumping() -> list[int]:
    return [pid for pid, words in process_list().items() if words.startswith((b"mysqldump", b"mariadb-dump"))]


def test_no_process_shows_the_password_and_nothing_keeps_it(
    host: Machine, database: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = database.secrets["database"]
    # Its ends have nothing in them that anybody would quote.
    needles = [secret.encode(), secret[:10].encode(), secret[-10:].encode()]
    seen: list[bytes] = []
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            mine = os.getpid()
            seen.extend(words for pid, words in process_list().items() if pid != mine)

    poller = threading.Thread(target=poll)
    with table_locked(database):
        process = host.start(back_up(host, tmp_path))
        poller.start()
        wait_until(lambda: bool(dumping()), what="mysqldump runs")
    assert process.wait(60) == 0
    over.set()
    poller.join()
    assert any(words.startswith((b"mysqldump", b"mariadb-dump")) for words in seen), "nothing was polled"
    assert not [words for words in seen for needle in needles if needle in words]
    assert sorted(path.name for path in host.state.iterdir()) == ["lock", "steps"]
    host.run(back_up(host, tmp_path))
    assert secret[:10] not in capsys.readouterr().out


def test_a_dump_that_was_cut_off_is_never_taken_for_a_backup(host: Machine, database: Lab, tmp_path: Path) -> None:
    step, folder = back_up(host, tmp_path), tmp_path / "backups"
    with table_locked(database):
        process = host.start(step)
        wait_until(lambda: bool(dumping()) and any(folder.iterdir()), what="the dump has begun")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (part,) = folder.iterdir()
    assert part.name.endswith(".sql.gz.part")
    assert list(host.state.glob("mysql.*")), "the options of the dump that was cut off"
    dump = Path(host.run(step)["backup"])
    assert dump.name.endswith(".sql.gz")
    assert restored(database, dump) == content(database, "heat")
    assert list(folder.iterdir()) == [dump]
    assert not list(host.state.glob("mysql.*"))


def test_a_client_that_dies_in_the_middle_fails_the_step(host: Machine, database: Lab, tmp_path: Path) -> None:
    """The shell goes on, and must not take what has come for the whole."""
    with table_locked(database):
        process = host.start(back_up(host, tmp_path))
        wait_until(lambda: bool(dumping()), what="mysqldump runs")
        for pid in dumping():
            os.kill(pid, signal.SIGKILL)
        assert process.stdout
        said = process.stdout.read().decode()
        assert process.wait() == 1
    assert "error: the dump of database heat was not finished: see the messages above" in said
    assert not list((tmp_path / "backups").glob("*.sql.gz"))


def test_a_refused_login_is_told_without_the_password(
    host: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.database = host.database.replace("@", "S3cret@", 1)
    host.configure()
    with pytest.raises(RemoteStepError, match=r"was not finished.*check \[database\] connection in \S+ and the space"):
        host.run(back_up(host, tmp_path))
    log = capsys.readouterr().out
    assert "Access denied" in log
    assert "S3cret" not in log
    assert not list((tmp_path / "backups").glob("*.sql.gz"))


def test_a_folder_that_cannot_be_made_is_told(host: Machine) -> None:
    step = steps.back_up_database(host.source, NEW, "/proc/nowhere")
    with pytest.raises(RemoteStepError, match=r"/proc/nowhere can't be made: .*backup\.directory"):
        host.run(step)
