"""Locks end with their session: a mount that was away for too long finds that out before it does harm."""
import errno
import fcntl
import os
import socket
import threading

import pytest

from harness import wait_for
from test_cuts import proxy  # noqa: F401


def locked(path):
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def test_a_short_cut_keeps_the_locks(mounts, proxy):
    a, b = mounts.mount("a"), mounts.mount("b", url=f"http://127.0.0.1:{proxy.port}")
    with open(a / "f", "w") as f:
        f.write("0")
    fd = locked(b / "f")
    proxy.cut()
    wait_for(lambda: not b.status()["lease"], "the end of b's lease")
    with pytest.raises(BlockingIOError):
        locked(a / "f")
    proxy.mend()
    wait_for(lambda: b.status()["lease"], "the lease after the cut")
    os.pwrite(fd, b"1", 0)
    os.close(fd)
    assert open(a / "f").read() == "1"
    os.close(locked(a / "f"))


def test_a_long_cut_breaks_them(mounts, proxy):
    a, b = mounts.mount("a"), mounts.mount("b", url=f"http://127.0.0.1:{proxy.port}", o="timeout=5")
    for name in ("f", "free"):
        with open(a / name, "w") as f:
            f.write("before")
    fd, free = locked(b / "f"), os.open(b / "free", os.O_RDWR)
    os.pwrite(fd, b"under the lock", 0)  # not published: it is not unlocked, synced, or closed
    proxy.cut()

    def taken():
        try:
            return locked(a / "f")
        except BlockingIOError:
            return None
    mine = wait_for(taken, "the lock, which b lost", 45)
    for use in (lambda: os.pread(fd, 5, 0), lambda: os.pwrite(fd, b"x", 0), lambda: os.fsync(fd), lambda: fcntl.lockf(fd, fcntl.LOCK_UN)):
        with pytest.raises(OSError) as e:  # b is still cut off, and knows
            use()
        assert e.value.errno == errno.EIO
    assert os.pread(mine, 10, 0) == b"before"
    proxy.mend()
    wait_for(lambda: b.status()["lease"], "the lease after the cut")
    with pytest.raises(OSError) as e:
        os.close(fd)
    assert e.value.errno == errno.EIO
    wait_for(lambda: b.status()["dirtyFiles"] == 0, "what b had written to be sent")
    os.pwrite(mine, b"after!", 0)  # based on what was there when the lock was taken
    os.close(mine)
    assert open(a / "f").read() == open(b / "f").read() == "after!"
    sibling, = [n for n in os.listdir(a.path) if "conflict" in n]
    assert open(a / sibling).read() == "under the lock"
    assert os.pread(free, 10, 0) == b"before"  # without a lock nothing is lost
    os.close(free)
    fd = locked(b / "f")  # and new ones can be had
    os.pwrite(fd, b"again!", 0)
    os.close(fd)
    assert open(a / "f").read() == "again!"


class NoStreams:
    """A TCP proxy that lets every request through but the upgrade of a stream: its mounts never have a lease."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
                t = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            for x, y in ((s, t), (t, s)):
                threading.Thread(target=self.pump, args=(x, y), daemon=True).start()

    @staticmethod
    def pump(x, y):
        try:
            while (data := x.recv(1 << 16)) and b"/stream" not in data[:200]:
                y.sendall(data)
        except OSError:
            pass
        for s in (x, y):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def test_a_lock_revalidates_where_there_is_no_lease(mounts, gateway):
    """Open all the time, and told of nothing: what is read under the lock is what was written under it before."""
    way = NoStreams(gateway.port)
    a, b = mounts.mount("a"), mounts.mount("b", url=f"http://127.0.0.1:{way.port}")
    with open(a / "f", "w") as f:
        f.write("00")
    fd = os.open(b / "f", os.O_RDWR)
    for i in range(5):
        other = locked(a / "f")
        os.pwrite(other, b"%02d" % i, 0)
        os.close(other)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        assert os.pread(fd, 2, 0) == b"%02d" % i
        fcntl.lockf(fd, fcntl.LOCK_UN)
        assert not b.status()["lease"]
    os.close(fd)
    way.close()
