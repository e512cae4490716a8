"""What a run is refused for, before any host is touched, and what its author is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lab.airflow.client import AirflowApi, AirflowApiError
from lab.airflow.dag_run import dag_id
from lab.cloud.model import Lab
from tests.e2e.labs import NEW, NEXT, OLD, OLD_VHOST
from tests.e2e.snapshot import LASTING, CloudSnapshot, changes, snapshot

PATIENCE = 300.0  # seconds for a run that ends at its first task

# What somebody sends, and what preflight's log has to say: the value, what was expected, what to do.
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an unknown host": (
        {"target_release": NEW, "hosts": ["controller-1", "controler-2"]},
        ("hosts[1]", "'controler-2'", "expected a host of the cloud (controller-1, controller-2)", "'controller-2'?"),
    ),
    "a host that is a command": (
        {"target_release": NEW, "hosts": ["$(touch /tmp/pwned)"]},
        ("hosts[0]", "'$(touch /tmp/pwned)'", "expected a host of the cloud", "write a name from the cloud file"),
    ),
    "an unknown parameter": (
        {"target_release": NEW, "host": ["controller-1"]},
        (
            "'host'",
            "delete_old_vhost, ignore_windows, dry_run",
            "did you mean 'hosts'?",
        ),
    ),
    "a jump over a release": (
        {"target_release": NEXT},
        ("target_release", f"'{NEXT}'", f"expected the release next to {OLD}, which runs", f"choose {NEW}"),
    ),
}

# What Airflow itself refuses, by the DAG's own description of its parameters.
REFUSED_AT_ONCE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an unknown release": ({"target_release": "28.0.0"}, ("target_release", "'28.0.0'", f"'{NEW}'")),
    "a release that is a number": ({"target_release": 26}, ("target_release", "26", "string")),
    "a word for a flag": (
        {"target_release": NEW, "delete_old_vhost": "yes"},
        ("delete_old_vhost", "'yes'", "boolean"),
    ),
    "a host without a list": ({"target_release": NEW, "hosts": "controller-1"}, ("hosts", "'controller-1'", "array")),
}


@dataclass(frozen=True)
class Refusal:
    """A run that was refused."""

    state: str
    tasks: dict[str, str]
    log: str
    report: str = ""


@pytest.fixture(scope="module")
def untouched(lab: Lab) -> CloudSnapshot:
    """Return what the lab is like before anything is refused."""
    return snapshot(lab, *LASTING)


@pytest.fixture(scope="module")
def broken_cloud(lab: Lab, api: AirflowApi, untouched: CloudSnapshot) -> Iterator[str]:
    """Put a broken cloud file beside the lab's, and return its DAG's id."""
    file = lab.clouds_directory / "broken.yaml"
    text = (lab.clouds_directory / f"{lab.name}.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("name: controller-2", "name: controller-1"), encoding="utf-8")
    api.wait_for_dag(dag_id(lab))
    api.reparse(dag_id(lab))
    api.wait_for_dag("heat_rolling_upgrade__broken")
    yield "heat_rolling_upgrade__broken"
    file.unlink()


@pytest.fixture(scope="module")
def refusals(lab: Lab, api: AirflowApi, broken_cloud: str) -> dict[str, Refusal]:
    """Have every run refused, beside a broken cloud: the lab's own DAG stays usable."""
    runs = {case: api.trigger(dag_id(lab), conf) for case, (conf, _) in REFUSED.items()}
    found = {case: _refusal(api, dag_id(lab), run) for case, run in runs.items()}
    return {case: replace(refusal, report=api.report(dag_id(lab), runs[case])) for case, refusal in found.items()}


def _refusal(api: AirflowApi, dag: str, run: str) -> Refusal:
    state = api.wait_for_run(dag, run, timeout=PATIENCE)
    return Refusal(state, api.task_states(dag, run), api.log(dag, run, "preflight"))


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_that_cannot_be_is_refused_with_value_expectation_and_next_step(
    case: str, refusals: dict[str, Refusal]
) -> None:
    refusal = refusals[case]
    assert refusal.state == "failed"
    assert refusal.tasks.pop("preflight") == "failed"
    assert refusal.tasks.pop("report") == "failed"
    assert set(refusal.tasks.values()) == {"upstream_failed"}
    for words in REFUSED[case][1]:
        assert words in refusal.log
        assert words in refusal.report
    assert "so nothing was touched" in refusal.report


@pytest.mark.parametrize("case", REFUSED_AT_ONCE)
def test_a_parameter_of_the_wrong_kind_is_refused_at_once(case: str, lab: Lab, api: AirflowApi) -> None:
    conf, told = REFUSED_AT_ONCE[case]
    api.wait_for_dag(dag_id(lab))
    with pytest.raises(AirflowApiError) as refused:
        api.trigger(dag_id(lab), conf)
    for words in told:
        assert words in str(refused.value)


def test_a_broken_cloud_file_is_a_dag_that_says_what_is_wrong(api: AirflowApi, broken_cloud: str) -> None:
    refusal = _refusal(api, broken_cloud, api.trigger(broken_cloud, {}))
    assert refusal.tasks == {"preflight": "failed"}
    for words in ("hosts[1].name", "'controller-1'", "expected"):
        assert words in refusal.log
    assert api.import_errors() == {}


def test_nothing_was_touched(lab: Lab, untouched: CloudSnapshot, refusals: dict[str, Refusal]) -> None:
    assert changes(untouched, snapshot(lab, *LASTING)) == {}
    assert OLD_VHOST in untouched["rights"]
    assert untouched["configuration"]
    for host in lab.hosts:
        assert not host.venv(NEW).exists()
        assert not host.config(NEW).parent.exists()
