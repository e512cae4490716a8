"""Ask an engine for a new stack, as heat-api does, and print its id. Run with Heat's own interpreter.

Usage: create_stack.py HEAT_CONF NAME TEMPLATE_AS_JSON
"""

import json
import sys

from heat.common import config, context, messaging
from heat.rpc import client
from oslo_config import cfg

conf, name, template = sys.argv[1:4]
cfg.CONF(["--config-file", conf], project="heat", prog="create_stack")
config.set_config_defaults()
messaging.setup()
user = context.RequestContext(username="admin", user_id="u1", project_id="admin", password="x", roles=["admin"])
print(client.EngineClient().create_stack(user, name, json.loads(template), {}, {}, {})["stack_id"])
