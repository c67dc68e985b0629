"""The direct data path: mounts and the command line exchange chunks with a real S3 store, without the gateway; and through it where they cannot."""
import os

import pytest

from direct import cairn, CLOSED_PORT, gateway, gateway_options, MIB, NOISE, passed, public, put, store, TEXT, unverified  # noqa: F401
from harness import Mounts, fuse_is_missing, read, wait_for, write
from realserver import RealServer
from several import Several


def test_a_mount_reads_from_the_store(gateway, mounts):
    put(gateway, "/noise", NOISE)
    put(gateway, "/text", TEXT)
    a = mounts.mount("a")
    before = passed(gateway)
    assert read(a / "noise") == NOISE
    assert read(a / "text") == TEXT
    assert passed(gateway) - before < MIB
    assert a.status()["direct"] == "on"
    assert "straight with the object store: fetched 32.0 MiB, brought 0 B" in cairn(gateway, a.cache, "status", a.path)
    assert a.status()["directFetchedBytes"] == len(NOISE) + len(TEXT)


def test_what_was_mapped_before_is_read_from_the_store(gateway, mounts):
    """A driver that starts with a map in its cache has not asked the gateway for any: it asks where the chunks are."""
    put(gateway, "/noise", NOISE)
    a = mounts.mount("a")
    with open(a / "noise", "rb") as f:
        os.pread(f.fileno(), 1, 0)
    wait_for(lambda: a.status()["directFetchedBytes"], "the first chunk")
    assert a.unmount() == 0
    a.start()
    before = passed(gateway)
    assert read(a / "noise") == NOISE
    assert passed(gateway) - before < MIB


def test_get_fetches_from_the_store(gateway, folder):
    put(gateway, "/noise", NOISE)
    before = passed(gateway)
    cairn(gateway, folder, "get", "home:/noise", os.path.join(folder, "got"))
    assert read(os.path.join(folder, "got")) == NOISE
    assert passed(gateway) - before < MIB
    cairn(gateway, folder, "get", "--direct", "off", "home:/noise", os.path.join(folder, "again"))
    assert read(os.path.join(folder, "again")) == NOISE
    assert passed(gateway) - before > len(NOISE)


def test_off_means_off(gateway, mounts):
    put(gateway, "/noise", NOISE)
    a, b = mounts.mount("a", direct="off"), mounts.mount("b", o="direct=off")
    for m in a, b:
        before = passed(gateway)
        assert read(m / "noise") == NOISE
        assert passed(gateway) - before > len(NOISE)
        assert m.status()["direct"] == "off"
        assert m.status()["directFetchedBytes"] == 0


@pytest.mark.parametrize("public", [f"http://127.0.0.1:{CLOSED_PORT}", "http://nowhere.invalid:9"])
def test_a_store_that_clients_cannot_reach(gateway, mounts, folder, public):
    put(gateway, "/noise", NOISE)
    a = mounts.mount("a")
    assert read(a / "noise") == NOISE
    assert a.status()["direct"] == "unreachable"
    assert a.status()["directFetchedBytes"] == 0
    assert "the object store cannot be reached from here" in cairn(gateway, a.cache, "status", a.path)
    cairn(gateway, folder, "get", "home:/noise", os.path.join(folder, "got"))
    assert read(os.path.join(folder, "got")) == NOISE


@pytest.mark.parametrize("public", ["none"])
def test_a_store_that_is_not_for_clients(gateway, mounts, public):
    put(gateway, "/noise", NOISE)
    a = mounts.mount("a")
    assert read(a / "noise") == NOISE
    assert a.status()["direct"] == "not offered"


def test_a_mount_writes_to_the_store(gateway, mounts):
    a, b = mounts.mount("a"), mounts.mount("b")
    before = passed(gateway)
    write(a / "noise", NOISE)
    write(a / "text", TEXT)
    assert passed(gateway) - before < MIB
    assert a.status()["directSentBytes"] == len(NOISE) + len(TEXT)
    assert read(b / "noise") == NOISE and read(b / "text") == TEXT
    assert passed(gateway) - before < MIB


def test_what_the_drive_has_is_not_brought_again(gateway, mounts, store):
    a = mounts.mount("a")
    write(a / "noise", NOISE)
    write(a / "text", TEXT)
    wait_for(lambda: not unverified(gateway), "the job that checks what was brought")
    sent = a.status()["directSentBytes"], a.status()["uploadedBytes"]
    write(a / "noise again", NOISE)
    write(a / "text again", TEXT)
    assert (a.status()["directSentBytes"], a.status()["uploadedBytes"]) == sent
    assert read(a / "text again") == TEXT


def test_small_content_travels_with_its_operation(gateway, mounts):
    a = mounts.mount("a")
    write(a / "small", NOISE[:60000])
    assert a.status()["directSentBytes"] == 0
    assert read(a / "small") == NOISE[:60000]


@pytest.mark.parametrize("public", [f"http://127.0.0.1:{CLOSED_PORT}", "none"])
def test_writing_where_clients_cannot_reach_the_store(gateway, mounts, public):
    a = mounts.mount("a")
    write(a / "noise", NOISE)
    write(a / "text", TEXT)
    assert a.status()["directSentBytes"] == 0
    b = mounts.mount("b", direct="off")
    assert read(b / "noise") == NOISE and read(b / "text") == TEXT


class TestAnotherStore:
    @pytest.fixture
    def store(self, folder):
        s = RealServer("versitygw", os.path.join(folder, "store"))
        s.start()
        yield s
        s.stop()

    def test_it_is_the_same_there(self, gateway, mounts):
        a, b = mounts.mount("a"), mounts.mount("b")
        before = passed(gateway)
        write(a / "noise", NOISE)
        write(a / "text", TEXT)
        assert read(b / "noise") == NOISE and read(b / "text") == TEXT
        assert passed(gateway) - before < MIB


def test_several_gateways_move_no_content(folder, store):
    """What one mount writes and another, at another gateway, reads passes neither of them."""
    missing = fuse_is_missing()
    if missing:
        pytest.skip(missing)
    several = Several(os.path.join(folder, "gateways"), objects=store.url)
    try:
        gateways = list(several.one.values())
        mounts = Mounts(folder, gateways[0])
        try:
            a, b = mounts.mount("a"), mounts.mount("b", gateway=gateways[1])
            before = sum(map(passed, gateways))
            write(a / "noise", NOISE)
            write(b / "text", TEXT)
            assert read(b / "noise") == NOISE and read(a / "text") == TEXT
            assert sum(map(passed, gateways)) - before < MIB
            assert a.status()["directSentBytes"] == len(NOISE) and b.status()["directSentBytes"] == len(TEXT)
        finally:
            mounts.close()
    finally:
        several.close()
