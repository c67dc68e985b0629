"""Where the gateways of tests keep what they have: a folder and SQLite each (embedded), or, with CAIRN_TEST_BACKEND=servers, a database, a bucket, a virtual host and a Redis
database of their own on real servers that run as long as the tests do, with a worker beside each gateway."""
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
sys.path.append(os.path.join(ROOT, "scripts", "lib"))
from servers.postgres import Postgres  # noqa: E402
from servers.rabbitmq import Rabbitmq  # noqa: E402
from servers.redis import Redis  # noqa: E402
from servers.s3 import Minio  # noqa: E402

NAME = os.environ.get("CAIRN_TEST_BACKEND") or "embedded"
assert NAME in ("embedded", "servers"), f"CAIRN_TEST_BACKEND={NAME}: embedded or servers"
ON_SERVERS = NAME == "servers"


class Embedded:
    """Of one gateway, with all it has in `data`."""
    has_worker = False  # it is its own

    def __init__(self, data):
        self.folder = data
        self.options = ["--embedded", data]

    def drop(self):
        pass  # goes with the folder

    def second(self, data):
        """For another process on the same database and store."""
        for name in ("meta.db", "objects"):
            os.symlink(os.path.join(self.folder, name), os.path.join(data, name))
        return Embedded(data)

    def sql(self, statement, *args):
        """Rows, as lists. While no gateway runs there, if it changes anything."""
        with contextlib.closing(sqlite3.connect(os.path.join(self.folder, "meta.db"))) as db, db:
            return [list(row) for row in db.execute(statement, args)]

    def add_member(self, drive, user, role):
        self.sql("INSERT INTO member (drive, user, role) SELECT ?, id, ? FROM user WHERE name = ?", uuid.UUID(drive).bytes, role, user)

    def secret(self, name):
        return self.sql("SELECT value FROM secret WHERE name = ?", name)[0][0]


class OnServers:
    """Of one gateway, on the servers of this run."""
    has_worker = True

    def __init__(self, data, place=None):
        self.owned, self.place = place is None, place or servers.place()
        self.options = ["--spool", os.path.join(data, "spool")] + [word for name, url in self.place.items() if name != "name" for word in (f"--{name}", url)]

    def drop(self):
        if self.owned:
            servers.drop(self.place)

    def second(self, data):
        return OnServers(data, self.place)

    def sql(self, statement):
        """Rows, as lists of texts."""
        return [line.split("|") for line in servers.postgres.psql(statement, self.place["name"]).splitlines()]

    def add_member(self, drive, user, role):
        self.sql(f"INSERT INTO member (user_id, drive, role) SELECT id, '{drive}', {role} FROM users WHERE name = '{user}'")

    def secret(self, name):
        return bytes.fromhex(self.sql(f"SELECT encode(value, 'hex') FROM secret WHERE name = '{name}'")[0][0])


class Servers:
    """Those of this run."""

    def __init__(self, program):
        self.program = program  # the gateway's, for the schema
        self.lock, self.made = threading.Lock(), 0

    def start(self):
        self.folder = tempfile.mkdtemp(prefix="cairn-test-servers-")
        self.postgres, self.redis = Postgres(self.path("postgres")), Redis(self.path("redis"))
        self.rabbitmq, self.minio = Rabbitmq(self.path("rabbitmq")), Minio(self.path("minio"))
        options = {self.postgres: {"fsync": "off", "max_connections": "400"}, self.redis: {}, self.rabbitmq: {}, self.minio: {}}
        with ThreadPoolExecutor(len(options)) as pool:
            started = [pool.submit(server.start, given) for server, given in options.items()]
        for each in started:
            each.result()
        done = subprocess.run([self.program, "migrate", "--meta", self.postgres.url()], capture_output=True, text=True)
        assert done.returncode == 0, f"migrate: {done.stderr}"

    def path(self, name):
        return os.path.join(self.folder, name)

    def place(self):
        """A fresh one for a gateway: the words after each option of stores."""
        with self.lock:
            self.made += 1
            n, name = self.made, f"t{self.made}"
        self.postgres.psql(f"create database {name} template cairn")
        self.redis.cli("main", "-n", str(n % 16), "flushdb")
        return {"name": name, "meta": self.postgres.url(name), "objects": self.minio.add_bucket(f"bucket-{name}"), "cache": self.redis.url()[:-1] + str(n % 16),
                "events": self.rabbitmq.add_vhost(name)}

    def drop(self, place):
        self.postgres.psql(f"drop database if exists {place['name']} with (force)")
        self.rabbitmq.drop_vhost(place["name"])
        self.minio.drop_bucket(f"bucket-{place['name']}")

    def end(self):
        for server in (self.minio, self.rabbitmq, self.redis, self.postgres):
            server.kill()


servers = None  # set by conftest.py while tests run


def place_for(data):
    return (OnServers if ON_SERVERS else Embedded)(data)
