"""What preflight decided for a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from heat_upgrade.names import CONFIRM, PREFLIGHT

if TYPE_CHECKING:
    from airflow.sdk import Context

# What a plan has several of.
_NAMES = ("hosts", "stranded", "moved", "canary")


@dataclass(frozen=True)
class Plan:
    """
    What preflight decided for a run; later tasks read it and still inspect the cloud before they act.

    :param source: the release that the cloud comes from
    :param target: the release that it goes to
    :param hosts: names of the hosts that this run upgrades
    :param stranded: ids of stacks that were IN_PROGRESS with nobody working on them before the run
    :param delete_old_vhost: whether the source's vhost is deleted at the end
    :param going_back: whether the target is the older release, which has served here before
    :param cold: whether nothing serves the users between the source's end and the target's start
    :param retired: whether a cold upgrade has found every service on the target alone: there is nothing left to drain
    :param bounded_wait: seconds after which a cold upgrade asks whether to cut off what isn't done; 0 for never
    :param cut_off: what a user has confirmed to cut off, stacks by id; None where nobody had to
    :param ignore_windows: whether users may be touched outside of maintenance windows
    :param dry_run: whether every task only shows what it would do
    :param approvals: where the run asks for approval before it goes on
    :param moved: names of the hosts whose APIs were on the target before the run
    :param canary: ids of the projects whose new stacks go to the target's side first; none where everybody's go at once
    """

    source: str
    target: str
    hosts: tuple[str, ...]
    stranded: tuple[str, ...] = ()
    delete_old_vhost: bool = False
    going_back: bool = False
    cold: bool = False
    retired: bool = False
    bounded_wait: float = 0.0
    cut_off: Mapping[str, str] | None = None
    ignore_windows: bool = False
    dry_run: bool = False
    approvals: str = "none"
    moved: tuple[str, ...] = ()
    canary: tuple[str, ...] = ()

    @classmethod
    def of(cls, context: Context) -> Plan:
        """Read the plan from the run's preflight, and what was confirmed since."""
        saved: dict[str, Any] = context["ti"].xcom_pull(task_ids=PREFLIGHT)
        if saved.get("bounded_wait"):
            saved = saved | {"cut_off": context["ti"].xcom_pull(task_ids=CONFIRM)}
        return cls(**saved | {name: tuple(saved[name]) for name in _NAMES})

    def as_xcom(self) -> dict[str, Any]:
        """Return the plan as an XCom holds it."""
        return asdict(self) | {name: list(getattr(self, name)) for name in _NAMES}
