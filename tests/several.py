"""Several gateways that share a PostgreSQL server and a folder of objects, and nothing else: no Redis, no RabbitMQ, nothing in front."""
import os
import signal
import subprocess

from harness import Client, end, program, reserve_port, tail, wait_for
from realserver import RealServer
from backends import Postgres


class One(Client):
    """One of them. Started again it has the same port."""

    def __init__(self, several, name):
        self.several, self.name, self.process, self.ended = several, name, None, True
        self.port = reserve_port(several.folder)
        self.log = os.path.join(several.folder, name + ".log")
        self.spool = os.path.join(several.folder, name + ".spool")

    @property
    def token(self):
        return self.several.token

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([program("cairn-gateway"), "serve", *self.several.stores, "--listen", f"127.0.0.1:{self.port}", "--advertise", "http://127.0.0.1:0",
                                             "--spool", self.spool, "--rate-limit", "0"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.ended = False
        wait_for(self._ready, f"gateway {self.name}")
        return self

    def _ready(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{tail(self.log)}"
        return self.ready()

    def term(self):
        """Asks it to drain; returns at once."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        self.ended = True
        self.process.kill()
        self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def metric(self, name):
        """Its value, 0 where it has none."""
        for line in self.api("GET", "/metrics").body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return 0

    def close(self):
        if not self.ended and self.process.poll() is None:
            self.thaw()
        status = 0 if self.ended or self.process is None else end(self.process, 40)
        print(f"---- {self.log}\n{tail(self.log)}")
        assert status == 0, f"{self.name} ended with {status}"


class Several(Client):
    """`a`, `b`, … in .one; a user `ann` who owns the drive `home`. objects: the URL of another store than a folder."""

    def __init__(self, folder, names="ab", objects=None):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.one = {}
        self.server = RealServer("postgres", os.path.join(self.folder, "postgres")).start()
        try:
            self.stores = ["--meta", self.server.url, "--objects", objects or f"file:{self.folder}/objects"]
            self.admin("user", "add", self.user, "--password-stdin", input=self.password + "\n")
            self.admin("drive", "create", self.drive, "--owner", self.user)
            self.token = self.admin("user", "token", self.user, "--days", "1").stdout.strip()
            for name in names:
                self.one[name] = One(self, name).start()
        except BaseException:
            self.close()
            raise

    def admin(self, *args, input=None):
        done = subprocess.run([program("cairn-gateway"), "admin", *args, *self.stores], input=input, capture_output=True, text=True)
        assert done.returncode == 0, f"admin {' '.join(args)}: exit {done.returncode}: {done.stderr}"
        return done

    def sql(self, statement):
        """On the database server. Lines, columns with | between them."""
        return Postgres(self.server.folder).psql(statement)

    def close(self):
        problems = []
        for each in self.one.values():
            try:
                each.close()
            except Exception as e:  # the others are to end as well
                problems.append(e)
        try:
            if self.one and not problems:
                print(self.admin("fsck").stdout)
        finally:
            self.server.kill()
        if problems:
            raise problems[0]
