"""A small client of Airflow's REST API: trigger a run, wait for it, clear its tasks, read its logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from lab.http import local_session

TaskStates = dict[str, str]
AT_WORK = frozenset({"scheduled", "queued", "running", "deferred", "restarting"})
FINAL_STATES = frozenset({"success", "failed"})
_POLL = 1.0
# Seconds: on a busy machine the first answers, for which Airflow imports a lot, were seen to take more than a minute.
_PATIENCE = 300
# Airflow answers 500, and has done nothing, when two requests block each other in SQLite. What may be said twice is.
_ONCE_MORE = Retry(
    total=None,
    connect=0,
    read=0,
    redirect=5,
    status=5,
    status_forcelist=[500],
    allowed_methods={"GET", "PATCH", "PUT"},
    backoff_factor=0.5,
    raise_on_status=False,
)


class AirflowApiError(Exception):
    """Raised when Airflow refuses a request, or a wait is over without its result."""


class AirflowApi:
    """
    One Airflow.

    :param url: its address, without ``/api``.
    :param login: a user name of its simple auth manager.
    :param password: the password.
    """

    def __init__(self, url: str, login: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._credentials = {"username": login, "password": password}
        self._session = local_session()
        self._session.mount(self.url, HTTPAdapter(max_retries=_ONCE_MORE))

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None) -> str:
        """
        Start a run and return its id.

        :param dag_id: the DAG.
        :param conf: the run's parameters.
        :param run_id: the id to give it; Airflow makes one up by default.
        :raises AirflowApiError: if the DAG is unknown or refuses the parameters.
        """
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        started: str = self._call("POST", f"dags/{_id(dag_id)}/dagRuns", json=body)["dag_run_id"]
        return started

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: queued, running, success or failed."""
        state: str = self.run(dag_id, run_id)["state"]
        return state

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return all that Airflow says about a run."""
        run: dict[str, Any] = self._call("GET", f"dags/{_id(dag_id)}/dagRuns/{_id(run_id)}")
        return run

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return all that Airflow says about each run of a DAG, the latest one last."""
        return list(self._pages(f"dags/{_id(dag_id)}/dagRuns?order_by=run_after", "dag_runs"))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all that Airflow says about each task of a run."""
        return list(self._pages(f"dags/{_id(dag_id)}/dagRuns/{_id(run_id)}/taskInstances", "task_instances"))

    def task_states(self, dag_id: str, run_id: str) -> TaskStates:
        """Return the state of each task of a run, ``none`` for one that waits for its turn."""
        return {task["task_id"]: task["state"] or "none" for task in self.task_instances(dag_id, run_id)}

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float,
        progress: Callable[[TaskStates], None] | None = None,
        until: Callable[[TaskStates], bool] | None = None,
    ) -> str:
        """
        Wait for the end of a run and return its state.

        :param dag_id: the DAG.
        :param run_id: the run.
        :param timeout: seconds to wait at most.
        :param progress: called with the states of the tasks that have changed since the last call.
        :param until: ends the wait early, once it is True of the states of all tasks.
        :raises AirflowApiError: on a timeout, with the states of the tasks.
        """
        deadline = time.monotonic() + timeout
        seen: TaskStates = {}
        while True:
            state = self.run_state(dag_id, run_id)  # first: what it says about tasks below is no older
            tasks = self.task_states(dag_id, run_id)
            changed = {task: now for task, now in tasks.items() if seen.get(task, "none") != now}
            seen = tasks
            if progress and changed:
                progress(changed)
            if state in FINAL_STATES or (until and until(tasks)):
                return state
            if time.monotonic() > deadline:
                raise AirflowApiError(f"run {run_id} of {dag_id} is {state} after {timeout:.0f} s: {tasks}")
            time.sleep(_POLL)

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, states: Sequence[str], *, timeout: float) -> str:
        """
        Wait until a task is in one of some states and return its state.

        :param states: for example ``["deferred"]``.
        :param timeout: seconds to wait at most.
        :raises AirflowApiError: on a timeout, or if the run ends without it.
        """
        self.wait_for_run(dag_id, run_id, timeout=timeout, until=lambda tasks: tasks.get(task_id) in states)
        state = self.task_states(dag_id, run_id).get(task_id, "none")
        if state not in states:
            raise AirflowApiError(f"task {task_id} of {run_id} is {state} at the run's end, expected one of {states}")
        return state

    def clear_tasks(
        self, dag_id: str, run_id: str, task_ids: Sequence[str], *, downstream: bool = True, only_failed: bool = False
    ) -> list[str]:
        """
        Clear tasks of a run, so that they run again, and return which were cleared.

        :param task_ids: the tasks.
        :param downstream: also what follows them.
        :param only_failed: of all those, only the ones that failed.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "include_downstream": downstream,
            "only_failed": only_failed,
            "reset_dag_runs": True,
        }
        cleared = self._call("POST", f"dags/{_id(dag_id)}/clearTaskInstances", json=body)
        return [task["task_id"] for task in cleared["task_instances"]]

    def log(self, dag_id: str, run_id: str, task_id: str, *, attempt: int | None = None) -> str:
        """
        Return the log of one attempt of a task as text, a line per event with its fields.

        :param attempt: counted from 1; by default the latest.
        """
        base = f"dags/{_id(dag_id)}/dagRuns/{_id(run_id)}/taskInstances/{_id(task_id)}"
        if attempt is None:
            attempt = max(1, self._call("GET", base)["try_number"])
        answer = self._call("GET", f"{base}/logs/{attempt}", params={"full_content": "true"})
        return "\n".join(_log_line(event) for event in answer["content"])

    def logs(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the log of each task that has begun, of all its attempts."""
        return {
            task["task_id"]: "\n".join(
                self.log(dag_id, run_id, task["task_id"], attempt=attempt)
                for attempt in range(1, task["try_number"] + 1)
            )
            for task in self.task_instances(dag_id, run_id)
            if task["start_date"]
        }

    def xcoms(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what a task has left for others, by key."""
        base = f"dags/{_id(dag_id)}/dagRuns/{_id(run_id)}/taskInstances/{_id(task_id)}/xcomEntries"
        keys = [entry["key"] for entry in self._pages(base, "xcom_entries")]
        return {key: self._call("GET", f"{base}/{_id(key)}")["value"] for key in keys}

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task, as the buttons of the UI do.

        :param state: ``success`` or ``failed``.
        """
        path = f"dags/{_id(dag_id)}/dagRuns/{_id(run_id)}/taskInstances/{_id(task_id)}"
        self._call("PATCH", path, json={"new_state": state})

    def stop_run(self, dag_id: str, run_id: str, *, timeout: float = 60.0) -> None:
        """
        End a run where it stands, as "mark as failed" in the UI does, and wait until it has written its report.

        :param timeout: seconds to wait at most.
        :raises AirflowApiError: on a timeout.
        """
        self._call("PATCH", f"dags/{_id(dag_id)}/dagRuns/{_id(run_id)}", json={"state": "failed"})
        deadline = time.monotonic() + timeout
        while self.run_state(dag_id, run_id) not in FINAL_STATES or self._at_work(dag_id, run_id):
            if time.monotonic() > deadline:
                busy = ", ".join(self._at_work(dag_id, run_id)) or "no task"
                raise AirflowApiError(f"{run_id} isn't over {timeout:.0f} s after it was stopped; at work: {busy}")
            time.sleep(_POLL)

    def _at_work(self, dag_id: str, run_id: str) -> list[str]:
        return [task["task_id"] for task in self.task_instances(dag_id, run_id) if task["state"] in AT_WORK]

    def report(self, dag_id: str, run_id: str, form: str = "md") -> str:
        """
        Return the report of an upgrade's run, as its tab in the UI shows it.

        :param form: md or html.
        :raises AirflowApiError: if it has none.
        """
        self.run_state(dag_id, run_id)  # logs in
        parameters = {"dag_id": dag_id, "run_id": run_id, "format": form}
        answer = self._send("GET", "heat-upgrade/report", params=parameters)
        if not answer.ok:
            raise AirflowApiError(f"report of {run_id}: {answer.status_code} {answer.text[:500]}")
        return answer.text

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what a task asks: ``subject``, ``body``, ``options`` and, once answered, ``chosen_options``."""
        asked: dict[str, Any] = self._call("GET", _question(dag_id, run_id, task_id))
        return asked

    def answer(
        self, dag_id: str, run_id: str, task_id: str, option: str, params: Mapping[str, Any] | None = None
    ) -> None:
        """
        Answer what a task asks, as the buttons of the UI do.

        :param option: one of the question's options.
        :param params: the fields of its form; all or none.
        """
        body = {"chosen_options": [option], "params_input": dict(params or {})}
        self._call("PATCH", _question(dag_id, run_id, task_id), json=body)

    def dags(self) -> list[str]:
        """Return the ids of the DAGs that Airflow knows."""
        return [dag["dag_id"] for dag in self._pages("dags", "dags")]

    def import_errors(self) -> dict[str, str]:
        """Return the DAG files that can't be imported, with the reason."""
        return {error["filename"]: error["stack_trace"] for error in self._pages("importErrors", "import_errors")}

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60.0) -> None:
        """
        Wait until Airflow knows a DAG.

        :raises AirflowApiError: on a timeout, with the import errors.
        """
        deadline = time.monotonic() + timeout
        while dag_id not in self.dags():
            if time.monotonic() > deadline:
                raise AirflowApiError(f"no DAG {dag_id} after {timeout:.0f} s; import errors: {self.import_errors()}")
            time.sleep(_POLL)

    def reparse(self, dag_id: str) -> None:
        """Have a DAG's file parsed anew at once, for example after a change of a cloud file."""
        before = self._dag(dag_id)
        try:
            self._call("PUT", f"parseDagFile/{before['file_token']}")
        except AirflowApiError as error:
            if ": 409 " not in str(error):
                raise  # else somebody has asked for it already, and it is still to come
        deadline = time.monotonic() + 60.0
        while self._dag(dag_id)["last_parsed_time"] == before["last_parsed_time"]:
            if time.monotonic() > deadline:
                raise AirflowApiError(f"DAG {dag_id} was not parsed anew within 60 s: is the dag-processor alive?")
            time.sleep(_POLL)

    def _dag(self, dag_id: str) -> dict[str, Any]:
        dag: dict[str, Any] = self._call("GET", f"dags/{_id(dag_id)}")
        return dag

    def _pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while page := self._call("GET", path, params={"limit": 100, "offset": offset})[key]:
            yield from page
            if len(page) < 100:
                return
            offset += len(page)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        if "Authorization" not in self._session.headers:
            self._log_in()
        answer = self._send(method, f"api/v2/{path}", **arguments)
        if answer.status_code == 401:  # the token has expired
            self._log_in()
            answer = self._send(method, f"api/v2/{path}", **arguments)
        if not answer.ok:
            raise AirflowApiError(f"{method} {path}: {answer.status_code} {answer.text[:1000]}")
        return answer.json() if answer.content else None

    def _log_in(self) -> None:
        self._session.headers.pop("Authorization", None)
        answer = self._send("POST", "auth/token", json=self._credentials)
        if not answer.ok:
            raise AirflowApiError(f"login at {self.url} refused: {answer.status_code} {answer.text[:500]}")
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(method, f"{self.url}/{path}", timeout=_PATIENCE, **arguments)
        except requests.RequestException as error:
            raise AirflowApiError(f"{method} {self.url}/{path}: {error}") from error


def _id(text: str) -> str:
    return quote(text, safe="")


def _question(dag_id: str, run_id: str, task_id: str) -> str:
    return f"dags/{_id(dag_id)}/dagRuns/{_id(run_id)}/taskInstances/{_id(task_id)}/-1/hitlDetails"


def _log_line(event: Mapping[str, Any]) -> str:
    fields = {name: value for name, value in event.items() if name not in ("event", "timestamp")}
    return " ".join([str(event.get("event", "")), *(f"{name}={value}" for name, value in fields.items())])
