"""The fields of the trigger forms."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.sdk import Param

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import MOST_CANARIES
from heat_upgrade.formatting import first_few
from heat_upgrade.run.approvals import Approvals


def target_release(cloud: Cloud) -> Param:
    """Build the form's field for the release to go to."""
    return Param(
        # A form that is sent off as it is neither goes back nor jumps; which release runs only the hosts can tell.
        None,
        type=["null", "string"],
        enum=[None, *(release.version for release in cloud.releases)],
        values_display={"null": "the one after the release that runs"},
        title="Target release",
        description="Empty: the one after the release that runs. The one before it goes back. A jump is refused.",
    )


def canary(cloud: Cloud) -> Param:
    """Build the form's field for the projects that go ahead."""
    named = cloud.canary.projects
    default = f"those of the cloud file: {first_few(named)}" if named else "none, as the cloud file names none"
    return Param(
        None,
        type=["null", "array"],
        items={"type": "string"},
        title="Canary",
        description=f"Ids of projects, one a line, at most {MOST_CANARIES}: their new stacks go to the new release "
        f"first, for {cloud.canary.minutes} minutes, and everybody follows if all goes well. Empty: {default}.",
    )


def approvals(choices: Iterable[Approvals], costs: str) -> Param:
    """
    Build the form's field for where the run asks.

    :param choices: where such a run can ask
    :param costs: what waiting for an answer costs
    """
    return Param(
        str(Approvals.NONE),
        type="string",
        enum=list(map(str, choices)),
        title="Approvals",
        description="Where the run asks you, under Required Actions, before it goes on. Reject, or no answer in time, "
        f"stops it there. {costs}",
    )


def delete_old_vhost() -> Param:
    """Build the form's field for the end of the old vhost."""
    return Param(
        False,
        type="boolean",
        title="Delete the old vhost",
        description="Delete the old release's RabbitMQ vhost at the end. Off, it stays until you delete it.",
    )


def ignore_windows(cloud: Cloud) -> dict[str, Param]:
    """Build the form's field for a run that doesn't wait for a window; none where the cloud has no windows."""
    if not cloud.windows:
        return {}
    return {
        "ignore_windows": Param(
            False,
            type="boolean",
            title="Ignore maintenance windows",
            description="Affect users at once, whether a maintenance window is open or not.",
        )
    }


def dry_run() -> dict[str, Param]:
    """Build the form's field for a run that changes nothing."""
    return {
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Read everything, change nothing, and show the plan: what would be done on each host, the "
            "exact commands, how heat.conf would change, the drain as it is now, and how long it would take.",
        )
    }
