"""Steps as jobs of their own: run with a real shell, without SSH."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from heat_upgrade.remote import step as remote
from heat_upgrade.remote.step import Job, Outcome, Step
from lab.processes import wait_until

ODD = "a 'quoted' \"word\" $HOME `id` ; rm -rf * \\ ü"
# Says that it began, works until a file tells it to end, and ends as the file says.
WORK = b"""
echo $$ >>"$DIR/begun"
echo "output $WORD"
echo complaint >&2
sleep 300 & echo $! >"$DIR/child"
until [[ -e $DIR/end ]]; do sleep 0.05; done
kill $!
printf '::said=%s\\n' "$WORD"
exit "$(cat "$DIR/end")"
"""


class Work:
    """A step that lasts as long as a test wants it to."""

    def __init__(self, path: Path) -> None:
        self.path = path / "a folder's $name"
        self.path.mkdir()
        settings = {"DIR": str(self.path), "WORD": ODD}
        self.step = Step("work", settings, str(self.path / "state"), {"work": WORK})
        self.job: Job = self.step.job
        self.tries: list[subprocess.Popen[bytes]] = []

    @property
    def folder(self) -> Path:
        return Path(self.job.folder)

    @property
    def begun(self) -> int:
        """Return how often the work has begun."""
        file = self.path / "begun"
        return len(file.read_text().splitlines()) if file.exists() else 0

    @property
    def group(self) -> int:
        return int((self.folder / "pid").read_text())

    def end(self, status: int = 0) -> None:
        (self.path / "end").write_text(f"{status}\n")

    def again(self) -> None:
        (self.path / "end").unlink()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the job as a task does; what comes back follows it."""
        follower = self._run(self.step.start_command)
        assert follower.stdin
        with suppress(BrokenPipeError):
            follower.stdin.write(self.step.bundle)
            follower.stdin.close()
        return follower

    def started(self, times: int = 1) -> subprocess.Popen[bytes]:
        follower = self.start()
        wait_until(lambda: self.begun == times, what="the work has begun")
        return follower

    def follow(self) -> subprocess.Popen[bytes]:
        return self._run(self.job.follow_command)

    def stop(self, grace: int = 10) -> None:
        assert self._run(f"export GRACE={grace}; {self.job.stop_command}").wait(30) == 0

    def running(self) -> list[int]:
        """Return what runs of the job."""
        found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(self.group)], capture_output=True, check=False)
        return [int(line.split()[0]) for line in found.stdout.splitlines() if not line.split()[1].startswith(b"Z")]

    def _run(self, command: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        self.tries.append(
            subprocess.Popen(["sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        )
        return self.tries[-1]


def outcome(follower: subprocess.Popen[bytes]) -> Outcome:
    assert follower.stdout
    assert follower.stderr
    status = follower.wait(30)
    lines, complaints = (pipe.read().decode().splitlines() for pipe in (follower.stdout, follower.stderr))
    return Outcome.of("work", status, lines, complaints)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    work = Work(tmp_path)
    yield work
    if (work.folder / "pid").exists():
        with suppress(ProcessLookupError):
            os.killpg(work.group, signal.SIGKILL)
    for follower in work.tries:
        follower.wait(30)


def test_a_job_tells_what_its_step_tells_and_ends_as_it_does(work: Work) -> None:
    work.end(3)
    follower = work.start()
    assert outcome(follower) == Outcome(3, {"said": ODD}, "step work ended with status 3, expected 0: complaint")


def test_whoever_asks_for_the_same_work_gets_the_same_job(tmp_path: Path) -> None:
    def job(**changed: str) -> str:
        return Step("work", {"A": "1", **changed}, "/s", {"work": WORK}).job.id

    assert job() == job()
    assert job().startswith("work-")
    assert len({job(), job(A="2"), job(B="1"), Step("work", {"A": "1"}, "/s", {"work": b""}).job.id}) == 4


def test_a_second_try_follows_the_job_that_runs(work: Work) -> None:
    first = work.started()
    os.killpg(first.pid, signal.SIGKILL)
    second = work.start()
    assert second.stdout
    assert b"runs already" in second.stdout.readline()
    assert second.stdout.readline().decode() == f"output {ODD}\n"
    work.end()
    assert outcome(second) == Outcome(0, {"said": ODD})
    assert work.begun == 1


def test_two_tries_at_once_start_one_job(work: Work) -> None:
    followers = [work.start() for _ in range(6)]
    first_lines = [follower.stdout.readline() for follower in followers if follower.stdout]
    assert sum(b"runs already" in line for line in first_lines) == 5
    work.end()
    assert [outcome(follower).results for follower in followers] == [{"said": ODD}] * 6
    assert work.begun == 1


def test_a_job_that_has_ended_meanwhile_is_still_told(work: Work) -> None:
    first = work.started()
    os.killpg(first.pid, signal.SIGKILL)
    work.end(4)
    wait_until(lambda: not work.running(), what="the job is over")
    assert outcome(work.follow()).status == 4


@pytest.mark.parametrize("status", [0, 1])
def test_a_new_try_does_not_take_an_old_end_for_its_own(work: Work, status: int) -> None:
    work.end(status)
    assert outcome(work.start()).status == status
    work.end(0)
    assert outcome(work.start()).status == 0
    assert work.begun == 2


def test_a_job_that_was_killed_is_told_and_started_anew(work: Work) -> None:
    follower = work.started()
    os.killpg(work.group, signal.SIGKILL)
    assert outcome(follower).cut_off == "lost"
    assert outcome(work.follow()).cut_off == "lost"
    second = work.started(times=2)
    work.end()
    assert outcome(second).status == 0


def test_somebody_elses_pid_is_not_the_job(work: Work) -> None:
    follower = work.started()
    os.killpg(work.group, signal.SIGKILL)
    outcome(follower)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        (work.folder / "pid").write_text(f"{other.pid}\n")
        work.stop()
        assert other.poll() is None
        other.kill()


def test_a_stop_ends_all_that_the_job_has_started(work: Work) -> None:
    follower = work.started()
    wait_until(lambda: len(work.running()) > 2, what="the job has children")
    work.stop()
    assert outcome(follower).cut_off == "stopped"
    assert work.running() == []
    second = work.started(times=2)
    work.end()
    assert outcome(second).status == 0


def test_a_job_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    work = Work(tmp_path)
    deaf = Step("work", work.step.settings, work.step.state, {"work": b"trap '' TERM\n" + WORK})
    work.step, work.job = deaf, deaf.job
    follower = work.started()
    work.stop(grace=1)
    wait_until(lambda: work.running() == [], what="the job is over")
    assert outcome(follower).cut_off == "stopped"


def test_a_job_that_is_over_cannot_be_stopped(work: Work) -> None:
    work.end()
    assert outcome(work.start()).status == 0
    work.stop()
    assert outcome(work.follow()).status == 0


def test_nobody_else_reads_what_a_job_writes(work: Work) -> None:
    work.end()
    outcome(work.start())
    for path in [work.folder, *work.folder.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_old_jobs_are_forgotten_unless_they_run(work: Work, tmp_path: Path) -> None:
    work.end()
    outcome(work.start())
    gone = work.folder.parent / "prepare-old"
    gone.mkdir()
    (gone / "lock").touch()
    for path in (gone, work.folder):
        os.utime(path, (0, 0))
    work.again()
    follower = work.started(times=2)
    assert not gone.exists()
    os.utime(work.folder, (0, 0))
    other = Step("true", {}, work.step.state, {"true": b""})
    assert subprocess.run(["sh", "-c", other.start_command], input=other.bundle, check=True, capture_output=True)
    assert work.folder.exists()
    work.end()
    assert outcome(follower).status == 0


def test_a_job_may_write_much(work: Work, run_step: Callable[[bytes], Outcome]) -> None:
    many = run_step(b"seq -f '::r%g=' 20000; seq 20000 >&2; echo ::last=one")
    assert len(many.results) == 20001


@pytest.fixture
def run_step(tmp_path: Path) -> Callable[[bytes], Outcome]:
    def run(script: bytes) -> Outcome:
        step = Step("script", {}, str(tmp_path / "other"), {"script": script})
        done = subprocess.run(["sh", "-c", step.start_command], input=step.bundle, capture_output=True, check=False)
        return Outcome.of("script", done.returncode, done.stdout.decode().splitlines(), [])

    return run


def test_results_of_a_job_are_those_of_its_step() -> None:
    assert remote.results(["job x begins", "::a=b"]) == {"a": "b"}
