"""A drive moves from one database to another while mounts of two gateways work in it."""
import os
import pathlib
import threading

import pytest

from harness import Mounts, Program, fuse_is_missing
from several import Several


class Writer(Program):
    """Makes files in a directory of its own, reads them back, and removes every third, until it is stopped."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.stop, self.made, self.failed = pathlib.Path(folder), threading.Event(), {}, None
        self.folder.mkdir()

    def programs(self):
        try:
            for n in range(100000):
                if self.stop.is_set():
                    return
                self.one(n)
        except OSError as e:
            self.failed = e

    def one(self, n):
        path, text = self.folder / f"f{n}", f"{n} " * (n % 500)
        with open(path, "w") as f:
            f.write(text)
        with open(path) as f:
            assert f.read() == text
        if n % 3 == 0:
            os.unlink(path)
        else:
            self.made[path.name] = text


@pytest.fixture
def gateways(folder):
    if fuse_is_missing():
        pytest.skip(fuse_is_missing())
    several = Several(os.path.join(folder, "gateways"))
    try:
        yield several
    finally:
        several.close()


def content(folder):
    return {e.name: pathlib.Path(e.path).read_text() for e in os.scandir(folder)}


def test_a_drive_moves_while_mounts_work_in_it(gateways, folder):
    second = gateways.server.url.rsplit("/", 1)[0] + "/second"
    gateways.sql("create database second")
    gateways.admin("shard", "add", "second", second)
    mounts = Mounts(folder, gateways)
    try:
        a, b = (mounts.mount(name, url=each.url) for name, each in gateways.one.items())
        writers = [Writer(a / "from-a"), Writer(b / "from-b")]
        for w in writers:
            w.start()
        for shard in ("second", "main", "second"):
            gateways.admin("drive", "move", gateways.drive, shard)
        for w in writers:
            w.stop.set()
            w.join()
            assert w.failed is None and len(w.made) > 10
        for m in (a, b):
            assert content(m / "from-a") == writers[0].made
            assert content(m / "from-b") == writers[1].made
        listed = gateways.admin("shard", "list").stdout
        assert [line.split("\t")[:2] for line in listed.splitlines()] == [["main", "0 drives"], ["second", "1 drives"]]
        assert "***" in listed
        print(f"{sum(len(w.made) for w in writers)} files are there")
    finally:
        mounts.close()
    assert gateways.admin("fsck").stdout.strip().endswith(": right")
