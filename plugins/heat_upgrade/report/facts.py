"""What a run's report consists of: plain facts, as an XCom holds them. Nothing here asks anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from heat_upgrade.report.availability import Availability

RunOutcome = Literal["success", "failed", "stopped"]


class Facts(BaseModel):
    """What all parts share: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskFacts(Facts):
    """
    One task of the run, by its latest try.

    :param task: its id
    :param host: the host that it is for; None for the whole cloud
    :param name: what it does there
    :param state: how it ended
    :param began: when; None if its turn never came
    :param seconds: how long it took
    :param last: seconds that it took in the latest earlier run in which it succeeded
    :param tries: how many it needed
    :param error: why it failed
    """

    task: str
    host: str | None
    name: str
    state: str
    began: datetime | None = None
    seconds: float | None = None
    last: float | None = None
    tries: int = 1
    error: str = ""

    @property
    def ended(self) -> datetime | None:
        """Return when it ended."""
        if self.began is None or self.seconds is None:
            return None
        return self.began + timedelta(seconds=self.seconds)


class Sample(Facts):
    """
    One reading of the drain; None for what couldn't be read.

    :param time: when
    :param messages: all in the old vhost's queues
    :param held: what old engines held
    :param in_flight: stacks in flight on the old side
    :param on_new: those on the new side; None where there was no flip
    """

    time: datetime
    messages: int | None
    held: int | None
    in_flight: int | None
    on_new: int | None = None


class Flight(Facts):
    """A stack that was in flight at T0, and how it was at the report's time."""

    id: str
    name: str
    project: str
    action: str
    ended: str


class DrainFacts(Facts):
    """
    The wait for the old engines.

    :param t0: when what was in flight was listed; None if it never was
    :param in_flight: how many stacks that were
    :param stacks: these, or the first of them
    :param samples: readings, thinned out where there were many
    """

    t0: datetime | None
    in_flight: int
    stacks: tuple[Flight, ...]
    samples: tuple[Sample, ...]

    @property
    def by_side(self) -> bool:
        """Return whether the readings tell the new side's stacks from the old side's."""
        return any(sample.on_new is not None for sample in self.samples)


class FlipFacts(Facts):
    """
    A flip, or the close.

    :param began: when its task began to look
    :param ended: when every host had taken it
    :param moved: whether it was this try that moved them
    :param in_flight: how many stacks stayed on the other side, with those above and below them
    :param held: seconds that changes waited on each host, by its name, as seen from Airflow; none where nothing moved
    """

    began: datetime
    ended: datetime
    moved: bool
    in_flight: int
    held: dict[str, float] = {}


class Requests(Facts):
    """How many requests there were of each kind."""

    read: int = 0
    create: int = 0
    change: int = 0

    @property
    def all(self) -> int:
        """Return how many there were."""
        return self.read + self.create + self.change

    def __str__(self) -> str:
        """Tell them in this order."""
        return f"{self.read} / {self.create} / {self.change}"


class RouterFacts(Facts):
    """
    What a host's router has done.

    :param host: the host
    :param here: requests that the API behind it has served
    :param beside: requests that it has handed to the API beside
    :param refused: requests that it couldn't tell a side for
    :param lost: requests that the API beside didn't answer
    :param held: changes that have waited
    :param longest_held: seconds that one of them has waited at most
    """

    host: str
    here: Requests
    beside: Requests
    refused: int
    lost: int
    held: int
    longest_held: float


class CanaryFacts(Facts):
    """
    The projects that went ahead.

    :param projects: their names or ids, the first of them
    :param more: how many there were besides
    :param began: when
    :param ended: when they were judged; None if they weren't
    :param verdict: what came of it
    """

    projects: tuple[str, ...]
    more: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    verdict: str = ""


class CheckFacts(Facts):
    """One check at the end, and what it has found."""

    name: str
    found: str


class Report(Facts):
    """
    The report of a run.

    :param cloud: the cloud
    :param dag_id: the run's DAG
    :param run_id: the run
    :param kind: what the run was to do, as ``Rolling upgrade``
    :param outcome: how it ended; ``stopped`` is a run that somebody marked as failed between two tasks
    :param source: the release that the cloud comes from; None if preflight never knew
    :param target: the release that it goes to
    :param hosts: names of the run's hosts
    :param made: when the report was made
    :param steps: the run's tasks, in the order in which they began
    :param drain: the wait for the old engines; None if it never began
    :param flip: how users were sent over; None if they weren't, or in a cold upgrade
    :param close: the end of the old side, likewise
    :param routers: what the routers of the hosts have done, as far as they could be asked
    :param canary: the projects that went ahead; None if there were none
    :param api: what a probe has seen of the API; None if nobody watched
    :param checks: the checks at the end; none if they weren't reached
    :param notes: what an operator should know besides
    """

    cloud: str
    dag_id: str
    run_id: str
    kind: str
    outcome: RunOutcome
    source: str | None
    target: str | None
    hosts: tuple[str, ...]
    made: datetime
    steps: tuple[TaskFacts, ...]
    drain: DrainFacts | None = None
    flip: FlipFacts | None = None
    close: FlipFacts | None = None
    routers: tuple[RouterFacts, ...] = ()
    canary: CanaryFacts | None = None
    api: Availability | None = None
    checks: tuple[CheckFacts, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def taken(self) -> tuple[TaskFacts, ...]:
        """Return the steps whose turn came."""
        return tuple(step for step in self.steps if step.began and step.state != "skipped")

    @property
    def failed(self) -> tuple[TaskFacts, ...]:
        """Return the steps that failed by themselves."""
        return tuple(step for step in self.steps if step.state == "failed")

    @property
    def began(self) -> datetime:
        """Return when the first step began."""
        return min((step.began for step in self.steps if step.began), default=self.made)

    @property
    def ended(self) -> datetime:
        """Return when the last step ended."""
        return max((step.ended for step in self.steps if step.ended), default=self.made)

    @property
    def seconds(self) -> float:
        """Return how long the run took without its report."""
        return (self.ended - self.began).total_seconds()

    def step(self, task: str) -> TaskFacts | None:
        """Return a step whose turn came, by its task's id."""
        return next((step for step in self.taken if step.task == task), None)


def moment(seconds: float) -> datetime:
    """Return a time in UTC.

    :param seconds: since the epoch
    """
    return datetime.fromtimestamp(seconds, UTC)
