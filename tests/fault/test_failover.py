"""PostgreSQL's primary dies and its replica takes over: by itself for the gateways, whose URL names both; and where commits were lost with it, no client goes on from numbers that are given twice."""
import os

import pytest
from harness import Mounts, fuse_is_missing, wait_for
from realserver import RealServer

from servers.kinds import open_server



@pytest.fixture
def pair(folder):
    """Primary and replica."""
    primary = RealServer("postgres", os.path.join(folder, "primary")).start()
    replica = RealServer("postgres", os.path.join(folder, "replica"), "replica-of=" + primary.folder).start()
    yield primary, replica
    replica.kill()
    primary.kill()


@pytest.fixture
def gateway_options(pair):
    primary, replica = (open_server(s.folder) for s in pair)
    return ["--meta", primary.url_with(replica), "--advertise", "http://127.0.0.1:0"]


@pytest.fixture
def mount(folder, gateway):
    if fuse_is_missing():
        pytest.skip(fuse_is_missing())
    m = Mounts(folder, gateway)
    try:
        yield m.mount()
    finally:
        m.close()


def put(gateway, path, body=b"x"):
    a = gateway.api("PUT", "/files/content" + gateway.query(drive=gateway.drive, path=path), body=body)
    assert a.status in (200, 201), a
    return a.json


def seq(gateway):
    return gateway.api("GET", "/drives").json["drives"][0]["seq"]


def generation(number):
    return number >> 40


def caught_up(pair):
    """The replica has all that the primary has."""
    primary, replica = (open_server(s.folder) for s in pair)
    at = primary.psql("select pg_current_wal_lsn()").strip()
    wait_for(lambda: replica.psql(f"select pg_last_wal_replay_lsn() >= '{at}'").strip() == "t", "replication")


def ready(gateway):
    return gateway.api("GET", "/actuator/health/readiness").status == 200


def test_the_replica_takes_over_and_nothing_is_lost(pair, gateway, mount):
    primary, replica = pair
    with open(mount / "before", "w") as f:
        f.write("before")
    first = generation(seq(gateway))
    caught_up(pair)
    primary.kill()
    open_server(replica.folder).promote()
    with open(mount / "after", "w") as f:  # it waits for as long as that takes
        f.write("after")
    wait_for(lambda: ready(gateway), "readiness")
    assert sorted(os.listdir(mount.path)) == ["after", "before"]
    put(gateway, "/http")
    assert generation(seq(gateway)) == first + 1, "another timeline, another generation"
    assert open(mount / "http").read() == "x" and open(mount / "before").read() == "before"


def test_where_commits_were_lost_numbers_start_anew_and_clients_afresh(pair, gateway, mount):
    primary, replica = pair
    put(gateway, "/kept", b"kept")
    with open(mount / "changed", "w") as f:
        f.write("the first")
    caught_up(pair)
    common = seq(gateway)
    replica.stop()
    put(gateway, "/lost")
    with open(mount / "changed", "w") as f:
        f.write("the second, lost")
    os.rename(mount / "changed", mount / "renamed")
    cursor = seq(gateway)
    assert cursor > common and sorted(os.listdir(mount.path)) == ["kept", "lost", "renamed"]
    primary.kill()
    replica.start()
    open_server(replica.folder).promote()
    wait_for(lambda: ready(gateway), "readiness")
    put(gateway, "/new")
    assert generation(seq(gateway)) == generation(common) + 1

    # who saw what is lost is told so, by each way there is
    gone = gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=cursor))
    assert (gone.status, gone.code) == (410, "changes-gone"), gone
    from_common = gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=common)).json["changes"]
    assert [c["path"] for c in from_common] == ["/new"] and generation(from_common[0]["seq"]) == generation(common) + 1
    wait_for(lambda: sorted(os.listdir(mount.path)) == ["changed", "kept", "new"], "the mount starting afresh")
    assert open(mount / "changed").read() == "the first" and open(mount / "kept").read() == "kept"
    assert not os.path.exists(mount / "lost")
    with open(mount / "changed", "a") as f:
        f.write(", and more")
    assert gateway.api("GET", "/files/content" + gateway.query(drive=gateway.drive, path="/changed")).body == b"the first, and more"
