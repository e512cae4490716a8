"""A release's requirements file: every package pinned, openstack-heat to the release."""

from __future__ import annotations

import re
from pathlib import Path

from heat_upgrade.problems import Problem, show

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,. -]*\])?\s*==\s*([\w.!+-]+)\s*(?:;.*)?")


def check_pins(requirements: Path, version: str) -> list[Problem]:
    """
    Return what is wrong with a release's requirements file.

    :param requirements: the file
    :param version: the release of openstack-heat that it has to pin
    """
    freeze = f"write it with `pip freeze` from a venv with openstack-heat {version}"
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{str(requirements)!r} ({type(error).__name__})"
        return [Problem("requirements", reason, "a readable file of pins", freeze)]
    problems, pinned = [], {}
    for number, line in enumerate(lines, start=1):
        requirement = re.sub(r"(^|\s)#.*", "", line).split("--hash=")[0].strip(" \t\\")
        pin = _PIN.fullmatch(requirement)
        if pin:
            pinned[re.sub(r"[-_.]+", "-", pin[1]).lower()] = pin[2]
        elif requirement:
            where, value = f"requirements, line {number}", show(requirement)
            problems.append(Problem(where, value, "a pin as in name==1.2.3", freeze))
    heat = pinned.get("openstack-heat")
    if heat != version:
        value = f"openstack-heat {heat}" if heat else "no pin of openstack-heat"
        problems.append(Problem("requirements", value, f"openstack-heat=={version}", freeze))
    return problems
