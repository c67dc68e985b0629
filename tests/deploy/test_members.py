"""docker/postgres/member with real PostgreSQL: whatever happens to the two members, one at a time takes writes, and what it has is never replaced by less."""
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from harness import ROOT, wait_for

sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))
from servers.base import USER, open_way, reserve_port  # noqa: E402
from servers.postgres import bin_folder  # noqa: E402

PATIENCE = 2
OPTIONS = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=16MB", "wal_retrieve_retry_interval=200ms", "fsync=off"]


class Member:
    def __init__(self, folder, name):
        self.name, self.folder, self.port, self.process = name, os.path.join(folder, name), reserve_port(folder), None
        os.makedirs(self.folder)
        self.user = USER if os.geteuid() == 0 else None
        if self.user:
            user = pwd.getpwnam(self.user)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.data, self.log = os.path.join(self.folder, "pg"), os.path.join(folder, name + ".log")
        self.script = os.path.join(folder, "member")

    def environment(self, first):
        return {**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, "PATH": bin_folder() + ":" + os.environ["PATH"], "MEMBER": self.name, "FIRST": first, "PORT": str(self.port),
                "PEER_HOST": "127.0.0.1", "PEER_PORT": str(self.peer.port), "PGDATA": self.data, "PATIENCE": str(PATIENCE), "POSTGRES_USER": "cairn", "POSTGRES_PASSWORD": "a secret",
                "POSTGRES_DB": "cairn", "REPLICATION_PASSWORD": "it's a secret"}

    def start(self, first="one"):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["sh", self.script, *(word for o in OPTIONS for word in ("-c", o))], env=self.environment(first), stdout=log, stderr=log, cwd=self.folder, user=self.user,
                                            group=pwd.getpwnam(self.user).pw_gid if self.user else None, extra_groups=[] if self.user else None, start_new_session=True)
        return self

    def end(self, number=signal.SIGINT):
        """By default as a container is stopped; postgres takes SIGINT for that."""
        if self.process:
            os.killpg(self.process.pid, number) if number == signal.SIGKILL else self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def promote(self, first):
        return subprocess.run(["sh", self.script, "promote"], env=self.environment(first), capture_output=True, text=True, timeout=90)

    def psql(self, sql, *others):
        members = (self, *others)
        return subprocess.run(["psql", "-XAtq", "-d", f"host={','.join('127.0.0.1' for m in members)} port={','.join(str(m.port) for m in members)} user=cairn dbname=cairn connect_timeout=3",
                               "-c", sql], capture_output=True, text=True, timeout=60, env={**self.environment(""), "PGPASSWORD": "a secret"})

    def asked(self, sql):
        done = self.psql(sql)
        return done.stdout.strip() if done.returncode == 0 else None

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def takes_writes(self):
        self.wait(lambda: self.asked("select pg_is_in_recovery()") == "f", "taking writes")
        return self

    def follows(self, what="select count(*) from t", result=None):
        self.wait(lambda: self.asked("select pg_is_in_recovery()") == "t" and (result is None or self.asked(what) == result), "following")
        return self

    def waits(self, words):
        self.wait(lambda: re.search(words, self.said()), words)
        self.wait(lambda: "waiting, timeline" in self.psql("select 1").stderr, "waiting")

    def wait(self, condition, what):
        def happened():
            assert self.process.poll() is None, self.said()[-3000:]
            return condition()
        try:
            wait_for(happened, what, 60)
        except AssertionError as e:
            raise AssertionError(f"{self.name}: {e}\n{self.said()[-3000:]}") from None


def pair(folder):
    shutil.copy(os.path.join(ROOT, "docker/postgres/member"), os.path.join(folder, "member"))
    os.chmod(folder, 0o755)
    one, two = Member(folder, "one"), Member(folder, "two")
    one.peer, two.peer = two, one
    if one.user:
        open_way(one.folder)
    return one, two


@pytest.fixture(scope="module")
def made():
    """Both, from nothing, and stopped: the first has made the database, the second follows."""
    folder = tempfile.mkdtemp(prefix="cairn-test-")
    one, two = pair(folder)
    try:
        two.start().waits("has nothing")
        one.start().takes_writes()
        one.asked("create table t (n int)")
        insert(one, 1)
        two.follows(result="1")
        one.end()
        two.end()
        yield one, two
    finally:
        one.end(signal.SIGKILL)
        two.end(signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture
def members(made, folder):
    """A pair with that data."""
    members = pair(folder)
    for m, seed in zip(members, made):
        subprocess.run(["cp", "-a", seed.data, m.data], check=True)
    yield members
    for m in members:
        m.end(signal.SIGKILL)


@pytest.fixture
def running(members):
    one, two = members
    is_one_cluster(one.start(), two.start(), "1")
    return members


def insert(member, n):
    assert member.asked(f"insert into t values ({n})") == ""


def rows(member):
    return member.asked("select string_agg(n::text, ' ' order by n) from t")


def is_one_cluster(primary, standby, wanted):
    primary.takes_writes()
    standby.follows("select string_agg(n::text, ' ' order by n) from t", wanted)
    assert rows(primary) == wanted
    primary.wait(lambda: primary.asked("select usename || ' ' || application_name from pg_stat_replication") == f"replicator {standby.name}", "streaming")


def test_the_second_follows_and_each_comes_back_as_what_it_was(running):
    one, two = running
    assert "password" not in open(os.path.join(two.data, "postgresql.auto.conf")).read()
    for number in (signal.SIGINT, signal.SIGKILL):
        for m in (one, two):
            m.end(number)
            m.start()
            is_one_cluster(one, two, "1")
    one.end()
    two.end()
    one.start()
    two.start()
    is_one_cluster(one, two, "1")
    assert one.asked("select timeline_id from pg_control_checkpoint()") == "1"


def test_the_first_comes_back_behind_the_one_that_was_promoted(running):
    one, two = running
    assert two.promote("one").returncode == 1 and "not named as the first" in two.promote("one").stderr
    refused = two.promote("two")
    assert refused.returncode == 1 and "stop it first" in refused.stderr
    two.end()
    insert(one, 100)  # what only the first has is lost with it
    one.end(signal.SIGKILL)
    two.start(first="two").follows(result="1")
    assert two.promote("two").returncode == 0
    two.takes_writes()
    insert(two, 2)
    one.start(first="two")
    is_one_cluster(two, one, "1 2")
    assert "pg_rewind: Done!" in one.said() and "copies" not in one.said(), one.said()
    insert(two, 3)
    # and so on from there: each alone, both at once
    for m in (one, two):
        m.end(signal.SIGKILL)
        m.start(first="two")
        is_one_cluster(two, one, "1 2 3")
    one.end()
    two.end(signal.SIGKILL)
    two.start(first="two")
    one.start(first="two")
    is_one_cluster(two, one, "1 2 3")


def test_the_later_one_takes_writes_also_where_nobody_has_said_so(running):
    """Promoted by hand, and the first not named anew: both start at once."""
    one, two = running
    one.end(signal.SIGKILL)
    two.asked("select pg_promote()")
    insert(two, 2)
    two.end(signal.SIGKILL)
    two.start().waits("has taken writes before, on timeline 2, and is not the first")  # alone it does not
    one.start()
    one.wait(lambda: "waiting, timeline 2: waits" in one.said(), "hearing of the later one")
    two.end(signal.SIGKILL)
    one.wait(lambda: "refused" in one.said()[one.said().rindex("waiting, timeline 2"):], "hearing it no more")
    time.sleep(PATIENCE + 2)
    assert one.asked("select 1") is None, "what it has heard it does not forget"
    two.start()
    is_one_cluster(two, one, "1 2")
    # Where the first is asked about it, it has a newer one beside it
    two.end()
    two.start().waits("on timeline 2, and is not the first; 127.0.0.1: standby")
    assert two.psql("select pg_is_in_recovery()", one).stdout == "t\n", "a client that names both goes on to the next"
    two.end(signal.SIGTERM)
    two.start(first="two")
    is_one_cluster(two, one, "1 2")


def test_a_lost_volume_is_copied_and_never_made_anew(running):
    one, two = running
    for lost, other in ((two, one), (one, two)):
        for m in running:
            m.end()
        shutil.rmtree(lost.data)
        lost.start(first=lost.name).waits("has nothing, and 127.0.0.1 does not take writes: waits .*refused")
        other.start(first=lost.name)
        if other is one:  # it took writes, and the other says that it has nothing
            is_one_cluster(one, two, "1")
    # The standby that is left takes writes when it is promoted, which needs its being named.
    two.follows(result="1")
    assert not os.path.exists(one.data)
    assert two.promote("two").returncode == 0
    is_one_cluster(two, one, "1")


def test_alone_only_the_first_takes_writes(running):
    one, two = running
    one.end()
    two.end()
    one.start(first="two").waits("has taken writes before, on timeline 1, and is not the first")
    # Clients that name both do not stop at one that waits.
    assert "refused" in one.psql("select 7", two).stderr
    one.end(signal.SIGTERM)
    one.start(first="one").takes_writes()
    insert(one, 2)
    assert rows(one) == "1 2" and two.psql("select 7", one).stdout == "7\n"


def test_another_database_is_not_touched(members):
    """Two that know nothing of each other, each with data that are nowhere else."""
    one, two = members
    os.rename(one.data, one.data + ".kept")
    shutil.rmtree(two.data)
    one.start(first="two")
    two.start(first="two").takes_writes()
    one.end(signal.SIGKILL)
    two.end()
    shutil.rmtree(one.data, ignore_errors=True)
    os.rename(one.data + ".kept", one.data)
    one.start().takes_writes()
    two.start()
    assert two.process.wait(30) == 1
    assert "another database" in two.said()
    one.end()
    assert two.start(first="two").takes_writes().asked("select count(*) from pg_class where relname = 't'") == "0"


def test_what_was_interrupted_is_done_again(running):
    """A rewind that did not end leaves nothing that can be used; the old data are kept beside the copy that is made then."""
    one, two = running
    one.end(signal.SIGKILL)
    assert two.promote("two").returncode == 0
    insert(two, 2)
    two.end()
    open(one.data + ".rewinding", "w").close()
    one.start(first="one").waits("was about to become a standby")
    two.start(first="two")
    is_one_cluster(two, one, "1 2")
    assert os.path.exists(os.path.join(one.data + ".old", "PG_VERSION")) and not os.path.exists(one.data + ".rewinding")
