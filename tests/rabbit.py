"""A real RabbitMQ for tests, and a consumer from outside: pika knows nothing of Cairn."""
import json
import logging
import threading
import time

import pika

from harness import wait_for
from realserver import RealServer

logging.getLogger("pika").setLevel(logging.CRITICAL)  # a broker that is away is what is tested


class Rabbit(RealServer):
    def __init__(self, folder):
        super().__init__("rabbitmq", folder)

    def connect(self):
        return pika.BlockingConnection(pika.URLParameters(self.url))

    def depth(self, queue):
        """Messages that wait there; None where there is no such queue."""
        with self.connect() as c:
            try:
                return c.channel().queue_declare(queue, passive=True).method.message_count
            except pika.exceptions.ChannelClosedByBroker:
                return None


class Consumer:
    """Everything that is published, as an outsider with a durable queue of its own hears it: over the broker's restarts too."""

    def __init__(self, rabbit, *keys):
        self.rabbit, self.queue, self.seen, self.ending = rabbit, f"outside-{time.monotonic_ns()}", [], False
        with rabbit.connect() as c:
            channel = c.channel()
            channel.exchange_declare("cairn.events", "topic", durable=True)  # the same declaration as Cairn's, or this is refused
            channel.queue_declare(self.queue, durable=True)
            for key in keys or ("#",):
                channel.queue_bind(self.queue, "cairn.events", key)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.ending:
            try:
                with self.rabbit.connect() as c:
                    for method, properties, body in c.channel().consume(self.queue, auto_ack=True, inactivity_timeout=0.2):
                        if method:
                            self.seen.append((method.routing_key, properties, json.loads(body)))
                        if self.ending:
                            return
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(0.2)

    def bodies(self, key):
        return [body for k, _, body in list(self.seen) if k == key]

    def expect(self, key, n, seconds=30):
        wait_for(lambda: len(self.bodies(key)) >= n, f"{n} messages with key {key}", seconds)
        return self.bodies(key)

    def close(self):
        self.ending = True
        self.thread.join(10)
