"""To which side the router sends a request: each kind of request against each kind of state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

import pytest

from heat_upgrade.router.heat_upgrade_router import Identity, arn_stack, plain_id
from tests.unit.router.sides import (
    AT_REST,
    CANARY,
    CHILD,
    GRANDCHILD,
    MISSING,
    NEW,
    OLD,
    PROJECT,
    ROOT,
    call,
    router,
)

if TYPE_CHECKING:
    from tests.unit.router.conftest import Host

STACK = f"/v1/{PROJECT}/stacks/name"
ARN = f"arn:openstack:heat::{PROJECT}:stacks/name/{{}}/resources/server"
CHANGES = [
    ("PUT", "{stack}"),
    ("PATCH", "{stack}"),
    ("DELETE", "{stack}"),
    ("DELETE", "{stack}/abandon"),
    ("POST", "{stack}/actions"),
    ("POST", "{stack}/snapshots"),
    ("DELETE", "{stack}/snapshots/1"),
    ("POST", "{stack}/snapshots/1/restore"),
    ("POST", "{stack}/resources/server/signal"),
    ("PATCH", "{stack}/resources/server"),
    ("GET", "{stack}"),
    ("GET", "{stack}/resources"),
    ("GET", "{stack}/events"),
    ("PUT", "{stack}/preview"),
]
WITHOUT_STACK = [
    ("GET", f"/v1/{PROJECT}/stacks"),
    ("GET", f"/v1/{PROJECT}/stacks/detail"),
    ("POST", f"/v1/{PROJECT}/stacks"),
    ("POST", f"/v1/{PROJECT}/stacks/preview"),
    ("POST", f"/v1/{PROJECT}/validate"),
    ("GET", STACK),
    ("DELETE", STACK),
    ("PUT", STACK),
    ("POST", f"{STACK}/actions"),
    ("GET", f"/v1/{PROJECT}/build_info"),
    ("GET", f"/v1/{PROJECT}/services"),
    ("POST", f"/v1/{PROJECT}/software_configs"),
    ("PUT", f"/v1/{PROJECT}/software_deployments/{ROOT}"),
    ("OPTIONS", f"/v1/{PROJECT}/stacks"),
    ("GET", "/v1"),
    ("GET", "/v1/"),
]


@pytest.mark.parametrize(("method", "path"), WITHOUT_STACK)
@pytest.mark.parametrize(("default", "side"), [(OLD, "beside"), (NEW, "here")])
def test_a_request_without_a_stack_goes_to_the_default_side(
    host: Host, method: str, path: str, default: str, side: str
) -> None:
    host.state(default=default, stacks={ROOT: OLD if default == NEW else NEW})
    assert host.ask(method, path).side == side


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(("default", "other"), [(OLD, NEW), (NEW, OLD)])
def test_a_request_goes_to_the_side_of_its_stack(host: Host, method: str, path: str, default: str, other: str) -> None:
    side = {OLD: "beside", NEW: "here"}
    host.state(default=default, stacks={ROOT: other})
    assert host.ask(method, path.format(stack=f"{STACK}/{ROOT}")).side == side[other]
    assert host.ask(method, path.format(stack=f"{STACK}/{AT_REST}")).side == side[default]
    assert host.ask(method, path.format(stack=f"{STACK}/{MISSING}")).side == side[default]


def test_a_child_that_no_list_knows_goes_where_the_stack_above_it_goes(host: Host) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    for stack in (CHILD, GRANDCHILD):
        assert host.ask("POST", f"{STACK}/{stack}/resources/server/signal").side == "beside"
        assert host.ask("POST", "/v1/signal/" + ARN.format(stack), api="cfn").side == "beside"


def test_the_nearest_stack_in_the_list_counts(host: Host) -> None:
    host.state(default=OLD, stacks={ROOT: OLD, CHILD: NEW})
    assert host.ask("DELETE", f"{STACK}/{GRANDCHILD}").side == "here"
    assert host.ask("DELETE", f"{STACK}/{ROOT}").side == "beside"


def test_engines_are_asked_once_for_a_stack_and_only_if_it_matters(host: Host) -> None:
    router = host.router()
    call(router, "DELETE", f"{STACK}/{GRANDCHILD}")
    assert host.engines.asked == []
    host.state(default=NEW, stacks={ROOT: OLD})
    for _ in range(3):
        assert call(router, "DELETE", f"{STACK}/{GRANDCHILD}").side == "beside"
        assert call(router, "DELETE", f"{STACK}/{ROOT}").side == "beside"
        assert call(router, "GET", f"{STACK}/{AT_REST}").side == "here"
    assert host.engines.asked == [GRANDCHILD, CHILD]


def test_a_change_is_refused_while_no_engine_tells_what_is_above_its_stack(host: Host) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    host.engines.fails = True
    assert host.ask("DELETE", f"{STACK}/{CHILD}").side == "503"
    assert host.ask("DELETE", f"{STACK}/{ROOT}").side == "beside"
    assert host.ask("GET", f"{STACK}/{CHILD}").side == "here"


@pytest.mark.parametrize(
    "spelling",
    [ROOT.upper(), f"{ROOT}%20", f"{ROOT}%0A", ROOT.replace("1", "%31"), ROOT.replace("1", "\N{FULLWIDTH DIGIT ONE}")],
)
def test_an_id_is_known_in_every_spelling_that_mysql_takes_for_the_same(host: Host, spelling: str) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    if spelling.isascii():  # Heat doesn't decode a path any further than WSGI does
        assert host.ask("DELETE", unquote(f"{STACK}/{spelling}")).side == "beside"
    query = urlencode({"Action": "DeleteStack", "StackName": unquote(ARN.format(spelling))})
    assert host.ask("GET", "/v1/", query=query, api="cfn").side == "beside"


@pytest.mark.parametrize("prefix", ["/v1", "/v1.0", "/v1x", "", "//v1", "///v1.0"])
def test_the_version_is_cut_off_the_path_as_heat_does(host: Host, prefix: str) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    assert host.ask("DELETE", f"{prefix}/{PROJECT}/stacks/name/{ROOT}").side == "beside"


def test_a_project_called_stacks_hides_no_stack(host: Host) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    assert host.ask("DELETE", f"/v1/stacks/stacks/stacks/{ROOT}").side == "beside"


def test_a_get_that_routes_takes_for_a_delete_is_a_change(host: Host) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    assert host.ask("GET", f"{STACK}/{CHILD}", query="_method=DELETE").side == "beside"


@pytest.mark.parametrize("path", ["", "/", "/healthcheck"])
def test_versions_and_health_are_always_answered_here(host: Host, path: str) -> None:
    (host.directory / "state.json").unlink()
    assert host.ask("GET", path).side == "here"


@pytest.mark.parametrize(
    "arn",
    [
        ARN,
        ARN.replace("arn:", "ARN:"),
        ARN.replace("/name/", "/odd:name/").replace("{}", "{}%20"),
        f"arn:openstack:heat::{PROJECT}:stacks/odd%2Fname/{{}}/resources/a%2Fb",
    ],
)
@pytest.mark.parametrize("path", ["/v1/signal/", "/signal/", "/v1/waitcondition/"])
def test_a_signal_goes_to_the_side_of_the_stack_in_its_arn(host: Host, arn: str, path: str) -> None:
    host.state(default=NEW, stacks={ROOT: OLD})
    method = "PUT" if "wait" in path else "POST"
    assert host.ask(method, path + arn.format(ROOT), b"{}", api="cfn").side == "beside"
    assert host.ask(method, path + arn.format(AT_REST), b"{}", api="cfn").side == "here"


def test_an_arn_is_read_as_heat_reads_it() -> None:
    assert arn_stack(f"arn:openstack:heat::p:stacks/n/{ROOT}") == ROOT
    assert arn_stack(f"arn:openstack:heat::p:stacks/n/{quote(ROOT.replace('1', '%31'))}") is None
    for wrong in ("name", "", f"arn:aws:heat::p:stacks/n/{ROOT}", "arn:openstack:heat::p:stacks/n", f"arn:x/{ROOT}"):
        assert arn_stack(wrong) is None
    assert plain_id("resources") is None


def with_login(app: Any) -> Any:
    """Put Heat's authentication before an app, as its pipelines do."""

    def login(environ: dict[str, Any], start_response: Any) -> Any:
        project = environ.get("HTTP_X_PROJECT")
        if not project:
            start_response("403 Forbidden", [("X-Side", "login")])
            return [b"<Error/>"]
        environ["webob.adhoc_attrs"] = {"context": SimpleNamespace(project_id=project)}
        return app(environ, start_response)

    return login


@pytest.fixture
def cloud(host: Host) -> Host:
    """A host where two projects have a stack of the same name, one of them listed."""
    host.app = with_login(Identity(host.here))
    host.engines.names = {(PROJECT, "same"): ROOT, (CANARY, "same"): AT_REST, (PROJECT, "nested"): CHILD}
    host.state(default=NEW, stacks={ROOT: OLD})
    return host


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("action", ["DeleteStack", "UpdateStack", "CancelUpdateStack"])
@pytest.mark.parametrize(
    ("project", "name", "side"),
    [
        (PROJECT, "same", "beside"),
        (CANARY, "same", "here"),
        (PROJECT, "nested", "beside"),
        (PROJECT, "unknown", "here"),
        (PROJECT, ARN.format(ROOT), "beside"),
        (PROJECT, ARN.format(CHILD), "beside"),
        (PROJECT, ARN.format(AT_REST), "here"),
        (None, "same", "login"),
    ],
)
def test_a_name_in_a_query_is_looked_up_in_the_project_of_whoever_asks(
    cloud: Host, method: str, action: str, project: str | None, name: str, side: str
) -> None:
    form = urlencode({"Action": action, "StackName": name})
    more = {"query": form} if method == "GET" else {"body": form.encode()}
    login = {"HTTP_X_PROJECT": project} if project else {}
    answered = cloud.ask(method, "/v1/", api="cfn", **more, **login)
    assert answered.side == (side if project or name == "same" else "here")
    got = [body for *_, body in cloud.beside.got] + [body for *_, body in cloud.here.got]
    if side != "login":
        assert got == [form.encode() if method == "POST" else b""]


@pytest.mark.parametrize(
    ("query", "form", "side"),
    [
        ("Action=DeleteStack", "StackName=same", "beside"),
        ("Action=DeleteStack&StackName=same", "StackName=unknown", "beside"),
        ("Action=DeleteStack&StackName=unknown&StackName=same", "", "beside"),
        ("Action=DeleteStack&StackName=same&StackName=unknown", "", "here"),
        ("", "Action=DeleteStack&StackName=sam%65", "beside"),
        ("Action=DeleteStack&StackName=", "StackName=same", "here"),
        ("x=y;Action=DeleteStack;StackName=same", "", "beside"),
    ],
)
def test_parameters_count_in_the_order_of_webob(cloud: Host, query: str, form: str, side: str) -> None:
    answered = cloud.ask("POST", "/v1/", form.encode(), api="cfn", query=query, HTTP_X_PROJECT=PROJECT)
    assert answered.side == side


@pytest.mark.parametrize("action", ["DescribeStacks", "ListStacks", "ValidateTemplate", "GetTemplate"])
def test_a_query_that_reads_asks_nobody(cloud: Host, action: str) -> None:
    cloud.engines.fails = True
    assert (
        cloud.ask("GET", "/v1/", query=f"Action={action}&StackName=same", api="cfn", HTTP_X_PROJECT="p").side == "here"
    )


@pytest.mark.parametrize(("query", "size"), [("", 8 * 2**20 + 1), ("Action=DeleteStack&StackName=%FF", 0)])
def test_a_form_that_cant_be_read_is_refused(cloud: Host, query: str, size: int) -> None:
    assert cloud.ask("POST", "/v1/", b"x" * size, api="cfn", query=query, HTTP_X_PROJECT=PROJECT).side == "503"


def test_a_form_of_several_parts_is_read_too(cloud: Host) -> None:
    parts = {"Action": "DeleteStack", "StackName": "same"}
    form = "".join(f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in parts.items())
    more = {"CONTENT_TYPE": "multipart/form-data; boundary=x", "HTTP_X_PROJECT": PROJECT}
    assert cloud.ask("POST", "/v1/", f"{form}--x--\r\n".encode(), api="cfn", **more).side == "beside"


def test_a_query_is_refused_while_no_engine_tells_which_stack_it_means(cloud: Host) -> None:
    cloud.engines.fails = True
    query = "Action=DeleteStack&StackName=same"
    assert cloud.ask("GET", "/v1/", query=query, api="cfn", HTTP_X_PROJECT=PROJECT).side == "503"


@pytest.fixture
def canary(host: Host) -> Host:
    """A host where one project is ahead."""
    host.app = with_login(Identity(host.here))
    host.state(default=OLD, projects={CANARY: NEW})
    return host


@pytest.mark.parametrize(
    ("project", "path", "side"),
    [
        (CANARY, CANARY, "here"),
        (PROJECT, PROJECT, "beside"),
        (PROJECT, CANARY, "beside"),  # an administrator: Heat goes by the token, not by the path
        (CANARY, PROJECT, "here"),
    ],
)
def test_a_canarys_new_stack_goes_ahead_by_its_token(canary: Host, project: str, path: str, side: str) -> None:
    assert canary.ask("POST", f"/v1/{path}/stacks", b"{}", HTTP_X_PROJECT=project).side == side
    query = "Action=CreateStack&StackName=new"
    assert canary.ask("POST", "/v1/", query=query, api="cfn", HTTP_X_PROJECT=project).side == side


def test_a_canarys_stack_goes_ahead_whatever_the_path_says(canary: Host) -> None:
    canary.app = canary.here
    for project in (PROJECT, CANARY):
        assert canary.ask("DELETE", f"/v1/{project}/stacks/name/{AT_REST}").side == "here"
        assert canary.ask("DELETE", f"/v1/{project}/stacks/name/{ROOT}").side == "beside"
    assert canary.ask("POST", "/v1/signal/" + ARN.format(AT_REST), b"{}", api="cfn").side == "here"


def test_a_canarys_stack_in_flight_stays(canary: Host) -> None:
    canary.state(projects={CANARY: NEW}, stacks={AT_REST: OLD})
    assert canary.ask("DELETE", f"/v1/{CANARY}/stacks/name/{AT_REST}").side == "beside"


def test_going_back_is_the_same_with_the_releases_exchanged(host: Host) -> None:
    host.state(default=NEW)
    back = router(host.directory, host.beside.url, host.here, side=OLD, other=NEW, engines=host.engines)
    assert call(back, "POST", f"/v1/{PROJECT}/stacks").side == "beside"
    host.state(default=OLD, stacks={ROOT: NEW})
    assert call(back, "POST", f"/v1/{PROJECT}/stacks").side == "here"
    assert call(back, "DELETE", f"{STACK}/{CHILD}").side == "beside"
