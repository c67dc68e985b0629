"""The same URLs name single servers and whole installations: Redis Cluster, three nodes of RabbitMQ, MinIO over four. Each is started once for real, and loses a part. (PostgreSQL with a
streaming replica: tests/fault/test_failover.py.)"""
import json
import os
import re
import signal
import subprocess
import tempfile
import threading

import pika
import pytest
from harness import Gateway, Second, end, program, wait_for
from rabbit import Consumer, Rabbit
from realserver import RealServer
from wsclient import Closed, Stomp

from servers.kinds import open_server

MIB = 1 << 20


@pytest.fixture
def server(folder):
    """server(kind, options…): started, ended with the test."""
    all = []

    def start(kind, *options, name=None):
        all.append(RealServer(kind, os.path.join(folder, name or kind), *options))
        return all[-1].start()
    yield start
    for s in reversed(all):
        s.kill()


@pytest.fixture
def start(folder):
    """start(options…): a gateway, which must end well."""
    all = []

    def started(*options):
        all.append(Gateway(os.path.join(folder, f"gateway-{len(all)}"), options))
        return all[-1].start()
    yield started
    for g in reversed(all):
        g.close()


def put(g, path, body, code=201):
    a = g.api("PUT", "/files/content" + g.query(drive=g.drive, path=path), body=body)
    assert a.status == code, a


def get(g, path):
    a = g.api("GET", "/files/content" + g.query(drive=g.drive, path=path))
    assert a.status == 200, a
    return a.body


def component(g, name):
    return g.api("GET", "/actuator/health").json["components"][name]["status"]


def kill_process(server, at):
    """One of those that are this server."""
    inner = open_server(server.folder)
    os.kill(inner.processes[at]["pid"], signal.SIGKILL)


def kept(redis, node):
    """Keys that it has, and has had."""
    expired = re.search(r"expired_keys:(\d+)", redis.cli(node, "info", "stats"))[1]
    return int(redis.cli(node, "dbsize")) + int(expired)


def test_redis_cluster(server, start):
    redis = server("redis-cluster")
    inner = open_server(redis.folder)
    g = start("--cache", redis.url, "--rate-limit", "200")
    wait_for(lambda: component(g, "cache") == "UP", "the cache")
    # one user's limit is kept in one slot: several have several
    for n in range(12):
        g.add_user(f"user{n}")
        assert g.api("GET", "/drives", token=g.token_of(f"user{n}")).status == 200
    wait_for(lambda: all(kept(inner, node) for node in inner.names()), "keys in every node")
    kill_process(redis, 2)
    for n in range(30):  # what that node had is asked of nobody, and nothing waits for it
        put(g, f"/{n}", b"x")
    assert g.api("GET", "/actuator/health/readiness").status == 200


# ---- three nodes of RabbitMQ ----

@pytest.fixture(scope="module")
def rabbits():
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as path:
        r = Rabbit(os.path.join(path, "rabbitmq"), "rabbitmq-cluster")
        r.start()
        yield r
        r.kill()


@pytest.fixture
def worker(folder):
    """worker(gateway): one beside it, which must end well."""
    all = []

    def started(g):
        with open(os.path.join(folder, "worker.log"), "ab") as log:
            all.append(subprocess.Popen([program("cairn-gateway"), "worker", *g.only("--embedded", "--meta", "--objects", "--cache", "--events")], stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log))
    yield started
    assert [end(w) for w in all] == [0] * len(all)


class Writer(threading.Thread):
    """Writes all the time; no write may fail."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.ending, self.failed = gateway, threading.Event(), None
        self.start()

    def run(self):
        n = 0
        while not self.ending.wait(0.05):
            try:
                put(self.gateway, f"/writer-{n}", b"x")
            except (OSError, AssertionError) as e:
                self.failed = e
                return
            n += 1

    def close(self):
        self.ending.set()
        self.join(60)
        assert not self.failed and not self.is_alive(), self.failed


class Watcher(threading.Thread):
    """Which changes a WebSocket has been told."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.stomp, self.seqs = Stomp(gateway).subscribe("/topic/file-changes"), []
        self.start()

    def run(self):
        try:
            while True:
                self.seqs.append(self.stomp.message(300)[1]["seq"])
        except (Closed, OSError):
            pass

    def close(self):
        self.stomp.close()
        self.join(10)


def publish_work(rabbit):
    """For whoever consumes notifications: no good one, so it ends in cairn.dead. Returns once it is confirmed."""
    def confirmed():
        try:
            with rabbit.connect() as c:
                channel = c.channel()
                channel.confirm_delivery()
                channel.basic_publish("", "cairn.notification", b"no JSON at all", pika.BasicProperties(delivery_mode=2), mandatory=True)
            return True
        except (pika.exceptions.AMQPError, OSError):  # a queue that has no leader yet refuses it
            return False
    wait_for(confirmed, "a confirm", 60)


def test_the_port_suite_on_three_rabbitmq_nodes(rabbits):
    rabbits.port_suite("quorum")


def test_any_of_three_rabbitmq_nodes_may_die(rabbits, start, worker):
    """Each is killed, after the one before has come back; then a second one. Who listens at another gateway, or outside, hears of each change, and messages go on to be worked on."""
    nodes = open_server(rabbits.folder)
    g = start("--events", rabbits.url + "?queue-type=quorum")
    second = Second(g)
    second.start()
    outside = watcher = writer = None
    try:
        wait_for(lambda: component(g, "events") == component(second, "events") == "UP", "the connections")
        queues = {q["name"]: q["type"] for q in nodes.manage("GET", "/queues/cairn") if q["name"].startswith("cairn.")}
        assert {"cairn.virus-scan", "cairn.notification", "cairn.dead"} <= set(queues) and set(queues.values()) == {"quorum"}, queues
        worker(g)
        drive = g.api("GET", "/drives").json["drives"][0]["id"]
        outside, watcher, writer = Consumer(rabbits, "sync.*", queues="quorum"), Watcher(second), Writer(g)

        def log():
            return [c["seq"] for c in g.api("GET", "/changes" + g.query(drive=g.drive, since=0, limit=10000)).json["changes"]]

        def told():
            return {b["seq"] for b in outside.bodies(f"sync.{drive}")}
        gone = None
        for name in nodes.names():
            if gone:
                nodes.start_nodes(gone)
            dead = rabbits.depth("cairn.dead")
            nodes.kill_nodes(name)
            gone = name
            publish_work(rabbits)
            wanted = set(log())
            wait_for(lambda: wanted <= told(), f"what was written until node {name} had died", 60)
            wait_for(lambda: wanted <= set(watcher.seqs), "the same at the other gateway", 60)
            wait_for(lambda: rabbits.depth("cairn.dead") > dead, "the message's end", 60)

        nodes.kill_nodes("1")
        wait_for(lambda: component(g, "events") == component(second, "events") == "DOWN", "that two nodes are missed", 60)
        put(g, "/meanwhile", b"x")
        assert g.api("GET", "/actuator/health/readiness").status == 200
        wanted = set(log())
        wait_for(lambda: wanted <= set(watcher.seqs), "the other gateway to look in the log", 60)

        nodes.start_nodes("1", gone)
        wait_for(lambda: component(g, "events") == component(second, "events") == "UP", "the connections", 60)
        dead = rabbits.depth("cairn.dead")
        publish_work(rabbits)
        writer.close()
        wanted = log()
        wait_for(lambda: set(wanted) <= told(), "every change outside", 90)
        wait_for(lambda: watcher.seqs == wanted, "every change once, in order, at the other gateway")
        wait_for(lambda: rabbits.depth("cairn.dead") > dead and rabbits.depth("cairn.notification") == 0, "every message's end", 60)
        with open(g.log) as f:
            assert "connected again, to 127.0.0.1:" in f.read()
    finally:
        for each in (outside, watcher, second, writer):
            if each:
                each.close()


def test_minio_over_four_nodes(server, start):
    minio = server("minio", "nodes=4")
    g = start("--objects", minio.url)
    first, second = os.urandom(9 * MIB), os.urandom(9 * MIB)
    put(g, "/first", first)
    kill_process(minio, 3)
    put(g, "/second", second)
    assert get(g, "/first") == first and get(g, "/second") == second
    minio.start()
    assert get(g, "/second") == second
    wait_for(lambda: component(g, "objects") == "UP" and g.admin("fsck", check=False).returncode == 0, "all four to write together again", 60)


def test_minio_over_four_drives(server, start):
    minio = server("minio", "drives=4")
    g = start("--objects", minio.url)
    body = os.urandom(9 * MIB)
    put(g, "/first", body)
    assert get(g, "/first") == body
