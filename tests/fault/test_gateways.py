"""What happens to gateways that serve one drive together: killed, frozen, drained. What a mount of one has finished, a mount of another never sees otherwise."""
import errno
import fcntl
import os
import threading
import time
import traceback

import pytest

from harness import Mounts, Program, fuse_is_missing, wait_for
from several import Several
from test_cuts import Proxy


class Way(Proxy):
    """What nginx is: a mount's way to a gateway, which may be another one the next time."""

    def __init__(self, gateway):
        super().__init__(gateway.port)

    def to(self, gateway):
        self.target = gateway.port


class Both:
    """Two gateways, a mount at each, and each mount's way."""

    def __init__(self, folder):
        self.gateways = Several(os.path.join(folder, "gateways"))
        self.at = self.gateways.one
        self.mounts = Mounts(folder, self.gateways)
        self.way = {name: Way(each) for name, each in self.at.items()}
        try:
            self.a, self.b = (self.mounts.mount(name, url=f"http://127.0.0.1:{way.port}") for name, way in self.way.items())
            for m in (self.a, self.b):
                wait_for(lambda: m.status()["lease"], "a cache lease")
        except BaseException:
            self.close()
            raise

    def close(self):
        try:
            for each in self.at.values():
                if each.process and each.process.poll() is None:
                    each.thaw()
            self.mounts.close()
        finally:
            for way in self.way.values():
                way.close()
            self.gateways.close()


@pytest.fixture
def both(folder):
    missing = fuse_is_missing()
    if missing:
        pytest.skip(missing)
    b = Both(folder)
    try:
        yield b
    finally:
        b.close()


def try_lock(fd):
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def mode(mount, name="f"):
    return os.lstat(mount / name).st_mode & 0o777


def test_one_that_was_killed_is_waited_for_once(both):
    a, b = both.a, both.b
    open(a / "f", "w").close()
    assert mode(b) == 0o644
    both.way["b"].cut()  # its mount goes on with what it has, as long as its lease runs
    both.at["b"].kill()
    os.chmod(a / "f", 0o600)
    assert not b.status()["lease"]  # it was waited for
    late = both.at["a"].metric("cairn_peer_late_total")
    for i in range(50):
        os.chmod(a / "f", 0o600 + i)
    assert both.at["a"].metric("cairn_peer_late_total") == late  # and is not any more
    both.way["b"].to(both.at["a"])
    both.way["b"].mend()
    wait_for(lambda: b.status()["lease"], "a lease of the other gateway")
    assert mode(b) == 0o600 + 49


def test_one_that_is_frozen_makes_nobody_believe_the_old(both):
    a, b = both.a, both.b
    open(a / "f", "w").close()
    assert mode(b) == 0o644
    seen = []
    both.at["b"].freeze()
    frozen = time.monotonic()
    os.chmod(a / "f", 0o600)
    look = threading.Thread(target=lambda: seen.append(mode(b)))  # asks the frozen gateway
    look.start()
    for i in range(64):
        os.chmod(a / "f", 0o700 + i)
    time.sleep(max(0, frozen + 10 - time.monotonic()))
    both.at["b"].thaw()
    assert mode(b) == 0o700 + 63
    look.join()
    assert seen[0] == 0o600 or seen[0] >= 0o700, oct(seen[0])
    wait_for(lambda: b.status()["lease"], "the lease of a thawed gateway")
    for i in range(64):  # both are what they were
        os.chmod(a / "f", 0o600 + i)
        assert mode(b) == 0o600 + i


def test_one_that_drains_hands_its_mounts_over(both):
    a, b = both.a, both.b
    with open(b / "f", "w") as f:
        f.write("before")
    fd = os.open(b / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.pwrite(fd, b"during", 0)
    both.way["b"].to(both.at["a"])
    both.at["b"].term()
    for i in range(200):  # nobody notices
        os.chmod(a / "f", 0o600 + i % 64)
        assert mode(b) == 0o600 + i % 64, i
    assert both.at["b"].process.wait(30) == 0
    both.at["b"].ended = True
    wait_for(lambda: b.status()["lease"], "a lease of the other gateway")
    mine = os.open(a / "f", os.O_RDWR)
    with pytest.raises(BlockingIOError):  # the lock has moved with its mount
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    fcntl.lockf(mine, fcntl.LOCK_EX)
    assert os.pread(mine, 10, 0) == b"during"
    os.close(mine)
    for i in range(20):
        os.chmod(a / "f", 0o600 + i)
    assert both.at["a"].metric("cairn_peer_late_total") == 0  # it said bye: nobody has waited until its interest was out


def test_locks_of_a_mount_that_died_with_its_gateway_end(both):
    a, b = both.a, both.b
    open(a / "f", "w").close()
    fd = os.open(b / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    both.at["b"].kill()
    b.process.kill()
    b.process.wait()
    mine = os.open(a / "f", os.O_RDWR)
    assert not try_lock(mine)  # its time is not over
    wait_for(lambda: try_lock(mine), "the lock of the dead", 60)
    os.close(mine)


def test_one_that_was_frozen_for_long_tells_its_mounts_what_they_lost(both):
    """The others have ended the sessions of its mounts; when it runs again, no program goes on under a lock that somebody else has."""
    a, b = both.a, both.b
    with open(a / "f", "w") as f:
        f.write("before")
    fd = os.open(b / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.pwrite(fd, b"under the lock", 0)  # not published
    both.at["b"].freeze()
    mine = os.open(a / "f", os.O_RDWR)
    wait_for(lambda: try_lock(mine), "the lock of those that are frozen", 60)
    assert os.pread(mine, 6, 0) == b"before"
    os.pwrite(mine, b"after!", 0)
    os.close(mine)
    both.at["b"].thaw()

    def knows():
        try:
            os.fsync(fd)
        except OSError as e:
            return e.errno == errno.EIO
        return False
    wait_for(knows, "b to know that its lock is lost")
    with pytest.raises(OSError):
        os.close(fd)
    wait_for(lambda: b.status()["dirtyFiles"] == 0, "what b had written to be sent")
    assert open(a / "f").read() == open(b / "f").read() == "after!"
    sibling, = [n for n in os.listdir(a.path) if "conflict" in n]
    assert open(a / sibling).read() == "under the lock"


def test_a_rolling_restart_is_not_noticed(both):
    """Each gateway is drained and comes back, twice, while programs work in both mounts."""
    stop, failures, done = threading.Event(), [], {"a": 0, "b": 0}

    def work(name, here, there):
        try:
            while not stop.is_set():
                n = done[name] = done[name] + 1
                path = f"{name}{n % 10}"
                with open(here / path, "w") as f:
                    f.write(f"{name} {n}")
                with open(there / path) as f:
                    assert f.read() == f"{name} {n}"
                os.rename(here / path, here / (path + ".moved"))
                assert not os.path.lexists(there / path)
                os.unlink(there / (path + ".moved"))
        except Exception:
            failures.append((name, done[name], traceback.format_exc()))
    threads = [Program(work, *args) for args in (("a", both.a, both.b), ("b", both.b, both.a))]
    for t in threads:
        t.start()
    try:
        for gone, other in 2 * (("a", "b"), ("b", "a")):
            both.way[gone].to(both.at[other])
            both.at[gone].term()
            assert both.at[gone].process.wait(40) == 0
            before = dict(done)
            wait_for(lambda: failures or all(done[n] > before[n] + 5 for n in done), "work on one gateway", 60)
            both.at[gone].start()
            both.way[gone].to(both.at[gone])
            both.way[other].to(both.at[gone])  # all go there next: the other is drained
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures, failures[0][2]


def test_without_the_store_no_promise_is_given(both):
    """A gateway that cannot renew its interest gives no lease: others, which still reach the store, would not wait for its mounts."""
    open(both.a / "f", "w").close()
    assert mode(both.b) == 0o644
    both.gateways.server.kill()
    for m in (both.a, both.b):
        wait_for(lambda: not m.status()["lease"], "the end of its lease")
    both.gateways.server.start()
    for m in (both.a, both.b):
        wait_for(lambda: m.status()["lease"], "a lease", 60)
    os.chmod(both.a / "f", 0o600)
    assert mode(both.b) == 0o600


def test_whatever_dies_nobody_sees_the_old(both):
    """One mount changes a file without a pause, the other looks without a pause; one gateway after the other is killed, and comes back."""
    a, b = both.a, both.b
    open(a / "f", "w").close()
    done, stop, failures = [0], threading.Event(), []

    def change():
        n = 0
        while not stop.is_set():
            n += 1
            os.utime(a / "f", ns=(n, n))
            done[0] = n

    def look():
        while not stop.is_set():
            least = done[0]
            seen = os.lstat(b / "f").st_mtime_ns
            if not least <= seen < 10**12:
                failures.append((least, seen))
                return
    threads = [Program(each) for each in (change, look)]
    os.utime(a / "f", ns=(0, 0))
    for t in threads:
        t.start()
    try:
        for victim, other in (("b", "a"), ("a", "b"), ("b", "a")):
            before = done[0]
            wait_for(lambda: done[0] > before + 50, "some changes", 30)
            both.way[victim].to(both.at[other])
            both.at[victim].kill()
            before = done[0]
            wait_for(lambda: done[0] > before + 50, "changes without it", 30)
            both.at[victim].start()
            both.way[victim].to(both.at[victim])
            both.way[victim].cut()  # back to its own
            both.way[victim].mend()
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures
    assert os.lstat(b / "f").st_mtime_ns == done[0]
