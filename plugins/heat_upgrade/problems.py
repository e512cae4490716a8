"""What is wrong with a value from outside, so that an operator can fix it: value, expectation, next step."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

HIDDEN = "a value that is not shown (it may hold a secret)"
_SECRET_TEXT = re.compile(r":.*@|private key|(passw\w*|secret|token)\s*[=: ]", re.IGNORECASE | re.DOTALL)
_SECRET_KEY = re.compile(r"passw|secret|token|private|credential|login|transport_url", re.IGNORECASE)


class Problem(NamedTuple):
    """
    One wrong value.

    :param where: the place, as in ``hosts[1].roles``
    :param value: what was found, as ``show`` puts it
    :param expected: what would have been right
    :param todo: what the operator does next
    """

    where: str
    value: str
    expected: str
    todo: str

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.where}: got {self.value}, expected {self.expected}; {self.todo}"


class ProblemsError(ValueError):
    """
    Input that is refused, with everything that is wrong with it.

    :param source: what was read: a file, or the parameters of a run
    :param problems: every problem found, at least one
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = tuple(problems)

    def __str__(self) -> str:
        """Return the source and a line for each problem."""
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        return "\n".join([f"{self.source}: {count}", *(f"  - {problem}" for problem in self.problems)])


def show(value: Any) -> str:
    """
    Return a value for a message: short, on one line, never a secret and never the inside of a structure.

    :param value: anything that YAML or JSON can hold
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if _SECRET_TEXT.search(str(value)):
        return HIDDEN
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def show_key(key: str) -> str:
    """
    Return a key for a message, unless it looks like a value that slipped into a key's place.

    :param key: a key of a mapping
    """
    return repr(key) if re.fullmatch(r"[\w.-]{1,40}", key) else "(not shown, it has odd characters)"


def is_secret(key: str) -> bool:
    """
    Return whether a key's name means that its value is a secret.

    :param key: a key of a mapping
    """
    return bool(_SECRET_KEY.search(key))


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """
    Return a suggestion for a misspelt word.

    :param word: what was written
    :param known: the words that would be right
    :param otherwise: what to return if none of them is near
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise
