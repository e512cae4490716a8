"""sync_database with real Heat and a real MariaDB."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from heat_upgrade.exceptions import RemoteStepError
from heat_upgrade.remote import steps
from lab.cloud.mariadb import empty_database, query
from lab.cloud.model import Lab
from tests.integration.steps.conftest import NEW, Machine

Sync = Callable[..., dict[str, str]]
BEFORE, HEAD = "c6214ca60943", "97b2a986f922"


@pytest.fixture
def host(machine: Machine, steps_database: Lab, heat_venv: Path) -> Machine:
    """A host with the new release; the database is as the old one has it."""
    machine.database = steps_database.database_url()
    machine.configure(NEW)
    empty_database(steps_database)
    manage = [heat_venv / "bin/heat-manage", "--config-file", machine.target.config]
    subprocess.run([*manage, "db_sync", BEFORE], capture_output=True, check=True)
    assert revision(steps_database) == BEFORE
    return machine


def revision(lab: Lab) -> str:
    ((found,),) = query(lab, "SELECT version_num FROM alembic_version")
    return str(found)


@pytest.fixture
def sync(host: Machine, heat_venv: Path) -> Callable[..., dict[str, str]]:
    """Run the step, with what the database's revision is said to be."""

    def run(known: str, venv: Path = heat_venv) -> dict[str, str]:
        return host.run(steps.sync_database(host.target, known), VENV=str(venv))

    return run


def test_the_schema_is_migrated_once(sync: Sync, steps_database: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync(BEFORE) == {"head": HEAD}
    assert revision(steps_database) == HEAD
    log = capsys.readouterr().out
    assert f"migrated the database from {BEFORE} to {HEAD}" in log
    assert sync(HEAD) == {"head": HEAD}
    log += capsys.readouterr().out
    assert f"the database is at {HEAD}, as this release wants it" in log
    assert steps_database.secrets["database"][:10] not in log


def test_a_newer_schema_is_left_alone(sync: Sync, steps_database: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    sync("0123456789ab")
    assert revision(steps_database) == BEFORE
    assert f"newer than this release's {HEAD}" in capsys.readouterr().out


def test_a_release_that_cannot_tell_its_schema_is_no_newer_schema(
    sync: Sync, steps_database: Lab, tmp_path: Path
) -> None:
    with pytest.raises(RemoteStepError, match=r"the code in \S+ can't tell its schema: see the messages above"):
        sync(BEFORE, tmp_path)
    assert revision(steps_database) == BEFORE


def test_a_database_that_refuses_is_told_without_the_password(
    host: Machine, sync: Sync, steps_database: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    host.database = host.database.replace("@", "S3cret@", 1)
    host.configure(NEW)
    with pytest.raises(RemoteStepError) as caught:
        sync(BEFORE)
    assert "db_sync failed: see the messages above and [database] connection in" in str(caught.value)
    log = capsys.readouterr().out + str(caught.value)
    assert "Access denied" in log
    assert "S3cret" not in log
    assert steps_database.secrets["database"][:10] not in log
