"""A wheel of the fake openstack-heat: installed in a moment, by the installer that installs the real one."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

FAKE = Path(__file__).with_name("fake_heat.py")
# What `prepare` imports to see that a release works.
MODULES = ["heat", "heat/engine", "heat/engine/service", "heat/api", "heat/api/openstack", "heat/api/openstack/v1"]
MODULES += ["heat/api/cfn", "heat/api/cfn/v1", "heat/wsgi"]
PROGRAMS = {"heat-engine": "engine", "heat-api": "heat_api", "uwsgi": "uwsgi"}
SCRIPTS = "\n".join(
    ["[console_scripts]", *(f"{name} = heat.fake:{function}" for name, function in PROGRAMS.items()), ""]
)


def build(directory: Path, version: str, modules: list[str] | None = None) -> str:
    """
    Build a wheel, and return the line that pins it.

    :param directory: where to.
    :param version: the release that it claims to be.
    :param modules: its packages, all that `prepare` imports by default.
    """
    info = f"openstack_heat-{version}.dist-info"
    files = {f"{module}/__init__.py": "" for module in modules or MODULES}
    files["heat/fake.py"] = FAKE.read_text(encoding="utf-8")
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: openstack-heat\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = SCRIPTS
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(directory / f"openstack_heat-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return pin(directory, version)


def pin(directory: Path, version: str) -> str:
    """
    Return the line that pins a wheel.

    :param directory: where it is.
    :param version: its release.
    """
    wheel = directory / f"openstack_heat-{version}-py3-none-any.whl"
    return f"openstack-heat=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
