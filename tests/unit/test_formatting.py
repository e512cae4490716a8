"""Durations, lists, tables and Markdown: one form of each, whatever users have written."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from heat_upgrade.formatting import (
    change,
    count,
    duration,
    first_few,
    first_lines,
    markdown_block,
    markdown_table,
    markdown_text,
    one_line,
    text_table,
)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (5.0, "5 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7325, "2 h 2 min"),
        (200000, "2 d 7 h"),
        (timedelta(minutes=90), "1 h 30 min"),
        (timedelta(days=1), "1 d"),
    ],
)
def test_times_have_no_more_detail_than_anybody_needs(time: timedelta | float | None, text: str) -> None:
    assert duration(time) == text


def test_a_change_needs_both_times() -> None:
    assert change(3.0, None) == change(None, 3.0) == ""
    assert change(3.0, 3.0) == "+0 s"
    assert change(3.0, 63.0) == "\N{MINUS SIGN}1 min"


def test_one_thing_is_no_things() -> None:
    assert [count(number, "host") for number in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]


def test_a_long_list_says_how_much_it_leaves_out() -> None:
    assert first_few(range(3), 3) == "0, 1, 2"
    assert first_few(range(9)) == "0, 1, 2, 3, 4 and 4 more"
    assert first_lines(["a", "b\nc"], 2) == ["a", "b c"]
    assert first_lines(range(9), 2, more="more hosts") == ["0", "1", "... and 7 more hosts"]


def test_columns_are_as_wide_as_what_stands_in_them_and_a_short_row_runs_on() -> None:
    rows = [("web", "s1"), ("  in it: a nested one with a long name",), ("a-longer-name", "s2")]
    assert text_table(("stack", "id"), rows).splitlines() == [
        "stack          id",
        "web            s1",
        "  in it: a nested one with a long name",
        "a-longer-name  s2",
    ]


# CommonMark's rule: a backslash before punctuation makes it text.
def shown(markdown: str) -> str:
    letters, at = [], 0
    while at < len(markdown):
        if markdown[at] == "\\" and markdown[at + 1 : at + 2] in set("\\`*_[]<>&|~#+=-.)"):
            at += 1
        letters.append(markdown[at])
        at += 1
    return "".join(letters)


@pytest.mark.parametrize(
    "text",
    [
        "# no heading",
        "- no list",
        "+ no list",
        "1. no list",
        "12) no list",
        "=== no heading",
        "--- no line",
        "> no quotation",
        "*no* _emphasis_ **at** __all__ ~~none~~",
        "[no link](x) ![no image](x) <http://no.link>",
        "`no code` ``` \\` \\",
        "&lt; no entity",
        "a | b",
        "<script>alert('x')</script>",
    ],
)
def test_text_is_never_markup(text: str) -> None:
    written = markdown_text(text)
    assert shown(written) == text
    bare = written.replace("\\\\", "")
    assert not re.search(r"(?<!\\)[`*\[\]<>&|~#]", bare)
    assert not re.search(r"(?<![\\\w])_|(?<!\\)_(?!\w)", bare)
    assert not re.match(r"[#+=>-]|\d+[.)]", bare)


def test_text_has_one_line_and_keeps_what_is_no_markup() -> None:
    assert one_line(" a\r\nBcc:  b ") == "a Bcc: b"
    assert markdown_text("a\n\n# b") == "a \\# b"
    for plain in ("web-1.example (2.5 s), x=y+z", "26.0.2", "IN_PROGRESS", "12.5 s"):
        assert markdown_text(plain) == plain


def test_a_block_ends_at_its_own_end() -> None:
    block = markdown_block("a\n```\n`````\n# b\n", "sh").splitlines()
    assert block == ["``````sh", "a", "```", "`````", "# b", "``````"]
    assert markdown_block("a").splitlines() == ["```", "a", "```"]
    assert markdown_block("\n") == ""


def test_a_table_has_as_many_cells_in_each_row() -> None:
    assert markdown_table(("a", "b"), [("x | y", 1), ("short",)]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| x \\| y | 1 |",
        "| short |  |",
    ]
