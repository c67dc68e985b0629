"""A drive moves from one database to another while mounts of two gateways work in it; also where the move is killed, and run again."""
import contextlib
import os
import pathlib
import subprocess
import threading

import pytest

from backends import Postgres
from harness import Mounts, Program, fuse_is_missing, program, wait_for
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


@contextlib.contextmanager
def at_work(gateways, folder):
    """Writers in mounts of both gateways, and a second shard. At the end all that they made is there, once, and nothing else."""
    gateways.sql("create database second")
    gateways.admin("shard", "add", "second", gateways.server.url.rsplit("/", 1)[0] + "/second")
    mounts = Mounts(folder, gateways)
    try:
        a, b = (mounts.mount(name, url=each.url) for name, each in gateways.one.items())
        writers = [Writer(a / "from-a"), Writer(b / "from-b")]
        for w in writers:
            w.start()
        yield
        for w in writers:
            w.stop.set()
            w.join()
            assert w.failed is None and len(w.made) > 10
        for m in (a, b):
            assert content(m / "from-a") == writers[0].made
            assert content(m / "from-b") == writers[1].made
        listed = gateways.admin("shard", "list").stdout
        assert sorted(line.split("\t")[1] for line in listed.splitlines()) == ["0 drives", "1 drives"]
        assert "***" in listed
        print(f"{sum(len(w.made) for w in writers)} files are there")
    finally:
        mounts.close()
    assert gateways.admin("fsck").stdout.strip().endswith(": right")


def test_a_drive_moves_while_mounts_work_in_it(gateways, folder):
    with at_work(gateways, folder):
        for shard in ("second", "main", "second"):
            gateways.admin("drive", "move", gateways.drive, shard)


# ---- ended half-way ----

DATABASE = {"main": "cairn", "second": "second"}

# Each moment: in which shard ("to", "from", or the catalogue's) a trigger on what holds the move up just there.
MOMENTS = {
    "the copy": ("to", "before insert on inode for each row"),
    "between the copies": ("main", "before update on placement for each row when (new.moving_to is not null)"),
    "under the lock": ("to", "before insert on arriving for each row"),
    "between the two commits": ("from", "after delete on drive deferrable initially deferred for each row"),
    "not arrived yet": ("to", "before insert on drive for each row"),
    "in neither shard": ("main", "before update on placement for each row when (new.moving_to is null)"),
}


class Move:
    """`admin drive move` of `home`, to be killed."""

    def __init__(self, gateways, shard):
        self.gateways, self.to, self.database = gateways, shard, Postgres(gateways.server.folder)
        self.source = next(name for name in DATABASE if name != shard)

    def start(self):
        self.process = subprocess.Popen([program("cairn-gateway"), "admin", "drive", "move", self.gateways.drive, self.to, *self.gateways.stores], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)

    def kill(self):
        assert self.process.poll() is None, self.process.communicate()
        self.process.kill()
        self.process.communicate()

    def sleepers(self, what="pid"):
        return self.database.psql(f"select {what} from pg_stat_activity where wait_event = 'PgSleep'").split()

    def kill_at(self, where, trigger):
        database = DATABASE[{"to": self.to, "from": self.source}.get(where, where)]
        table = trigger.split(" on ")[1].split()[0]
        constraint = "constraint" if "deferrable" in trigger else ""
        self.database.psql(f"""create function hold() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return coalesce(new, old); end $$;
                               create {constraint} trigger hold {trigger} execute function hold()""", database)
        self.start()
        wait_for(self.sleepers, "the move at that moment")
        self.kill()
        self.sleepers("pg_terminate_backend(pid)")  # else it would not notice that its client has gone, and end what was begun
        wait_for(lambda: not self.sleepers(), "the end of its transaction")
        self.database.psql(f"drop trigger hold on {table}; drop function hold()", database)

    def kill_late(self):
        """When the drive is in its new shard, and the old rows are not removed yet."""
        self.start()
        wait_for(lambda: self.shard() == self.to, "the new place")
        self.kill()

    def shard(self):
        return self.database.psql("select shard from placement", DATABASE["main"]).strip()

    def again(self):
        self.gateways.admin("drive", "move", self.gateways.drive, self.to)
        assert self.shard() == self.to
        rows = [self.database.psql("select (select count(*) from drive), (select count(*) from inode) > 0", DATABASE[s]).strip() for s in (self.to, self.source)]
        assert rows == ["1|t", "0|f"], rows


def test_a_move_that_is_killed_at_any_moment_is_run_again(gateways, folder):
    shards = ["second", "main"] * len(MOMENTS)
    with at_work(gateways, folder):
        for moment in MOMENTS.values():
            move = Move(gateways, shards.pop(0))
            move.kill_at(*moment)
            move.again()
        move = Move(gateways, shards.pop(0))
        move.kill_late()
        move.again()
