"""scripts/lib/server: real servers for tests, each in a folder of its own."""
import os
import socket
import subprocess

import pytest

from harness import ROOT

SERVER = os.path.join(ROOT, "scripts", "lib", "server")
KINDS = ["postgres", "redis", "redis-cluster", "rabbitmq", "minio", "versitygw", "clamd"]


def server(*words, code=0):
    done = subprocess.run([SERVER, *words], capture_output=True, text=True, timeout=180)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def read(*names):
    with open(os.path.join(*names)) as f:
        return f.read()


def pids(where):
    return [int(line) for line in read(where, "pid").split()]


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def where(folder):
    path = os.path.join(folder, "server")
    yield path
    if os.path.exists(os.path.join(path, "state.json")):
        server("kill", path)


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_is_killed_and_comes_back_where_it_was(where, kind):
    server("start", kind, where)
    url, first = read(where, "url"), pids(where)
    assert first and all(map(lives, first))
    if os.geteuid() == 0:
        assert all(os.stat(f"/proc/{pid}").st_uid != 0 for pid in first), "runs as root"
    server("start", kind, where)  # it runs already
    assert pids(where) == first

    server("kill", where)
    assert not any(map(lives, first)) and read(where, "pid") == ""
    server("status", where, code=1)
    server("start", kind, where)
    assert read(where, "url") == url
    second = pids(where)
    assert set(second).isdisjoint(first)
    server("stop", where)
    assert not any(map(lives, second))


def test_one_that_does_not_start_says_why_and_leaves_nothing(where):
    said = server("start", "postgres", where, "max_connections=many", code=1)
    assert 'invalid value for parameter "max_connections"' in said
    assert read(where, "pid") == ""
    server("start", "postgres", where, "max_connections=50")


def test_a_port_that_was_taken_meanwhile_is_named_and_left_alone(where):
    server("start", "redis", where)
    server("stop", where)
    port = int(read(where, "url").split(":")[3].split("/")[0])
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        assert f"port {port} (main)" in server("start", "redis", where, code=1)
    server("start", "redis", where)
