"""Each id is spelled in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import heat_upgrade
from heat_upgrade import names

PACKAGE = Path(heat_upgrade.__path__[0])
FILES = [*PACKAGE.rglob("*.py"), *(PACKAGE.parents[1] / "dags").glob("*.py")]
# A remote script or a parameter of a run may be called like the task that it belongs to.
ELSEWHERE = {
    "back_up_database",
    "delete_old_vhost",
    "leave_rotation",
    "prepare",
    "rejoin_rotation",
    "start_beside",
    "switch_api",
    "sync_database",
}
# Words that mean other things as well.
WORDS = {
    "approve",
    "began",
    "canary",
    "close",
    "end",
    "error",
    "find",
    "flip",
    "history",
    "planned",
    "preflight",
    "report",
    "retire",
    "wait",
}


def ids() -> set[str]:
    values = [value for name, value in vars(names).items() if name.isupper()]
    return {each for value in values for each in ([value] if isinstance(value, str) else value)} - WORDS


def test_no_other_file_spells_an_id() -> None:
    spelled = {
        f"{file.relative_to(PACKAGE.parents[1])}: {node.value}"
        for file in FILES
        if file != Path(names.__file__)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in ids() - ELSEWHERE
    }
    assert not spelled
