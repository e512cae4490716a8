"""The files that go to hosts keep to what Python 3.8 reads, those that run on balancers or before checks to 3.6."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from heat_upgrade import router
from heat_upgrade.preflight.hosts import STEPS_PYTHON
from heat_upgrade.remote.step import STEPS_DIRECTORY

FILES = sorted(Path(router.__file__).parent.glob("*.py"))
STEPS = sorted(STEPS_DIRECTORY.glob("*.py"))
NEED_3_8 = {"heat_conf.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 8))
    annotated = any(isinstance(node, ast.arg) and node.annotation for node in ast.walk(tree))
    # Without it, a | in an annotation fails on 3.8 when the function is made.
    assert not annotated or "from __future__ import annotations" in path.read_text("utf-8")


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.name)
def test_a_step_keeps_to_what_its_hosts_have(path: Path) -> None:
    """A balancer, such as one on RHEL 8, has 3.6; preflight asks hosts of Heat for more."""
    ast.parse(path.read_text("utf-8"), feature_version=(3, 8) if path.name in NEED_3_8 else (3, 6))
    assert STEPS_PYTHON == "3.8"


def test_the_router_imports_the_standard_library_alone() -> None:
    """What else Heat's environment has is imported where it is needed, so that the upgrade's side needs none of it."""
    tree = ast.parse((FILES[0].parent / "heat_upgrade_router.py").read_text("utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
