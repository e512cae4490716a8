"""From pydantic's errors to problems that an operator can fix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from heat_upgrade.problems import HIDDEN, Problem, did_you_mean, is_secret, show, show_key

SAMPLE = "include/clouds/example.yaml.sample"

Place = Sequence[int | str]

_NEVER_SHOWN = {"connections", "host_key", "supervisorctl", "leave", "rejoin", "connection", "arguments"}
_TAGGED = {"service_manager", "installer", "rotation", "notifications"}
_MAPPING = ("a mapping", f"write lines of `key: value`, as in {SAMPLE}")
_NUMBER = "write digits, without quotes"
_TYPES = {
    "int_type": ("a whole number", _NUMBER),
    "float_type": ("a number", _NUMBER),
    "bool_type": ("true or false", "write true or false without quotes"),
    "dict_type": _MAPPING,
    "tuple_type": ("a list", "write [...] around it, or a line with - for each entry"),
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
}


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """
    Return pydantic's errors as problems, in the order of the model's fields.

    :param error: what validation raised. It holds the input, so never show or chain it
    :param model: the validated model
    """
    return [problem for details in error.errors(include_url=False) for problem in _translate(details, model)]


def _translate(details: ErrorDetails, model: type[BaseModel]) -> list[Problem]:
    kind, loc, ctx = details["type"], details["loc"], details.get("ctx", {})
    where = _where(loc)
    if kind == "several":
        return [p._replace(where=f"{where}.{p.where}".strip(".").replace(".[", "[")) for p in ctx["problems"]]
    if kind in ("extra_forbidden", "invalid_key"):
        return [_unknown_key(loc, model)]
    if kind == "missing":
        return [Problem(where, "nothing", f"the key {loc[-1]!r}", f"add it, as in {SAMPLE}")]
    if kind in ("literal_error", "union_tag_invalid"):
        return [_choice(where, details)]
    hidden = details["input"] and _NEVER_SHOWN & set(map(str, loc))
    value = HIDDEN if hidden else show(details["input"])
    return [Problem(where, value, *_expectation(details))]


def _expectation(details: ErrorDetails) -> tuple[str, str]:
    kind, value, ctx = details["type"], details["input"], details.get("ctx", {})
    if kind == "invalid":
        return ctx["expected"], ctx["todo"]
    if kind == "string_type":
        return "a text", _how_to_quote(value)
    if kind == "union_tag_not_found":
        return "a mapping with the key 'kind'", f"add `kind: ...`, as in {SAMPLE}"
    return _TYPES.get(kind, (details["msg"], f"compare with {SAMPLE}"))


def _how_to_quote(value: Any) -> str:
    if isinstance(value, bool):
        return "put it in quotes, YAML reads on, off, yes, no, true and false as booleans"
    if isinstance(value, dict):
        return "put it in quotes, YAML reads a { at the start as a mapping"
    if value is None or isinstance(value, list):
        return f"write one text, as in {SAMPLE}"
    return "put it in quotes"


def _choice(where: str, details: ErrorDetails) -> Problem:
    ctx = details.get("ctx", {})
    tagged = "tag" in ctx
    value = ctx["tag"] if tagged else details["input"]
    known = re.findall(r"'([^']+)'", ctx["expected_tags"] if tagged else ctx["expected"])
    todo = did_you_mean(str(value), known, "write one of them")
    return Problem(f"{where}.kind" if tagged else where, show(value), f"one of {', '.join(known)}", todo)


def _unknown_key(loc: Place, model: type[BaseModel]) -> Problem:
    key, known = str(loc[-1]), _keys_at(loc[:-1], model)
    todo = did_you_mean(key, known, "delete it")
    if is_secret(key):
        todo = "delete it, secrets belong in the Airflow connections that `connections` names"
    found, expected = f"the unknown key {show_key(key)}", f"only {', '.join(known)}"
    return Problem(_where(loc[:-1]) or "file", found, expected, todo)


def _where(loc: Place) -> str:
    """Return a place as the file has it: without the tag that pydantic adds after a tagged union."""
    parts = [
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for number, part in enumerate(loc)
        if isinstance(part, int) or not _in_tagged(loc[:number])
    ]
    return "".join(parts).lstrip(".")


def _in_tagged(loc: Place) -> bool:
    *_, before, last = ("", "", *loc)
    return last in _TAGGED or (isinstance(last, int) and before in _TAGGED)


def _keys_at(loc: Place, model: type[BaseModel]) -> list[str]:
    """Return the keys that a mapping at a place may have."""
    models = [model]
    for part in loc:
        inside = [inner for m in models for inner in _models_in(m, part)]
        models = [m for m in models if part in _kinds(m)] or inside or models
    keys = {field.alias or name for m in models for name, field in m.model_fields.items()}
    return sorted(keys if loc else keys - {"name"})  # a cloud's name comes from its file's


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _models_in(model: type[BaseModel], key: int | str) -> Iterator[type[BaseModel]]:
    for name, field in model.model_fields.items():
        if key == (field.alias or name):
            yield from _models_of(field.annotation)


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_of(inner)
