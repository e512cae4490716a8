"""Compare what the router makes of random requests with Heat's own routing. Run with Heat's own interpreter.

Usage: PYTHONPATH=FOLDER_OF_THE_ROUTER compare_routing.py SEED COUNT
Prints each difference, and how many of the requests named a stack.
"""

import io
import random
import re
import sys
from urllib.parse import unquote_to_bytes

import heat_upgrade_router as router
from heat.api.cfn import v1 as cfn
from heat.api.middleware.version_negotiation import VersionNegotiationFilter
from heat.api.openstack import v1 as orchestration
from heat.common import config, identifier, policy, wsgi  # noqa: F401 options of Heat's
from heat.rpc import client
from oslo_config import cfg

seed, count = sys.argv[1:3]
client.EngineClient.__init__ = lambda self: None  # nobody is asked here
cfg.CONF([], project="heat")
APIS = {"orchestration": orchestration.API(cfg.CONF), "cfn": cfn.API(cfg.CONF)}
ID = "11111111-1111-4111-8111-111111111111"
ARN = f"arn:openstack:heat::p:stacks/n/{ID}"
QUOTED = ARN.replace(":", "%3A").replace("/", "%2F")
WORDS = [
    *("/", "//", "v1", "v1.0", "v1x", "v2", "V1", "p", "stacks", "name", ID, ID.upper(), f"%31{ID[1:]}", f"{ID}%20"),
    *("resources", "signal", "actions", "snapshots", "1", "restore", "abandon", "preview", "validate", "detail"),
    *("template", ARN, f"{QUOTED}%2Fresources%2Fr", "waitcondition", "%2F", "%252F", ".", "..", ";x", "%0A", "%C3%A4"),
]
STACK = [f"/p/stacks/{name}/{stack}" for name in ("n", "a%2Fb", "stacks", "n%20") for stack in (ID, ID.upper())]
SIGNAL = [f"/{kind}/{arn}" for kind in ("signal", "waitcondition") for arn in (ARN, QUOTED, ARN.replace("arn", "ARN"))]
QUERY = ["/", "", "/stacks", f"/stacks/{ID}"]
ACTIONS = ["DeleteStack", "UpdateStack", "CancelUpdateStack", "CreateStack", "ListStacks", "DescribeStacks", ""]
NAMES = ["", "name", "a+b", "%C3%A4", ARN, QUOTED, ID, "a;StackName=b"]
KEYS = ["Action", "StackName", "%41ction", "action", "_method", "x"]
CHANGES = {
    *("create", "update", "update_patch", "delete", "abandon", "snapshot", "delete_snapshot", "restore_snapshot"),
    *("signal", "update_waitcondition", "mark_unhealthy", "action", "cancel_update"),
}


def parameters():
    values = [*ACTIONS, *NAMES, "DELETE"]
    pairs = (f"{random.choice(KEYS)}={random.choice(values)}" for _ in range(random.randint(0, 4)))
    return random.choice("&&&;").join(pairs)


def request(api):
    begins = ["/v1", "/v1.0", "/v1x", "//v1", "///v1", "", "/"]
    usual = STACK if api == "orchestration" else SIGNAL + QUERY
    tail = "".join(random.choice(["", "/"]) + random.choice(WORDS) for _ in range(random.choice([0, 0, 1, 2, 3])))
    path = random.choice(begins) + (random.choice(usual) if random.random() < 0.7 else "") + tail
    method = random.choice(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    body = parameters().encode() if method == "POST" and api == "cfn" else b""
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(path or "/").decode("latin-1"),
        "QUERY_STRING": parameters() if random.random() < 0.5 else "",
        "CONTENT_TYPE": random.choice(["", "application/x-www-form-urlencoded", "application/json"]),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_ACCEPT": random.choice(["*/*", "application/vnd.openstack.orchestration-v1", "application/json"]),
        **{"HTTP_HOST": "a", "SERVER_NAME": "a", "SERVER_PORT": "1", "SCRIPT_NAME": "", "wsgi.url_scheme": "http"},
        "wsgi.input": io.BytesIO(body),
    }


def heat(api, environ):
    """Return what Heat's routing finds: the action, the stack's id and a name to look up."""
    negotiation = VersionNegotiationFilter.__new__(VersionNegotiationFilter)
    negotiation.version_uri_regex, negotiation.versions_app = re.compile(r"^v(\d+)\.?(\d+)?"), "versions"
    asked = wsgi.Request(environ)
    if negotiation.process_request(asked) is not None:
        return None, None, None
    routes, found = APIS[api]._router, {}
    app, routes.app = routes.app, lambda environ, start: found.update(environ["wsgiorg.routing_args"][1]) or []
    try:
        routes(environ, None)
    finally:
        routes.app = app
    if "arn" in found:
        return found["action"], from_arn(found["arn"]), None
    if api == "cfn":
        name = asked.params.get("StackName") or ""
        return found.get("action"), from_arn(name), name if from_arn(name) is None else None
    named = found.get("stack_id") if found.get("action") not in ("lookup", "reject", "options") else None
    return found.get("action"), named, None


def from_arn(arn):
    try:
        return identifier.HeatIdentifier.from_arn(arn).stack_id
    except ValueError:
        return None


def differs(api, mine, action, stack, name):
    if stack and mine.stack != router.plain_id(stack) and (api == "orchestration" or action in CHANGES - {"create"}):
        return "stack"
    if api == "cfn" and action in ("delete", "update", "cancel_update") and name and mine.name != name:
        return "name"
    return "kind" if action in CHANGES and mine.kind == "read" else None


random.seed(int(seed))
named = 0
for _ in range(int(count)):
    api = random.choice(list(APIS))
    environ = request(api)
    shown = {key: value for key, value in environ.items() if key.isupper()}, environ["wsgi.input"].getvalue()
    try:
        mine = (router.orchestration if api == "orchestration" else router.cfn)(environ)
        action, stack, name = heat(api, environ)
    except (router.UnsureError, UnicodeDecodeError):
        continue
    named += bool(stack or name)
    if difference := differs(api, mine, action, stack, name):
        print(difference, api, *shown, mine, (action, stack, name))
print(f"{named} of {count} named a stack")
