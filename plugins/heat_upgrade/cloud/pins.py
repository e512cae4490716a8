"""A release's requirements file: every package pinned, with its hashes, and openstack-heat to the release."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from heat_upgrade.problems import Problem, show

_HASH = re.compile(r"sha256:[0-9a-f]{64}\s*")
_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,. -]*\])?\s*==\s*([\w.!+-]+)\s*(?:;.*)?")


def check_pins(requirements: Path, version: str) -> list[Problem]:
    """
    Return what is wrong with a release's requirements file.

    :param requirements: the file
    :param version: the release of openstack-heat that it has to pin
    """
    freeze = f"write it with `uv pip compile --generate-hashes` for openstack-heat {version}, see docs/cloud-file.md"
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{str(requirements)!r} ({type(error).__name__})"
        return [Problem("requirements", reason, "a readable file of pins", freeze)]
    problems, pinned = [], {}
    for number, line in _whole_lines(lines):
        requirement, *hashes = line.split("--hash=")
        requirement, where = requirement.strip(), f"requirements, line {number}"
        if not (pin := _PIN.fullmatch(requirement)):
            problems.append(Problem(where, show(requirement), "a pin as in name==1.2.3", freeze))
        elif not hashes or not all(map(_HASH.fullmatch, hashes)):
            problems.append(Problem(where, show(requirement), "a pin with its hashes (--hash=sha256:...)", freeze))
        else:
            pinned[re.sub(r"[-_.]+", "-", pin[1]).lower()] = pin[2]
    heat = pinned.get("openstack-heat")
    if heat != version:
        value = f"openstack-heat {heat}" if heat else "no pin of openstack-heat"
        problems.append(Problem("requirements", value, f"openstack-heat=={version}", freeze))
    return problems


def _whole_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield each requirement with its line's number, what follows a backslash joined to it, comments left out."""
    begun, joined = 0, ""
    for number, line in enumerate(lines, start=1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        begun = begun or number
        joined += f" {text.rstrip(chr(92))}"
        if not text.endswith(chr(92)):
            if joined.strip():
                yield begun, joined.strip()
            begun, joined = 0, ""
    if joined.strip():
        yield begun, joined.strip()
