"""A cache lease is counted from when its heart-beat was sent, and before it is out the kernel has forgotten: however late the answers come."""
import os
import queue
import socket
import threading
import time

import pytest

from harness import wait_for


class SlowWay:
    """A TCP proxy whose way back takes its time, and which can swallow what comes from now on, while what is on its way still arrives."""

    def __init__(self, port, delay):
        self.target, self.delay, self.swallows, self.sockets = port, delay, False, []
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
            self.sockets += [s, t]
            late = queue.Queue()
            for call, args in ((self.forth, (s, t)), (self.collect, (t, late)), (self.back, (late, s))):
                threading.Thread(target=call, args=args, daemon=True).start()

    def forth(self, s, t):
        try:
            while data := s.recv(1 << 16):
                t.sendall(data)
            t.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def collect(self, t, late):
        try:
            while data := t.recv(1 << 16):
                if not self.swallows:
                    late.put((time.monotonic() + self.delay, data))
        except OSError:
            pass
        late.put((time.monotonic() + self.delay, b""))

    def back(self, late, s):
        try:
            while True:
                due, data = late.get()
                time.sleep(max(0, due - time.monotonic()))
                if not data:
                    s.shutdown(socket.SHUT_WR)
                    return
                s.sendall(data)
        except OSError:
            pass

    def heal(self):
        """What was swallowed is never sent again: those connections end."""
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.sockets, self.swallows = [], False

    def close(self):
        self.listener.close()
        self.heal()


@pytest.fixture
def slow(gateway):
    p = SlowWay(gateway.port, 0.7)
    yield p
    p.close()


def mode_of(path):
    """None while there is no lease."""
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        return None


def test_a_late_lease_is_not_a_longer_one(mounts, slow):
    a, b = mounts.mount("a"), mounts.mount("b", url=f"http://127.0.0.1:{slow.port}", o="strict,timeout=2")
    path = b / "f"
    open(a / "f", "w").close()
    for turn in range(2):  # a third time within a minute, and b would get no lease for a minute
        old, new = 0o600 + turn, 0o601 + turn
        os.chmod(a / "f", old)
        wait_for(lambda: b.status()["lease"], "a lease", 90)
        wait_for(lambda: mode_of(path) == old and b.status()["lease"] and mode_of(path) == old, "the old mode, which the kernel has then")
        time.sleep(0.25 * turn)
        slow.swallows = True  # b hears of nothing that happens from here on, but of leases granted before
        os.chmod(a / "f", new)  # returns when b's lease is out
        healing = threading.Timer(1, slow.heal)
        healing.start()
        try:
            assert os.stat(path).st_mode & 0o777 == new, "b answers from what it may not trust any more"
        except OSError:
            pass  # it cannot know, and says so
        healing.join()
        wait_for(lambda: b.status()["lease"], "the lease after the silence", 90)
        assert os.stat(path).st_mode & 0o777 == new


def test_an_upgrade_that_is_never_answered(mounts, slow):
    b = mounts.mount("b", url=f"http://127.0.0.1:{slow.port}")
    wait_for(lambda: b.status()["lease"], "a lease")
    slow.heal()  # the stream is lost…
    slow.swallows = True  # …and the next one is never answered
    wait_for(lambda: slow.sockets, "another connection")
    time.sleep(12)  # longer than a connection may take
    slow.heal()
    wait_for(lambda: b.status()["lease"], "the lease after that")
