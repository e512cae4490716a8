"""New releases that don't do their work: an engine that dies, an API that answers 500, a health check never green."""

from __future__ import annotations

from pathlib import Path

from lab.cloud.model import API_PORT, Lab
from lab.faults.fault import StandingFault
from lab.faults.task import Task
from lab.processes import LabError

_GOOD, _BAD = "num_engine_workers = 1", "num_engine_workers = many"
_BROKEN_FILTER = '''\
"""Fails every request, as an API does whose pipeline has a filter that doesn't suit it."""


def factory(settings, **options):
    def wrap(application):
        def answer(environ, start_response):
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"a filter of the pipeline has failed"]
        return answer
    return wrap
'''


class EngineDies(StandingFault):
    """The new engine starts, runs for seconds and dies, again and again."""

    name = "new engine dies"
    after = "prepare"
    starts_again = "engine"

    def applies(self, task: Task) -> bool:
        """Only the start of an engine meets it."""
        return task.kind == "start_new_engines"

    def lay(self, lab: Lab, task: Task, target: str) -> None:
        """Give it a setting that it trips over when it has loaded its code."""
        _replace(task.host.config(target), _GOOD, _BAD)

    def mend(self, lab: Lab, task: Task, target: str) -> None:
        """Give it a good one."""
        _replace(task.host.config(target), _BAD, _GOOD, missing_ok=True)


class ApiFails(StandingFault):
    """The new API starts and answers every request with 500."""

    name = "new API answers 500"
    after = "prepare"
    starts_again = "api"

    def applies(self, task: Task) -> bool:
        """Only the switch of an API meets it."""
        return task.kind == "switch_api"

    def lay(self, lab: Lab, task: Task, target: str) -> None:
        """Put a filter in front of its pipeline that fails."""
        _module(task, target).write_text(_BROKEN_FILTER, encoding="utf-8")
        paste = task.host.config(target).with_name("api-paste.ini")
        text = paste.read_text(encoding="utf-8")
        paste.with_name("api-paste.ini.good").write_text(text, encoding="utf-8")
        lines = [
            line.replace("= ", "= broken ", 1) if line.startswith("noauth = ") else line for line in text.splitlines()
        ]
        lines += ["", "[filter:broken]", "paste.filter_factory = broken_filter:factory", ""]
        paste.write_text("\n".join(lines), encoding="utf-8")

    def mend(self, lab: Lab, task: Task, target: str) -> None:
        """Take the filter away."""
        good = task.host.config(target).with_name("api-paste.ini.good")
        if good.exists():
            good.replace(good.with_name("api-paste.ini"))
            _module(task, target).unlink()


class NeverGreen(StandingFault):
    """The new API answers, but its health check never turns green: it looks at one more file, which is there."""

    name = "health check never green"
    after = "prepare"

    def applies(self, task: Task) -> bool:
        """Only the way back into the rotation asks for it."""
        return task.kind == "rejoin_rotation"

    def lay(self, lab: Lab, task: Task, target: str) -> None:
        """Give the health check of heat-api a second condition that isn't met."""
        other = _other_file(task)
        other.parent.mkdir(parents=True, exist_ok=True)
        other.touch()
        more = f"backends = disable_by_file,disable_by_files_ports\ndisable_by_file_paths = {API_PORT}:{other}"
        _replace(task.host.config(target), "backends = disable_by_file", more)

    def mend(self, lab: Lab, task: Task, target: str) -> None:
        """Let the condition be met."""
        _other_file(task).unlink(missing_ok=True)


def _other_file(task: Task) -> Path:
    return task.host.root / "var/lib/heat/maintenance"


def _module(task: Task, target: str) -> Path:
    (packages,) = task.host.venv(target).glob("lib/python3*/site-packages")
    return packages / "broken_filter.py"


def _replace(config: Path, old: str, new: str, *, missing_ok: bool = False) -> None:
    text = config.read_text(encoding="utf-8")
    if text.count(old) != 1 and not missing_ok:
        raise LabError(f"{config} has no {old!r}")
    config.write_text(text.replace(old, new), encoding="utf-8")
