"""Airflow's home for the tests: a directory of their own, set before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_HOME = tempfile.mkdtemp(prefix="heat-upgrade-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# Cloud files of tests lie anywhere, and name the project's own pins.
os.environ["HEAT_UPGRADE_HOME"] = str(Path(__file__).parents[1])
# The schedule of a cloud with maintenance windows is a plugin.
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(Path(__file__).parents[1] / "plugins")

# Tests of one folder share servers, so they are one process's, and the two shares take about as long as each other;
# unit tests are anybody's. The first that matches counts.
_SHARES = {
    "tests/e2e/lifecycle/": "stories",
    "tests/e2e/test_cold_upgrade.py": "stories",
    "tests/faults/": "whole runs",
    "tests/integration/": "stories",
    "tests/e2e/": "whole runs",
}


class OneProcessALab(LoadScopeScheduling):
    """Give all tests that share labs to one process, and the others to whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return next((share for folder, share in _SHARES.items() if nodeid.startswith(folder)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneProcessALab:
    """Tell pytest-xdist which tests belong together; its marks for that need an older pytest."""
    return OneProcessALab(config, log)
