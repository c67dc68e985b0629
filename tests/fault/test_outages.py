"""One real server of a whole cluster is gone for a while, dead or frozen: what goes on, what is refused and how, and that all is well when it is back. Mounts and clients know nothing but nginx."""
import errno
import os
import shutil
import time

import pytest
from harness import Client, read, wait_for, write
from load import Load, in_two_mounts, upload
from realcluster import running

from servers.cluster import SHARDS

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster():
    with running(gateways=2) as c:
        yield c


@pytest.fixture
def gateway(cluster):
    """What mounts are of."""
    return cluster


def health(cluster):
    """As its first gateway says; nginx has words of its own where all refuse."""
    a = cluster.at("gateway-1").api("GET", "/actuator/health")
    return a.status, {name: c["status"] for name, c in a.json["components"].items()}


def take(cluster, how, *names):
    for name in names:
        cluster.act("kill", name) if how == "killed" else cluster.freeze(name)


def give_back(cluster, how, *names):
    for name in names:
        cluster.act("start", name) if how == "killed" else cluster.thaw(name)


def readiness(cluster):
    return cluster.api("GET", "/actuator/health/readiness").status


def put(cluster, path, body):
    return cluster.api("PUT", "/files/content" + cluster.query(drive=cluster.drive, path=path), body=body)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_the_object_store_names_and_small_files_work_and_large_ones_wait_in_the_journal(cluster, mounts, how):
    a, b = mounts.mount("a", o="timeout=5"), mounts.mount("b", o="timeout=5")
    large, small, more = os.urandom(9 * MIB), b"small" * 100, os.urandom(5 * MIB)
    write(a / "large", large)
    write(a / "small", small)
    assert read(b / "large") == large  # so b has it
    take(cluster, how, "minio")
    wait_for(lambda: health(cluster)[1]["objects"] == "DOWN", "what health says")
    assert health(cluster)[0] == 200 and readiness(cluster) == 200

    os.mkdir(a / "folder")
    os.rename(a / "small", a / "folder/renamed")
    assert os.listdir(b / "folder") == ["renamed"]
    write(a / "folder/new", b"also small")
    assert read(b / "folder/new") == b"also small" and read(b / "folder/renamed") == small
    assert read(b / "large") == large

    with pytest.raises(OSError) as e:
        write(a / "waits", more)
    assert e.value.errno == errno.EIO
    refused = put(cluster, "/refused", more)
    assert refused.status == 503 and refused.headers["Retry-After"], refused
    for i in range(50):  # whoever looks whether it is back keeps nobody else
        write(a / f"small{i}", b"small")
        assert read(b / f"small{i}") == b"small"

    give_back(cluster, how, "minio")
    wait_for(lambda: health(cluster)[1]["objects"] == "UP", "what health says")
    wait_for(lambda: os.path.exists(b / "waits") and os.path.getsize(b / "waits") == len(more), "what waited in the journal", 60)
    assert read(b / "waits") == more
    answers = []

    def taken():  # a gateway that found it away looks again after a second
        answers.append(put(cluster, "/refused", more).status)
        return answers[-1] != 503
    wait_for(taken, "the store at each gateway")
    assert answers[-1] == 201  # nothing of what was refused was there
    shutil.rmtree(a / "folder")
    for name in ("large", "waits", "refused"):
        os.unlink(a / name)


def databases(cluster):
    return cluster.inner.numbered("postgres")


def backend_away(answer):
    return answer.status == 503 and answer.headers["Retry-After"] and answer.code == "backend-away"


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_the_database_cached_reads_go_on_and_all_else_is_refused_until_it_is_back(cluster, mounts, how):
    a, b = mounts.mount("a", o="timeout=5"), mounts.mount("b", o="timeout=5")
    write(a / "known", b"known" * 1000)
    assert read(b / "known") == b"known" * 1000
    take(cluster, how, *databases(cluster))
    wait_for(lambda: readiness(cluster) == 503, "readiness", 60)
    wait_for(lambda: health(cluster)[0] == 503 and health(cluster)[1]["metadata"] == "DOWN", "what health says", 60)
    for client in (cluster, cluster.at("gateway-1")):
        for _ in range(5):
            refused = client.api("GET", "/files" + cluster.query(drive=cluster.drive, path="/known"))
            assert backend_away(refused), refused
        assert put(client, "/without-database", b"x").status == 503

    assert read(b / "known") == b"known" * 1000  # what is cached
    assert os.path.getsize(a / "known") == 5000
    with pytest.raises(OSError) as e:  # what is not
        write(a / "new", b"x")
    assert e.value.errno == errno.EIO

    give_back(cluster, how, *databases(cluster))
    wait_for(lambda: all(readiness(cluster.at(g)) == 200 for g in cluster.inner.numbered("gateway")), "recovery, by itself", 60)
    for g in cluster.inner.numbered("gateway"):
        wait_for(lambda: cluster.at(g).api("GET", "/files" + cluster.query(drive=cluster.drive, path="/known")).status == 200, f"the drive at {g}", 60)
    write(a / "after", b"after")
    assert read(b / "after") == b"after"
    assert put(cluster, "/without-database", b"x").status == 201
    for name in ("known", "after", "without-database"):
        os.unlink(a / name)


def shard_of(cluster, owner):
    return cluster.part("postgres-1").psql(f"select p.shard from placement p join users u on p.owner = u.id where u.name = '{owner}'", "cairn").strip()


@pytest.fixture(scope="module")
def neighbour(cluster):
    """A client of another user, whose drive lies in another shard than `home`."""
    for n in range(30):
        c, name = Client(), f"neighbour-{n}"
        cluster.inner.run("admin", "user", "add", name, "--password-stdin", input="password of a neighbour\n")
        cluster.inner.run("admin", "drive", "create", "home", "--owner", name)
        if shard_of(cluster, name) in SHARDS.keys() - {shard_of(cluster, cluster.user)}:
            c.url, c.token = cluster.url, cluster.inner.run("admin", "user", "token", name, "--days", "1").strip()
            c.server = SHARDS[shard_of(cluster, name)]
            return c
    raise AssertionError("no owner was put into the other shard")


def test_while_one_shard_is_away_the_drives_in_the_others_go_on(cluster, mounts, neighbour):
    a, b = mounts.mount("a"), mounts.mount("b")
    theirs = mounts.mount("theirs", neighbour, o="timeout=5")
    write(theirs / "known", b"known")
    load = Load()
    load.run(in_two_mounts, a, b, "one").run(in_two_mounts, b, a, "two").run(upload, cluster, "uploaded")
    load.goes_on()
    try:
        cluster.act("kill", neighbour.server)
        load.goes_on(60)
        wait_for(lambda: backend_away(neighbour.api("GET", "/files" + cluster.query(drive="home", path="/known"))), "a refusal")
        assert put(neighbour, "/new", b"x").status == 503
        assert all(readiness(cluster.at(g)) == 200 for g in cluster.inner.numbered("gateway"))
        until = time.monotonic() + 60
        for _ in range(100):  # what is cached; the first waits a moment for another gateway
            assert read(theirs / "known") == b"known"
            assert time.monotonic() < until, "each one waits"
        with pytest.raises(OSError) as e:
            write(theirs / "new", b"x")
        assert e.value.errno == errno.EIO
        load.goes_on(60)
        cluster.act("start", neighbour.server)
        wait_for(lambda: put(neighbour, "/new", b"x").status in (200, 201), "the drive, by itself", 60)
        load.goes_on()
    finally:
        load.end()
    write(theirs / "after", b"after")
    assert neighbour.api("GET", "/files/content" + cluster.query(drive="home", path="/after")).body == b"after"


def at_each_gateway(cluster, client):
    """The same client, without nginx."""
    clients = [cluster.at(name) for name in cluster.inner.numbered("gateway")]
    for c in clients:
        c.token = client.token
    return clients


def test_a_frozen_shard_holds_up_no_thread_that_others_need(cluster, mounts, neighbour):
    a, b = mounts.mount("a"), mounts.mount("b")
    ours, theirs = at_each_gateway(cluster, cluster), at_each_gateway(cluster, neighbour)
    ask = "/files" + cluster.query(drive="home", path="/")
    load = Load()
    load.run(in_two_mounts, a, b, "one").run(in_two_mounts, b, a, "two").run(upload, cluster, "uploaded")
    load.goes_on()
    try:
        cluster.freeze(neighbour.server)
        for c in theirs:
            wait_for(lambda: backend_away(c.api("GET", ask)), "a refusal", 60)
        for i in range(100):  # waited for each time, the frozen one would have all threads
            for us, them in zip(ours, theirs):
                assert backend_away(them.api("GET", ask))
                assert put(us, f"/beside-{i % 10}", b"x").status in (200, 201)
        assert all(readiness(c) == 200 for c in ours)
        load.goes_on(60)
        cluster.thaw(neighbour.server)
        for c in theirs:
            wait_for(lambda: c.api("GET", ask).status == 200, "the drive, by itself", 60)
        load.goes_on()
    finally:
        cluster.thaw(neighbour.server)
        load.end()


def test_a_restart_of_the_database_under_load_fails_nothing(cluster, mounts):
    a, b = mounts.mount("a"), mounts.mount("b")
    load = Load()
    load.run(in_two_mounts, a, b, "one").run(in_two_mounts, b, a, "two").run(upload, cluster, "uploaded")
    load.goes_on()
    try:
        for name in databases(cluster):
            cluster.act("stop", name)
            cluster.act("start", name)
            load.goes_on()
    finally:
        load.end()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_redis_and_rabbitmq_mounts_notice_nothing(cluster, mounts, how):
    a, b = mounts.mount("a"), mounts.mount("b")
    load = Load()
    load.run(in_two_mounts, a, b, "one").run(in_two_mounts, b, a, "two").run(upload, cluster, "uploaded")
    load.goes_on()
    try:
        for name in ("redis", "rabbitmq"):
            take(cluster, how, name)
            load.goes_on(60)
        wait_for(lambda: health(cluster) == (200, {"metadata": "UP", "objects": "UP", "cache": "DOWN", "events": "DOWN"}), "what health says", 90)
        assert readiness(cluster) == 200
        for name in ("redis", "rabbitmq"):
            give_back(cluster, how, name)
            load.goes_on()
        wait_for(lambda: set(health(cluster)[1].values()) == {"UP"}, "what health says", 60)
    finally:
        load.end()
