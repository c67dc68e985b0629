"""The driver ends while its other threads have something to tell the kernel: nothing of that goes to a descriptor that is the session's no more."""
import fcntl
import os
import platform
import signal
import threading

import pytest

from harness import Program, read, tail, wait_for

ROUNDS = 12
FLOCK = {"x86_64": 73, "aarch64": 32}  # numbers of the system call


@pytest.fixture
def changes(mounts):
    """Names made, moved and removed in folder d of a mount, again and again."""
    a = mounts.mount("a")
    os.mkdir(a / "d")
    over = threading.Event()

    def work():
        while not over.is_set():
            for i in range(10):
                path = a / f"d/f{i}"
                with open(path, "w") as f:
                    f.write("x")
                os.rename(path, path + "x")
                os.unlink(path + "x")

    worker = Program(work)
    worker.start()
    yield
    over.set()
    worker.join()


def test_amid_changes_made_elsewhere(mounts, changes):
    for i in range(ROUNDS):
        b = mounts.mount(f"b{i}")
        wait_for(lambda: b.status()["lease"], "a cache lease")
        before = b.status()["seq"]

        def looks():  # the kernel holds names that it must be told of
            for name in os.listdir(b / "d"):
                os.path.exists(b / f"d/{name}")
            return b.status()["seq"] >= before + 50
        wait_for(looks, "fifty changes")
        b.process.send_signal(signal.SIGTERM)
        assert b.process.wait(30) == 0
        assert not read(b.log), tail(b.log)


def in_call(pid, number):
    with open(f"/proc/{pid}/syscall") as f:
        return f.read().split()[0] == str(number)


def test_while_a_call_waits_for_a_lock(mounts):
    a, b = mounts.mount("a"), mounts.mount("b")
    with open(a / "f", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with open(b / "f") as f:
                    fcntl.flock(f, fcntl.LOCK_EX)
            except OSError as e:
                code = e.errno
            finally:
                os._exit(code)
        wait_for(lambda: in_call(pid, FLOCK[platform.machine()]), "the call to wait")
        b.process.send_signal(signal.SIGTERM)
        assert b.process.wait(30) == 0
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) != 0
    assert not read(b.log), tail(b.log)
