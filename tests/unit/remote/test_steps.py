"""The remote steps: which settings each one gets, for a host and a release."""

from __future__ import annotations

import re

import pytest

from heat_upgrade.cloud.model import Cloud, Deployment
from heat_upgrade.cloud.sections import Role
from heat_upgrade.remote import steps
from heat_upgrade.remote.step import STEPS_DIRECTORY, Step
from tests.unit._helpers.clouds.broken import COMMANDS, HAPROXY, SUPERVISOR, edited

OLD, NEW = "25.0.2", "26.0.2"


def cloud(**edits: object) -> Cloud:
    return Cloud.model_validate(
        {**edited({key.replace("__", "."): value for key, value in edits.items()}), "name": "c"}
    )


def deployment(release: str = NEW, host: str = "controller-1", **edits: object) -> Deployment:
    one = cloud(**edits)
    return one.deployment(one.host(host), one.release(release))


def every_step(**edits: object) -> list[Step]:
    source, target = deployment(OLD, **edits), deployment(NEW, **edits)
    return [
        steps.look(target.cloud, target.host),
        steps.check_host(target),
        steps.prepare(source, target),
        steps.preview_prepare(steps.prepare(source, target)),
        steps.back_up_database(source, NEW, "/var/backups/heat"),
        steps.sync_database(target, "abc"),
        steps.start_engine(target),
        steps.check_engine(target, "42"),
        steps.stop_engine(source),
        steps.switch_api(source, target),
        steps.stop_api(source),
        steps.start_api(target),
        steps.leave_rotation(target, "api"),
        steps.rejoin_rotation(target, "api"),
    ]


@pytest.mark.parametrize("edits", [{}, {"service_manager": SUPERVISOR}, {"rotation": HAPROXY}, {"rotation": COMMANDS}])
def test_every_step_has_its_script_and_all_that_its_script_asks_for(edits: dict[str, object]) -> None:
    for step in every_step(**edits):
        script = (STEPS_DIRECTORY / step.name).read_text()
        for line in re.findall(r"^ *need (.*)$", script.partition("\ncase ")[0], flags=re.MULTILINE):
            assert set(line.split()) <= {name for name, value in step.settings.items() if value}, step.name
        kind = step.settings.get("ROTATION")
        if kind:
            (branch,) = re.findall(rf"\n{kind}\)\n    need (.*)", script)
            assert set(branch.split()) <= set(step.settings)


def test_every_step_says_where_it_works_and_with_what() -> None:
    for step in every_step():
        assert step.state == step.settings["STATE"] == "/var/lib/heat-upgrade/controller-1"
        assert step.settings["BECOME"] == "sudo"
        assert step.settings["SERVICE_USER"] == "heat"
        assert (step.settings["SERVICE_MANAGER"], step.settings["UNIT_DIR"]) == ("systemd", "/etc/systemd/system")
    for step in every_step(service_manager=SUPERVISOR, become="none", services__user=None):
        assert step.settings["SUPERVISORCTL"] == "/bin/supervisorctl"
        assert step.settings["UNIT_DIR"] == "/srv/controller-1/conf"
        assert step.settings["BECOME"] == "none"
        assert "SERVICE_USER" not in step.settings


def test_what_only_looks_leaves_nothing_on_the_host_and_all_else_keeps_its_scripts_there() -> None:
    kinds = {step.name: step for step in every_step()}
    assert {name for name, step in kinds.items() if step.read_only} == {"look", "check_host", "preview_prepare"}
    for step in kinds.values():
        assert (f"{step.state}/steps" in step.command) != step.read_only


def test_a_preview_gets_what_the_preparation_gets() -> None:
    preparation = steps.prepare(deployment(OLD), deployment(NEW))
    preview = steps.preview_prepare(preparation)
    assert (preview.settings, preview.files) == (preparation.settings, preparation.files)
    assert preview.timeout == 0


def test_look_asks_for_every_release() -> None:
    host = cloud().host("edge.example")
    settings = steps.look(cloud(), host).settings
    assert settings["UNITS"].split() == [
        f"{role}/{release}/heat-{role}-{release}" for release in (OLD, NEW, "27.0.1") for role in ("api-cfn", "api")
    ]
    assert settings["VENVS"].split() == [f"{release}=/opt/heat/{release}" for release in (OLD, NEW, "27.0.1")]
    assert f"{NEW}=/etc/heat/{NEW}/heat.conf" in settings["CONFIGS"].split()


def test_preflight_asks_for_all_that_look_does_and_for_what_is_to_come() -> None:
    target = deployment(NEW)
    settings = steps.check_host(target).settings
    assert settings.items() >= steps.look(target.cloud, target.host).settings.items()
    assert (settings["VENV"], settings["CONFIG"]) == (f"/opt/heat/{NEW}", f"/etc/heat/{NEW}/heat.conf")
    assert settings["URLS"] == "api=http://10.0.0.11:8004/healthcheck"
    assert settings["HEALTHCHECK_FILE"] == "/var/lib/heat/controller-1/out"
    assert settings["PLACES_BESIDE"].split()[:2] == [f"{OLD}/api/127.0.0.1/18004", f"{NEW}/api/127.0.0.1/18005"]
    assert settings["BACKUP_DIR"] == "", "another host has the backups"
    assert steps.check_host(deployment(NEW, "controller-2")).settings["BACKUP_DIR"] == "/var/backups/heat"


def test_a_balancer_is_asked_for_all_its_servers_at_once() -> None:
    apis: list[tuple[Deployment, Role]] = [
        (deployment(NEW, host, rotation=HAPROXY), "api") for host in ("controller-1", "edge.example")
    ]
    settings = steps.check_rotation(apis).settings
    assert settings["SERVERS"] == "heat_api/controller-1 heat_api/edge.example"
    assert settings["SOCKET"] == "/run/haproxy/admin.sock"


def test_prepare_brings_the_pins_along() -> None:
    step = steps.prepare(deployment(OLD), deployment(NEW))
    assert b"openstack-heat==26.0.2" in step.files["requirements.txt"]
    assert step.settings["REQUIREMENTS"] == "requirements.txt"
    assert step.settings["KEEP_CONFIG"] == ""
    back = steps.prepare(deployment(NEW), deployment(OLD), keep_config=True)
    assert back.files == {}
    assert back.settings["REQUIREMENTS"] == ""
    assert back.settings["KEEP_CONFIG"] == "yes"


def test_the_new_configuration_gets_a_health_check_file_whatever_the_rotation() -> None:
    assert steps.prepare(deployment(OLD), deployment()).settings["HEALTHCHECK_FILE"] == "/var/lib/heat/controller-1/out"
    step = steps.prepare(deployment(OLD, rotation=HAPROXY), deployment(rotation=HAPROXY))
    assert step.settings["HEALTHCHECK_FILE"] == f"/etc/heat/{NEW}/out-of-rotation"


@pytest.mark.parametrize(
    ("address", "listens", "url"),
    [
        ("0.0.0.0", "0.0.0.0", "http://127.0.0.1:8004/"),
        ("::", "[::]", "http://[::1]:8004/"),
        ("10.1.2.3", "10.1.2.3", "http://10.1.2.3:8004/"),
        ("fd00::7", "[fd00::7]", "http://[fd00::7]:8004/"),
        ("heat.example", "heat.example", "http://heat.example:8004/"),
        ("{address}", "10.0.0.11", "http://10.0.0.11:8004/"),
    ],
)
def test_an_api_is_asked_where_it_listens(address: str, listens: str, url: str) -> None:
    source, target = (deployment(release, services__api__address=address) for release in (OLD, NEW))
    assert steps.prepare(source, target).settings["API_ADDRESS"] == listens
    assert steps.switch_api(source, target).settings["APIS"] == f"heat-api-{NEW},{url}"
    assert steps.leave_rotation(target, "api").settings["URLS"] == f"{url}healthcheck"


def test_both_apis_of_a_host_are_switched() -> None:
    source, target = deployment(OLD, "edge.example"), deployment(NEW, "edge.example")
    switch = steps.switch_api(source, target).settings
    assert switch["OLD_UNITS"].split() == [f"heat-api-cfn-{OLD}", f"heat-api-{OLD}"]
    assert switch["APIS"].split() == [
        f"heat-api-cfn-{NEW},http://127.0.0.1:8000/",
        f"heat-api-{NEW},http://[fd00::13]:8004/",
    ]
    assert steps.stop_api(source).settings["OLD_UNITS"] == switch["OLD_UNITS"]
    assert steps.start_api(target).settings["APIS"] == switch["APIS"]


def test_only_a_step_that_leaves_nothing_running_leaves_word() -> None:
    source, target = deployment(OLD), deployment(NEW)
    assert steps.stop_api(source).settings["STOPPED"] == OLD
    assert steps.stop_engine(source, outage=True).settings["STOPPED"] == OLD
    for step in (steps.stop_engine(source), steps.switch_api(source, target), steps.start_api(target)):
        assert "STOPPED" not in step.settings


@pytest.mark.parametrize(
    ("role", "rotation", "leave", "rejoin"),
    [
        (
            "api",
            {"kind": "healthcheck", "file": "/var/lib/{host}/out", "settle": 2.2},
            {
                "HEALTHCHECK_FILE": "/var/lib/controller-1/out",
                "URLS": "http://10.0.0.11:8004/healthcheck",
                "SETTLE": "3",
            },
            {"HEALTHCHECK_FILE": "/var/lib/controller-1/out", "URLS": "http://10.0.0.11:8004/healthcheck"},
        ),
        (
            "api-cfn",
            HAPROXY,
            {"SOCKET": "/run/haproxy/admin.sock", "SERVERS": "heat_api_cfn/controller-1"},
            {"SOCKET": "/run/haproxy/admin.sock", "SERVERS": "heat_api_cfn/controller-1"},
        ),
        (
            "api-cfn",
            COMMANDS,
            {"LEAVE": "balancer leave api-cfn controller-1"},
            {"REJOIN": "balancer join controller-1"},
        ),
    ],
)
def test_each_way_out_of_the_rotation(
    role: Role, rotation: dict[str, object], leave: dict[str, str], rejoin: dict[str, str]
) -> None:
    target = deployment(rotation=rotation)
    common = set(steps.start_engine(target).settings)
    for step, expected in ((steps.leave_rotation(target, role), leave), (steps.rejoin_rotation(target, role), rejoin)):
        own = {name: value for name, value in step.settings.items() if name not in common}
        assert own == {"ROTATION": rotation["kind"], "LOCK": f"rotation-controller-1-{role}", **expected}


def test_an_engines_stop_may_take_as_long_as_the_service_manager_allows() -> None:
    settings = steps.stop_engine(deployment(OLD)).settings
    assert (settings["STOP_TIMEOUT"], settings["LOCK_TIMEOUT"]) == ("600", "600")
