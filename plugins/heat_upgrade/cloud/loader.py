"""From a cloud file to plain data, strictly: keys written twice are mistakes, and errors never quote a value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from heat_upgrade.problems import Problem, show, show_key

SAMPLE = "include/clouds/example.yaml.sample"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    """
    Return the mapping in a YAML file, None if there is none, and what is wrong with it as YAML.

    :param path: the file
    """
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
    return Problem(f"line {line + 1}", f"invalid YAML ({reason})", "valid YAML", "mend this line or the one above")


def _duplicate_keys(node: yaml.Node | None, seen: set[int]) -> Iterator[Problem]:
    """Yield the keys written twice: found on the nodes, since the loader keeps the last of them and says nothing."""
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
