"""A run's parameters: what is understood, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from heat_upgrade.cloud.model import Cloud
from heat_upgrade.run.parameters import COLD, ParameterError, RunParameters
from tests.unit._helpers.clouds.broken import edited

CLOUD = Cloud.model_validate({**edited({}), "name": "lab"})
EVERYONE = ("controller-1", "controller-2", "edge.example")


class Broken(NamedTuple):
    """Wrong parameters, and what their one problem says: where, the value, the expectation, the next step."""

    id: str
    params: dict[str, Any]
    where: str
    value: str
    expected: str
    todo: str


def target(value: Any) -> dict[str, Any]:
    return {"target_release": value}


def hosts(value: Any) -> dict[str, Any]:
    return {"target_release": "26.0.2", "hosts": value}


def delete(value: Any) -> dict[str, Any]:
    return {"target_release": "26.0.2", "delete_old_vhost": value}


def canary(value: Any) -> dict[str, Any]:
    return {"target_release": "26.0.2", "canary": value}


def drain(value: Any) -> dict[str, Any]:
    return {"target_release": "26.0.2", "drain": value}


KNOWN = "one of 25.0.2, 26.0.2, 27.0.1"
SOME_HOST = "a host of the cloud (controller-1, controller-2, edge.example)"
A_LIST = "a list with at least one of the cloud's hosts"
EXAMPLE = '["controller-1", "controller-2"]'
A_PROJECT, IDS = "a project's id: letters, digits and . _ -, 64 at most", "write the ids of `openstack project list`"
BROKEN = [
    Broken("empty target", target(""), "target_release", "''", KNOWN, "choose one of them"),
    Broken(
        "unknown target", target("28.0.0"), "target_release", "'28.0.0'", KNOWN, "add the release to the cloud file"
    ),
    Broken("target of another cloud", target("epoxy"), "target_release", "'epoxy'", KNOWN, "add the release"),
    Broken("target as a number", target(26.0), "target_release", "26.0", KNOWN, "add the release to the cloud file"),
    Broken("target as a list", target(["26.0.2"]), "target_release", "a list", KNOWN, "choose one"),
    Broken("target as a mapping", target({"version": "26.0.2"}), "target_release", "a mapping", KNOWN, "choose one"),
    Broken("target with a command", target("26.0.2;id"), "target_release", "'26.0.2;id'", KNOWN, "choose one"),
    Broken("unknown host", hosts(["controler-1"]), "hosts[0]", "'controler-1'", SOME_HOST, "mean 'controller-1'?"),
    Broken("host in capitals", hosts(["EDGE"]), "hosts[0]", "'EDGE'", SOME_HOST, "write a name from the cloud file"),
    Broken("host twice", hosts([*EVERYONE, EVERYONE[0]]), "hosts[3]", "'controller-1'", "each host once", "delete"),
    Broken("no hosts", hosts([]), "hosts", "an empty list", A_LIST, EXAMPLE),
    Broken("hosts left empty", hosts(None), "hosts", "nothing", A_LIST, EXAMPLE),
    Broken("host as a text", hosts("controller-1"), "hosts", "'controller-1'", A_LIST, EXAMPLE),
    Broken("hosts as a mapping", hosts({"controller-1": 1}), "hosts", "a mapping", A_LIST, EXAMPLE),
    Broken("host as a number", hosts([1]), "hosts[0]", "1", "the name of a host", EXAMPLE),
    Broken("host as a boolean", hosts([True]), "hosts[0]", "true", "the name of a host", EXAMPLE),
    Broken("host as a list", hosts([["controller-1"]]), "hosts[0]", "a list", "the name of a host", EXAMPLE),
    Broken("host with a newline", hosts(["a\nb"]), "hosts[0]", r"'a\nb'", SOME_HOST, "from the cloud file"),
    Broken("canary as a text", canary("p1"), "canary", "'p1'", "a list of projects' ids", IDS),
    Broken("canary as a flag", canary(False), "canary", "false", "a list of projects' ids", IDS),
    Broken("canary as a mapping", canary({"p1": 1}), "canary", "a mapping", "a list of projects' ids", IDS),
    Broken("canary of all hosts", canary([True]), "canary[0]", "true", A_PROJECT, IDS),
    Broken("canary with an empty line", canary(["p1", ""]), "canary[1]", "''", A_PROJECT, IDS),
    Broken("canary with markup", canary(["<script>"]), "canary[0]", "'<script>'", A_PROJECT, IDS),
    Broken("canary with a command", canary(["p1;id"]), "canary[0]", "'p1;id'", A_PROJECT, IDS),
    Broken("canary with a newline", canary(["p1\n"]), "canary[0]", r"'p1\n'", A_PROJECT, IDS),
    Broken("canary with a wildcard", canary(["%"]), "canary[0]", "'%'", A_PROJECT, IDS),
    Broken("canary with a path", canary(["../p1"]), "canary[0]", "'../p1'", A_PROJECT, IDS),
    Broken("canary of other letters", canary(["pröjekt"]), "canary[0]", "'pröjekt'", A_PROJECT, IDS),
    Broken("canary that is too long", canary(["p" * 65]), "canary[0]", "'" + "p" * 64, A_PROJECT, IDS),
    Broken("canary twice", canary(["p1", "p1"]), "canary[1]", "'p1'", "each project once", "delete"),
    Broken("canaries without end", canary(["p1"] * 51), "canary", "51 projects", "50 at most", "name fewer"),
    Broken("canary with a password", canary(["password=hunter2"]), "canary[0]", "not shown", A_PROJECT, IDS),
    Broken("flag as a text", delete("yes"), "delete_old_vhost", "'yes'", "true or false", "without quotes"),
    Broken("flag as a number", delete(1), "delete_old_vhost", "1", "true or false", "without quotes"),
    Broken("flag left empty", delete(None), "delete_old_vhost", "nothing", "true or false", "without quotes"),
    Broken(
        "misspelt approval",
        {"target_release": "26.0.2", "approvals": "every hosts"},
        "approvals",
        "'every hosts'",
        "one of none, before the flip, after the first host, every host, before the old engines stop",
        "did you mean 'every host'?",
    ),
    Broken(
        "approvals as a list",
        {"target_release": "26.0.2", "approvals": ["every host"]},
        "approvals",
        "a list",
        "one of none, before the flip",
        "did you mean 'every host'?",
    ),
    Broken(
        "misspelt parameter",
        {"target_release": "26.0.2", "host": ["controller-1"]},
        "parameters",
        "the unknown parameter 'host'",
        "only target_release, hosts, canary, approvals, delete_old_vhost, ignore_windows, dry_run",
        "did you mean 'hosts'?",
    ),
    Broken(
        "password as a parameter",
        {"target_release": "26.0.2", "password=hunter2": 1},
        "parameters",
        "not shown",
        "only target_release",
        "leave it out",
    ),
]


MINUTES = "minutes from 0 to 10080"
BROKEN_COLD = [
    Broken("wait as a text", drain("30"), "drain", "'30'", MINUTES, "write for example 30"),
    Broken("wait as a boolean", drain(True), "drain", "true", MINUTES, "or leave it empty"),
    Broken("wait below nothing", drain(-1), "drain", "-1", MINUTES, "write for example 30"),
    Broken("wait for ever", drain(10081), "drain", "10081", MINUTES, "write for example 30"),
    Broken("wait for no number", drain(float("nan")), "drain", "nan", MINUTES, "write for example 30"),
    Broken(
        "hosts of a cold upgrade",
        {"target_release": "26.0.2", "hosts": ["controller-1"]},
        "parameters",
        "the unknown parameter 'hosts'",
        "only target_release, drain, approvals, delete_old_vhost, ignore_windows, dry_run",
        "leave it out",
    ),
    Broken(
        "canary of a cold upgrade",
        canary(["p1"]),
        "parameters",
        "the unknown parameter 'canary'",
        "only target_release, drain, approvals, delete_old_vhost, ignore_windows, dry_run",
        "leave it out",
    ),
    Broken(
        "approval of a rolling upgrade",
        {"target_release": "26.0.2", "approvals": "every host"},
        "approvals",
        "'every host'",
        "one of none, before the outage, before the old engines stop",
        "choose one of them",
    ),
]


@pytest.mark.parametrize("broken", BROKEN_COLD, ids=lambda broken: broken.id)
def test_a_mistake_in_a_cold_upgrades_parameters_is_told_too(broken: Broken) -> None:
    with pytest.raises(ParameterError) as caught:
        RunParameters.parse(broken.params, CLOUD, COLD)
    (problem,) = caught.value.problems
    assert (problem.where, problem.value, problem.expected) == (broken.where, broken.value, broken.expected)
    assert broken.todo in problem.todo


@pytest.mark.parametrize("params", [{}, {"target_release": None}])
def test_without_a_release_the_next_one_is_meant(params: dict[str, Any]) -> None:
    assert RunParameters.parse(params, CLOUD) == RunParameters(None, EVERYONE)


@pytest.mark.parametrize(("given", "minutes"), [({}, 0.0), ({"drain": None}, 0.0), ({"drain": 0.5}, 0.5)])
def test_a_cold_upgrade_is_of_all_hosts_and_may_bound_its_wait(given: dict[str, Any], minutes: float) -> None:
    found = RunParameters.parse({"target_release": "26.0.2", **given}, CLOUD, COLD)
    assert found == RunParameters("26.0.2", EVERYONE, drain=minutes)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.id)
def test_a_mistake_is_told_with_value_expectation_and_next_step(broken: Broken) -> None:
    with pytest.raises(ParameterError) as caught:
        RunParameters.parse(broken.params, CLOUD)
    (problem,) = caught.value.problems
    assert problem.where == broken.where
    assert broken.value in problem.value
    assert broken.expected in problem.expected
    assert broken.todo in problem.todo
    head, line = str(caught.value).splitlines()
    assert head == "parameters for lab: 1 problem"
    assert line == f"  - {problem}"
    assert "hunter2" not in line


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        RunParameters.parse({"target_release": 1, "hosts": ["x", "y"], "delete_old_vhost": 0, "z": 0}, CLOUD)
    wheres = [problem.where for problem in caught.value.problems]
    assert wheres == ["parameters", "target_release", "hosts[0]", "hosts[1]", "delete_old_vhost"]


def test_all_hosts_and_no_deletion_are_meant_unless_said_otherwise() -> None:
    expected = RunParameters(target_release="27.0.1", hosts=EVERYONE, delete_old_vhost=False)
    assert RunParameters.parse({"target_release": "27.0.1"}, CLOUD) == expected


@pytest.mark.parametrize("kind", [list, tuple])
def test_hosts_are_taken_in_the_order_of_the_cloud_file(kind: type) -> None:
    params = {"target_release": "26.0.2", "hosts": kind(["edge.example", "controller-1"]), "delete_old_vhost": True}
    assert RunParameters.parse(params, CLOUD) == RunParameters("26.0.2", ("controller-1", "edge.example"), True)


CANARY_CLOUD = Cloud.model_validate({**edited({"canary": {"projects": ["p1", "p2"]}}), "name": "lab"})


@pytest.mark.parametrize(
    ("given", "projects"),
    [({}, ("p1", "p2")), ({"canary": None}, ("p1", "p2")), ({"canary": []}, ("p1", "p2")), (canary(["p3"]), ("p3",))],
)
def test_the_canary_is_the_cloud_files_unless_the_form_names_one(
    given: dict[str, Any], projects: tuple[str, ...]
) -> None:
    assert RunParameters.parse(given, CANARY_CLOUD).canary == projects


def test_a_cold_upgrade_has_no_canary() -> None:
    assert RunParameters.parse({"target_release": "26.0.2"}, CANARY_CLOUD, COLD).canary == ()


def test_a_long_list_of_hosts_is_cut_short_in_the_message() -> None:
    many = [{"name": f"host-{i}", "address": f"10.1.0.{i}", "roles": ["engine", "api"]} for i in range(200)]
    cloud = Cloud.model_validate({**edited({"hosts": many, "backup": {}}), "name": "lab"})
    with pytest.raises(ParameterError, match=r"host-0, host-1, host-2, host-3, host-4 and 195 more"):
        RunParameters.parse({"target_release": "26.0.2", "hosts": ["other"]}, cloud)
