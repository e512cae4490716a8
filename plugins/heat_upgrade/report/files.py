"""Where reports lie: a directory for each run, with a page and a Markdown file."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from heat_upgrade.report.render import markdown, page

if TYPE_CHECKING:
    from heat_upgrade.report.facts import Report

_LONGEST = 150


def reports_directory() -> Path:
    """Return the directory of all reports: HEAT_UPGRADE_REPORTS if set, else ``reports`` in Airflow's home."""
    chosen = os.environ.get("HEAT_UPGRADE_REPORTS")
    return Path(chosen or Path(os.environ.get("AIRFLOW_HOME") or "~/airflow") / "reports").expanduser()


def write(report: Report, reports: Path) -> Path:
    """
    Write a report's two files, in the place of earlier ones, and return their directory.

    :param report: the facts
    :param reports: the directory of all reports
    :raises OSError: where that can't be done
    """
    directory = reports / safe(report.dag_id) / safe(report.run_id)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.html", page(report)), ("report.md", markdown(report))):
        new = directory / f".{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(directory / name)
    return directory


def safe(name: str) -> str:
    """
    Return a name that can be a file's; two names never become the same one.

    :param name: a DAG's or a run's id, with whatever is in it
    """
    clean = re.sub(r"[^A-Za-z0-9_.:+-]", "_", name)[:_LONGEST]
    if name and clean == name and not name.startswith("."):
        return name
    return f"{clean.lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
