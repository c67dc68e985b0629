"""A gateway without descriptors: it tells clients so, does not spin, answers those it has, and goes on when there are some again."""
import concurrent.futures
import contextlib
import http.client
import os
import resource
import socket
import time

import pytest
from harness import wait_for

ROOM = 8


def fds(gateway):
    return [int(n) for n in os.listdir(f"/proc/{gateway.process.pid}/fd")]


def processor_seconds(gateway):
    with open(f"/proc/{gateway.process.pid}/stat") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def few_descriptors(gateway):
    """The gateway may open no more than some ROOM descriptors on top of what it has."""
    before = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (max(fds(gateway)) + 1 + ROOM, before[1]))
    try:
        yield
    finally:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def crowd(gateway, n):
    """n connections that say nothing."""
    sockets = []
    try:
        for _ in range(n):
            sockets.append(socket.create_connection(("127.0.0.1", gateway.port), timeout=20))
        yield sockets
    finally:
        for s in sockets:
            s.close()


def answered(s):
    s.setblocking(False)
    try:
        return s.recv(1 << 16)
    except BlockingIOError:
        return b""
    except ConnectionResetError:
        return b"HTTP/1.1 503"
    finally:
        s.settimeout(20)


class Kept:
    """One connection, kept."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.http = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)

    def get(self, path):
        self.http.request("GET", path, headers={"Authorization": f"Bearer {self.gateway.token}"})
        answer = self.http.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def fill(gateway, sockets):
    """Until some are told that there is no room."""
    wait_for(lambda: sum(answered(s).startswith(b"HTTP/1.1 503") for s in sockets) > 0, "a connection that is turned away")


def test_it_says_so_and_does_not_spin(gateway):
    kept = Kept(gateway)
    assert kept.get("/api/v1/files?drive=home&path=/")[0] == 200
    with few_descriptors(gateway), crowd(gateway, 60) as sockets:
        fill(gateway, sockets)
        begin, used = time.monotonic(), processor_seconds(gateway)
        time.sleep(1.5)
        share = (processor_seconds(gateway) - used) / (time.monotonic() - begin)
        assert share < 0.2
        assert kept.get("/api/v1/files?drive=home&path=/")[0] == 200  # whom it has it serves
        with crowd(gateway, 1) as (late,):
            late.sendall(b"GET /actuator/health/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
            assert late.recv(1 << 16).startswith(b"HTTP/1.1 503")
    wait_for(lambda: Kept(gateway).get("/api/v1/files?drive=home&path=/")[0] == 200, "new connections to be served again")


@pytest.mark.embedded("a store elsewhere needs a connection, which is there already")
def test_what_needs_a_file_is_told_to_come_again(gateway):
    content = os.urandom(300_000)
    assert gateway.api("PUT", "/api/v1/files/content?drive=home&path=/f", body=content).status == 201
    url = "/api/v1/files/content?drive=home&path=/f"
    gateway.stop()
    gateway.start()  # nothing of it is in its memory
    kept = Kept(gateway)
    assert kept.get("/api/v1/files?drive=home&path=/f")[0] == 200
    with few_descriptors(gateway), crowd(gateway, 60) as sockets:
        fill(gateway, sockets)
        status, headers, _ = kept.get(url)
        assert status == 503 and int(headers["Retry-After"]) >= 1
    wait_for(lambda: Kept(gateway).get(url)[2] == content, "the file to be read again")


def test_many_at_once_are_answered_or_told_to_come_again(gateway):
    """Each thread of the gateway that reads wants a connection to the database of its own."""
    kept = [Kept(gateway) for _ in range(8)]
    url = "/api/v1/files?drive=home&path=/"
    assert all(k.get(url)[0] == 200 for k in kept)
    with few_descriptors(gateway), crowd(gateway, 60) as sockets:
        fill(gateway, sockets)
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            statuses = set().union(*threads.map(lambda k: {k.get(url)[0] for _ in range(200)}, kept))
        assert statuses <= {200, 503} and 200 in statuses
    assert all(k.get(url)[0] == 200 for k in kept)


def test_a_flood_and_slow_heads_end_by_themselves(gateway):
    """Connections that begin a request and never end it are closed, and hold up nobody meanwhile."""
    with crowd(gateway, 500) as sockets:
        for s in sockets:
            s.sendall(b"GET /api/v1/files HTTP/1.1\r\nX-Slow: ")
        for _ in range(20):
            assert gateway.api("GET", "/api/v1/files?drive=home&path=/").status == 200
        open_now = len(fds(gateway))
        assert open_now > 500
        for s in sockets[:250]:  # a byte now and then does not prolong it
            s.sendall(b"a")
        for s in sockets:
            assert s.recv(100) == b""
    wait_for(lambda: len(fds(gateway)) < open_now - 450, "their descriptors to be free")
