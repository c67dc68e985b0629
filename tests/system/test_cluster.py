"""scripts/cluster: all of Cairn on this machine, and nothing of it after `down`, or after a start that failed."""
import json
import os
import signal
import stat
import subprocess
import time

import pytest
from harness import BIN, ROOT, wait_for
from realcluster import SCRIPT, RealCluster, processes_of, script
from wsclient import Stomp

PARTS = ["postgres-1", "postgres-2", "postgres-3", "redis", "rabbitmq", "minio", "gateway-1", "gateway-2", "worker", "nginx"]


@pytest.fixture
def where(folder):
    path = os.path.join(folder, "cluster")
    yield path
    if os.path.exists(os.path.join(path, "env")):
        script("down", path)


def status(path, code):
    """{part: it runs} of what `status` prints."""
    return {line.split()[0]: line.endswith(" runs") for line in script("status", path, code=code).splitlines()}


def put(client, path, body=b"x"):
    return client.api("PUT", "/files/content" + client.query(drive=client.drive, path=path), body=body)


def get(client, path):
    return client.api("GET", "/files/content" + client.query(drive=client.drive, path=path))


def test_it_comes_up_loses_parts_goes_down_and_comes_back(where):
    c = RealCluster(where)
    said = script("up", "--gateways", "2", where)
    c.token = c.env["CAIRN_TOKEN"]
    assert c.url in said and "cairn login" in said and f"down {os.path.realpath(where)}" in said
    assert stat.S_IMODE(os.stat(os.path.join(where, "env")).st_mode) == 0o600
    assert all(status(where, 0).values())
    for name in PARTS:
        key, _, n = name.upper().partition("-")
        pid = int(c.env[f"CAIRN_{key}_PID" + (f"_{n}" if n else "")])
        assert pid in [p["pid"] for p in c.part(name).processes] and c.env[f"CAIRN_{key}_URL" + (f"_{n}" if n else "")]
    assert c.api("POST", "/auth/login", json={"username": c.env["CAIRN_USER"], "password": c.env["CAIRN_PASSWORD"], "device": "d"}, token="").status == 200

    # a WebSocket through nginx, and what the worker and the broker carry
    watcher = Stomp(c).subscribe("/topic/file-changes")
    assert put(c, "/kept", b"of the first time").status == 201
    assert watcher.message()[1]["path"] == "/kept"
    watcher.close()

    script("kill", "gateway-1", where)
    assert status(where, 1) == {name: name != "gateway-1" for name in PARTS}
    assert c.env["CAIRN_GATEWAY_PID_1"] == "" and [get(c, "/kept").status for _ in range(5)] == [200] * 5
    script("stop", "gateway-2", where)
    assert get(c, "/kept").status == 502
    script("start", "gateway-1", where)
    assert get(c, "/kept").body == b"of the first time"
    script("start", "gateway-2", where)

    url, before = c.url, {name: c.part(name).processes for name in c.inner.names()}
    script("up", where)  # all runs already, and stays as it is
    assert {name: c.part(name).processes for name in c.inner.names()} == before
    script("down", where)
    assert not processes_of(where)
    assert not any(status(where, 1).values())
    c.up()
    assert c.url == url and get(c, "/kept").body == b"of the first time"
    c.down()


def test_the_service_loads_run_on_it(where):
    """Those that need a cluster, on small counts: gateways past nginx, raw puts to the same store, a catalogue that is filled by cloning what the program made."""
    c = RealCluster(where).up("--gateways", "2")
    done = subprocess.run([os.path.join(ROOT, "scripts", "bench"), "load", "--bin", BIN, "--on", where, "--json", "--loads", "queries,large,sockets,catalogue",
                           "--load-files", "3", "--load-seconds", "100", "--load-mib", "8", "--load-sockets", "60", "--load-drives", "3", "--load-events", "100",
                           "--load-users", "1100", "--load-sample", "5", "--load-requests", "300"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)["load"]
    assert found["metadata queries"]["rows"]["GET"]["count"] and found["… past nginx"]["rows"]["GET"]["count"]
    assert found["one large upload"]["rawSeconds"] > 0
    sockets = found["sockets, 3 drives"]
    assert sockets["connections"] == 60 and sockets["rows"]["event"]["count"] == 2 * 20  # those of the first drive, at both gateways
    for users in (1000, 1100):
        assert found[f"catalogue of {users}"]["rows"]["GET"]["count"] == 300
        assert found[f"catalogue of {users}"]["postgresUsEach"] > 0
    c.down()


def test_a_start_that_fails_halfway_leaves_nothing_running(where, folder):
    """The stores are up when a gateway that cannot run is to be started."""
    fake = os.path.join(folder, "bin")
    os.makedirs(fake)
    with open(os.path.join(fake, "cairn-gateway"), "w") as f:
        f.write(f'#!/bin/sh\ncase $1 in serve) echo "no, not today" >&2; exit 1 ;; esac\nexec {BIN}/cairn-gateway "$@"\n')
    os.chmod(os.path.join(fake, "cairn-gateway"), 0o755)
    said = script("up", "--gateways", "1", "--meta", f"sqlite:{folder}/meta.db", where, code=1, bin=fake)
    assert "gateway did not start" in said and "no, not today" in said
    assert not processes_of(where)


def test_a_start_that_is_interrupted_leaves_nothing_running(where, folder):
    p = subprocess.Popen([SCRIPT, "up", "--meta", f"sqlite:{folder}/meta.db", where], env={**os.environ, "CAIRN_BIN": BIN}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: len(processes_of(where)) >= 2, "the first parts")
    began = time.monotonic()
    p.send_signal(signal.SIGTERM)
    assert p.wait(60) == 143, p.stderr.read()
    assert time.monotonic() - began < 40
    p.stderr.close()
    wait_for(lambda: not processes_of(where), "the end of what was only just being started", 15)


def test_one_that_fails_ends_the_wait_for_the_others_and_what_ran_before_stays(where, folder):
    c = RealCluster(where).up("--gateways", "1", "--meta", f"sqlite:{folder}/meta.db")
    script("stop", "redis", where)
    script("stop", "worker", where)
    with open(os.path.join(where, "redis", "state.json")) as f:
        text = f.read()
    with open(os.path.join(where, "redis", "state.json"), "w") as f:
        f.write(text.replace('"options": {', '"options": {"maxmemory": "much"' + ("," if '"options": {}' not in text else "")))
    assert "redis did not start" in script("up", where, code=1)
    assert status(where, 1) == {name: name not in ("redis", "worker") for name in c.inner.names()}


@pytest.mark.parametrize("words,said", [(["up", "--gateways", "0"], "--gateways"), (["fly"], "fly"), (["kill"], "takes a part"), (["up", "/tmp/a", "/tmp/b"], "too many"),
                                        (["down", "--gateways", "2"], "belong to up")])
def test_what_makes_no_sense_is_refused(words, said):
    assert said in script(*words, code=2)


def test_there_is_nothing_to_do_where_there_is_no_cluster(folder):
    assert "no cluster" in script("down", os.path.join(folder, "none"), code=1)
    path = os.path.join(folder, "env-only")
    os.makedirs(path)
    assert "there is no part gateway-9" in script("kill", "gateway-9", path, code=1)
