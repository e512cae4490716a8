"""What a bare system gets of this machine: what leads to its package registries, and nothing else."""

from __future__ import annotations

from pathlib import Path

from lab.cloud.model import PROJECT_ROOT
from lab.fresh.__main__ import NAMED
from lab.fresh.settings import settings_environment, write_settings

# Debian's names, and the README's.
NAMES = {"python3": "Python 3.11", "git": "git", "make": "make", "ca-certificates": "ca-certificates"}


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_it_has_what_the_readme_names() -> None:
    (sentence,) = (
        line for line in (PROJECT_ROOT / "README.md").read_text().splitlines() if "On Debian 12 with" in line
    )
    assert list(NAMES) == list(NAMED)
    assert all(name in sentence for name in NAMES.values())


def test_settings_of_apt_and_pip_come_along_and_programs_of_this_machine_do_not(tmp_path: Path) -> None:
    machine, home, target = tmp_path / "machine", tmp_path / "home", tmp_path / "target"
    taken = {
        "etc/apt/sources.list.d/debian.sources": "Types: deb\n",
        "etc/apt/auth.conf.d/proxy": "machine proxy login me\n",
        "etc/pip.conf": "[global]\n",
        "etc/xdg/pip/constraints.txt": "six<2\n",
    }
    write(
        machine, **taken, **{"etc/apt/apt.conf.d/hook": 'DPkg::Post-Invoke { "/opt/hook"; };\n', "etc/passwd": "me\n"}
    )
    write(home, **{".config/pip/pip.conf": "[global]\nindex-url = https://login@mirror.example/simple\n"})
    write_settings(target, machine=machine, home=home)
    assert {name: (target / name).read_text() for name in taken} == taken
    for folder in ("root", "etc/skel"):
        assert "mirror.example" in (target / folder / ".config/pip/pip.conf").read_text()
    assert not (target / "etc/apt/apt.conf.d/hook").exists()
    assert not (target / "etc/passwd").exists()


def test_proxies_and_indexes_come_along_and_where_this_machine_keeps_things_does_not() -> None:
    taken = {
        "https_proxy": "http://proxy.example:3128",
        "NO_PROXY": "localhost",
        "PIP_INDEX_URL": "https://pypi.example",
    }
    left = {
        "PIP_CERT": "/opt/ca.pem",
        "SSL_CERT_FILE": "/opt/ca.pem",
        "UV_CACHE_DIR": "/mnt/cache",
        "PIP_FIND_LINKS": "/opt/wheels",
        "HOME": "/home/me",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    assert settings_environment({**taken, **left}) == taken
