"""Gateways of a cluster are killed, drained, restarted one after another and frozen, under load: programs in mounts notice nothing, no request of a client that retries fails, and
a watcher who connects again misses nothing."""

import pytest
from harness import Mounts, fuse_is_missing
from load import Load, Watcher, in_two_mounts, upload
from realcluster import running


@pytest.fixture(scope="module")
def cluster():
    with running(gateways=3) as c:
        yield c


@pytest.fixture
def load(folder, cluster):
    if fuse_is_missing():
        pytest.skip(fuse_is_missing())
    mounts, l = Mounts(folder, cluster), Load()
    try:
        a, b = mounts.mount("a"), mounts.mount("b")
        l.run(in_two_mounts, a, b, "one").run(in_two_mounts, b, a, "two").run(upload, cluster, "uploaded")
        watcher = Watcher(l, cluster)
        l.add(watcher)
        l.goes_on()
        yield l
        l.end()
        assert [path for _, _, path in watcher.missed_nothing()].count("/uploaded") >= 2
        print(f"{len(watcher.heard)} changes heard, {watcher.done} of them at once, over {watcher.connections} connections")
    finally:
        l.ending = True
        mounts.close()


def gateways(cluster):
    return cluster.inner.numbered("gateway")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_killed_or_drained(cluster, load, how):
    for name in gateways(cluster):
        cluster.act(how, name)
        load.goes_on()
        cluster.act("start", name)
        load.goes_on()


def test_restarted_one_after_another(cluster, load):
    for _ in range(2):
        cluster.inner.roll()
        load.goes_on()


def test_frozen(cluster, load):
    for name in gateways(cluster)[:2]:
        cluster.freeze(name)
        try:
            load.goes_on()
        finally:
            cluster.thaw(name)
        load.goes_on()
