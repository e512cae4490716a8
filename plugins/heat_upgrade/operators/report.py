"""The last task of a run: it reports how the run went, and ends as the run did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from heat_upgrade import compat
from heat_upgrade.names import (
    BEGAN,
    CANARY,
    CLOSE,
    DRAIN,
    END_CANARY,
    ERROR,
    FLIP,
    FLIP_CANARY,
    HISTORY,
    PREFLIGHT,
    REPORT,
    START_BESIDE,
    VERIFY,
    WATCH,
)
from heat_upgrade.operators.base import CloudOperator, may_be_unneeded
from heat_upgrade.readings import Unavailable, read
from heat_upgrade.run.timings import Timings, tasks_of_move
from heat_upgrade.triggers.run import OthersDoneTrigger, OtherTasks, unfinished

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import Context

    from heat_upgrade.report.facts import DrainFacts, Flight, Report, RouterFacts, RunOutcome, TaskFacts

FAILED = frozenset({"failed", "upstream_failed"})


class ReportOperator(CloudOperator):
    """
    Write the run's report, also if the run has failed; then fail as well, since Airflow judges a run by its last task.

    So whoever clears what has failed clears the report too, and it is written again.

    :param kind: what the DAG does, as ``Rolling upgrade``
    """

    def __init__(self, *, kind: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind

    def execute(self, context: Context) -> None:
        """Write the report once every other task is over: a failure on one host is reported while others go on."""
        instance = context["ti"]
        states = instance.get_task_states(instance.dag_id, run_ids=[instance.run_id])[instance.run_id]
        if busy := unfinished(states, but_for=self.task_id):
            self.log.info("Waiting for %s", ", ".join(busy))
            trigger = OthersDoneTrigger(OtherTasks(instance.dag_id, instance.run_id, but_for=self.task_id))
            self.defer(trigger=trigger, method_name="execute_complete")
        self._report(context)

    def execute_complete(self, context: Context, event: Any) -> None:
        """Write the report after a wait."""
        self._report(context)

    def _report(self, context: Context) -> None:
        gathered = Gathered(self, context)
        report = gathered.report()
        context["ti"].xcom_push(key=REPORT, value=report.model_dump_json())
        if report.outcome == "success":
            gathered.save_timings(context)
        where = self._write(report)
        if report.outcome != "success":
            what = ", ".join(step.task for step in report.failed) or "it was marked as failed between two tasks"
            raise AirflowFailException(
                f"the run has failed ({what}), so this task fails with it. Its report is complete: {where}"
            )
        self.log.info("The run went well. Its report: %s", where)

    def _write(self, report: Report) -> str:
        from heat_upgrade.report.files import reports_directory, write

        try:
            directory = write(report, reports_directory())
        except OSError as error:
            self.log.warning(
                "The report's files can't be written to %s (%s), expected a directory that Airflow's workers may write "
                "to: set HEAT_UPGRADE_REPORTS to one and clear this task. The report itself is in the UI",
                reports_directory(),
                error.strerror,
            )
            return "the run's tab Upgrade report"
        return f"the run's tab Upgrade report, and {directory} on the worker"


class Gathered:
    """
    What the run has left behind, put together.

    :param operator: the report's task
    :param context: its context
    """

    def __init__(self, operator: ReportOperator, context: Context) -> None:
        self.operator = operator
        self.cloud = operator.cloud
        self.instance = context["ti"]
        self.notes: list[str] = []
        self.plan: dict[str, Any] = self._pull(PREFLIGHT) or {}
        crumbs = compat.ended_tasks(self.instance)
        self.crumbs = {crumb["task_id"]: crumb for crumb in crumbs if crumb["task_id"] != operator.task_id}
        reached = {task for task, crumb in self.crumbs.items() if crumb["state"] not in ("upstream_failed", "removed")}
        self.began = {task: self._pull(task, BEGAN) if task in reached else None for task in self.crumbs}
        self.going_back = bool(self.plan.get("going_back"))
        self.timings = Timings.last(context, going_back=self.going_back)

    def report(self) -> Report:
        """Return the facts."""
        from heat_upgrade.report.availability import Availability
        from heat_upgrade.report.facts import CheckFacts, Report
        from heat_upgrade.report.flips import canary_facts, flip_facts

        plan = self.plan
        if self._is_dry:
            self.notes.append("This was a dry run: nothing was touched, and the plan is the XCom of show_plan.")
        seen = self._pull(WATCH, HISTORY)
        drain, routers = self._drain(), self._routers()
        return Report(
            cloud=self.cloud.name,
            dag_id=self.instance.dag_id,
            run_id=self.instance.run_id,
            kind=self.operator.kind,
            outcome=self._outcome(),
            source=plan.get("source"),
            target=plan.get("target"),
            hosts=tuple(plan.get("hosts", ())),
            made=datetime.now(UTC),
            steps=tuple(sorted(self._steps(), key=lambda step: (step.began is None, step.began, step.task))),
            drain=drain,
            flip=flip_facts(self._pull(FLIP)),
            close=flip_facts(self._pull(CLOSE)),
            routers=routers,
            canary=canary_facts(self._pull(FLIP_CANARY), self._pull(END_CANARY, CANARY)),
            api=Availability.of(seen) if seen else None,
            checks=tuple(CheckFacts(**check) for check in self._pull(VERIFY) or []),
            notes=tuple(self.notes),
        )

    def save_timings(self, context: Context) -> None:
        """Record how long each task took; a dry run's say nothing, nor do those of hosts that had moved before it."""
        if self._is_dry:
            return
        moved = {host.task_id for host in self.cloud.hosts if host.name in self.plan.get("moved", ())}
        idle = {task for host in moved for task in tasks_of_move(host)}
        crumbs = [crumb for task, crumb in self.crumbs.items() if crumb["state"] == "success" and task not in idle]
        seconds = {crumb["task_id"]: crumb["duration"] for crumb in crumbs if crumb["duration"] is not None}
        self.timings.after(self.instance.run_id, seconds).save(context, going_back=self.going_back)

    def _steps(self) -> Iterable[TaskFacts]:
        from heat_upgrade.report.facts import TaskFacts, moment

        for task, crumb in self.crumbs.items():
            began = self.began[task]
            yield TaskFacts(
                task=task,
                host=began["host"] if began else None,
                name=began["step"] if began else task,
                state=crumb["state"],
                began=moment(began["time"]) if began else None,
                seconds=crumb["duration"],
                last=self.timings.seconds.get(task),
                tries=began["try"] if began else 1,
                error=(self._pull(task, ERROR) or "") if crumb["state"] == "failed" else "",
            )

    def _outcome(self) -> RunOutcome:
        states = {task: crumb["state"] for task, crumb in self.crumbs.items() if task != WATCH}
        if FAILED & set(states.values()):
            return "failed"
        # A task that took no time never had its turn, whether it could note when it began or not.
        began = {task for task, note in self.began.items() if note or self.crumbs[task]["duration"]}
        dag = self.operator.get_dag()
        tasks = [task for task in dag.tasks if not may_be_unneeded(task)] if dag else []
        rules = {task.task_id: (task.trigger_rule, task.upstream_task_ids) for task in tasks if task.task_id in states}
        return "stopped" if was_stopped(states, began, rules) else "success"

    def _drain(self) -> DrainFacts | None:
        from heat_upgrade.report.facts import DrainFacts, Sample, moment

        history = self._pull(DRAIN, HISTORY)
        if not history:
            return None
        return DrainFacts(
            t0=moment(history["t0"]) if history["t0"] else None,
            in_flight=history["in_flight"],
            stacks=self._flights(history["stacks"]),
            samples=tuple(
                Sample(
                    time=moment(time), messages=messages, held=held, in_flight=in_flight, on_new=next(iter(new), None)
                )
                for time, messages, held, in_flight, *new in history["readings"]
            ),
        )

    def _routers(self) -> tuple[RouterFacts, ...]:
        """Return what the routers have done: as the close has it, or else as far as they tell it now."""
        from heat_upgrade.counts import counts_of
        from heat_upgrade.report.flips import router_facts

        if closed := self._pull(CLOSE):
            return router_facts(closed.get("counts", {}))
        if self._is_dry or self.crumbs.get(START_BESIDE, {}).get("state") != "success":
            return ()
        found = read(lambda: counts_of(self.cloud, self.plan["target"]))
        if isinstance(found, Unavailable):
            found = {"every host": found}
        for host, counts in found.items():
            if isinstance(counts, Unavailable):
                self.notes.append(f"What the router of {host} has done isn't known: {counts.reason}")
        return router_facts({host: counts for host, counts in found.items() if not isinstance(counts, Unavailable)})

    def _flights(self, stacks: list[dict[str, str]]) -> tuple[Flight, ...]:
        from heat_upgrade.report.facts import Flight

        try:
            found = self.operator.clients.database.stack_states([stack["id"] for stack in stacks])
        except AirflowException as error:
            self.notes.append(f"How the stacks in flight have ended isn't known: {error}")
            return tuple(Flight(**stack, ended="unknown") for stack in stacks)

        def ended(id_: str) -> str:
            state = found.get(id_)
            if state is None:
                return "purged"
            return f"{state.action} {state.status}" if state.status else "deleted"

        return tuple(Flight(**stack, ended=ended(stack["id"])) for stack in stacks)

    @property
    def _is_dry(self) -> bool:
        return bool(self.plan.get("dry_run"))

    def _pull(self, task: str, key: str = "return_value") -> Any:
        return self.instance.xcom_pull(task_ids=task, key=key, map_indexes=-1)


def was_stopped(states: Mapping[str, str], began: set[str], rules: Mapping[str, tuple[str, Iterable[str]]]) -> bool:
    """
    Tell whether somebody marked the run as failed between two tasks: then nothing has failed, and the rest is skipped.

    :param states: the state of each task
    :param began: the tasks whose turn came
    :param rules: the trigger rule of each task, and the tasks before it
    """
    return any(
        states[task] == "skipped"
        and task not in began
        # Where the scheduler skips a task, a task before it was skipped and the rule minds that.
        and (rule == TriggerRule.NONE_FAILED or all(states.get(before) != "skipped" for before in upstream))
        for task, (rule, upstream) in rules.items()
    )
