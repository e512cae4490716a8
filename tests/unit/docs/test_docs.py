"""What the pages name is there: files, headings, commands, settings; and the README has every room and every task."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.unit._helpers.dag_files import BOTH, cloud_file, loader

PROJECT = Path(__file__).parents[3]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "dags/*.md", ".github/**/*.md", ".github/**/*.yml")
    for page in PROJECT.glob(pattern)
)
FORMS = [form for form in PROJECT.glob(".github/ISSUE_TEMPLATE/*.yml") if form.name != "config.yml"]
README = PROJECT / "README.md"
ROOM = PROJECT / "plugins/heat_upgrade"
MAKEFILE = (PROJECT / "Makefile").read_text()

# What is in code, a span or an indented block; only there a word is meant to the letter.
CODE = re.compile(r"`([^`\n]+)`|^ {4,}(.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ROOTS = ("dags", "plugins", "include", "tests", "docs", "deploy", "lab", ".ci", ".github")
FILE = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, ROOTS))})/[\w.<>*/{{}}-]*")
TARGET = re.compile(r"(?:^|&& )\s*make ([a-z][\w-]*)")
MODULE = re.compile(r"\bpython -m ([\w.]+)")
SETTING = re.compile(r"\bHEAT_UPGRADE_[A-Z]+\b")
DAG = re.compile(r"\b(heat_[a-z_]+)__<cloud>")
# Words that the glossary has replaced. CONTRIBUTING names them, docs/faults.md quotes what was logged.
RETIRED = re.compile(r"\b(?:mend(?:s|ed)?|anew|patience|to the letter)\b", re.IGNORECASE)
QUOTING = (PROJECT / "CONTRIBUTING.md", PROJECT / "docs/faults.md")
LONGEST = 120


def codes(page: Path) -> Iterator[str]:
    """Yield all that a page has in code."""
    yield from (span or block for span, block in CODE.findall(page.read_text()))


def anchors(page: Path) -> set[str]:
    """Return what a link may name of a page, as GitHub makes it of headings."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(page.read_text()))
    return {heading.replace(" ", "-") for heading in words}


def known_part(name: str) -> Path:
    """Return a named path as far as it isn't for the reader to fill in."""
    fixed = re.split(r"[<*{]", name)[0]
    return PROJECT / (fixed if fixed == name else fixed.rpartition("/")[0])


def rooms() -> Iterator[tuple[str, Path]]:
    """Yield each folder of Python code that belongs into the map, with the name that it has there."""
    packages = [folder for folder in (PROJECT / "plugins").iterdir() if (folder / "__init__.py").exists()]
    yield from ((f"plugins/{package.name}/", package) for package in packages)
    for house in (*packages, PROJECT / "lab", PROJECT / "tests"):
        for room in house.iterdir():
            if any(room.rglob("*.py")):
                yield f"{room.name}/", room


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
class TestPage:
    def test_its_links_lead_somewhere(self, page: Path) -> None:
        for link in LINK.findall(page.read_text()):
            name, _, anchor = link.partition("#")
            if "://" in name:
                continue
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), f"{link}: no such file"
            assert not anchor or anchor in anchors(target), f"{link}: no such heading, there are {anchors(target)}"

    def test_the_files_that_it_names_are_there(self, page: Path) -> None:
        named = {name.rstrip(".") for code in codes(page) for name in FILE.findall(code)}
        assert not (missing := sorted(name for name in named if not known_part(name).exists())), missing

    def test_the_commands_that_it_names_can_be_run(self, page: Path) -> None:
        targets = {target for code in codes(page) for target in TARGET.findall(code)}
        missing = sorted(target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE))
        assert not missing, f"make has no target {missing}"
        modules = {module.rstrip(".") for code in codes(page) for module in MODULE.findall(code)}
        assert not (lost := sorted(module for module in modules if find_spec(module) is None)), lost

    def test_the_settings_and_dags_that_it_names_are_known(self, page: Path) -> None:
        text = page.read_text()
        procedures = {path.stem for path in (PROJECT / "dags").glob("*.py")}
        assert set(DAG.findall(text)) <= procedures
        code = "".join(path.read_text() for path in (PROJECT / "plugins").rglob("*.py"))
        compose = (PROJECT / "docker-compose.yaml").read_text()
        assert not (unknown := [name for name in SETTING.findall(text) if name not in code + compose]), unknown

    def test_its_words_are_the_glossarys(self, page: Path) -> None:
        prose = CODE.sub("", page.read_text())
        assert page in QUOTING or not (found := RETIRED.findall(prose)), found


def test_every_page_can_be_found() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in LINK.findall(page.read_text())
    }
    lost = [page.name for page in (PROJECT / "docs").glob("*.md") if page not in linked]
    assert not lost, f"no page has a link to {lost}: add one to the README or to the page that it belongs to"


def test_the_readme_is_one_screen_a_subject() -> None:
    assert len(README.read_text().splitlines()) <= LONGEST


def test_the_map_has_every_room() -> None:
    _, _, map_ = README.read_text().partition("\n## The rooms\n")
    listed = set(re.findall(r"[\w/]+/", map_))
    missing = [str(path.relative_to(PROJECT)) for name, path in rooms() if name not in listed]
    assert not missing, f"the README's map lacks {missing}"


def test_the_layers_are_drawn_as_the_linter_checks_them() -> None:
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    _, _, drawing = (PROJECT / "docs/architecture.md").read_text().partition("    ----")
    lines = drawing.partition("\n\n")[0].splitlines()[1:]
    # What is drawn and what it is are a gap apart.
    assert [set(re.split(r" {3,}", line.strip())[0].split()) for line in lines] == layers


def test_every_private_api_of_airflow_has_its_reason() -> None:
    functions = set(re.findall(r"^(?:async )?def ([a-z]\w+)", (ROOM / "compat.py").read_text(), re.MULTILINE))
    _, _, table = (PROJECT / "docs/architecture.md").read_text().partition("| in `compat` |")
    assert functions == {
        name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }


def test_its_table_has_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dags = loader("heat_rolling_upgrade.py", tmp_path, monkeypatch)(north=cloud_file([BOTH]))
    tasks = dags.dags["heat_rolling_upgrade__north"].task_dict
    names = {part for task in tasks for part in task.split(".")} - {"controller_1"}
    listed = set(re.findall(r"`(\w+)`", README.read_text()))
    assert len(names) > 10
    assert not (missing := sorted(names - listed)), missing


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_an_issue_form_has_what_github_wants(form: Path) -> None:
    read = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= set(read)
    questions = [part for part in read["body"] if part["type"] != "markdown"]
    assert all(part["attributes"]["label"] for part in questions)
    assert len({part["id"] for part in questions}) == len(questions)
