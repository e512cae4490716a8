"""The scripts of the remote steps as modules, to call what is in them."""

from __future__ import annotations

from importlib import util
from types import ModuleType

from heat_upgrade.remote.step import STEPS_DIRECTORY


def load_script(name: str) -> ModuleType:
    """Return a Python script of the steps as a module of its own."""
    spec = util.spec_from_file_location(name, STEPS_DIRECTORY / f"{name}.py")
    assert spec
    assert spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
