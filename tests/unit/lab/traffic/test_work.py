"""Who was at work on what, from one look to the next."""

from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from lab.traffic import work as work_module
from lab.traffic.work import Span, Work, WorkWatch


def test_looks_become_spans() -> None:
    work = Work()
    work.observe(["old"], [("a", "old")], 100.0)
    work.observe(["old", "new"], [("a", "old"), ("b", "new")], 101.0)
    work.observe(["new"], [("a", "new")], 102.0)
    assert work.engines == {"old": Span(first=100, last=101), "new": Span(first=101, last=102)}
    assert work.stacks == {
        "a": {"old": Span(first=100, last=101), "new": Span(first=102, last=102)},
        "b": {"new": Span(first=101, last=101)},
    }
    assert work.engines_before(101.0) == {"old"}
    assert work.engines_before(101.5) == {"old", "new"}


def test_a_database_that_is_away_for_a_while_costs_only_its_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def looks() -> Iterator[tuple[list[str], list[tuple[str, str]]] | None]:
        yield ["e"], [("a", "e")]
        yield None
        while True:
            watch._end.set()
            yield ["e"], [("b", "e")]

    seen = looks()

    def look() -> tuple[list[str], list[tuple[str, str]]]:
        if (found := next(seen)) is None:
            raise OperationalError("SELECT", {}, Exception("gone away"))
        return found

    monkeypatch.setattr(work_module, "EVERY", 0.0)
    watch = WorkWatch(look)
    watch.start()
    watch.join(10)
    assert set(watch.stop().stacks) == {"a", "b"}
    assert "gone away" in capsys.readouterr().out
