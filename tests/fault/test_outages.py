"""One real server of a whole cluster is gone for a while: what goes on, what is refused and how, and that all is well when it is back. Mounts and clients know nothing but nginx."""
import errno
import os
import tempfile
import threading
import time

import pytest
from harness import Mounts, fuse_is_missing, wait_for
from realcluster import RealCluster

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as folder:
        c = RealCluster(os.path.join(folder, "cluster"))
        try:
            yield c.up("--gateways", "2")
        finally:
            c.down()


@pytest.fixture
def mounts(folder, cluster):
    if fuse_is_missing():
        pytest.skip(fuse_is_missing())
    m = Mounts(folder, cluster)
    try:
        yield m
    finally:
        m.close()


def health(cluster):
    a = cluster.api("GET", "/actuator/health")
    return a.status, {name: c["status"] for name, c in a.json["components"].items()}


def readiness(cluster):
    return cluster.api("GET", "/actuator/health/readiness").status


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def put(cluster, path, body):
    return cluster.api("PUT", "/files/content" + cluster.query(drive=cluster.drive, path=path), body=body)


def test_without_the_object_store_names_and_small_files_work_and_large_ones_wait_in_the_journal(cluster, mounts):
    a, b = mounts.mount("a", o="timeout=5"), mounts.mount("b", o="timeout=5")
    large, small, more = os.urandom(9 * MIB), b"small" * 100, os.urandom(5 * MIB)
    write(a / "large", large)
    write(a / "small", small)
    assert read(b / "large") == large  # so b has it
    cluster.act("kill", "minio")
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

    cluster.act("start", "minio")
    wait_for(lambda: health(cluster)[1]["objects"] == "UP", "what health says")
    wait_for(lambda: os.path.exists(b / "waits") and os.path.getsize(b / "waits") == len(more), "what waited in the journal", 60)
    assert read(b / "waits") == more
    assert put(cluster, "/refused", more).status == 201
