"""What preflight checks on a host: each check with facts that are as they should be, and with others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from heat_upgrade.cloud.model import Cloud, Deployment
from heat_upgrade.hosts import RouterState
from heat_upgrade.preflight.check import Check, Outcome
from heat_upgrade.preflight.facts import HostCheckContext, HostFacts, in_units, seconds
from heat_upgrade.preflight.hosts import check_host
from heat_upgrade.readings import Unavailable
from tests.unit._helpers.clouds.broken import COMMANDS, HAPROXY, SUPERVISOR, edited
from tests.unit._helpers.healthy import CLOUD, GIB, LONGEST, NEW, NEXT, OLD, consumers, healthy

PASSED, SKIPPED, WARNED, FAILED = Outcome
HOST = CLOUD.host("controller-1")
NAMES = ["SSH", "host key", "clock", "sudo", "services", "release", "heat.conf", "sources", "vhost", "sides"]
NAMES += ["engine", "memory", "graceful stop"]
NAMES += ["Python", "disk", "heat-status", "rotation api"]


def target(release: str = NEW, host: str = "controller-1", **edits: object) -> Deployment:
    cloud = Cloud.model_validate({**edited({k.replace("__", "."): v for k, v in edits.items()}), "name": "lab"})
    return cloud.deployment(cloud.host(host), cloud.release(release))


def ahead(one: Deployment | None = None, **others: Any) -> HostCheckContext:
    facts: dict[str, Any] = {
        "consumers": {"heat": consumers("controller-1"), "heat_26": consumers("controller-1")},
        "rotations": {"api": "UP,L7OK", "api-cfn": "UP,L7OK"},
        "longest": LONGEST,
    }
    return HostCheckContext(target=one or target(), **{**facts, **others})


def checks(facts: HostFacts | Unavailable, to_come: HostCheckContext | None = None) -> dict[str, Check]:
    return {check.name: check for check in check_host(facts, to_come or ahead())}


def outcomes(found: Mapping[str, Check]) -> dict[str, Outcome]:
    return {name: check.outcome for name, check in found.items()}


def reporting(**reported: str) -> HostFacts:
    return healthy(HOST, **reported)


def states(facts: HostFacts, **changed: Any) -> HostFacts:
    return replace(facts, state=replace(facts.state, **changed))


def unserved(release: str, *runs: str) -> HostFacts:
    facts = healthy(HOST, *runs)
    return replace(facts, reported={**facts.reported, f"server/{release}/api": ""})


def test_an_api_that_runs_beside_another_has_its_place_itself() -> None:
    facts = reporting(**{f"answers_beside__{OLD}__api": "yes"})
    assert checks(facts)["release"].outcome is FAILED
    assert checks(states(facts, beside={("api", OLD): "active"}))["release"].outcome is PASSED
    assert checks(facts, ahead(cold=True))["release"].outcome is PASSED
    assert checks(reporting(**{f"answers_beside__{NEW}__api": "yes"}))["release"].outcome is PASSED


def test_an_api_that_need_not_run_beside_another_needs_no_server() -> None:
    for facts, to_come in ((unserved(OLD), ahead(cold=True)), (unserved(NEW, OLD, NEW), ahead())):
        assert checks(facts, to_come)["release"].outcome is PASSED
    assert checks(unserved(OLD, OLD, NEW))["release"].outcome is FAILED
    assert checks(unserved(NEW, NEW), ahead(target(OLD)))["release"].outcome is FAILED


def test_nothing_is_wrong_with_a_healthy_host() -> None:
    found = checks(healthy(HOST))
    assert outcomes(found) == {name: PASSED for name in NAMES} | {"heat-status": SKIPPED}


def test_nor_with_one_in_the_middle_of_an_upgrade_or_at_its_end() -> None:
    for facts in (healthy(HOST, OLD, NEW, upgrade_check="0"), healthy(HOST, NEW, upgrade_check="0")):
        assert outcomes(checks(facts)) == {name: PASSED for name in NAMES}
    back = checks(healthy(HOST, NEW, OLD), ahead(target(OLD)))
    assert set(outcomes(back).values()) <= {PASSED, SKIPPED}


def test_a_host_has_the_checks_of_its_roles() -> None:
    edge = CLOUD.host("edge.example")
    found = checks(healthy(edge), ahead(target(host="edge.example")))
    assert set(found) == set(NAMES) - {"engine", "memory", "graceful stop"} | {"rotation api-cfn"}


def test_a_host_that_is_not_reached_fails_once_and_every_check_is_in_the_table() -> None:
    found = checks(Unavailable("controller-1: SSH failed, check sshd"))
    assert found["SSH"] == Check("SSH", FAILED, "controller-1: SSH failed, check sshd")
    assert outcomes(found) == {name: SKIPPED for name in NAMES} | {"SSH": FAILED}


def test_without_sudo_the_checks_that_take_it_are_not_made() -> None:
    found = checks(HostFacts(healthy(HOST).state, {"sudo": "no"}, "heat@10.0.0.11:22", "the cloud file"))
    assert found["sudo"].outcome is FAILED
    assert "NOPASSWD" in found["sudo"].finding
    assert {name for name, check in found.items() if check.outcome is SKIPPED} == set(NAMES[4:])
    assert checks(reporting(sudo="no"), ahead(target(become="none")))["sudo"].outcome is PASSED


SPOILED: dict[str, tuple[HostFacts, HostCheckContext, str, Outcome, tuple[str, ...]]] = {
    # the facts, what is to come, the check, its outcome; value, expectation, next step
    "a key that nobody verified": (
        replace(healthy(HOST), key=""),
        ahead(),
        "host key",
        WARNED,
        ("was not verified", "expected a known key", "`host_key`", "no_host_key_check", "'heat_ssh'"),
    ),
    "a state folder that can't be written": (
        healthy(HOST, state="no"),
        ahead(),
        "sudo",
        FAILED,
        ("/var/lib/heat-upgrade/controller-1", "can't be made or written by heat@10", "layout.state"),
    ),
    "a clock that is a little slow": (
        replace(healthy(HOST), ahead=-3.2),
        ahead(),
        "clock",
        WARNED,
        ("3.2 s behind Airflow's", "expected at most 2 s", "chronyc tracking"),
    ),
    "a clock that is far ahead": (
        replace(healthy(HOST), ahead=95.0),
        ahead(),
        "clock",
        FAILED,
        ("95.0 s ahead of", "expected at most 2 s"),
    ),
    "an engine that does not run": (
        states(healthy(HOST), services={("engine", OLD): "failed", ("engine", NEW): "absent", ("api", OLD): "active"}),
        ahead(),
        "services",
        WARNED,
        (f"heat-engine ({OLD} failed) doesn't run", f"heat-api {OLD} active", "expected all", "log"),
    ),
    "nothing that runs": (
        states(healthy(HOST), services={("engine", OLD): "inactive"}),
        ahead(),
        "services",
        FAILED,
        (f"none of its services runs: heat-engine ({OLD} inactive), heat-api (not installed)", "`unit`"),
    ),
    "a half-way rolling upgrade before a cold one": (
        states(
            healthy(HOST, OLD, NEW),
            services={("api", NEW): "active", ("engine", OLD): "active"},
            beside={("api", OLD): "active", ("api", NEW): "absent"},
            routers={NEW: RouterState(OLD, listed=3)},
        ),
        ahead(cold=True),
        "sides",
        FAILED,
        (f"heat-api {OLD} beside", f"users on {OLD}, 3 stacks on the other side", "finish it, or take it back"),
    ),
    "an API that is still beside, before a cold upgrade": (
        states(healthy(HOST), beside={("api", OLD): "active"}),
        ahead(cold=True),
        "sides",
        FAILED,
        (f"is half-way there (heat-api {OLD} beside), expected none",),
    ),
    "a half-way rolling upgrade that goes on": (
        states(healthy(HOST), beside={("api", OLD): "active"}),
        ahead(),
        "sides",
        PASSED,
        ("is half-way: heat-api",),
    ),
    "something else where the API is to run once more": (
        reporting(**{f"answers_beside__{OLD}__api": "yes"}),
        ahead(),
        "release",
        FAILED,
        (":18004 (services.api.beside) already", "expected nothing", "free ones"),
    ),
    "an API that nothing can run once more": (
        unserved(OLD),
        ahead(),
        "release",
        FAILED,
        (f"/opt/heat/{OLD}/bin has neither a uWSGI with Python nor heat-api", "expected one", "pyuwsgi", "`venv`"),
    ),
    "another release than on paper": (
        states(healthy(HOST), installed={OLD: "24.0.0"}),
        ahead(),
        "release",
        FAILED,
        (f"{OLD} runs from a venv with openstack-heat 24.0.0", "expected the same", "`version`"),
    ),
    "a release on paper only": (
        states(healthy(HOST), installed={OLD: ""}),
        ahead(),
        "release",
        WARNED,
        (f"{OLD} runs", "on paper only", "`venv`"),
    ),
    "a heat.conf that can't be carried over": (
        states(
            reporting(**{f"conf__{OLD}__problem": "no transport_url in [DEFAULT], expected one: write it there"}),
            vhosts={},
        ),
        ahead(),
        "heat.conf",
        FAILED,
        (f"/etc/heat/{OLD}/heat.conf: no transport_url in [DEFAULT], expected one: write it there",),
    ),
    "a distribution's file before heat.conf": (
        reporting(**{f"sources__{OLD}__engine": f"/usr/share/heat/heat-dist.conf /etc/heat/{OLD}/heat.conf"}),
        ahead(),
        "sources",
        FAILED,
        (
            f"heat-engine {OLD} reads /usr/share/heat/heat-dist.conf, /etc/heat/{OLD}/heat.conf",
            f"expected /etc/heat/{OLD}/heat.conf alone",
            "move all that counts into it",
        ),
    ),
    "files that win over heat.conf": (
        reporting(
            **{
                f"sources__{OLD}__api": f"/etc/heat/{OLD}/heat.conf /etc/heat/heat.conf.d/1.conf",
                f"defaults__{OLD}__api": "/etc/heat/heat.conf.d/1.conf",
            }
        ),
        ahead(),
        "sources",
        FAILED,
        (f"heat-api {OLD} reads /etc/heat/{OLD}/heat.conf, /etc/heat/heat.conf.d/1.conf", "no --config-dir"),
    ),
    "files that both releases read before heat.conf": (
        reporting(
            **{
                f"sources__{OLD}__api": f"/etc/heat/heat.conf.d/1.conf /etc/heat/{OLD}/heat.conf",
                f"defaults__{OLD}__api": "/etc/heat/heat.conf.d/1.conf",
            }
        ),
        ahead(),
        "sources",
        WARNED,
        (
            f"heat-api {OLD} reads /etc/heat/heat.conf.d/1.conf before",
            "the new release reads them too",
            "transport_url",
        ),
    ),
    "options in the environment": (
        reporting(**{f"environment__{OLD}__engine": "OS_DATABASE__CONNECTION"}),
        ahead(),
        "sources",
        FAILED,
        (f"heat-engine {OLD} takes OS_DATABASE__CONNECTION from its environment", "expected every option in /etc/heat"),
    ),
    "a service that starts in a way of its own": (
        reporting(**{f"sources__{OLD}__api": ""}),
        ahead(),
        "sources",
        WARNED,
        (f"what heat-api {OLD} reads can't be told", "compare its command line"),
    ),
    "what an earlier upgrade has put in front": (
        reporting(**{f"sources__{OLD}__api": f"/etc/heat/{OLD}/heat.conf /etc/heat/{OLD}/router/router.conf"}),
        ahead(),
        "sources",
        PASSED,
        (f"heat-engine {OLD} reads /etc/heat/{OLD}/heat.conf alone, heat-api",),
    ),
    "another vhost than on paper": (
        states(healthy(HOST), vhosts={OLD: "/"}),
        ahead(),
        "vhost",
        FAILED,
        (f"/etc/heat/{OLD}/heat.conf names '/'", "expected 'heat'", "`vhost` or `config`"),
    ),
    "a heat.conf that can't be read": (
        states(healthy(HOST), vhosts={}),
        ahead(),
        "vhost",
        FAILED,
        ("names no vhost (it can't be read)", "expected 'heat'"),
    ),
    "an engine that listens elsewhere": (
        healthy(HOST),
        ahead(consumers={"heat": consumers("controller-2")}),
        "engine",
        FAILED,
        ("nobody reads queue 'engine.controller-1'", f"{OLD} on vhost 'heat'", "expected the host's engine", "log"),
    ),
    "RabbitMQ that does not answer": (
        healthy(HOST),
        ahead(consumers=Unavailable("away")),
        "engine",
        SKIPPED,
        ("RabbitMQ",),
    ),
    "no memory for a second engine": (
        reporting(memory_available=str(200 * 1024)),
        ahead(),
        "memory",
        FAILED,
        ("0.2 GiB available", "takes 0.3 GiB", "free memory there"),
    ),
    "just enough memory": (
        reporting(memory_available=str(400 * 1024)),
        ahead(),
        "memory",
        WARNED,
        ("0.4 GiB available", "expected twice as much"),
    ),
    "memory that nobody tells": (
        reporting(memory_available=""),
        ahead(),
        "memory",
        WARNED,
        ("can't be told", "`free`"),
    ),
    "a grace shorter than the longest resource": (
        reporting(**{f"conf__{OLD}__graceful_shutdown_timeout": "20"}),
        ahead(),
        "graceful stop",
        WARNED,
        ("graceful_shutdown_timeout 20 s", "42 s (CREATE of web, OS::Nova::Server)", "above the longest resource"),
    ),
    "a service manager that kills first": (
        reporting(**{f"stop_timeout__{OLD}": "1min 30s"}),
        ahead(),
        "graceful stop",
        WARNED,
        ("600 s, killed after 90 s", "TimeoutStopSec (stopwaitsecs)", "above both"),
    ),
    "a grace without end and a service manager that kills": (
        reporting(**{f"conf__{OLD}__graceful_shutdown_timeout": "0", f"stop_timeout__{OLD}": "30"}),
        ahead(),
        "graceful stop",
        WARNED,
        ("graceful_shutdown_timeout no limit, killed after 30 s", "TimeoutStopSec"),
    ),
    "a database that was not read": (
        healthy(HOST),
        ahead(longest=Unavailable("away")),
        "graceful stop",
        SKIPPED,
        ("database",),
    ),
    "a Python that is too old": (
        reporting(python="3.9.18"),
        ahead(),
        "Python",
        FAILED,
        ("python3.11 is Python 3.9.18", f"expected at least 3.10 for Heat {NEW}", "installer.python"),
    ),
    "a Python too old for the release after": (
        healthy(HOST, NEW, python="3.10.12"),
        ahead(target(NEXT)),
        "Python",
        FAILED,
        ("3.10.12", "expected at least 3.11"),
    ),
    "a python3 that is too old for the steps": (
        reporting(python3="3.6.8"),
        ahead(),
        "Python",
        FAILED,
        ("python3 is 3.6.8", "expected at least 3.8", "install a newer one"),
    ),
    "a python3 that is almost new enough for the steps": (
        healthy(HOST, NEW, python3="3.7.3"),
        ahead(),
        "Python",
        FAILED,
        ("python3 is 3.7.3", "expected at least 3.8"),
    ),
    "no python3": (reporting(python3=""), ahead(), "Python", FAILED, ("python3 is not there", "expected at least 3.8")),
    "no Python": (reporting(python=""), ahead(), "Python", FAILED, ("python3.11 doesn't run", "expected Python 3.10")),
    "no uv": (reporting(installer="no"), ahead(), "Python", FAILED, ("no venv can be made with uv", "install uv")),
    "no venv": (
        reporting(installer="no"),
        ahead(target(installer={"kind": "pip"})),
        "Python",
        FAILED,
        ("no venv can be made with pip", "install python3-venv"),
    ),
    "a full disk": (
        reporting(free_venv=str(90 * 1024)),
        ahead(),
        "disk",
        FAILED,
        (f"90 MiB free for /opt/heat/{NEW}", "expected 0.5 GiB", "free space there"),
    ),
    "a disk that nobody tells": (reporting(free_venv=""), ahead(), "disk", WARNED, ("can't be told", "`df`")),
    "new code that warns": (reporting(upgrade_check="1"), ahead(), "heat-status", WARNED, ("status 1", "expected 0")),
    "new code that refuses": (
        reporting(upgrade_check="2"),
        ahead(),
        "heat-status",
        FAILED,
        ("status 2", "table is above"),
    ),
    "a host that was left out of the rotation": (
        reporting(out_of_rotation="yes", healthcheck__api="503"),
        ahead(),
        "rotation api",
        WARNED,
        ("/var/lib/heat/controller-1/out exists", "expected in", "rejoin_rotation"),
    ),
    "no health check": (
        reporting(healthcheck__api="404"),
        ahead(),
        "rotation api",
        FAILED,
        ("heat-api answers 404", "expected 200", "haproxy or commands"),
    ),
    "an API that is ill": (
        reporting(healthcheck__api="500"),
        ahead(),
        "rotation api",
        WARNED,
        ("heat-api answers 500", "expected 200", "see the API's log"),
    ),
    "a new engine that is deaf beside an old one": (
        healthy(HOST, OLD, NEW, upgrade_check="0"),
        ahead(consumers={"heat": consumers("controller-1"), "heat_26": {}}),
        "engine",
        WARNED,
        (f"{NEW} on vhost 'heat_26'",),
    ),
    "another health check file": (
        reporting(**{f"conf__{OLD}__health_file": "/elsewhere"}),
        ahead(),
        "rotation api",
        FAILED,
        ("'/elsewhere'", "expected '/var/lib/heat/controller-1/out'", "rotation.file"),
    ),
    "no disable_by_file": (
        reporting(**{f"conf__{OLD}__health_backends": "other"}),
        ahead(),
        "rotation api",
        FAILED,
        ("backends 'other'", "disable_by_file"),
    ),
    "no health check in heat.conf": (
        reporting(**{f"conf__{OLD}__health_file": "", f"conf__{OLD}__health_backends": ""}),
        ahead(),
        "rotation api",
        WARNED,
        ("answers 200", "no [healthcheck] disable_by_file_path", "api-paste.ini"),
    ),
    "a server that is down": (
        healthy(HOST),
        ahead(target(rotation=HAPROXY), rotations={"api": "DOWN,L4CON"}),
        "rotation api",
        WARNED,
        ("heat_api/controller-1 is DOWN (L4CON)", "expected UP"),
    ),
    "a balancer that checks a port": (
        healthy(HOST),
        ahead(target(rotation=HAPROXY), rotations={"api": "UP,L4OK"}),
        "rotation api",
        WARNED,
        ("checked by its port alone (L4OK)", "httpchk GET /healthcheck"),
    ),
    "a balancer that checks nothing": (
        healthy(HOST),
        ahead(target(rotation=HAPROXY), rotations={"api": "no check,"}),
        "rotation api",
        WARNED,
        ("isn't checked by HAProxy", "httpchk GET /healthcheck"),
    ),
    "a balancer that does not answer": (
        healthy(HOST),
        ahead(target(rotation=HAPROXY), rotations={"api": Unavailable("HAProxy has no server, correct it")}),
        "rotation api",
        FAILED,
        ("HAProxy has no server, correct it",),
    ),
    "commands of one's own": (
        healthy(HOST),
        ahead(target(rotation=COMMANDS)),
        "rotation api",
        SKIPPED,
        ("own commands",),
    ),
    "an API that does not run": (
        states(healthy(HOST), services={("engine", OLD): "active"}),
        ahead(),
        "rotation api",
        SKIPPED,
        ("no heat-api runs here",),
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_not_as_it_should_be_is_told(case: str) -> None:
    facts, to_come, name, outcome, words = SPOILED[case]
    found = checks(facts, to_come)
    assert found[name].outcome is outcome, found[name]
    for word in words:
        assert word in found[name].finding


@pytest.mark.parametrize("case", [case for case, spoiled in SPOILED.items() if spoiled[3] is FAILED])
def test_a_check_that_fails_stops_no_other(case: str) -> None:
    found = checks(*SPOILED[case][:2])
    assert set(found) == set(NAMES)
    assert sum(check.outcome is FAILED for check in found.values()) == 1


def test_a_server_behind_haproxy_is_up_by_an_http_check() -> None:
    found = checks(healthy(HOST), ahead(target(rotation=HAPROXY, service_manager=SUPERVISOR)))
    assert found["rotation api"] == Check("rotation api", PASSED, "heat_api/controller-1 is UP by an HTTP check (L7OK)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3600", 3600), ("1min 30s", 90), ("1h", 3600), ("2d 1h 500ms", 176400.5), ("1.5s", 1.5), ("infinity", None)],
)
def test_time_spans_of_service_managers_are_read(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "3 parsecs", "1h later"])
def test_other_time_spans_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected one such as 90"):
        seconds(text)


def test_amounts_are_for_people() -> None:
    assert [in_units(kib) for kib in (90 * 1024, 512 * 1024, 20 * GIB)] == ["90 MiB", "0.5 GiB", "20.0 GiB"]
