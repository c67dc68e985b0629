"""PostgreSQL: a cluster of one database `cairn`, owned by the user `cairn`. Options: any setting of postgresql.conf; replica-of=DIR streams from that one."""
import os
import re
import signal

from .base import Failed, Server, find_program, processes_in, wait_until


def bin_folder():
    """The newest that is installed; Debian keeps them out of $PATH."""
    root = "/usr/lib/postgresql"
    versions = sorted((v for v in os.listdir(root) if v.isdigit()), key=int) if os.path.isdir(root) else []
    return os.path.join(root, versions[-1], "bin") if versions else "/usr/bin"


class Postgres(Server):
    kind = "postgres"
    quit_signal = signal.SIGINT  # "fast": it does not wait for clients to go

    def tool(self, name):
        return find_program(name, bin_folder())

    @property
    def primary(self):
        folder = self.options.get("replica-of")
        return Postgres(folder) if folder else None

    def make(self):
        if self.primary:
            self.secrets = dict(self.primary.secrets)
            self.run([self.tool("pg_basebackup"), "--pgdata", self.path("data", "pg"), "--write-recovery-conf", "--checkpoint=fast", "--dbname",
                      f"host=127.0.0.1 port={self.primary.port()} user=cairn"], PGPASSWORD=self.secret("password"))
            return
        self.write("data/password", self.secret("password"), 0o600)
        self.own(self.path("data", "password"))
        self.run([self.tool("initdb"), "--pgdata", self.path("data", "pg"), "--username=cairn", "--pwfile", self.path("data", "password"), "--auth=scram-sha-256",
                  "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
        os.unlink(self.path("data", "password"))

    def remove_stale_lock(self):
        """Where the first process of a container reaps nobody, the corpse of a killed postmaster looks to PostgreSQL as if it still ran."""
        lock = self.path("data", "pg", "postmaster.pid")
        if os.path.exists(lock):
            wait_until(lambda: not processes_in(self.path("data", "pg")), 20, f"processes of the last {self.folder} still run")
            os.unlink(lock)

    def launch(self):
        self.remove_stale_lock()
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port()), "unix_socket_directories": "", "max_connections": "300", "shared_buffers": "64MB",
                    "log_min_messages": "warning", "wal_keep_size": "256MB",
                    **{k: v for k, v in self.options.items() if re.fullmatch(r"[a-z_.]+", k)}}
        self.spawn([self.tool("postgres"), "-D", self.path("data", "pg"), *(word for k, v in settings.items() for word in ("-c", f"{k}={v}"))])

    def psql(self, sql, database="postgres"):
        return self.run([self.tool("psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port()), "-U", "cairn", "-d", database],
                        input=sql, PGPASSWORD=self.secret("password"))

    def ready(self):
        try:
            return self.psql("select 1").strip() == "1"
        except Failed:
            return False

    def started(self):
        if not self.psql("select 1 from pg_database where datname = 'cairn'").strip():
            if self.psql("select pg_is_in_recovery()").strip() == "f":
                self.psql("create database cairn")

    def url(self, database="cairn"):
        return f"postgres://cairn:{self.secret('password')}@127.0.0.1:{self.port()}/{database}"

    def url_with(self, replica):
        """Of this one and its replica: whichever can be written to."""
        return (f"postgres://cairn:{self.secret('password')}@127.0.0.1:{self.port()},127.0.0.1:{replica.port()}/cairn"
                "?target_session_attrs=read-write&connect_timeout=3")

    def promote(self):
        """A replica becomes a primary, on a timeline of its own."""
        self.psql("select pg_promote(true, 60)")
