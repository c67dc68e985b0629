"""A real RabbitMQ for tests, and a consumer from outside: pika knows nothing of Cairn."""
import json
import logging
import os
import re
import subprocess
import threading
import time

import pika

from harness import ROOT, wait_for
from realserver import RealServer

from servers.kinds import open_server

logging.getLogger("pika").setLevel(logging.CRITICAL)  # a broker that is away is what is tested


class Rabbit(RealServer):
    def __init__(self, folder, kind="rabbitmq"):
        super().__init__(kind, folder)

    def connect(self):
        """To the first node that takes it."""
        user, hosts, vhost = re.fullmatch(r"(.*@)(.*)(/.*)", self.url).groups()
        return pika.BlockingConnection([pika.URLParameters(user + host + vhost) for host in hosts.split(",")])

    def port_suite(self, queues):
        """tests/ports/test_events, in a vhost of its own."""
        subprocess.run([os.path.join(ROOT, "scripts", "lib", "build"), "release", "test_events"], check=True, timeout=300)
        url = open_server(self.folder).add_vhost(queues)
        done = subprocess.run([os.path.join(ROOT, "build", "release", "bin", "test_events")], env={**os.environ, "CAIRN_TEST_EVENTS": f"{url}?backoff=20&queue-type={queues}"},
                              capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, queues + done.stdout + done.stderr

    def depth(self, queue):
        """Messages that wait there; None where there is no such queue. One that has no leader just then is asked for again."""
        def answer():
            try:
                with self.connect() as c:
                    return [c.channel().queue_declare(queue, passive=True).method.message_count]
            except pika.exceptions.ChannelClosedByBroker as e:
                return [None] if e.reply_code == 404 else []
            except (pika.exceptions.AMQPError, OSError):
                return []
        return wait_for(answer, f"the depth of {queue}", 60)[0]


class Consumer:
    """Everything that is published, as an outsider with a durable queue of its own hears it: over the broker's restarts too, then perhaps twice."""

    def __init__(self, rabbit, *keys, queues="classic"):
        self.rabbit, self.queue, self.seen, self.ending = rabbit, f"outside-{time.monotonic_ns()}", [], False
        with rabbit.connect() as c:
            channel = c.channel()
            channel.exchange_declare("cairn.events", "topic", durable=True)  # the same declaration as Cairn's, or this is refused
            channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": queues})
            for key in keys or ("#",):
                channel.queue_bind(self.queue, "cairn.events", key)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.ending:
            try:
                with self.rabbit.connect() as c:
                    channel = c.channel()
                    for method, properties, body in channel.consume(self.queue, inactivity_timeout=0.2):
                        if method:
                            self.seen.append((method.routing_key, properties, json.loads(body)))
                            channel.basic_ack(method.delivery_tag)
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
