"""A user with drives in two databases, one of which is away: the other drive goes on, under its name too."""
import os

import pytest

from harness import wait_for
from several import Several
from test_cli import Cli
from test_stomp import put
from wsclient import Stomp


@pytest.fixture
def gateway(folder):
    """`a` of gateways whose user has `home` in the catalogue's database, and `far` in another."""
    several = Several(os.path.join(folder, "gateways"), names="a")
    try:
        several.sql("create database second")
        several.admin("shard", "add", "second", several.server.url.rsplit("/", 1)[0] + "/second")
        several.admin("drive", "create", "far", "--owner", several.user)
        several.admin("drive", "move", "far", "second")
        yield several.one["a"]
        back(several)
    finally:
        several.close()


def go_away(several):
    several.sql("alter database second allow_connections false; select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = 'second'")


def back(several):
    several.sql("alter database second allow_connections true")


def listed(gateway):
    return {d["name"]: d for d in gateway.api("GET", "/drives").json["drives"]}


def stat(gateway, drive):
    return gateway.api("GET", "/files" + gateway.query(drive=drive, path="/"))


def test_one_that_is_away_is_marked_and_keeps_the_others_from_nothing(gateway, folder):
    cli = Cli(os.path.join(folder, "home"), gateway)
    put(gateway, "/a", drive="far")
    before = listed(gateway)
    assert "away" not in before["far"] and before["far"]["seq"] > 0
    go_away(gateway.several)
    assert listed(gateway) == {"home": before["home"], "far": {**{k: before["far"][k] for k in ("id", "name", "role")}, "away": True}}
    put(gateway, "/b", drive="home")
    for drive in ("far", before["far"]["id"]):
        answer = stat(gateway, drive)
        assert (answer.status, answer.code) == (503, "backend-away")
    assert "away" in next(line for line in cli.text("drives").splitlines() if line.startswith("far"))
    assert "1 of your 2 drive(s)" in cli("doctor", status=1).stdout.decode()
    watcher = Stomp(gateway).subscribe("/topic/file-changes", drive="home")
    put(gateway, "/c", drive="home")
    assert watcher.message()[1]["path"] == "/c"
    for narrowed in ({}, {"drive": "far"}):
        s = Stomp(gateway)
        s.send("SUBSCRIBE", {"id": "1", "destination": "/topic/file-changes", **narrowed})
        assert "cannot be reached" in s.error()["message"]
    back(gateway.several)
    wait_for(lambda: stat(gateway, "far").status == 200, "the drive")
    assert listed(gateway)["far"] == before["far"]
    watcher.close()
