"""Maintenance windows in a run: whether a scheduled run has anything to do, and gates that wait for a window."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from heat_upgrade import hosts
from heat_upgrade.exceptions import TransientError, UpgradeError
from heat_upgrade.formatting import duration, first_few
from heat_upgrade.notifications import messages
from heat_upgrade.notifications.send import notify
from heat_upgrade.operators.base import CloudOperator, UpgradeTask, begin
from heat_upgrade.readings import Unavailable
from heat_upgrade.run.dry_run import PlannedAction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from heat_upgrade.cloud.model import Cloud
    from heat_upgrade.cloud.sections import Windows
    from heat_upgrade.hosts import HostState
    from heat_upgrade.run.plan import Plan
    from heat_upgrade.windows import Period

# Asks what the hosts with an API run, the first time that somebody wants to know.
States = Callable[[], dict[str, "HostState"]]
# How long a window has to stay open, None for not at all; and the reason, if there is one to give.
RequiredTime = tuple[timedelta | None, str]

# From a window's opening to the check of the clock that follows it, on a busy machine.
DELAY = timedelta(minutes=1)


class MayStartOperator(CloudOperator):
    """Let a scheduled run go on only if an upgrade is pending; skip all of it otherwise. It only inspects hosts."""

    def execute(self, context: Context) -> None:
        """Let every run pass that somebody has triggered."""
        if context["dag_run"].run_type != "scheduled":
            self.log.info("No window has started this run: it goes on, whether a release is pending or not")
            return
        if reason := self.nothing_to_do():
            self.log.info("This scheduled run ends here, skipped: %s", reason)
            downstream = sorted(self.get_flat_relative_ids(upstream=False))
            raise DownstreamTasksSkipped(tasks=downstream)  # type: ignore[no-untyped-call]
        self.log.info("%s is pending: the run goes on", self.cloud.pending_release)

    def nothing_to_do(self) -> str | None:
        """Return why a scheduled run has nothing to do; None if it has."""
        pending = self.cloud.pending_release
        if not pending:
            return f"the cloud file of {self.cloud.name} has no pending_release"
        running = set[str]()
        for state in hosts.inspect(self.cloud, self.cloud.hosts).values():
            if isinstance(state, Unavailable):
                # Preflight reports it, with whatever else is wrong.
                return None
            running |= state.running
        versions = [release.version for release in self.cloud.releases]
        if later := sorted(running & set(versions[versions.index(pending) + 1 :])):
            return (
                f"{', '.join(later)} runs, and a scheduled run never goes back to {pending}: delete pending_release, "
                "or set it to a later release"
            )
        return f"the cloud is on {pending} already" if running == {pending} else None


class WindowGateOperator(UpgradeTask):
    """
    Wait, in the triggerer, for a maintenance window with room for what comes after; open at once without windows.

    Subclasses say with ``needed`` how long that takes, and with ``check`` what else has to be right.
    """

    timed = False

    def execute_complete(self, context: Context, event: Any) -> None:
        """Check the cloud and the clock once more after a wait: they may have changed meanwhile."""
        self.run(begin(context, self.cloud), context)

    def run(self, plan: Plan, context: Context) -> None:
        """Check the cloud and the clock, and wait if it isn't time yet."""
        states = self._states()
        self.check(plan, states)
        period, reason = self._decide(plan, states)
        self.log.info(reason)
        if period:
            notify(self.cloud, "window", context, *messages.window(self.cloud, reason))
            self.defer(trigger=DateTimeTrigger(moment=period.start), method_name="execute_complete")

    def check(self, plan: Plan, states: States) -> None:
        """
        Check nothing but the clock.

        :param plan: the run's plan
        :param states: asks what the hosts with an API run, once
        """

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Say whether it would wait at this moment, and why."""
        return self._preview(plan, self._states())

    def _preview(self, plan: Plan, states: States) -> PlannedAction:
        try:
            period, reason = self._decide(plan, states)
        except UpgradeError as error:
            return PlannedAction(f"fail, as it is now: {error}")
        return PlannedAction(reason[:1].lower() + reason[1:] if period else f"go on at once. {reason}")

    @abstractmethod
    def needed(self, plan: Plan, windows: Windows, states: States) -> RequiredTime:
        """Return how long a window has to stay open."""

    def _states(self) -> States:
        return cache(partial(hosts.states_of, self.cloud, self.cloud.api_hosts))

    def _decide(self, plan: Plan, states: States) -> tuple[Period | None, str]:
        """Return the window to wait for, None to go on, and why."""
        windows = self.cloud.windows
        if windows is None:
            return None, "The cloud file has no windows: nothing to wait for"
        if plan.ignore_windows:
            return None, "Maintenance windows are ignored, as this run's ignore_windows asks for it"
        needed, reason = self.needed(plan, windows, states)
        if needed is None:
            return None, reason
        period, wait = self._window(windows, needed)
        return period, "; ".join(filter(None, [wait, reason]))

    def _window(self, windows: Windows, needed: timedelta) -> tuple[Period | None, str]:
        calendar, now = windows.calendar, _now()
        room = calendar.room(now)
        if room >= needed:
            return None, f"A window is open for another {duration(room)}, and {duration(needed)} are needed: going on"
        period = calendar.next_with_room(now, needed + DELAY)
        if period is None:
            raise UpgradeError(
                f"{self.task_id} needs {duration(needed)} in a window, the longest one to come is open for "
                f"{duration(calendar.longest(now))}: lengthen a window in the cloud file, or trigger a run with "
                "ignore_windows"
            )
        closing = f"the open window closes in {duration(room)}" if room else "no window is open"
        return period, (
            f"Waiting until {period.start:%Y-%m-%d %H:%M UTC} ({_in_zones(period.start, windows)}), when a window "
            f"opens for {duration(period.length)}: {duration(needed)} are needed and {closing}. The run goes on by "
            "itself then. After a change of the windows clear this task; a run with ignore_windows doesn't wait"
        )


class SweepGateOperator(WindowGateOperator):
    """A gate on the way to what users notice; a sweep or an outage that has begun, or is over, waits for nothing."""

    def needed(self, plan: Plan, windows: Windows, states: States) -> RequiredTime:
        """Inspect which APIs remain, and decide by that."""
        found = states()
        remaining = {name for name, state in found.items() if name in plan.hosts and not state.apis_moved(plan.target)}
        if not remaining:
            return None, f"Every API of this run is on {plan.target} already: no window is needed"
        if begun := [name for name, state in found.items() if _has_begun(state, plan)]:
            what = "APIs have been stopped there" if plan.cold else f"APIs of {plan.target} serve there already"
            return None, (
                f"{', '.join(begun)}: {what}. What has begun isn't held up half-way, so the run goes on whether a "
                "window is open or not"
            )
        return self.time_needed(windows), ""

    @abstractmethod
    def time_needed(self, windows: Windows) -> timedelta:
        """
        Return how long a window has to stay open for what comes after the gate.

        :param windows: the cloud's windows
        """


class MayPrepareOperator(SweepGateOperator):
    """The gate before the preparation, for clouds that want even what no user notices in a window."""

    def time_needed(self, windows: Windows) -> timedelta:
        """Ask for an open window, as nothing that has been prepared hurts when it closes."""
        return DELAY


class MayFlipOperator(WindowGateOperator):
    """The gate before users are sent to the target: its side is ready on every host, and a window is open."""

    def preview(self, plan: Plan, context: Context) -> PlannedAction:
        """Say whether the run would end here, and how many engines of the target there are by now."""
        states = self._states()
        if stay := self._staying(plan, states()):
            return PlannedAction(f"end the run here. {_left_for_another_run(plan, stay)}", ends_run=True)
        vhost, listening = self._listening(plan)
        engines = f"see an engine of {plan.target} on vhost {vhost} ({listening} listen now)"
        return PlannedAction(f"{engines}, then {self._preview(plan, states).text}")

    def check(self, plan: Plan, states: States) -> None:
        """
        End the run where hosts are left for another one; refuse an API that isn't in front, and one without an engine.

        :raises AirflowSkipException: when hosts are left for another run
        :raises TransientError: when this run has started engines: they need a while to come back to a broker
        :raises UpgradeError: when it has none to start, or an API isn't where it should be
        """
        if stay := self._staying(plan, states()):
            raise AirflowSkipException(_left_for_another_run(plan, stay))
        hosts.refuse_unless_in_front(states(), plan.target)
        vhost, listening = self._listening(plan)
        if not listening:
            found = (
                f"vhost {vhost} has no engine, expected at least one before users are sent there (their calls would "
                "time out)"
            )
            if not any("engine" in self.cloud.host(name).roles for name in plan.hosts):
                raise UpgradeError(f"{found}: trigger a run over hosts of which one has an engine")
            raise TransientError(
                f"{found}: see the logs of the engines that this run has started, then clear this task"
            )
        self.log.info("%d engine processes of %s listen on vhost %s", listening, plan.target, vhost)

    def needed(self, plan: Plan, windows: Windows, states: States) -> RequiredTime:
        """Ask for an open window with room for the canary, unless the flip is over or has begun: then no wait helps."""
        if any(state.users_on(plan.target) for state in states().values()):
            return None, f"Users are on the side of {plan.target} already: no window is needed"
        return DELAY + canary_time(self.cloud, plan.canary), ""

    def _staying(self, plan: Plan, states: dict[str, HostState]) -> list[str]:
        return [name for name, state in states.items() if name not in plan.hosts and not state.apis_moved(plan.target)]

    def _listening(self, plan: Plan) -> tuple[str, int]:
        vhost = self.cloud.release(plan.target).vhost
        rabbitmq = self.clients.rabbitmq
        if plan.dry_run and not rabbitmq.vhost_exists(vhost):
            return vhost, 0
        return vhost, rabbitmq.consumers(vhost).get("engine", 0)


class MayStopOperator(SweepGateOperator):
    """The gate before an outage: a window with room for all of it."""

    def time_needed(self, windows: Windows) -> timedelta:
        """Ask for as long as the cloud file grants an outage."""
        return timedelta(seconds=windows.seconds_per_outage)


def canary_time(cloud: Cloud, projects: Sequence[str]) -> timedelta:
    """
    Return for how long some projects go ahead before everybody follows.

    :param cloud: the cloud
    :param projects: the canary's; none where there is no canary
    """
    return timedelta(minutes=cloud.canary.minutes) if projects else timedelta()


def _left_for_another_run(plan: Plan, stay: Sequence[str]) -> str:
    return (
        f"{first_few(stay)} are still on {plan.source}, which goes on serving all users: trigger a run over these "
        "hosts to finish the upgrade, today or in a month"
    )


def _has_begun(state: HostState, plan: Plan) -> bool:
    apis = [state.releases(role) for role in state.host.api_roles]
    if plan.cold:
        # A rolling upgrade that was left half-way is no outage yet: every API still serves.
        return bool(state.stopped) or not all(apis)
    return any(plan.target in releases for releases in apis)


def _now() -> datetime:
    return datetime.now(UTC)


def _in_zones(moment: datetime, windows: Windows) -> str:
    zones = dict.fromkeys(opening.timezone for opening in windows.openings)
    return ", ".join(f"{moment.astimezone(ZoneInfo(zone)):%a %H:%M} {zone}" for zone in zones)
