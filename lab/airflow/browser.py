"""Airflow's UI as people see it, in a headless Chromium; `python -m lab.airflow.browser` pictures the latest run."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from lab.airflow.dag_run import dag_id
from lab.airflow.server import airflow_client, airflow_login
from lab.cloud.model import Lab
from lab.processes import LabError

View = Literal["Grid", "Gantt", "Graph"]

WIDTH, HEIGHT = 1600, 1340
_PATIENCE = 60.0  # seconds; the machine may be busy with Heat
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers and root have none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# What the UI shows when something went wrong: an error in the page's place, or a notice in its corner.
_ERRORS = "[data-testid=error-alert], [data-scope=toast][data-type=error], [role=alert][data-status=error]"
_LOG_IN = "[name=username], [name=password], [type=submit]"
_GRAPH_NODE = "rf__node-"
_PARAMETER = "element_"
_REPORT = "/plugin/upgrade-report"
_FRAME = "iframe[src*='heat-upgrade/report']"


class AirflowUi:
    """
    A browser that is logged in to the Airflow of a lab; a context manager that closes it.

    :param lab: the lab; its Airflow runs.
    """

    def __init__(self, lab: Lab) -> None:
        self._url = lab.airflow_url
        self._login = airflow_login(lab)
        self._complaints: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="heat-lab-chromium-", ignore_cleanup_errors=True)
        self._driver = _start_chromium(Path(self._profile.name))

    def __enter__(self) -> AirflowUi:
        """Log in."""
        try:
            self._log_in()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the browser."""
        self.close()

    def close(self) -> None:
        """Close the browser and forget all that it has stored."""
        self._driver.quit()
        self._profile.cleanup()

    def open_page(self, path: str) -> None:
        """
        Open any page.

        :param path: what follows Airflow's address.
        """
        self._driver.get(f"{self._url}/{path}")

    def open_run(self, dag: str, run_id: str, tasks: Iterable[str]) -> None:
        """
        Open a run with all its groups expanded.

        :param dag: the DAG's id.
        :param run_id: the run's id.
        :param tasks: the ids of its tasks, which the grid has to show.
        """
        self.open_page(f"dags/{dag}/runs/{quote(run_id, safe='')}")
        self._click("[data-testid=expand-all-button]")
        self._see(tasks, lambda: self.grid(run_id), what="the grid")

    def show(self, view: View) -> None:
        """Choose what the page's main part shows."""
        self._click(f"[aria-label^='Show {view}']")

    def hide_details(self) -> None:
        """Leave the page's whole width to its main part."""
        self._click("[aria-label='Collapse Details Panel']")

    def open_report(self, dag: str, run_id: str) -> None:
        """
        Open a run and, as people do, the tab with its report.

        :param dag: the DAG's id.
        :param run_id: the run's id.
        """
        self.open_page(f"dags/{dag}/runs/{quote(run_id, safe='')}")
        self._click(f"a[href$='{_REPORT}']")
        self._elements(_FRAME)

    def answer(self, dag: str, run_id: str, task: str, option: str) -> str:
        """
        Open a question under Required Actions, click on an answer, and return what the page asked.

        :param dag: the DAG's id.
        :param run_id: the run's id.
        :param task: the id of the task that asks.
        :param option: the answer.
        """
        self.open_page(f"dags/{dag}/runs/{quote(run_id, safe='')}/tasks/{task}/required_actions")
        button = f"[data-testid='hitl-option-{option}']"
        self._elements(f"{button}:enabled")
        asked = self._driver.find_element(By.TAG_NAME, "body").text
        self._click(button)
        self._wait(lambda: not self._driver.find_elements(By.CSS_SELECTOR, f"{button}:enabled"), what="it is answered")
        return asked

    def report(self) -> str:
        """Return what the report on the page says."""
        (frame,) = self._elements(_FRAME)
        self._driver.switch_to.frame(frame)
        try:
            self._elements("h1")
            return self._driver.find_element(By.TAG_NAME, "body").text
        finally:
            self._driver.switch_to.default_content()

    def grid(self, run_id: str) -> set[str]:
        """Return the ids of the tasks and groups that have a box in a run's column of the grid."""
        return self._test_ids(f"grid-{run_id}-")

    def graph(self, tasks: Iterable[str]) -> set[str]:
        """
        Return the ids of the tasks and groups in the graph.

        :param tasks: the ids of the tasks to wait for.
        """
        self._see(tasks, self._nodes, what="the graph")
        return {node for node in self._nodes() if not node.endswith("_join_id")}

    def trigger_form(self, dag: str, parameters: Iterable[str]) -> set[str]:
        """
        Open the form that triggers a DAG and return the parameters that it asks for.

        :param dag: the DAG's id.
        :param parameters: the names to wait for.
        """
        self.open_page(f"dags/{dag}")
        self._click("[data-testid=trigger-dag-button]")
        self._see(parameters, self._fields, what="the trigger form")
        return self._fields()

    def complaints(self) -> list[str]:
        """Return everything that went wrong so far: answers of 400 and above, errors in the console and on the page."""
        self._collect()
        return list(self._complaints)

    def save(self, file: Path) -> None:
        """
        Save a picture of the page.

        :param file: the PNG to write.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._wait(lambda: not self._animated(), what="the page comes to rest")
        self._driver.save_screenshot(str(file))

    def _log_in(self) -> None:
        self.open_page("auth/login")
        user, password, submit = self._elements(_LOG_IN, at_least=3)[:3]
        user.send_keys(self._login[0])
        password.send_keys(self._login[1])
        submit.click()
        self._elements("[data-testid=nav-sidebar]")

    def _see(self, wanted: Iterable[str], shown: Callable[[], set[str]], *, what: str) -> None:
        missing = set(wanted)

        def all_shown() -> bool:
            missing.difference_update(shown())
            return not missing

        self._wait(all_shown, what=lambda: f"{what} shows {', '.join(sorted(missing))}")

    def _nodes(self) -> set[str]:
        return self._test_ids(_GRAPH_NODE)

    def _test_ids(self, prefix: str) -> set[str]:
        found = self._attributes(f"[data-testid^='{prefix}']", "data-testid")
        return {name.removeprefix(prefix) for name in found}

    def _fields(self) -> set[str]:
        names = self._attributes(f"[name^='{_PARAMETER}'], [id^='{_PARAMETER}']", "name", "id")
        return {name.removeprefix(_PARAMETER) for name in names if name.startswith(_PARAMETER)}

    def _attributes(self, selector: str, *names: str) -> set[str]:
        # In one call, as the page may put other elements in the place of these at any time.
        script = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".flatMap(e => arguments[1].map(n => e.getAttribute(n))).filter(Boolean)"
        )
        return set(self._driver.execute_script(script, selector, names))

    def _animated(self) -> bool:
        script = (
            "return document.getAnimations().some(a => a.playState === 'running'"
            " && a.effect.getTiming().iterations !== Infinity)"
        )
        return bool(self._driver.execute_script(script))

    def _click(self, selector: str) -> None:
        self._elements(selector)

        def clicked() -> bool:
            self._driver.find_element(By.CSS_SELECTOR, selector).click()
            return True

        # Until it succeeds: a page that is still being put together hides or replaces its buttons.
        self._wait(clicked, what=f"{selector} can be clicked")

    def _elements(self, selector: str, *, at_least: int = 1) -> list[WebElement]:
        found: list[WebElement] = []

        def there() -> bool:
            found[:] = self._driver.find_elements(By.CSS_SELECTOR, selector)
            return len(found) >= at_least

        self._wait(there, what=f"{selector} is on the page")
        return found

    def _wait(self, ready: Callable[[], bool], *, what: str | Callable[[], str]) -> None:
        def poll(_: webdriver.Chrome) -> bool:
            self._collect()  # a notice is gone after some seconds
            return ready()

        try:
            WebDriverWait(self._driver, _PATIENCE, ignored_exceptions=[Exception]).until(poll)
        except Exception as error:
            expected = what if isinstance(what, str) else what()
            raise LabError(
                f"{self._driver.current_url}: not so after {_PATIENCE:.0f} s: {expected}; "
                f"the page's complaints: {self._complaints or 'none'}"
            ) from error

    def _collect(self) -> None:
        for entry in self._log("browser"):
            if entry["level"] == "SEVERE":
                self._complain(f"console: {entry['message']}")
        for entry in self._log("performance"):
            self._judge(json.loads(entry["message"])["message"])
        for text in self._texts(_ERRORS):
            self._complain(f"on the page: {text}")

    def _judge(self, event: dict[str, Any]) -> None:
        if event["method"] == "Network.responseReceived" and event["params"]["response"]["status"] >= 400:
            answer = event["params"]["response"]
            self._complain(f"{answer['status']} from {answer['url']}")

    def _complain(self, text: str) -> None:
        if text not in self._complaints:
            self._complaints.append(text)

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self._driver.get_log(kind))  # type: ignore[no-untyped-call]

    def _texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return list(self._driver.execute_script(script, selector))


def _start_chromium(profile: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_program("chromedriver")))
    # The page's size; the window's own would include borders that nobody sees.
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return driver


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise LabError(f"{name} is not installed: on Debian, `apt-get install chromium chromium-driver`")
    return found


def take_picture(lab: Lab, file: Path) -> None:
    """
    Save a picture of the latest run of a lab's upgrade: its tasks, and when each of them ran.

    :param lab: the lab; its Airflow runs.
    :param file: the PNG to write.
    :raises LabError: if there was no run.
    """
    api, dag = airflow_client(lab), dag_id(lab)
    runs = api.runs(dag)
    if not runs:
        raise LabError(f"{dag} has not run yet: trigger it first, for example with `make demo`")
    run_id = runs[-1]["dag_run_id"]
    with AirflowUi(lab) as ui:
        ui.open_run(dag, run_id, api.task_states(dag, run_id))
        ui.show("Gantt")
        ui.hide_details()
        ui.save(file)


def main() -> int:
    """Take the picture; return the exit status."""
    parser = argparse.ArgumentParser("python -m lab.airflow.browser", description="Take a picture of the latest run.")
    parser.add_argument("--name", default="demo", help="which lab (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    arguments = parser.parse_args()
    try:
        take_picture(Lab(arguments.name), arguments.out)
    except LabError as error:
        print(f"lab {arguments.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
