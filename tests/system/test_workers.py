"""serve --workers N: several processes on one port, which are one gateway to clients."""
import http.client
import json
import os
import re
import signal
import subprocess

import pytest
from harness import Mounts, fuse_is_missing, program, wait_for
from realserver import RealServer

from servers.base import start_time
from servers.kinds import open_server

N = 3


@pytest.fixture(scope="module")
def meta(tmp_path_factory):
    """A PostgreSQL: with SQLite there is one process."""
    server = RealServer("postgres", str(tmp_path_factory.mktemp("cairn") / "postgres"), "fsync=off").start()
    yield server
    server.kill()


@pytest.fixture
def gateway_options(meta, request):
    return ["--meta", fresh(meta, request.node.name), "--workers", str(N), "--advertise", "http://127.0.0.1:0"]


def fresh(server, name):
    inner = open_server(server.folder)
    name = "t_" + re.sub(r"\W", "_", name)[:50]
    inner.psql(f"create database {name}")
    return inner.url(name)


def workers(gateway):
    """{pid} of those that run."""
    with open(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children") as f:
        return {int(pid) for pid in f.read().split()}


def lines(gateway, text):
    with open(gateway.log) as f:
        return [json.loads(line) for line in f if text in line]


def listening(gateway, n):
    return wait_for(lambda: len(lines(gateway, "listening on")) >= n, f"{n} that listen")


def ask(gateway, n=60):
    """New connections, which the kernel shares out."""
    statuses = []
    for _ in range(n):
        c = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        c.request("GET", "/api/v1/drives", headers={"Authorization": f"Bearer {gateway.token}"})
        answer = c.getresponse()
        answer.read()
        statuses.append(answer.status)
        c.close()
    return statuses


def test_each_takes_its_share_and_all_end_together(gateway):
    listening(gateway, N)
    pids = workers(gateway)
    assert len(pids) == N
    assert len({line["msg"] for line in lines(gateway, "listening on http")}) == 1, "on one port"
    assert set(ask(gateway)) == {200}
    assert gateway.stop() == 0
    assert not any(start_time(pid) for pid in pids)


def test_told_all_at_once_they_drain(gateway):
    """As systemd does, and a terminal: the supervisor's own word to them is no second one."""
    listening(gateway, N)
    pids = workers(gateway)
    gateway.process.send_signal(signal.SIGSTOP)  # it learns of its own signal and of their ends at once
    for pid in [*pids, gateway.process.pid]:
        os.kill(pid, signal.SIGTERM)
    gateway.process.send_signal(signal.SIGCONT)
    gateway.ended = True
    assert gateway.process.wait(60) == 0
    assert len(lines(gateway, "drained, ending")) == N


def test_one_that_dies_is_replaced(gateway):
    listening(gateway, N)
    first = workers(gateway)
    dead = min(first)
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: len(workers(gateway)) == N and dead not in workers(gateway), "another in its place")
    listening(gateway, N + 1)
    assert first - {dead} < workers(gateway)
    assert set(ask(gateway)) == {200}
    assert "was ended by signal 9" in lines(gateway, "was ended")[0]["msg"]


def test_a_hangup_replaces_them_one_after_another(gateway):
    listening(gateway, N)
    first = workers(gateway)
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: lines(gateway, "all processes are replaced"), "the end of it")
    assert len(workers(gateway)) == N and workers(gateway).isdisjoint(first)
    assert set(ask(gateway)) == {200}


def test_two_mounts_see_each_other_whichever_they_talk_to(gateway, folder):
    if fuse_is_missing():
        pytest.skip(fuse_is_missing())
    listening(gateway, N)
    mounts = Mounts(folder, gateway)
    try:
        all = [mounts.mount(name) for name in "abcd"]
        for i in range(40):
            writer = all[i % 4]
            assert not any(os.path.exists(m / f"{i}") for m in all)
            with open(writer / f"{i}", "w") as f:
                f.write(f"{i}")
            for m in all:
                with open(m / f"{i}") as f:
                    assert f.read() == f"{i}"
        dead = min(workers(gateway))
        os.kill(dead, signal.SIGKILL)
        for i in range(40, 80):
            with open(all[i % 4] / f"{i}", "w") as f:
                f.write(f"{i}")
            for m in all:
                with open(m / f"{i}") as f:
                    assert f.read() == f"{i}"
    finally:
        mounts.close()


def test_a_port_that_is_taken_is_named(gateway, folder):
    """Even by one who would share it: another gateway with workers."""
    done = subprocess.run([program("cairn-gateway"), "serve", *gateway.only("--meta", "--objects", "--workers"), "--objects", f"file:{folder}/other", "--listen", f"127.0.0.1:{gateway.port}"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "cannot listen on" in done.stderr
    assert set(ask(gateway)) == {200}


def test_where_none_can_start_it_ends(gateway, folder):
    done = subprocess.run([program("cairn-gateway"), "serve", "--meta", "postgres://nobody@127.0.0.1:1/none?connect_timeout=1", "--objects", f"file:{folder}/other", "--workers", "2",
                           "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "the metadata store" in done.stderr
