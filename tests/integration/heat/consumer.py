"""Consume one queue and keep each message until standard input says ``ack``. Run with Heat's own interpreter.

Usage: consumer.py AMQP_URL QUEUE
"""

import sys
import threading

import kombu

url, name = sys.argv[1:3]
with kombu.Connection(url) as connection:
    queue = kombu.Queue(name, channel=connection.channel(), durable=False)
    queue.declare()
    kept = []
    queue.consume(callback=kept.append)
    print("ready", flush=True)
    asked = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), asked.set()), daemon=True).start()
    while not asked.is_set():
        try:
            connection.drain_events(timeout=0.1)
        except TimeoutError:
            continue
    for message in kept:
        queue.channel.basic_ack(message.delivery_tag)
    print("acked", flush=True)
    sys.stdin.read()
