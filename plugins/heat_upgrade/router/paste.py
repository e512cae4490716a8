"""
Put the router, or the guard of the API beside, into the text of an api-paste.ini, and take it out again to the byte.

    python3 paste.py router SIDE OTHER STATE [orchestration=URL] [cfn=URL] < api-paste.ini
    python3 paste.py guard STATE < api-paste.ini
"""

from __future__ import annotations

import re
import sys
from configparser import Error, RawConfigParser
from typing import NamedTuple

GUARD = "heat_upgrade_guard"
ROUTER, IDENTITY = "heat_upgrade_router", "heat_upgrade_identity"
MARK = "\n# The rest of this file belongs to the upgrade in progress, which takes it away.\n"
NAMES = {"orchestration": "heat-api", "cfn": "heat-api-cfn"}
PIPELINE_FACTORY = "heat.api:pipeline_factory"
URL_MAPS = {"heat.api:root_app_factory", "egg:Paste#urlmap"}
SECTION = re.compile(r"\[(?P<name>[^\]]+)\]")
OPTION = re.compile(r"(?P<key>[^\s=:#;\[][^=:]*?)(?P<sign>\s*[=:][ \t]*)(?P<value>.*)")
OURS = re.compile(rf"(?:{ROUTER}_\w+|{IDENTITY}|{GUARD}_\w+) ")


class PasteError(ValueError):
    """An api-paste.ini in which the router has no place. The text says why, and what to do."""


class Place(NamedTuple):
    """Where the router goes on this host: the releases on both sides, the APIs beside, and the state file."""

    side: str
    other: str
    beside: dict[str, str]  # by API: orchestration, cfn
    state: str


def with_router(text: str, place: Place) -> str:
    """
    Return an api-paste.ini with the router first in all pipelines of the APIs.

    :param text: the file; what an earlier upgrade has left in it is replaced.
    :param place: what the router is told, for each API that runs on the host.
    :raises PasteError: if a pipeline can't be found, or if the file is written in a way that this doesn't know.
    """
    plain = without_router(text)
    lines = plain.splitlines(keepends=True)
    routed: dict[tuple[str, str], str] = {}
    for api in place.beside:
        for pipeline in _pipelines(plain, api):
            if routed.setdefault(pipeline, api) != api:
                raise PasteError(f"{_name(pipeline)} serves heat-api and heat-api-cfn, expected one for each")
    for pipeline, api in routed.items():
        _insert(lines, pipeline, api)
    changed = "".join(lines) + MARK + _sections(place)
    _check(plain, changed, routed)
    return changed


def with_guard(text: str, state: str) -> str:
    """
    Return an api-paste.ini with the guard first in all pipelines of both APIs, as far as it has them.

    :param text: the file; what an earlier upgrade has left in it is replaced.
    :param state: the path of the state file.
    :raises PasteError: if no pipeline can be found, or if the file is written in a way that this doesn't know.
    """
    plain = without_router(text)
    lines = plain.splitlines(keepends=True)
    for api in NAMES:
        for pipeline in _pipelines(plain, api):
            first, _ = _lines_of(lines, pipeline)
            start = _value(lines[first])
            lines[first] = f"{lines[first][:start]}{GUARD}_{api} {lines[first][start:]}"
    factory, told = f"paste.filter_factory = {ROUTER}:guard_factory\n", f"state = {state.replace('%', '%%')}\n"
    return "".join(lines) + MARK + "\n".join(f"[filter:{GUARD}_{api}]\n{factory}api = {api}\n{told}" for api in NAMES)


def without_router(text: str) -> str:
    """Return the text that :func:`with_router` was given."""
    plain, mark, _ = text.partition(MARK)
    return "".join(OURS.sub("", line) for line in plain.splitlines(keepends=True)) if mark else text


def _parsed(text: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except Error as error:
        raise PasteError(f"api-paste.ini can't be read: {error}") from error
    return parser


def _pipelines(text: str, api: str) -> list[tuple[str, str]]:
    """Return section and key of every pipeline that an API may run, whatever its flavour."""
    parser, name = _parsed(text), NAMES[api]
    others = [other for other in NAMES.values() if len(other) > len(name)]
    flavour = re.compile(rf"(?:composite|pipeline):({name}(?:-[\w-]+)?)$")
    roots = [
        s for s in parser.sections() if flavour.match(s) and not any(s.split(":")[1].startswith(o) for o in others)
    ]
    found = [pipeline for root in roots for pipeline in _below(parser, root)]
    if not found:
        raise PasteError(f"no [composite:{name}] or [pipeline:{name}] leads to a pipeline: compare Heat's own file")
    return list(dict.fromkeys(found))


def _below(parser: RawConfigParser, section: str) -> list[tuple[str, str]]:
    options = dict(parser.items(section))
    if section.startswith("pipeline:"):
        return [(section, "pipeline")]
    kind = options.get("paste.composite_factory") or options.get("use")
    keys = [key for key in options if key not in parser.defaults() and key != "use" and not key.startswith("paste.")]
    if kind == PIPELINE_FACTORY:
        return [(section, key) for key in keys]
    if kind not in URL_MAPS:
        raise PasteError(f"[{section}] is made by {kind!r}, expected one of Heat's own: write it as in Heat's own file")
    found = []
    for key in keys:
        names = [f"{sort}:{options[key].strip()}" for sort in ("composite", "pipeline", "app")]
        target = next((name for name in names if parser.has_section(name)), None)
        if target is None:
            raise PasteError(f"[{section}] leads to {options[key]!r}, which isn't in this file: move it here")
        found += [] if target.startswith("app:") else _below(parser, target)
    return found


def _insert(lines: list[str], pipeline: tuple[str, str], api: str) -> None:
    """Write the router before the first word of a pipeline, and what it asks before the last one, the app."""
    first, end = _lines_of(lines, pipeline)
    for number in range(end - 1, first - 1, -1):
        start = _value(lines[first]) if number == first else 0
        words = list(re.finditer(r"\S+", lines[number][start:])) if not _is_comment(lines[number]) else []
        if words:
            place = start + words[-1].start()
            lines[number] = f"{lines[number][:place]}{IDENTITY} {lines[number][place:]}"
            break
    start = _value(lines[first])
    lines[first] = f"{lines[first][:start]}{ROUTER}_{api} {lines[first][start:]}"


def _value(line: str) -> int:
    match = OPTION.match(line)
    return match.start("value") if match else 0


def _is_comment(line: str) -> bool:
    return line.lstrip()[:1] in ("#", ";")


def _lines_of(lines: list[str], pipeline: tuple[str, str]) -> tuple[int, int]:
    """Return the lines over which an option goes; where it stands twice, the last one counts."""
    section, found = "", (-1, -1)
    for number, line in enumerate(lines):
        if header := SECTION.match(line):
            section = header["name"]
        elif (option := OPTION.match(line)) and (section, option["key"].rstrip()) == pipeline:
            end = number + 1
            while end < len(lines) and (lines[end][:1].isspace() or _is_comment(lines[end])) and lines[end].strip():
                end += 1
            found = (number, end)
    if found[0] < 0:
        raise PasteError(f"{_name(pipeline)} isn't written as [section] and key = value: write it like that")
    return found


def _name(pipeline: tuple[str, str]) -> str:
    return f"{pipeline[1]} in [{pipeline[0]}]"


def _sections(place: Place) -> str:
    text = f"[filter:{IDENTITY}]\npaste.filter_factory = {ROUTER}:identity_factory\n"
    for api, beside in place.beside.items():
        told = {"api": api, "side": place.side, "other": place.other, "beside": beside, "state": place.state}
        text += f"\n[filter:{ROUTER}_{api}]\npaste.filter_factory = {ROUTER}:filter_factory\n"
        # PasteDeploy replaces %(name)s.
        text += "".join(f"{key} = {value.replace('%', '%%')}\n" for key, value in told.items())
    return text


def _check(plain: str, changed: str, routed: dict[tuple[str, str], str]) -> None:
    """See that a parser finds exactly what was meant, and that the way back leads to the same bytes."""
    before, after = _parsed(plain), _parsed(changed)
    for section in before.sections():
        for key, value in before.items(section):
            words = value.split()
            if api := routed.get((section, key)):
                words = [f"{ROUTER}_{api}", *words[:-1], IDENTITY, *words[-1:]]
            if after.get(section, key).split() != words:
                raise PasteError(f"[{section}] {key} is written in an unusual way: write it on one line, as Heat's own")
    if without_router(changed) != plain:
        raise PasteError(f"{ROUTER} stands in the file already, but not by this upgrade: remove it")


def _run(words: list[str]) -> str:
    text = sys.stdin.read()
    if words[0] == "guard":
        return with_guard(text, words[1])
    _, side, other, state, *beside = words
    return with_router(text, Place(side, other, dict(each.split("=", 1) for each in beside), state))


if __name__ == "__main__":
    try:
        sys.stdout.write(_run(sys.argv[1:]))
    except PasteError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
