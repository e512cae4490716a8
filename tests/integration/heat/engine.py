"""Consume what an engine consumes, until standard input ends. Run with Heat's own interpreter.

Usage: engine.py TRANSPORT_URL ENGINE_ID [PROGRAM]
"""

import logging
import sys

import oslo_messaging
from oslo_config import cfg

logging.basicConfig(level=logging.ERROR)
url, engine_id = sys.argv[1:3]
# oslo.messaging tells RabbitMQ this as the program's name.
sys.argv[0] = sys.argv[3] if len(sys.argv) > 3 else "heat-engine"
conf = cfg.ConfigOpts()
conf([], project="heat")
oslo_messaging.set_transport_defaults("heat")
transport = oslo_messaging.get_rpc_transport(conf, url=url)
servers = [
    oslo_messaging.get_rpc_server(transport, oslo_messaging.Target(topic=topic, server=server), [object()])
    for topic, server in (
        ("engine", f"host-of-{engine_id}"),
        ("engine_worker", engine_id),
        ("heat-engine-listener", engine_id),
    )
]
for server in servers:
    server.start()
print("ready", flush=True)
sys.stdin.read()
