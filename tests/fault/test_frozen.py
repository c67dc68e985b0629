"""A gateway that is frozen: it takes connections, and answers nothing. Whoever has another one to ask does so after a few seconds."""
import errno
import os
import random
import signal
import socket
import sys
import threading
import time

import pytest
from harness import ROOT, Client
from realserver import RealServer

sys.path.append(os.path.join(ROOT, "scripts", "lib"))
from servers.nginx import upstream  # noqa: E402


class Frozen:
    """What is left of a gateway that was stopped by SIGSTOP."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.requests, self.held = self.listener.getsockname()[1], [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
                self.held.append(s)
                self.requests.append(s.recv(4096).split(b"\r\n")[0].decode())
            except OSError:
                return

    def close(self):
        self.listener.close()
        for s in self.held:
            s.close()


@pytest.fixture
def frozen():
    f = Frozen()
    yield f
    f.close()


@pytest.fixture
def front(folder, gateway, frozen):
    """nginx, as it is deployed, in front of the frozen gateway and a real one."""
    config = os.path.join(ROOT, "docker", "nginx", "nginx.conf.template")
    nginx = RealServer("nginx", os.path.join(folder, "nginx"), "config=" + config, "TLS=", "SERVERS=" + upstream([frozen.port, gateway.port])).start()
    c = Client()
    c.url, c.token, c.drive = nginx.url, gateway.token, gateway.drive
    yield c
    nginx.stop()


def test_a_frozen_gateway_holds_up_one_request_and_not_each(front, frozen):
    statuses = [front.api("GET", "/drives").status for _ in range(40)]
    assert set(statuses) == {200}
    assert 1 <= len(frozen.requests) <= 8, frozen.requests


def test_a_mount_goes_on_while_a_gateway_is_frozen(front, frozen, mounts):
    a, b = mounts.mount("a", front), mounts.mount("b", front)
    for i in range(100):
        with open(a / f"{i}", "w") as f:
            f.write(f"{i}")
        with open(b / f"{i}") as f:
            assert f.read() == f"{i}"
    assert sorted(map(int, os.listdir(b.path))) == list(range(100))
    assert 1 <= len(frozen.requests) <= 50, frozen.requests


@pytest.fixture
def stopped(gateway):
    """Stops the only gateway there is, as it is."""
    yield lambda: gateway.process.send_signal(signal.SIGSTOP)
    gateway.process.send_signal(signal.SIGCONT)


ASK = {
    "content": lambda m: os.pread(m.unread, 1, 0),
    "a chunk": lambda m: os.pread(m.read, 1, 4 << 20),
    "a name": lambda m: os.stat(m / "d/name"),
    "a listing": lambda m: os.listdir(m / "d"),
}


@pytest.mark.embedded("chunks come from the object store, which is not frozen")
@pytest.mark.parametrize("what", ASK)
def test_where_there_is_no_other_a_call_ends_when_its_time_is_over(mounts, stopped, what):
    a, b = mounts.mount("a"), mounts.mount("b", o="timeout=3")
    for name in ("read", "unread"):
        with open(a / name, "wb") as f:
            f.write(random.Random(name).randbytes(12 << 20))
    os.mkdir(a / "d")
    b.read, b.unread = os.open(b / "read", os.O_RDONLY), os.open(b / "unread", os.O_RDONLY)
    try:
        os.pread(b.read, 1, 8 << 20)
        os.stat(b / "d")
        stopped()
        begin = time.monotonic()
        with pytest.raises(OSError) as e:
            ASK[what](b)
        assert e.value.errno == errno.EIO
        assert time.monotonic() - begin < 18  # two silences of four seconds, and what machines are late; it would else be ten each
    finally:
        os.close(b.read)
        os.close(b.unread)
