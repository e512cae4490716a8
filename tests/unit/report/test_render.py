"""The report of a run: what it tells of a good run, a failed one, one that never began; and that nothing is markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from heat_upgrade.report.availability import Availability
from heat_upgrade.report.axis import TimeAxis, top_of
from heat_upgrade.report.facts import (
    CanaryFacts,
    CheckFacts,
    DrainFacts,
    Flight,
    FlipFacts,
    Report,
    Sample,
    TaskFacts,
)
from heat_upgrade.report.files import reports_directory, safe, write
from heat_upgrade.report.flips import canary_facts, flip_facts, router_facts
from heat_upgrade.report.render import markdown, page

BEGIN = datetime(2026, 8, 22, 1, 58, 30, tzinfo=UTC)
ODD = "<script>alert('x')</script> | `rm` & [a](javascript:b)"


def step(task: str, after: float, seconds: float | None, host: str | None = None, **more: Any) -> TaskFacts:
    name = next(part for part in task.split(".") if not part.startswith("c_"))
    state = more.pop("state", "success")
    began = BEGIN + timedelta(seconds=after)
    return TaskFacts(task=task, host=host, name=name, state=state, began=began, seconds=seconds, **more)


def probed(*problems: str | None) -> Availability:
    seen = Availability("http://192.0.2.1:8004/")
    for number, problem in enumerate(problems):
        began = BEGIN.timestamp() + 40 + number
        seen.observe(began, began + 0.1, problem)
    return seen


SAMPLES = tuple(
    Sample(
        time=BEGIN + timedelta(seconds=70 + 5 * number),
        messages=None if number == 3 else max(0, 40 - 9 * number),
        held=None if number == 3 else max(0, 12 - 2 * number),
        in_flight=max(0, 7 - number),
    )
    for number in range(9)
)


COUNTS = {
    "here_read": 700,
    "here_create": 20,
    "here_change": 9,
    "beside_read": 4100,
    "beside_create": 31,
    "beside_change": 12,
    "refused": 0,
    "lost": 0,
    "held": 7,
    "longest_held": 1.42,
}
BY_SIDE = tuple(sample.model_copy(update={"on_new": number}) for number, sample in enumerate(SAMPLES))


def flipped(**changed: Any) -> Report:
    """Return the report of a run with a flip."""
    at = BEGIN.timestamp() + 63
    facts: dict[str, Any] = {
        "flip": flip_facts(task_left(at, in_flight=4, held={"c-1": 1.31, "c-2": 1.44})),
        "close": flip_facts(task_left(at + 55, held={"c-1": 0.2, "c-2": 0.21}, counts={})),
        "routers": router_facts({"c-1": COUNTS, "c-2": {**COUNTS, "refused": 3, "longest_held": 1.6}}),
        "canary": canary_facts(
            {"projects": ["shop", "lab"], "began": at - 20}, {"ended": at - 5, "verdict": "all is well"}
        ),
        "drain": report().drain.model_copy(update={"samples": BY_SIDE}),  # type: ignore[union-attr]
    }
    return report(**{**facts, **changed})


def task_left(ended: float, **more: Any) -> dict[str, Any]:
    """Return what the task of a flip returns."""
    began, ended_at = (datetime.fromtimestamp(time, UTC).isoformat() for time in (ended - 4, ended))
    return {"began": began, "ended": ended_at, "moved": True, "in_flight": 0, **more}


def report(**changed: Any) -> Report:
    facts: dict[str, Any] = {
        "cloud": "north",
        "dag_id": "heat_rolling_upgrade__north",
        "run_id": "manual__2026-08-22T01:58:30+00:00",
        "kind": "Rolling upgrade",
        "outcome": "success",
        "source": "25.0.2",
        "target": "26.0.2",
        "hosts": ("c-1", "c-2"),
        "made": BEGIN + timedelta(seconds=150),
        "steps": (
            step("preflight", 0, 6.2, last=5.0),
            step("prepare.c_1", 7, 22, "c-1", last=24.0),
            step("prepare.c_2", 7, 25, "c-2", tries=2),
            step("watch_api", 39, 90),
            step("c_1.switch_api", 44, 6, "c-1"),
            step("c_2.switch_api", 52, 7, "c-2"),
            step("wait_until_drained", 65, 50, last=12.0),
            step("retire.c_1", 116, 3, "c-1"),
            step("verify_cloud", 120, 8.4),
            TaskFacts(task="delete_old_vhost", host=None, name="delete_old_vhost", state="skipped"),
        ),
        "drain": DrainFacts(
            t0=SAMPLES[1].time,
            in_flight=2,
            stacks=(
                Flight(id="s-1", name="web", project="shop", action="CREATE", ended="CREATE COMPLETE"),
                Flight(id="s-2", name="db", project="shop", action="DELETE", ended="deleted"),
            ),
            samples=SAMPLES,
        ),
        "api": probed(*[None] * 20),
        "checks": (CheckFacts(name="smoke stack", found="heat-upgrade-smoke-1 was created and deleted"),),
    }
    return Report(**{**facts, **changed})


class Text(HTMLParser):
    """What a reader sees, and the tags that a browser sees."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> tuple[str, Text]:
    parser = Text()
    parser.feed(html)
    return " ".join(" ".join(parser.words).split()), parser


def drawings(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def test_a_good_run_tells_all_that_an_operator_asks_for():
    text, _ = read(page(report()))
    for words in (
        "Rolling upgrade of north success",
        "From 25.0.2 to 26.0.2, c-1, c-2.",
        "2026-08-22 01:58:30 UTC to 2026-08-22 02:00:39 UTC",
        "50 s waiting for the drain",
        "0 of 20 probes of the API failed",
        "2 stacks in flight at the switch, none in progress any more",
        "web s-1 shop CREATE CREATE COMPLETE",
        "db s-2 shop DELETE deleted",
        "smoke stack heat-upgrade-smoke-1 was created and deleted",
        "preflight success 01:58:30 6.2 s 5 s +1.2 s",
        "prepare.c_1 success 01:58:37 22 s 24 s \N{MINUS SIGN}2 s",
        "prepare.c_2 try 2 success 01:58:37 25 s \N{EN DASH}",
    ):
        assert words in text
    assert "What stopped it" not in text
    assert "delete_old_vhost" not in text


def test_markdown_tells_the_same():
    text = markdown(report())
    assert text.startswith("# Rolling upgrade of north: success\n")
    for words in (
        "| web | s-1 | shop | CREATE | CREATE COMPLETE |",
        "- 0 of 20 probes of the API failed, longest outage 0 s",
        "| prepare.c_1 | success | 01:58:37 | 22 s | 24 s | \N{MINUS SIGN}2 s |",
        "| 01:59:55 | ? | ? | 4 |",
    ):
        assert words in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_the_flip_is_told():
    text, _ = read(page(flipped()))
    for words in (
        "Canaries, ahead of the others: shop, lab, from 01:59:13 to 01:59:28. Verdict: all is well.",
        "At 01:59:33 all hosts sent users to 26.0.2; 4 stacks, with those above and below what was in flight, "
        "stayed on 25.0.2.",
        "At 02:00:28 the last requests went to 26.0.2.",
        "c-1 1.3 s 0.2 s c-2 1.4 s 0.2 s",
        "c-1 700 / 20 / 9 4100 / 31 / 12 0 0 7 1.4 s",
        "c-2 700 / 20 / 9 4100 / 31 / 12 3 0 7 1.6 s",
        "all 1400 / 40 / 18 8200 / 62 / 24 3 0 14 1.6 s",
        "1.6 s longest wait of a change in a hold",
        "Stacks in flight at the flip",
    ):
        assert words in text


def test_markdown_tells_the_same_of_the_flip():
    text = markdown(flipped())
    for words in (
        "Canaries, ahead of the others: shop, lab, from 01:59:13 to 01:59:28. Verdict: all is well.\n",
        "At 01:59:33 all hosts sent users to 26.0.2; 4 stacks, with those above and below what was in flight, "
        "stayed on 25.0.2.\n",
        "| c-2 | 1.4 s | 0.2 s |\n",
        "| all | 1400 / 40 / 18 | 8200 / 62 / 24 | 3 | 0 | 14 | 1.6 s |\n",
        "| time (UTC) | messages | held by old engines | stacks in flight on the old side | on the new side |\n"
        "|---|---|---|---|---|\n"
        "| 01:59:40 | 40 | 12 | 7 | 0 |\n"
        "| 01:59:45 | 31 | 10 | 6 | 1 |\n",
        "## Stacks in flight at the flip\n",
    ):
        assert words in text
    assert "\n\n\n\n" not in text


def test_the_plot_tells_stacks_by_side():
    _, plot = drawings(page(flipped()))
    titles = [name.text for name in plot.iter("text") if name.get("class") == "title"]
    assert titles[2:] == ["stacks in flight on the old side, at most 7", "stacks in flight on the new side, at most 8"]


@pytest.mark.parametrize("render", [page, markdown])
def test_a_flip_that_an_earlier_try_has_done_is_told(render):
    found = flip_facts({**task_left(BEGIN.timestamp()), "moved": False})
    text = " ".join(render(flipped(flip=found, close=found, routers=(), canary=None)).split())
    assert "All hosts sent users to 26.0.2 already when the task looked." in text
    assert "Nothing was left on the side of 25.0.2 when the close looked." in text
    for words in ("Canaries", "longest wait", "handed over", "held at the"):
        assert words not in text


@pytest.mark.parametrize("render", [page, markdown])
def test_a_run_without_a_flip_has_no_word_of_it(render):
    assert "The flip" not in render(report())
    assert "Stacks in flight at the switch" in render(report())


@pytest.mark.parametrize("left", [None, "flip", [], {}, {"began": "soon", "ended": "late", "moved": 1, "in_flight": 0}])
def test_what_a_flip_has_not_left_is_not_made_up(left):
    assert flip_facts(left) is None
    assert canary_facts(left, None) is None


def test_of_many_canaries_the_first_are_named_and_the_rest_is_counted():
    facts = canary_facts(None, {"projects": [f"{number}{'x' * 999}" for number in range(50)], "ended": "soon"})
    assert facts is not None
    assert (len(facts.projects), facts.more, facts.ended) == (20, 30, None)
    assert max(map(len, facts.projects)) == 200
    assert "and 30 more" in " ".join(page(flipped(canary=facts)).split())


def test_routers_that_had_nothing_to_do_are_not_told():
    assert router_facts({"c-1": dict.fromkeys(COUNTS, 0)}) == ()


def test_the_timeline_has_a_row_for_each_host_and_a_bar_for_each_of_its_steps():
    timeline, _ = drawings(page(report()))
    names = [name.text for name in timeline.iter("text") if name.get("class") == "name"]
    assert names == ["whole cloud", "c-1", "c-2", "API by probe"]
    told = [title.text or "" for title in timeline.iter("title")]
    for task in ("preflight", "prepare.c_1", "prepare.c_2", "c_1.switch_api", "c_2.switch_api", "verify_cloud"):
        assert any(text.startswith(f"{task}: ") for text in told), task
    assert not any("watch_api" in text for text in told)


def test_the_drain_is_drawn_and_leaves_out_what_was_not_read():
    _, plot = drawings(page(report()))
    titles = [name.text for name in plot.iter("text") if name.get("class") == "title"]
    assert titles == [
        "messages in the old vhost's queues, at most 40",
        "resources and locks held by old engines, at most 12",
        "stacks in flight, at most 7",
    ]
    lines = [len((line.get("points") or "").split()) for line in plot.iter("polyline")]
    assert lines == [3, 5, 3, 5, 9]


def test_an_outage_is_told_and_drawn():
    html = page(report(api=probed(None, "HTTP 503", "HTTP 503", None, "ConnectError", None)))
    text, _ = read(html)
    assert "3 of 6 probes of the API failed" in text
    assert "2 s longest outage of the API" in text
    assert "01:59:11 01:59:13 2 s 2 HTTP 503" in text
    (timeline, _) = drawings(html)
    assert [bar.get("class") for bar in timeline.iter("rect")].count("bar failed") == 2


def test_a_failed_run_tells_why():
    error = "c-2: the API doesn't answer\nexpected 200"
    failing = step("c_2.switch_api", 52, 7, "c-2", state="failed", error=error, tries=6)
    never = TaskFacts(task="verify_cloud", host=None, name="verify_cloud", state="upstream_failed")
    failed = report(outcome="failed", steps=(*report().steps[:5], failing, never), drain=None, api=None, checks=())
    text, _ = read(page(failed))
    assert "north failed" in text
    assert "What stopped it c_2.switch_api , 6 tries c-2: the API doesn't answer expected 200" in text
    assert "They weren't reached, or didn't pass." in text
    assert "verify_cloud" not in text
    assert "```\nc-2: the API doesn't answer\nexpected 200\n```\n" in markdown(failed)


def test_a_run_that_preflight_refused_has_a_report():
    refused = report(
        outcome="failed",
        source=None,
        target=None,
        hosts=(),
        steps=(step("preflight", 0, 1.5, state="failed", error="preflight failed, nothing was touched"),),
        drain=None,
        api=None,
        checks=(),
    )
    for text in (page(refused), markdown(refused)):
        assert "so nothing was touched" in text


@pytest.mark.parametrize("render", [page, markdown])
def test_a_run_without_anything_has_a_report(render):
    empty = report(outcome="stopped", source=None, target=None, hosts=(), steps=(), drain=None, api=None, checks=())
    assert "Somebody marked the run as failed between two tasks." in render(empty)


def test_a_drain_that_was_cut_short_has_a_report():
    short = report(drain=DrainFacts(t0=None, in_flight=0, stacks=(), samples=SAMPLES[:1]))
    assert len(drawings(page(short))) == 2
    assert len(drawings(page(report(drain=DrainFacts(t0=None, in_flight=0, stacks=(), samples=()))))) == 1


def test_what_users_and_errors_say_is_never_markup():
    flight = Flight(id="s-1", name=ODD, project=ODD, action=ODD, ended=ODD)
    odd = report(
        outcome="failed",
        run_id=ODD,
        hosts=(ODD,),
        steps=(step("preflight", 0, 1, ODD, state="failed", error=f"</pre>{ODD}\n# no heading\n```"),),
        drain=DrainFacts(t0=BEGIN, in_flight=1, stacks=(flight,), samples=SAMPLES),
        flip=FlipFacts(began=BEGIN, ended=BEGIN, moved=True, in_flight=1, held={ODD: 1.0}),
        routers=tuple(router.model_copy(update={"host": ODD}) for router in flipped().routers),
        canary=CanaryFacts(projects=(ODD,), verdict=ODD),
        source=ODD,
        target=ODD,
        api=probed(ODD),
        checks=(CheckFacts(name=ODD, found=ODD),),
        notes=(ODD,),
    )
    text, parsed = read(page(odd))
    assert "alert('x')" in text
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "a", "img", "iframe", "object", "link", "base", "form"}
    assert not [name for _, attributes in parsed.tags for name, _ in attributes if name.startswith("on")]
    shown = markdown(odd)
    before, block, after = re.split(r"^````$", shown, flags=re.MULTILINE)
    assert "\n# no heading\n" in block
    others = [*before.splitlines(), *after.splitlines()]
    assert not any(re.search(r"(?<!\\)[<`]", line) for line in others)
    rows = [line for line in others if line.startswith("|") and "alert" in line]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {3, 4, 6, 8}


def test_it_survives_its_way_through_an_xcom():
    once = flipped(api=probed(None, "HTTP 503"))
    again = Report.model_validate_json(once.model_dump_json())
    assert again == once
    assert page(again) == page(once)


def test_a_second_report_takes_the_place_of_the_first(tmp_path: Path):
    directory = write(report(outcome="failed"), tmp_path)
    assert write(report(), tmp_path) == directory
    assert sorted(file.name for file in directory.iterdir()) == ["report.html", "report.md"]
    assert "north: success" in (directory / "report.md").read_text()


@pytest.mark.parametrize("name", ["../../etc", ".", "a/b", "x" * 400, "ü|;$(x)", "", "a\nb"])
def test_odd_ids_make_a_file_name_of_their_own(name: str, tmp_path: Path):
    assert re.fullmatch(r"[A-Za-z0-9_:+-][A-Za-z0-9_.:+-]{0,199}", safe(name))
    assert safe(name) != safe(name + "x")
    directory = write(report(run_id=name), tmp_path)
    assert directory.parent == tmp_path / "heat_rolling_upgrade__north"


def test_a_plain_id_is_kept():
    assert safe("manual__2026-08-22T01:58:30+00:00") == "manual__2026-08-22T01:58:30+00:00"


def test_the_directory_can_be_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW_HOME", "/opt/airflow")
    monkeypatch.delenv("HEAT_UPGRADE_REPORTS", raising=False)
    assert reports_directory() == Path("/opt/airflow/reports")
    monkeypatch.setenv("HEAT_UPGRADE_REPORTS", "/srv/reports")
    assert reports_directory() == Path("/srv/reports")


@pytest.mark.parametrize("seconds", [0, 1, 59, 600, 86400, 30 * 86400])
def test_an_axis_has_a_few_round_times_between_its_ends(seconds: float):
    axis = TimeAxis(BEGIN, BEGIN + timedelta(seconds=seconds), 100, 800)
    places = [place for place, _ in axis.ticks()]
    assert 1 <= len(places) <= 9
    assert places == sorted(set(places))
    assert all(100 <= place <= 900 for place in places)


@pytest.mark.parametrize(("most", "top"), [(0, 1), (1, 1), (3, 5), (10, 10), (11, 20), (4321, 5000)])
def test_the_top_of_a_plot_is_round(most: int, top: int):
    assert top_of([most]) == top
