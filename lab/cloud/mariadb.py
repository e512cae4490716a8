"""A private MariaDB: own data directory, socket and port."""

from __future__ import annotations

import getpass
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import MySQLdb  # type: ignore[import-untyped]

from lab.cloud.model import DATABASE_PORT, Lab
from lab.passwords import write_private
from lab.processes import LabError, run, wait_until

_CONFIG = """\
[mariadbd]
datadir = {directory}/data
socket = {directory}/mariadb.sock
pid_file = {directory}/mariadb.pid
init_file = {directory}/accounts.sql
# Its own: a server that starts removes the temporary tables that it finds, those of another lab's server, too.
tmpdir = {directory}/tmp
bind_address = {address}
port = {port}
skip_name_resolve
skip_log_bin
max_connections = 1000
performance_schema = off
innodb_buffer_pool_size = 128M
innodb_log_file_size = 48M
# A crash of this machine may cost a second of a lab's data.
innodb_flush_log_at_trx_commit = 2
"""


def start_mariadb(lab: Lab) -> None:
    """
    Start MariaDB, and wait until Heat's account can log in.

    :raises LabError: if it does not come up.
    """
    directory = lab.state / "mariadb"
    (directory / "tmp").mkdir(parents=True, exist_ok=True)
    config = directory / "mariadb.cnf"
    config.write_text(
        _CONFIG.format(directory=directory, address=lab.server_address, port=DATABASE_PORT), encoding="utf-8"
    )
    _make_data_directory(directory)
    # Read by the server itself at each start: no password on a command line, and no window without one.
    write_private(directory / "accounts.sql", _accounts(lab))
    server = lab.server("mariadb")
    server.start([_mariadbd(), f"--defaults-file={config}", f"--user={getpass.getuser()}"])
    wait_until(lambda: answers(lab), what="MariaDB answers", given_up=server.failure)


def query(lab: Lab, statement: str) -> tuple[tuple[Any, ...], ...]:
    """
    Run one SQL statement in Heat's database and return its rows.

    :param statement: the statement; without values from outside.
    """
    account = lab.database()
    connection = MySQLdb.connect(
        host=account.host,
        port=account.port,
        user=account.login,
        password=account.password,
        database="heat",
        connect_timeout=5,
        autocommit=True,
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        rows: tuple[tuple[Any, ...], ...] = cursor.fetchall()
    return rows


def empty_database(lab: Lab) -> None:
    """Drop Heat's tables, also those of a migration that was cut off."""
    query(lab, "DROP DATABASE heat")
    # Without a default database: the one that `query` selects is gone now.
    account = lab.database()
    connection = MySQLdb.connect(
        host=account.host, port=account.port, user=account.login, password=account.password, connect_timeout=5
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute("CREATE DATABASE heat CHARACTER SET utf8mb4")


def answers(lab: Lab) -> bool:
    """Tell whether Heat's account can log in."""
    try:
        return query(lab, "SELECT 1") == ((1,),)
    except MySQLdb.OperationalError:
        return False


def _make_data_directory(directory: Path) -> None:
    """Make it under another name first: a half-made one of an aborted run is never used."""
    data, partial = directory / "data", directory / "data.partial"
    if data.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    run(
        [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={partial}",
            f"--user={getpass.getuser()}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ],
        what="make MariaDB's data directory",
    )
    partial.rename(data)


def _accounts(lab: Lab) -> str:
    root = _sql_text(lab.secrets["database_root"])
    return f"ALTER USER root@localhost IDENTIFIED BY {root};\n{service_account('heat', lab.secrets['database'])}"


def service_account(service: str, password: str) -> str:
    """
    Return the SQL that makes a service's database and account; a server may run it at each start.

    :param service: what both are called.
    :param password: of the account.
    """
    return (
        f"CREATE DATABASE IF NOT EXISTS {service} CHARACTER SET utf8mb4;\n"
        f"CREATE OR REPLACE USER {service}@'%' IDENTIFIED BY {_sql_text(password)};\n"
        f"GRANT ALL ON {service}.* TO {service}@'%';\n"
    )


def _sql_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _mariadbd() -> str:
    """Find the server, which is outside the search path of an ordinary account."""
    found = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise LabError("mariadbd is not installed: on Debian, `apt-get install mariadb-server`")
    return found
