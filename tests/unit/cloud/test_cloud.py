"""Cloud files: what a good one says, and what is said of a broken one."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from heat_upgrade.cloud.loader import CloudFileError, CloudsDirectoryError, clouds_directory, load_cloud, load_clouds
from heat_upgrade.cloud.model import Cloud
from heat_upgrade.cloud.sections import Canary, Commands, HAProxy, Healthcheck, Supervisor
from tests.unit._helpers.clouds.broken import (
    BROKEN,
    COMMANDS,
    GOOD,
    HAPROXY,
    NOT_YAML,
    SUPERVISOR,
    Broken,
    NotYaml,
    edited,
)

PROJECT = Path(__file__).parents[3]
HASH = f"--hash=sha256:{'0a' * 32}"
SAMPLE = PROJECT / "include" / "clouds" / "example.yaml.sample"
WriteCloud = Callable[..., Path]
LoadCloud = Callable[[Mapping[str, Any]], Cloud]


@pytest.fixture
def write(tmp_path: Path) -> WriteCloud:
    def write_cloud(content: bytes | Mapping[str, Any], name: str = "lab.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content, sort_keys=False).encode())
        return path

    return write_cloud


@pytest.fixture
def load(write: WriteCloud) -> LoadCloud:
    return lambda edits: load_cloud(write(edited(edits)))


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.id)
def test_a_mistake_is_told_with_value_expectation_and_next_step(broken: Broken, load: LoadCloud) -> None:
    with pytest.raises(CloudFileError) as caught:
        load(broken.edits)
    (problem,) = caught.value.problems
    assert problem.where == broken.where
    assert broken.value in problem.value
    assert broken.expected in problem.expected
    assert broken.todo in problem.todo
    head, line = str(caught.value).splitlines()
    assert head.endswith("lab.yaml: 1 problem")
    assert line == f"  - {problem.where}: got {problem.value}, expected {problem.expected}; {problem.todo}"


def test_the_table_touches_every_section() -> None:
    assert set(GOOD) <= {place.split(".")[0] for broken in BROKEN for place in broken.edits}


@pytest.mark.parametrize("broken", NOT_YAML, ids=lambda broken: broken.id)
def test_what_is_no_cloud_at_all_is_told_with_its_line(broken: NotYaml, write: WriteCloud) -> None:
    with pytest.raises(CloudFileError) as caught:
        load_cloud(write(broken.content))
    (problem,) = caught.value.problems
    assert problem.where == broken.where
    assert broken.value in problem.value
    assert broken.expected in problem.expected
    assert broken.todo in problem.todo


def test_every_mistake_is_told_at_once(write: WriteCloud) -> None:
    content = edited(
        {
            "releases.0.version": 25.0,
            "hosts.0.roles": [],
            "hosts.1.adress": "x",
            "hosts.2.port": 0,
            "connections.ssh": "mysql://heat:x@db/heat",
            "waves": [0, "0%", True],
            "drain.readings": 1,
        }
    )
    text = yaml.safe_dump(content, sort_keys=False) + "become: none\n"
    with pytest.raises(CloudFileError) as caught:
        load_cloud(write(text.encode()))
    assert [problem.where for problem in caught.value.problems] == [
        f"line {len(text.splitlines())}",
        "releases[0].version",
        "hosts[0].roles",
        "hosts[1]",
        "hosts[2].port",
        "connections.ssh",
        "waves[0]",
        "waves[1]",
        "waves[2]",
        "drain.readings",
    ]
    assert str(caught.value).count("\n  - ") == 10


def test_all_that_is_wrong_among_the_hosts_is_told_at_once(load: LoadCloud) -> None:
    same = {"name": "a", "address": "10.0.0.1", "roles": ["api-cfn"]}
    with pytest.raises(CloudFileError) as caught:
        load({"hosts": [same, same, same]})
    assert [problem.where for problem in caught.value.problems] == [
        *("hosts[1].name", "hosts[2].name", "hosts[1].address", "hosts[2].address", "hosts", "hosts")
    ]


NASTY = [
    *("a b", "a;b", "$(id)", "`id`", "a|b", "a&b", "a\nb", "a\n", "\na", "a'b", 'a"b', "a\\b", "a\0b", ""),
    "é",
    "-rf",
]
PLACES = {
    "{}": [
        *("releases.0.version", "releases.0.vhost", "hosts.0.name", "hosts.0.address", "hosts.0.host_key"),
        *("connections.ssh", "connections.rabbitmq", "connections.database", "connections.api"),
        *("installer.command", "installer.python", "services.user", "services.api.address", "backup.host"),
        *("rotation.server", "rotation.address", "rotation.backends.api", "become", "rotation.kind"),
        *("layout.unit", "releases.0.unit", "canary.projects.0"),
    ],
    "/srv/{}": [
        *("releases.0.venv", "releases.0.config", "layout.venv", "layout.config", "layout.state"),
        *("backup.directory", "rotation.socket", "service_manager.conf_dir"),
    ],
}


@pytest.mark.parametrize("nasty", NASTY, ids=repr)
@pytest.mark.parametrize(("place", "shape"), [(place, shape) for shape, places in PLACES.items() for place in places])
def test_no_text_carries_a_shell_metacharacter(place: str, shape: str, nasty: str, load: LoadCloud) -> None:
    edits = {
        "rotation": HAPROXY,
        "service_manager": SUPERVISOR,
        "canary": {"projects": ["p"]},
        place: shape.format(nasty),
    }
    if (shape, nasty) == ("/srv/{}", "-rf"):
        edits[place] = "-rf/srv"
    with pytest.raises(CloudFileError) as caught:
        load(edits)
    assert place.replace(".0", "[0]") in [problem.where for problem in caught.value.problems]
    assert len(str(caught.value).splitlines()) == len(caught.value.problems) + 1


@pytest.mark.parametrize("path", ["/", "/a/../b", "/a/./b", "/a//b", "/a/", "/..", "a/b", "~/a", "//a"])
def test_a_path_is_absolute_and_plain(path: str, load: LoadCloud) -> None:
    with pytest.raises(CloudFileError, match=r"backup\.directory: got .* expected an absolute path"):
        load({"backup.directory": path})


@pytest.mark.parametrize("vhost", ["/", "/heat", "heat", "heat_25.0-2"])
def test_a_vhost_may_be_a_slash(vhost: str, load: LoadCloud) -> None:
    assert load({"releases.0.vhost": vhost}).releases[0].vhost == vhost


SECRET = "hunter2@ /%?#'\"x"
SPILLS = {
    "password of a host": {"hosts.0.password": SECRET},
    "password of the cloud": {"database_password": SECRET},
    "transport_url": {"transport_url": f"rabbit://heat:{SECRET}@mq/heat"},
    "connection as a URI": {"connections.rabbitmq": f"rabbit://heat:{SECRET}@mq/heat"},
    "connection as a password": {"connections.database": SECRET},
    "connection as a number": {"connections.database": 4711_0815},
    "connection as a mapping": {"connections.database": {"password": SECRET}},
    "connections as a text": {"connections": SECRET},
    "address with a login": {"hosts.0.address": f"heat:{SECRET}@10.0.0.1"},
    "private key": {"hosts.0.host_key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n"},
    "option of supervisorctl": {"service_manager": {**SUPERVISOR, "supervisorctl": ["x", "-p", SECRET]}},
    "URI in a command": {"rotation": {**COMMANDS, "leave": f"curl http://admin:{SECRET}@lb/leave"}},
    "login in a command": {"rotation": {**COMMANDS, "rejoin": "curl -u admin:hunter2 http://lb/"}},
    "password in a command": {"rotation": {**COMMANDS, "rejoin": "leave --password=hunter2"}},
    "secret as a key": {f"mysql://heat:{SECRET}@db/heat".replace(".", ""): None},
}


@pytest.mark.parametrize("edits", SPILLS.values(), ids=SPILLS)
def test_a_secret_in_the_wrong_place_is_refused_and_never_told(edits: Mapping[str, Any], load: LoadCloud) -> None:
    with pytest.raises(CloudFileError) as caught:
        load(edits)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "hunter2" not in told
    assert "47110815" not in told
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "text", ["a: *hunter2", "a: !hunter2 x", "a: 'hunter2", "a: {hunter2: [}", "a: @hunter2", "hunter2: x:"]
)
def test_a_secret_in_broken_yaml_is_never_told(text: str, write: WriteCloud) -> None:
    with pytest.raises(CloudFileError) as caught:
        load_cloud(write(text.encode()))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["heat", "oslo.log>=5", "six==1.*", "-r x.txt", "git+https://heat:hunter2@git/x", "x == ", "-e ."]
)
def test_a_release_is_pinned_line_by_line(line: str, tmp_path: Path, load: LoadCloud) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(f"# pins\nopenstack_heat==26.0.2 {HASH}\n{line}\n")
    with pytest.raises(CloudFileError) as caught:
        load({"releases.1.requirements": str(pins)})
    (problem,) = caught.value.problems
    assert problem.where == "releases[1].requirements, line 3"
    assert "a pin as in name==1.2.3" in problem.expected
    assert "--generate-hashes" in problem.todo
    assert "hunter2" not in str(problem)


def test_pins_may_have_comments_markers_extras_and_hashes(tmp_path: Path, load: LoadCloud) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(
        f"OpenStack.Heat==26.0.2 \\\n    {HASH} \\\n    {HASH}  # both\n\n"
        f"pbr[x,y] == 7.0.1 ; python_version < '3.12' {HASH}\nlocal==1.0+deb12 {HASH}\nepoch==1!2.0 {HASH}\n"
    )
    assert load({"releases.1.requirements": str(pins)}).releases[1].requirements == pins


@pytest.mark.parametrize("line", ["six==1.17.0", "six==1.17.0 --hash=md5:0a", "six==1.17.0 --hash=sha256:0a"])
def test_a_pin_without_its_hash_is_none(line: str, tmp_path: Path, load: LoadCloud) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(f"openstack_heat==26.0.2 {HASH}\n{line}\n")
    with pytest.raises(CloudFileError) as caught:
        load({"releases.1.requirements": str(pins)})
    (problem,) = caught.value.problems
    assert (problem.where, problem.value) == ("releases[1].requirements, line 2", "'six==1.17.0'")
    assert "with its hashes" in problem.expected


def test_the_sample_is_a_good_cloud_file(write: WriteCloud) -> None:
    cloud = load_cloud(write(SAMPLE.read_bytes(), "example.yaml"))
    assert cloud.name == "example"
    first, second = (cloud.deployment(cloud.hosts[0], release) for release in cloud.releases)
    assert (first.config, first.unit("api-cfn")) == ("/etc/heat/heat.conf", "heat-api-cfn")
    assert (second.config, second.unit("api-cfn")) == ("/etc/heat/26.0.2/heat.conf", "heat-api-cfn-26.0.2")


def test_every_alternative_in_the_sample_is_good(write: WriteCloud) -> None:
    sample = SAMPLE.read_text()
    blocks = re.findall(r"^# (?:service_manager|installer|rotation):.*(?:\n#   .*)*", sample, re.MULTILINE)
    kinds = []
    for block in blocks:
        section = yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE))
        cloud = load_cloud(write({**yaml.safe_load(sample), **section}))
        kinds += [getattr(cloud, name).kind for name in section]
    assert kinds == ["supervisor", "uv", "haproxy", "commands"]


def test_the_windows_in_the_sample_are_good(write: WriteCloud) -> None:
    sample = SAMPLE.read_text()
    (block,) = re.findall(r"^# windows:.*(?:\n#   .*)*", sample, re.MULTILINE)
    (pending,) = re.findall(r"^# (pending_release: .*)", sample, re.MULTILINE)
    section = yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE)) | yaml.safe_load(pending)
    explicit = load_cloud(write({**yaml.safe_load(sample), **section}))
    assert explicit.windows
    assert list(map(str, explicit.windows.openings)) == [
        "0 22 * * sat Europe/Berlin, 240 min",
        "0 1 * * tue#2 Europe/Berlin, 180 min",
    ]
    assert list(map(str, explicit.windows.blackouts)) == ["2026-12-24", "2026-12-31 to 2027-01-02"]
    assert explicit.pending_release == "26.0.2"
    for default in ("prepare_outside", "seconds_per_outage"):
        del section["windows"][default]
    assert load_cloud(write({**yaml.safe_load(sample), **section})) == explicit


def test_the_canary_in_the_sample_is_good_and_its_defaults_are(write: WriteCloud) -> None:
    sample = SAMPLE.read_text()
    (block,) = re.findall(r"^# canary:.*(?:\n#   .*)*", sample, re.MULTILINE)
    section = yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE))
    explicit = load_cloud(write({**yaml.safe_load(sample), **section})).canary
    assert explicit.projects == ("0f6a1c3e5d7b4f2aa1b2c3d4e5f60718",)
    assert load_cloud(write(yaml.safe_load(sample))).canary == Canary() == explicit.model_copy(update={"projects": ()})


def test_the_notifications_in_the_sample_are_good(write: WriteCloud) -> None:
    sample = SAMPLE.read_text()
    (block,) = re.findall(r"^# notifications:.*(?:\n#   .*)*", sample, re.MULTILINE)
    section = yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE))
    found = load_cloud(write({**yaml.safe_load(sample), **section})).notifications
    assert [entry.kind for entry in found] == ["smtp", "webhook", "notifier"]
    mail, hook, other = found
    assert {*mail.events, "started"} == set(hook.events) == set(other.events)
    assert load_cloud(write(yaml.safe_load(sample))).notifications == ()


def test_what_the_sample_calls_a_default_is_one(write: WriteCloud) -> None:
    full = yaml.safe_load(SAMPLE.read_text())
    optional = ("service_manager", "become", "installer", "layout", "drain", "approvals", "backup")
    short = {key: value for key, value in full.items() if key not in optional}
    short["services"] = {"user": "heat"}
    short["rotation"].pop("settle")
    explicit, implicit = load_cloud(write(full)), load_cloud(write(short))
    assert implicit.model_copy(update={"backup": explicit.backup}) == explicit
    assert (implicit.backup_host, implicit.backup.directory) == (explicit.backup_host, explicit.backup.directory)
    assert load_cloud(write({key: value for key, value in full.items() if key != "waves"})).waves == (1,)


def test_a_cloud_is_asked_by_name_and_role(load: LoadCloud) -> None:
    cloud = load({})
    assert cloud.name == "lab"
    assert cloud.release("26.0.2").vhost == "heat_26"
    assert cloud.host("controller-2").port == 2222
    assert [host.name for host in cloud.hosts_with("engine")] == ["controller-1", "controller-2"]
    assert [host.name for host in cloud.hosts_with("api-cfn")] == ["edge.example"]
    assert [host.task_id for host in cloud.hosts] == ["controller_1", "controller_2", "edge_example"]
    assert cloud.backup_host.name == "controller-2"
    with pytest.raises(LookupError, match=r"'28.0.0' is no release of lab: \['25.0.2'"):
        cloud.release("28.0.0")
    with pytest.raises(LookupError, match=r"'nobody' is no host of lab: \['controller-1'"):
        cloud.host("nobody")


def test_the_first_host_with_an_engine_makes_the_backup_if_none_is_named(load: LoadCloud) -> None:
    cloud = load({"backup": {}, "hosts.0.roles": ["api"]})
    assert cloud.backup_host.name == "controller-2"


def test_nothing_changes_a_cloud_once_it_is_read(load: LoadCloud) -> None:
    cloud = load({})
    with pytest.raises(ValueError, match="frozen"):
        cloud.hosts[0].name = "other"  # type: ignore[misc]
    assert hash(cloud) == hash(load({}))


def test_a_deployment_has_all_templates_filled_in(load: LoadCloud) -> None:
    cloud = load({"releases.0.venv": "/usr/{host}", "service_manager": SUPERVISOR})
    first = cloud.deployment(cloud.hosts[0], cloud.releases[0])
    edge = cloud.deployment(cloud.hosts[2], cloud.releases[1])
    assert (first.venv, edge.venv) == ("/usr/controller-1", "/opt/heat/26.0.2")
    assert (first.config, first.vhost) == ("/etc/heat/25.0.2/heat.conf", "heat")
    assert (edge.config, edge.vhost) == ("/etc/heat/26.0.2/heat.conf", "heat_26")
    assert edge.unit("api-cfn") == "heat-api-cfn-26.0.2"
    assert edge.state == "/var/lib/heat-upgrade/edge.example"
    assert (edge.listen("api").address, edge.listen("api").port) == ("fd00::13", 8004)
    assert (edge.listen("api-cfn").address, edge.listen("api-cfn").port) == ("0.0.0.0", 8000)
    assert edge.service_manager == Supervisor(
        kind="supervisor", supervisorctl=("/bin/supervisorctl",), conf_dir="/srv/edge.example/conf"
    )
    assert first.rotation("api") == Healthcheck(kind="healthcheck", file="/var/lib/heat/controller-1/out")


def test_a_host_may_leave_the_load_balancer_in_its_own_way(load: LoadCloud) -> None:
    cloud = load({"hosts.0.rotation": HAPROXY, "hosts.1.rotation": COMMANDS})
    by_socket, by_command, by_file = (cloud.deployment(host, cloud.releases[0]).rotation("api") for host in cloud.hosts)
    assert isinstance(by_socket, HAProxy)
    assert (by_socket.server, by_socket.backend("api"), by_socket.backend("api-cfn")) == (
        *("controller-1", "heat_api", "heat_api_cfn"),
    )
    assert isinstance(by_command, Commands)
    assert (by_command.leave, by_command.rejoin) == ("balancer leave api controller-2", "balancer join controller-2")
    assert isinstance(by_file, Healthcheck)


WAVES = [
    # waves, hosts with an API, hosts in each wave
    ([1], 3, [1, 1, 1]),
    ([1, 2, "50%"], 4, [1, 2, 1]),
    ([1, 2, "50%"], 10, [1, 2, 5, 2]),
    ([1, 2, "50%"], 1, [1]),
    (["50%"], 5, [3, 2]),
    (["1%"], 5, [1, 1, 1, 1, 1]),
    (["1%"], 101, [2] * 50 + [1]),
    (["100%"], 7, [7]),
    ([3], 7, [3, 3, 1]),
    ([99], 2, [2]),
    (["10%", "30%", "100%"], 10, [1, 3, 6]),
]


@pytest.mark.parametrize(("waves", "hosts", "sizes"), WAVES)
def test_waves_place_every_host_with_an_api_once_in_order(
    waves: list[int | str], hosts: int, sizes: list[int], load: LoadCloud
) -> None:
    apis = [{"name": f"api-{i}", "address": f"10.1.0.{i}", "roles": ["api"]} for i in range(hosts)]
    engine = {"name": "engine-only", "address": "10.2.0.1", "roles": ["engine"]}
    cut = load({"waves": waves, "hosts": [engine, *apis], "backup": {}}).api_waves()
    assert [len(wave) for wave in cut] == sizes
    assert [host.name for wave in cut for host in wave] == [api["name"] for api in apis]


def test_one_bad_file_leaves_the_other_clouds_alone(write: WriteCloud, tmp_path: Path) -> None:
    write(GOOD, "east.yaml")
    write(b"releases: ]", "west.yaml")
    write(GOOD, "other.yml")
    write(GOOD, "sample.yaml.sample")
    write(b"", ".east.yaml")
    write(GOOD, "north east.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    clouds = load_clouds(tmp_path)
    assert isinstance(clouds.pop("east"), Cloud)
    assert {name: error.problems[0].where for name, error in clouds.items() if isinstance(error, CloudFileError)} == {
        "folder": "file",
        "gone": "file",
        "north_east": "name",
        "other": "file name",
        "west": "line 1",
    }
    assert "rename the cloud file" in str(clouds["north_east"])
    assert "rename the file" in str(clouds["other"])
    assert "Is a directory" in str(clouds["folder"])


def test_an_error_survives_the_way_between_processes(write: WriteCloud) -> None:
    error = load_clouds(write(b"").parent)["lab"]
    assert isinstance(error, CloudFileError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_missing_directory_has_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(CloudsDirectoryError) as caught:
        load_clouds(tmp_path / "none")
    (problem,) = caught.value.problems
    assert problem.value == "no directory"
    assert "a directory of cloud files" in problem.expected
    assert "HEAT_UPGRADE_CLOUDS" in problem.todo
    assert load_clouds(tmp_path) == {}


def test_the_directory_is_the_projects_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAT_UPGRADE_CLOUDS", "HEAT_UPGRADE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert clouds_directory() == SAMPLE.parent
    monkeypatch.setenv("HEAT_UPGRADE_HOME", "/srv/heat")
    assert clouds_directory() == Path("/srv/heat/include/clouds")
    monkeypatch.setenv("HEAT_UPGRADE_CLOUDS", "/srv/clouds")
    assert clouds_directory() == Path("/srv/clouds")


def test_pins_lie_where_the_cloud_files_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clouds, releases = tmp_path / "include/clouds", tmp_path / "include/releases"
    clouds.mkdir(parents=True)
    file = clouds / "lab.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    assert load_cloud(file).releases[1].requirements == PROJECT / "include/releases/openstack-heat-26.0.2.txt"
    monkeypatch.delenv("HEAT_UPGRADE_HOME")
    with pytest.raises(CloudFileError, match=re.escape(str(releases))):
        load_cloud(file)
    shutil.copytree(PROJECT / "include/releases", releases)
    assert load_cloud(file).releases[1].requirements == releases / "openstack-heat-26.0.2.txt"


def test_200_hosts_are_read_in_well_under_a_third_of_a_second_of_cpu_time(write: WriteCloud) -> None:
    hosts = [{**GOOD["hosts"][1], "name": f"host-{i}", "address": f"10.3.{i // 250}.{i % 250}"} for i in range(200)]
    path = write(edited({"hosts": hosts, "backup": {}, "rotation": HAPROXY}))
    took = []
    for _ in range(3):
        start = time.process_time()
        assert len(load_cloud(path).hosts) == 200
        took.append(time.process_time() - start)
    assert min(took) < 0.3


def test_reading_a_cloud_needs_nothing_of_airflow() -> None:
    names = "cloud.loader", "run.parameters", "run.move"
    code = "import sys; " + "; ".join(f"import heat_upgrade.{name}" for name in names)
    code += "; print(sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT / "plugins", capture_output=True, text=True, check=True
    )
    loaded = set(eval(run.stdout))
    assert {"heat_upgrade", "pydantic", "yaml"} <= loaded
    assert not loaded & {"airflow", "requests", "paramiko", "sqlalchemy"}
