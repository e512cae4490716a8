"""docs/errors.md explains every error that the product can print, each in one place, and none that it can't."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import NamedTuple

from tests.unit._helpers.errors import (
    EXPECTATIONS,
    MAKERS,
    PACKAGE,
    PROJECT,
    RABBITMQ,
    REMOTE,
    WRITERS,
    Message,
    Reader,
    bare,
    messages,
)

PAGE = PROJECT / "docs" / "errors.md"
CODE = re.compile(r"(`+)\s?(.+?)\s?\1(?!`)")


class Row(NamedTuple):
    """A row of the page: one or more parts of messages, what they mean and what to do."""

    section: str
    parts: tuple[str, ...]
    cells: tuple[str, ...]

    def explains(self, message: Message) -> bool:
        """Tell whether the row is about a message."""
        return any(bare(part) in bare(message.text) for part in self.parts)


def rows() -> list[Row]:
    found, section = [], ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        if line.startswith("| `"):
            found.append(Row(section, tuple(code for _, code in CODE.findall(cells[0])), cells))
    return found


def likely_section(message: Message, explained: list[tuple[Row, Message]]) -> str:
    """Return where most of the same file's messages stand."""
    sections = Counter(row.section for row, other in explained if other.file == message.file)
    return sections.most_common(1)[0][0] if sections else "whatever section fits"


def test_every_error_is_explained() -> None:
    page = rows()
    explained = [(row, message) for message in messages() for row in page if row.explains(message)]
    known = {message for _, message in explained}
    missing = [
        f"{message.place}, under '{likely_section(message, explained)}':\n| `{' '.join(message.text.split())}` | | |"
        for message in messages()
        if message not in known
    ]
    assert not missing, (
        "add these rows to docs/errors.md, with what each means and what to do; a part of the message is enough:\n"
        + "\n".join(missing)
    )


def test_no_error_is_explained_twice() -> None:
    page = rows()
    for message in messages():
        found = [row.parts for row in page if row.explains(message)]
        assert len(found) < 2, f"{message}: two rows say what it means, make one of them more precise: {found}"


def test_only_what_can_be_printed_is_explained() -> None:
    texts = [bare(message.text) for message in messages()]
    dead = [part for row in rows() for part in row.parts if not any(bare(part) in text for text in texts)]
    assert not dead, f"docs/errors.md explains what nothing prints, delete or correct: {dead}"


def test_each_row_says_what_it_means_and_what_to_do() -> None:
    page = rows()
    assert len(page) > 100
    for row in page:
        assert len(row.cells) == 3, row
        assert all(row.cells), row
        assert row.parts, row


def test_no_way_to_tell_an_error_has_got_another_name() -> None:
    files = [*PACKAGE.rglob("*.py"), *REMOTE.rglob("*.py"), *RABBITMQ]
    code = "".join(path.read_text() for path in files)
    for name in [*MAKERS, *WRITERS, EXPECTATIONS]:
        assert re.search(rf"(def |class |sys\.){name}\b|^{name}\b", code, re.MULTILINE), f"{name}: mend errors.py"


CODE_WITH_ERRORS = '''
def check(name, host, load):
    """Say what is expected of a host."""
    told = f"{host.name} has load {load}"
    todo = "end it" if load > 9 else "wait"
    if load > 99:
        raise (TransientError if host.up else UpgradeError)(f"{told}, far too much: {todo}")
    verdict = failed if load > 9 else warned
    log.info("nothing out of the ordinary")
    return verdict(name, f"{told}: {todo}" + ", then go on")
'''


def test_texts_are_read_with_their_variables_and_alternatives() -> None:
    said = [text for _, text in Reader(ast.parse(CODE_WITH_ERRORS)).read()]
    assert said == [
        "<name> has load <load>, far too much: end it",
        "<name> has load <load>, far too much: wait",
        "<name> has load <load>: end it, then go on",
        "<name> has load <load>: wait, then go on",
    ]
