"""From a cloud file to a ``Cloud``, strictly: keys written twice are mistakes, and errors never quote a value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from heat_upgrade.cloud.errors import SAMPLE, problems_of
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.problems import Problem, ProblemsError, show, show_key

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The checkout that the package runs from; where it is installed there is none.
_CLONE = Path(__file__).parents[3]


class CloudFileError(ProblemsError):
    """A cloud file that can't be used; the message lists every problem."""


class CloudsDirectoryError(CloudFileError):
    """A directory of cloud files that isn't there."""


def clouds_directory() -> Path:
    """Return the directory of the cloud files: HEAT_UPGRADE_CLOUDS if set, else ``include/clouds`` at home."""
    if chosen := os.environ.get("HEAT_UPGRADE_CLOUDS"):
        return Path(chosen)
    return Path(os.environ.get("HEAT_UPGRADE_HOME") or _CLONE) / "include" / "clouds"


def home_of(file: Path) -> Path:
    """
    Return where a cloud file's relative paths begin: HEAT_UPGRADE_HOME if set, else two folders above the file's.

    :param file: the cloud file, as in ``home/include/clouds/north.yaml``
    """
    return Path(os.environ.get("HEAT_UPGRADE_HOME") or file.absolute().parent.parent.parent)


def load_cloud(path: Path | str) -> Cloud:
    """
    Read a cloud file.

    :param path: the file; its name without the suffix is the cloud's name
    :raises CloudFileError: with every problem found
    """
    path = Path(path)
    data, problems = _read_yaml(path)
    cloud = None
    if data is not None:
        if "name" in data:
            todo = "delete the key, the file's own name is the cloud's"
            problems.append(Problem("name", show(data["name"]), "no such key", todo))
        try:
            cloud = Cloud.model_validate({**data, "name": path.stem}, context={"home": home_of(path)})
        except ValidationError as error:
            problems += problems_of(error, Cloud)
    if problems or cloud is None:
        # Outside of the except clause: pydantic's error holds the file's values and must not be chained.
        raise CloudFileError(str(path), problems)
    return cloud


def load_clouds(directory: Path | str) -> dict[str, Cloud | CloudFileError]:
    """
    Read all cloud files of a directory: for each name its cloud, or what is wrong with its file.

    :param directory: the directory of the ``*.yaml`` files
    :raises CloudsDirectoryError: if there is no such directory
    """
    directory = Path(directory)
    if not directory.is_dir():
        todo = f"create it with a copy of {SAMPLE} in it, or set HEAT_UPGRADE_HOME or HEAT_UPGRADE_CLOUDS"
        missing = Problem("directory", "no directory", "a directory of cloud files (*.yaml)", todo)
        raise CloudsDirectoryError(str(directory), [missing])
    files = sorted(path for path in directory.glob("*.y*ml") if not path.name.startswith("."))
    return {_usable(path.stem): _load_or_error(path) for path in files}


def _usable(stem: str) -> str:
    """Return a name that can stand in a DAG's id, also for a file that is refused for its name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", stem)[:200]


def _load_or_error(path: Path) -> Cloud | CloudFileError:
    if path.suffix == ".yml":
        rename = Problem("file name", repr(path.name), "a name that ends with .yaml", "rename the file")
        return CloudFileError(str(path), [rename])
    try:
        return load_cloud(path)
    except CloudFileError as error:
        return error.with_traceback(None)  # its frames hold the file's values


def _read_yaml(path: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return the mapping in a YAML file, None if there is none, and what is wrong with it as YAML."""
    try:
        content = path.read_bytes()
        return _parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return None, [Problem(f"line {line}", "bytes that are not UTF-8", "a UTF-8 file", "save it as UTF-8")]
    except OSError as error:
        reason = repr(error.strerror or type(error).__name__)
        return None, [Problem("file", reason, "a file that can be read", "check its path and permissions")]


def _parse(text: str) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        problems = list(_duplicate_keys(node, set()))
        data = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        return None, [_invalid(error, text)]
    except Exception as error:
        # PyYAML lets through whatever int(), a date or deep nesting raises, and its message may hold the value.
        reason = f"a value that fails with {type(error).__name__}"
        return None, [Problem("file", reason, "plain YAML", "put dates and odd values in quotes")]
    if not isinstance(data, dict):
        return None, [Problem("file", show(data), "a mapping", f"start from a copy of {SAMPLE}")]
    return data, problems


def _invalid(error: yaml.YAMLError, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0))
    # A word in quotes may be a password that began with * or !.
    reason = re.sub(r"'[^'<>]{2,}'", "'...'", getattr(error, "problem", None) or "a forbidden character")
    return Problem(f"line {line + 1}", f"invalid YAML ({reason})", "valid YAML", "fix this line or the one above")


def _duplicate_keys(node: yaml.Node | None, seen: set[int]) -> Iterator[Problem]:
    """Yield the keys written twice: found on the nodes, since the loader silently keeps the last of them."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicate_keys(item, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    where, found = f"line {key.start_mark.line + 1}", f"the key {show_key(key.value)} again"
                    yield Problem(where, found, "each key once", "delete one of the two")
                keys.add(key.value)
            yield from _duplicate_keys(value, seen)
