"""What the network and crashes do to mounts: nothing is lost, nothing stays wrong, no call hangs for ever."""
import errno
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness import wait_for


class Proxy:
    """A TCP proxy that can be cut: connections are dropped and new ones refused."""

    def __init__(self, port):
        self.target, self.open, self.pairs, self.lock = port, True, [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                s.close()
                continue
            try:
                t = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                s.close()
                continue
            with self.lock:
                self.pairs.append((s, t))
                if not self.open:  # since a moment ago
                    self.end_pairs()
            for x, y in ((s, t), (t, s)):
                threading.Thread(target=self.pump, args=(x, y), daemon=True).start()

    def passes(self, data):
        return True

    def pump(self, x, y):
        try:
            while (data := x.recv(1 << 16)) and self.passes(data):
                y.sendall(data)
        except OSError:
            pass
        for s in (x, y):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        with self.lock:
            self.open = False
            self.end_pairs()

    def end_pairs(self):
        for pair in self.pairs:
            for s in pair:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []

    def mend(self):
        self.open = True

    def close(self):
        self.cut()
        self.listener.close()


@pytest.fixture
def proxy(gateway):
    p = Proxy(gateway.port)
    yield p
    p.close()


def test_a_mount_that_was_cut_off_catches_up(mounts, proxy):
    a, b = mounts.mount("a"), mounts.mount("b", url=f"http://127.0.0.1:{proxy.port}")
    for i in range(20):
        with open(a / f"f{i}", "w") as f:
            f.write("old")
    assert all(open(b / f"f{i}").read() == "old" for i in range(20))
    wait_for(lambda: b.status()["lease"], "a lease")
    proxy.cut()
    for i in range(10):
        with open(a / f"f{i}", "w") as f:
            f.write("new content")
    for i in range(10, 20):
        os.unlink(a / f"f{i}")
    wait_for(lambda: not b.status()["lease"], "the end of b's lease")
    assert open(b / "f0").read() == "old"  # cut off from every gateway: it goes on from what it has
    assert not b.status()["lease"]
    proxy.mend()
    wait_for(lambda: b.status()["lease"], "the lease after the cut")
    assert all(open(b / f"f{i}").read() == "new content" for i in range(10))
    assert sorted(os.listdir(b.path)) == sorted(f"f{i}" for i in range(10))


def test_a_gateway_that_is_gone_for_a_moment_is_looked_for_first(mounts, proxy):
    """Before a mount believes its cache for want of a gateway: the next one may be there already."""
    a, b = mounts.mount("a"), mounts.mount("b", url=f"http://127.0.0.1:{proxy.port}")
    open(a / "f", "w").close()
    assert os.lstat(b / "f").st_mode & 0o777 == 0o644
    wait_for(lambda: b.status()["lease"], "a lease")
    proxy.cut()
    os.chmod(a / "f", 0o600)  # waits until the lease of b is out
    mending = threading.Timer(0.3, proxy.mend)
    mending.start()
    assert os.lstat(b / "f").st_mode & 0o777 == 0o600
    mending.join()


def test_strict_refuses_when_cut_off(mounts, proxy):
    b = mounts.mount("b", url=f"http://127.0.0.1:{proxy.port}", o="strict,timeout=2")
    open(b / "f", "w").close()
    proxy.cut()
    wait_for(lambda: not b.status()["lease"], "the end of its lease")
    with pytest.raises(OSError) as e:
        open(b / "f")
    assert e.value.errno == errno.EIO
    proxy.mend()
    wait_for(lambda: b.status()["lease"], "the lease after the cut")
    open(b / "f").close()


class CutAt(Proxy):
    """Is cut when it is asked for something."""

    def __init__(self, port, what):
        self.what = what
        super().__init__(port)

    def passes(self, data):
        if self.what in data:
            self.cut()
        return self.open


def test_a_mount_whose_gateway_goes_while_it_starts_has_a_lease_later(mounts, gateway):
    p = CutAt(gateway.port, b"/statfs")
    try:
        b = mounts.mount("b", url=f"http://127.0.0.1:{p.port}", o="timeout=2")
        wait_for(lambda: not p.open, "the cut")
        time.sleep(3)  # the first answer of the mount, for which it waited, is an error
        p.what = b"nothing"
        p.mend()
        wait_for(lambda: b.status()["lease"], "a lease")
    finally:
        p.close()


def test_a_gateway_that_is_away_is_waited_for_and_then_eio(mounts, gateway):
    a = mounts.mount("a", o="timeout=3")
    with open(a / "f", "w") as f:
        f.write("kept")
    gateway.kill()
    begin = time.monotonic()
    with pytest.raises(OSError) as e:
        os.mkdir(a / "d")
    assert e.value.errno == errno.EIO
    assert 2 < time.monotonic() - begin < 20
    assert open(a / "f").read() == "kept"
    with pytest.raises(OSError) as e:
        open(a / "g", "x")
    assert e.value.errno == errno.EIO
    gateway.start()
    wait_for(lambda: a.status()["online"], "the connection")
    os.mkdir(a / "e")
    assert sorted(os.listdir(a.path)) == ["e", "f"]


WRITER = """
import sys, time
path, source = sys.argv[1:]
data = open(source, "rb").read()
with open(path, "wb") as f:
    for i in range(64):
        f.write(data)
        time.sleep(0.05)
"""


def test_a_program_notices_nothing_but_the_wait(mounts, gateway, folder):
    """A process of its own: a gateway started from the writer would inherit the file, and its close would wait for itself."""
    a = mounts.mount("a")
    data = os.urandom(1 << 20)
    with open(f"{folder}/data", "wb") as f:
        f.write(data)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, a / "big", f"{folder}/data"])
    for _ in range(2):
        time.sleep(1)
        gateway.kill()
        time.sleep(1)
        gateway.start()
    assert writer.wait(60) == 0
    a.unmount()
    a.start()
    assert open(a / "big", "rb").read() == data * 64


def test_what_close_published_survives_the_death_of_everything(mounts, gateway):
    a = mounts.mount("a")
    for i in range(50):
        with open(a / f"f{i}", "w") as f:
            f.write(str(i))
    a.kill()
    gateway.kill()
    gateway.start()
    a.start()
    assert [open(a / f"f{i}").read() for i in range(50)] == [str(i) for i in range(50)]


def test_what_was_written_but_not_closed_is_found_again(mounts, gateway):
    """The driver dies in the middle of a write: what had been written is journalled and is committed when it starts again."""
    a = mounts.mount("a")
    data = os.urandom(10 << 20)
    fd = os.open(a / "f", os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    a.kill()
    try:
        os.close(fd)
    except OSError:
        pass
    a.start()
    wait_for(lambda: a.status()["dirtyFiles"] == 0, "the journal to be sent", 30)
    assert open(a / "f", "rb").read() == data


def test_a_client_that_missed_more_than_is_kept_starts_afresh(mounts, gateway, proxy):
    a, b = mounts.mount("a"), mounts.mount("b", url=f"http://127.0.0.1:{proxy.port}")
    with open(a / "f", "w") as f:
        f.write("old")
    assert open(b / "f").read() == "old"
    held = open(b / "f")
    proxy.cut()
    with open(a / "f", "w") as f:
        f.write("new content")
    os.mkdir(a / "d")
    gateway.admin("changes", "trim", gateway.drive, "--keep", "0")
    wait_for(lambda: not b.status()["lease"], "the end of b's lease")
    proxy.mend()
    wait_for(lambda: b.status()["lease"], "the lease after the cut")
    assert open(b / "f").read() == "new content"
    assert held.read() == "new content"
    held.close()
    assert sorted(os.listdir(b.path)) == ["d", "f"]
