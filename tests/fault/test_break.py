"""kill -9 and full disks in the middle of everything: what was acknowledged is there, what is stored does not contradict itself, and it goes on when the cause is gone."""
import errno
import os
import subprocess
import time
import traceback

import pytest

from harness import Gateway, Mounts, Program, read, wait_for, write

MIB = 1 << 20


class Saver(Program):
    """Saves files as editors do (write a new one, rename it), one after the other, until it is stopped or the mount dies. `saved` is what a program was told is safe."""

    def __init__(self, mount, name):
        super().__init__()
        self.mount, self.name, self.saved, self.torn, self.n, self.stopping, self.failed = mount, name, {}, set(), 0, False, None
        os.makedirs(mount / name, exist_ok=True)

    def programs(self):
        while not self.stopping:
            self.n += 1
            place, content = f"{self.name}/{self.n % 40}", f"{self.name} {self.n} ".encode() * (1 + self.n * 37 % 3000)
            try:
                self.torn.add(place)
                with open(self.mount / (place + ".new"), "wb") as f:
                    f.write(content)
                os.rename(self.mount / (place + ".new"), self.mount / place)
                self.saved[place] = content
                self.torn.discard(place)
            except OSError as e:
                self.failed = (self.n, traceback.format_exc(), e)
                return

    def stop(self):
        self.stopping = True
        self.join(60)
        assert not self.is_alive(), "a call hangs"


def check(mount, saver):
    for place, content in saver.saved.items():
        with open(mount / place, "rb") as f:
            there = f.read()
        if place in saver.torn:  # the save that was cut off may have happened, whole, or not
            assert there == content or there.startswith(f"{saver.name} ".encode()) and len(set(there.split(b" ")[1::2])) == 1, place
        else:
            assert there == content, place


def test_the_driver_dies_again_and_again(mounts, gateway):
    a = mounts.mount("a")
    saved = {}
    for turn in range(4):
        savers = [Saver(a, f"{turn}-{i}") for i in range(3)]
        for s in savers:
            s.start()
        wait_for(lambda: all(s.n > 60 for s in savers), "some files", 60)
        a.kill()
        for s in savers:
            s.stop()
            saved[s.name] = s
        gateway.fsck()
        a.start()
        for s in saved.values():
            check(a, s)
    assert not [n for s in saved for n in os.listdir(a / s) if "conflict" in n]


def test_the_gateway_dies_again_and_again(mounts, gateway):
    """Programs notice nothing but the wait."""
    a, b = mounts.mount("a"), mounts.mount("b")
    savers = [Saver(a, "a"), Saver(a, "a2"), Saver(b, "b")]
    for s in savers:
        s.start()
    for _ in range(4):
        seen = [s.n for s in savers]
        wait_for(lambda: all(s.failed or s.n > n + 30 for s, n in zip(savers, seen)), "more files", 60)
        gateway.kill()
        gateway.fsck()
        gateway.start()
    for s in savers:
        s.stop()
        assert s.failed is None
        check(a, s)
        check(b, s)
        assert not [n for n in os.listdir(a / s.name) if "conflict" in n]


def test_both_die_in_turn(mounts, gateway):
    a = mounts.mount("a")
    saved = []
    for turn in range(3):
        s = Saver(a, f"{turn}")
        s.start()
        wait_for(lambda: s.n > 50, "some files", 60)
        gateway.kill()
        time.sleep(0.05)
        a.kill()
        s.stop()
        saved.append(s)
        gateway.fsck()
        gateway.start()
        a.start()
        for s in saved:
            check(a, s)
    gateway.fsck("scrub")


# ---- full disks ----

class Disk:
    """A file system of its own, small, that can be given more room."""

    def __init__(self, path, size):
        self.path = path
        os.makedirs(path)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "cairn-test", path], capture_output=True)
        if done.returncode:
            pytest.skip("no tmpfs can be mounted here")

    def resize(self, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False, capture_output=True)


def test_the_cache_disk_is_full(folder, gateway):
    """Clean content goes first; what cannot be held at all is ENOSPC; nothing that was there is harmed."""
    disk = Disk(os.path.join(folder, "disk"), 40 * MIB)
    mounts = Mounts(disk.path, gateway)
    try:
        a = mounts.mount("a")
        parts = [os.urandom(12 * MIB) for _ in range(8)]
        for i, data in enumerate(parts):  # more than the disk holds: each is on the gateway when it is closed
            write(a / f"f{i}", data)
        for i, data in enumerate(parts):
            assert read(a / f"f{i}") == data
        ballast = os.path.join(disk.path, "ballast")
        with open(ballast, "wb") as f, pytest.raises(OSError):
            while True:
                f.write(bytes(MIB))
                f.flush()
        try:
            write(a / "g", os.urandom(30 * MIB))
        except OSError as e:
            assert e.errno in (errno.ENOSPC, errno.EIO)
        for i, data in enumerate(parts):
            try:
                assert read(a / f"f{i}") == data
            except OSError as e:
                assert e.errno in (errno.ENOSPC, errno.EIO)
        os.unlink(ballast)
        for i, data in enumerate(parts):
            assert read(a / f"f{i}") == data
        write(a / "h", parts[0])
        assert read(a / "h") == parts[0]
        assert a.unmount() == 0
        a.start()
        assert read(a / "h") == parts[0] and read(a / "f7") == parts[7]
    finally:
        mounts.close()
        disk.close()


def test_the_gateways_disk_is_full(folder):
    disk = Disk(os.path.join(folder, "disk"), 48 * MIB)
    g = Gateway(os.path.join(disk.path, "gateway"))
    mounts = Mounts(folder, g)
    try:
        g.start()
        a = mounts.mount("a", o="timeout=5")
        kept = {}
        with pytest.raises(OSError) as e:
            for i in range(64):
                data = os.urandom(3 * MIB)
                write(a / f"f{i}", data)
                kept[f"f{i}"] = data
        assert e.value.errno in (errno.ENOSPC, errno.EIO) and len(kept) > 5
        with pytest.raises(OSError) as e:  # small ones go into the database
            for i in range(2000):
                write(a / f"small{i}", os.urandom(60000))
                kept[f"small{i}"] = None
        assert e.value.errno in (errno.ENOSPC, errno.EIO)
        assert g.process.poll() is None
        assert g.api("PUT", "/files/content" + g.query(drive="home", path="/x"), body=os.urandom(8 * MIB)).status == 507
        for name, data in kept.items():
            assert data is None or read(a / name) == data
        g.fsck()
        disk.resize(512 * MIB)
        write(a / "after", b"there is room again")
        assert read(a / "after") == b"there is room again"
        wait_for(lambda: a.status()["dirtyFiles"] == 0, "what could not be sent has left", 60)
        assert a.unmount() == 0
        g.fsck("scrub")
        a.start()
        for name, data in kept.items():
            assert data is None or read(a / name) == data
        mounts.close()
    finally:
        mounts.close()
        g.close()
        disk.close()
