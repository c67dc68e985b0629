"""The same URLs name single servers and whole installations: Redis Cluster, quorum queues, MinIO over four nodes. Each is started once for real, and loses a part; quorum queues, which are
those of a single node here, lose it for a while. (PostgreSQL with a streaming replica: tests/fault/test_failover.py.)"""
import json
import os
import re
import signal

import pytest
from harness import Gateway, wait_for
from rabbit import Consumer, Rabbit
from realserver import RealServer

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


def test_quorum_queues(server, start):
    rabbit = Rabbit(server("rabbitmq").folder)
    g = start("--events", rabbit.url + "?queue-type=quorum")
    wait_for(lambda: component(g, "events") == "UP", "the connection")
    queues = {q["name"]: q for q in open_server(rabbit.folder).manage("GET", "/queues/cairn") if q["name"].startswith("cairn.") and q["durable"]}
    assert {"cairn.virus-scan", "cairn.notification", "cairn.dead"} <= set(queues)
    assert {q["type"] for q in queues.values()} == {"quorum"}, {n: q["type"] for n, q in queues.items()}
    outside = Consumer(rabbit, "file.uploaded")
    put(g, "/before", b"x")
    outside.expect("file.uploaded", 1)
    rabbit.kill()
    put(g, "/meanwhile", b"x")
    rabbit.start()
    # one whose confirmation died with the broker comes twice
    wait_for(lambda: {b["path"] for b in outside.bodies("file.uploaded")} == {"/before", "/meanwhile"}, "the message of that time", 60)
    outside.close()


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
