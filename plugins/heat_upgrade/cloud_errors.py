"""From a cloud file's text to plain data, and from pydantic's errors to problems that an operator can mend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from heat_upgrade.problems import HIDDEN, Problem, did_you_mean, show

SAMPLE = "include/clouds/example.yaml.sample"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECRET_KEY = re.compile(r"pass|secret|token|private|credential|login|transport_url", re.IGNORECASE)
_SHOWABLE_KEY = re.compile(r"[A-Za-z_][\w-]{0,40}")
_NEVER_SHOWN = {"connections", "host_key", "supervisorctl", "leave", "rejoin"}
_TAGGED = {"service_manager", "installer", "rotation"}
_TYPES = {
    "string_type": ("a text", "put it in quotes"),
    "int_type": ("a whole number", "write digits only, without quotes"),
    "float_type": ("a number", "write digits only, without quotes"),
    "finite_number": ("a number", "write digits only, without quotes"),
    "tuple_type": ("a list", "write [...] around it, or a line with - for each entry"),
    "model_type": ("a mapping", f"write `key: value` lines, as in {SAMPLE}"),
    "model_attributes_type": ("a mapping", f"write `key: value` lines, as in {SAMPLE}"),
}


def read_yaml(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Return the mapping in a YAML file, empty if there is none, and what is wrong with it as YAML.

    :param path: the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        return {}, [Problem(f"line {line}", "bytes that are not UTF-8", "a UTF-8 file", "save it as UTF-8")]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return {}, [Problem("file", f"'{reason}'", "a file that can be read", "check its path and permissions")]
    return _parse(text)


def _parse(text: str) -> tuple[dict[str, Any], list[Problem]]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        problems = list(_duplicate_keys(node, set()))
        data = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        return {}, [_yaml_problem(error)]
    except Exception as error:
        # PyYAML lets whatever int(), a date or deep nesting raises through; its text may hold the value.
        return {}, [
            Problem("file", f"a value that fails with {type(error).__name__}", "plain YAML", "quote odd values")
        ]
    if not isinstance(data, dict):
        return {}, [Problem("file", show(data), "a mapping", f"start from a copy of {SAMPLE}")]
    return data, problems


def _yaml_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}" if mark else "file"
    # The words in quotes may be a password that began with * or !.
    reason = re.sub(r"'[^'<>]{2,}'", "'...'", getattr(error, "problem", None) or "a forbidden character")
    return Problem(where, f"invalid YAML ({reason})", "valid YAML", "mend this line or the one above it")


def _duplicate_keys(node: yaml.Node | None, seen: set[int]) -> Iterator[Problem]:
    """Yield the keys written twice; on nodes, since the loader silently keeps the last of them."""
    if node is None or id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicate_keys(item, seen)
        return
    keys = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in keys:
            where = f"line {key.start_mark.line + 1}"
            yield Problem(where, f"the key {_show_key(key.value)} again", "each key once", "delete one of them")
        keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        yield from _duplicate_keys(value, seen)


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return pydantic's errors as problems, in the order of the file's fields.

    :param error: what validation raised. It holds the input, so never show or chain it.
    :param model: the validated model.
    """
    return [problem for details in error.errors(include_url=False) for problem in _translate(details, model)]


def _translate(details: ErrorDetails, model: type[BaseModel]) -> list[Problem]:
    kind, loc, ctx = details["type"], details["loc"], details.get("ctx", {})
    if kind == "several":
        prefix = _where(loc)
        return [p._replace(where=f"{prefix}.{p.where}".strip(".")) for p in ctx["problems"]]
    if kind in ("extra_forbidden", "invalid_key"):
        return [_unknown_key(loc, model)]
    value = HIDDEN if _NEVER_SHOWN & set(map(str, loc)) and details["input"] else show(details["input"])
    if kind == "missing":
        todo = f"add the key, as in {SAMPLE}"
        return [Problem(_where(loc), "nothing", f"the key {loc[-1]!r}", todo)]
    return [Problem(_where(loc), value, *_expectation(details))]


def _expectation(details: ErrorDetails) -> tuple[str, str]:
    kind, value, ctx = details["type"], details["input"], details.get("ctx", {})
    if kind == "wrong":
        return ctx["expected"], ctx["todo"]
    if kind in ("literal_error", "union_tag_invalid", "union_tag_not_found"):
        return _choice(details)
    expected, todo = _TYPES.get(kind, (details["msg"], f"compare with {SAMPLE}"))
    if kind == "string_type" and isinstance(value, bool):
        todo = "put it in quotes: YAML reads on, off, yes, no, true and false as booleans"
    elif kind == "string_type" and not isinstance(value, int | float):
        todo = "write a text here"
    return expected, todo


def _choice(details: ErrorDetails) -> tuple[str, str]:
    kind, value, ctx = details["type"], details["input"], details.get("ctx", {})
    if kind == "union_tag_not_found":
        return "a mapping with the key 'kind'", f"add `kind: ...`, as in {SAMPLE}"
    known = re.findall(r"'([^']+)'", ctx.get("expected", "") or ctx.get("expected_tags", ""))
    given = ctx.get("tag", value)
    return f"one of {', '.join(known)}", did_you_mean(str(given), known, "write one of them")


def _unknown_key(loc: Sequence[int | str], model: type[BaseModel]) -> Problem:
    key, known = str(loc[-1]), _keys_at(loc[:-1], model)
    if _SECRET_KEY.search(key):
        todo = "delete it: secrets belong in the Airflow connections that `connections` names"
    else:
        todo = did_you_mean(key, known, "delete it")
    return Problem(_where(loc[:-1]) or "file", f"the unknown key {_show_key(key)}", f"only {', '.join(known)}", todo)


def _show_key(key: str) -> str:
    return repr(key) if _SHOWABLE_KEY.fullmatch(key) else f"with {len(key)} characters (not shown)"


def _where(loc: Sequence[int | str]) -> str:
    """Return a place as the file has it: without the tags that pydantic adds after a tagged union."""
    parts = [
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for before, part in zip(("", *loc), loc, strict=False)
        if before not in _TAGGED
    ]
    return "".join(parts).lstrip(".")


def _keys_at(loc: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """Return the keys that a mapping at a place may have."""
    models = [model]
    for part in loc:
        tagged = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        fields = [f for m in models for name, f in m.model_fields.items() if part == (f.alias or name)]
        models = tagged or [m for f in fields for m in _models_in(f.annotation)] or models
    return sorted(
        {field.alias or name for m in models for name, field in m.model_fields.items()} - {"name"}
        | ({"name"} if loc else set())
    )


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
