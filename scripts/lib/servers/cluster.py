"""All of Cairn on one machine: PostgreSQL (the catalogue and two shards), Redis, RabbitMQ, MinIO, nginx, gateways, a worker; each part a folder of DIR, and DIR/env, which says
where everything is. scripts/cluster is its command line; tests use it as it is."""
import contextlib
import fcntl
import os
import shlex
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

from .base import Failed
from .cairn import Gateway, Worker
from .nginx import Nginx, upstream
from .postgres import Postgres
from .rabbitmq import Rabbitmq
from .redis import Redis
from .s3 import Minio

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
SHARDS = {"shard-1": "postgres-2", "shard-2": "postgres-3"}  # postgres-1 is the catalogue
KINDS = {"postgres": Postgres, "replica": Postgres, "redis": Redis, "rabbitmq": Rabbitmq, "minio": Minio, "gateway": Gateway, "worker": Worker, "nginx": Nginx}
DATABASES = (1, 2, 3)
LAST_FIRST = ("nginx", "gateway", "worker", "minio", "rabbitmq", "redis", "replica", "postgres")  # nobody loses what it needs


def kind_of(name):
    return name.partition("-")[0]


class Cluster:
    def __init__(self, folder, bin=None, tell=lambda text: None):
        self.folder = os.path.realpath(folder)
        self.tell = tell
        self.env = self.read_env()
        self.bin = bin or self.env.get("CAIRN_BIN") or os.path.join(ROOT, "build", "release", "bin")
        self.cancelled = threading.Event()

    # ---- DIR/env ----

    def read_env(self):
        try:
            with open(os.path.join(self.folder, "env")) as f:
                pairs = (line.split("=", 1) for line in f)
                return {key: shlex.split(value)[0] if value.strip() else "" for key, value in pairs}
        except OSError:
            return {}

    def remember(self, **values):
        """Into env, beside what others write there meanwhile."""
        with self.locked("env.lock"):
            self.env = {**self.read_env(), **values}
            path = os.path.join(self.folder, "env")
            with open(path + ".new", "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
                f.writelines(f"{key}={shlex.quote(value)}\n" for key, value in self.env.items())
            os.rename(path + ".new", path)

    def note(self, name):
        """Into env: where a part is, and its pid while it runs."""
        part = self.part(name)
        kind, _, number = name.partition("-")
        suffix = "_" + number if number else ""
        self.remember(**{f"CAIRN_{kind.upper()}_URL{suffix}": part.endpoint if kind == "minio" else part.url(),
                         f"CAIRN_{kind.upper()}_PID{suffix}": str(part.processes[-1]["pid"]) if part.is_running() else ""})

    @contextlib.contextmanager
    def locked(self, name):
        with open(os.path.join(self.folder, name), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # ---- parts ----

    @property
    def own_meta(self):
        """A catalogue that is none of this cluster's PostgreSQLs; None: it is."""
        return self.env.get("CAIRN_OTHER_META")

    def numbered(self, kind):
        """Names of parts, of those kinds that have several."""
        count = {"gateway": int(self.env.get("CAIRN_GATEWAYS", "0")), "postgres": 0 if self.own_meta else len(DATABASES),
                 "replica": len(DATABASES) if self.env.get("CAIRN_REPLICAS") and not self.own_meta else 0}[kind]
        return [f"{kind}-{n + 1}" for n in range(count)]

    def names(self):
        return [*self.numbered("postgres"), *self.numbered("replica"), "redis", "rabbitmq", "minio", *self.numbered("gateway"), "worker", "nginx"]

    def part(self, name):
        part = KINDS[kind_of(name)](os.path.join(self.folder, name))
        part.cancelled = self.cancelled
        return part

    def known(self, name):
        if name not in self.names():
            raise Failed(f"there is no part {name}; there are {', '.join(self.names())}")

    def options(self, name):
        """What a part is started with."""
        match kind_of(name):
            case "replica":
                return {"replica-of": os.path.join(self.folder, name.replace("replica", "postgres"))}
            case "gateway":
                return {"bin": self.bin, **self.settings(), "CAIRN_RATE_LIMIT": "0", "CAIRN_TRUSTED_PROXIES": "1", "CAIRN_PUBLIC_URL": self.part("nginx").url(),
                        "CAIRN_THREADS": "4"}  # they share their processors with the database and each other: docs/performance.md
            case "worker":
                return {"bin": self.bin, **self.settings()}
            case "nginx":
                return {"config": os.path.join(ROOT, "docker", "nginx", "nginx.conf.template"), "TLS": "", "SERVERS": self.upstream()}
        return {}

    def database(self, n):
        """Whichever of the two can be written to, where there are two."""
        return self.part(f"postgres-{n}").url_with(self.part(f"replica-{n}")) if self.numbered("replica") else self.part(f"postgres-{n}").url()

    def settings(self):
        return {"CAIRN_META": self.own_meta or self.database(1), "CAIRN_OBJECTS": self.part("minio").url(), "CAIRN_CACHE": self.part("redis").url(),
                "CAIRN_EVENTS": self.part("rabbitmq").url()}

    def upstream(self):
        return upstream(self.part(n).port() for n in self.numbered("gateway"))

    def start(self, name):
        self.known(name)
        self.tell(f"starting {name}")
        self.part(name).start(self.options(name))

    def act(self, verb, name):
        """stop, start, kill, promote."""
        self.known(name)
        if verb == "start":
            self.start(name)
        elif verb == "promote" and kind_of(name) != "replica":
            raise Failed(f"{name} is no replica")
        else:
            getattr(self.part(name), verb)()
        self.note(name)

    def status(self):
        """{part: it runs}"""
        return {name: self.part(name).is_running() for name in self.names()}

    # ---- all of it ----

    def up(self, gateways=None, replicas=False, meta=None):
        """Starts what does not run yet; what runs stays as it is, but for gateways beyond the number. If that fails, what it has started ends."""
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        with self.locked("lock"):
            self.remember(CAIRN_GATEWAYS=str(gateways or self.env.get("CAIRN_GATEWAYS") or 3), CAIRN_BIN=self.bin,
                          CAIRN_REPLICAS="1" if replicas else self.env.get("CAIRN_REPLICAS", ""), CAIRN_OTHER_META=meta or self.env.get("CAIRN_OTHER_META", ""))
            before = [name for name in self.made() if self.part(name).is_running()]
            try:
                self.start_stores()
                self.first_time()
                self.start_programs()
            except BaseException:
                self.stop_all([name for name in self.made() if name not in before])
                raise

    def start_stores(self):
        self.start_all([*self.numbered("postgres"), "redis", "rabbitmq", "minio"])
        self.start_all(self.numbered("replica"))

    def start_programs(self):
        self.remember(CAIRN_URL=self.part("nginx").url(), **self.settings())
        self.start_all([*self.numbered("gateway"), "worker"])
        nginx = self.part("nginx")
        if nginx.is_running() and nginx.options.get("SERVERS") != self.upstream():
            nginx.reload(self.options("nginx"))
        self.start_all(["nginx"])
        self.stop_all([n for n in self.made() if kind_of(n) == "gateway" and n not in self.names()])

    def start_all(self, names):
        """All at once. The first that fails, or an interruption, ends the wait for the others."""
        def start(name):
            try:
                self.start(name)
            except BaseException:
                self.cancelled.set()
                raise
        self.cancelled.clear()
        with ThreadPoolExecutor(len(names) or 1) as pool:
            try:
                started = [pool.submit(start, name) for name in names]
                problems = [s.exception() for s in started if s.exception()]
            except BaseException:
                self.cancelled.set()
                raise
        if problems:
            raise next((p for p in problems if "interrupted" not in str(p)), problems[0])
        for name in names:
            self.note(name)

    def run(self, *words, input=None):
        """A verb of the gateway that ends. Returns what it says."""
        done = subprocess.run([os.path.join(self.bin, "cairn-gateway"), *words], input=input, capture_output=True, text=True,
                              env={**{k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}, **self.settings()})
        if done.returncode != 0:
            raise Failed(f"cairn-gateway {' '.join(words)}: exit {done.returncode}: {done.stderr}")
        return done.stdout

    def first_time(self):
        """The schema, shards, a user, a drive, a token; each only where it is missing."""
        self.run("migrate")
        if not self.own_meta:
            there = self.run("admin", "shard", "list", "--json")
            for shard, server in SHARDS.items():
                if f'"{shard}"' not in there:
                    self.run("admin", "shard", "add", shard, self.database(int(server.partition("-")[2])))
        user, drive = "admin", "home"
        if not self.env.get("CAIRN_PASSWORD"):
            password = os.urandom(18).hex()
            there = f'"{user}"' in self.run("admin", "user", "list", "--json")
            self.run("admin", "user", *(["passwd", user] if there else ["add", user, "--admin"]), "--password-stdin", input=password + "\n")
            self.remember(CAIRN_USER=user, CAIRN_PASSWORD=password)
        if f'"{drive}"' not in self.run("admin", "drive", "list", "--json"):
            self.run("admin", "drive", "create", drive, "--owner", user)
        self.remember(CAIRN_DRIVE=drive, CAIRN_TOKEN=self.run("admin", "user", "token", user, "--days", "30").strip())

    def roll(self):
        """Each gateway drains, and comes back, before the next."""
        for name in self.numbered("gateway"):
            self.tell(f"restarting {name}")
            self.part(name).stop()
            self.act("start", name)

    def made(self):
        """Every part that there is a folder of, also of a larger cluster than now."""
        return [n for n in os.listdir(self.folder) if kind_of(n) in KINDS and os.path.exists(os.path.join(self.folder, n, "state.json"))]

    def down(self):
        """Ends all that was started here; data stay."""
        with self.locked("lock"):
            self.stop_all(self.made())

    def stop_all(self, names):
        for kind in LAST_FIRST:
            some = [n for n in names if kind_of(n) == kind and self.part(n).processes]
            with ThreadPoolExecutor(len(some) or 1) as pool:
                list(pool.map(lambda name: self.part(name).stop(), some))
            for name in some:
                self.tell(f"ended {name}")
                self.note(name)


def default_folder():
    """As root, where servers that run as another user can reach it: root's home is closed to them."""
    if os.environ.get("CAIRN_CLUSTER"):
        return os.environ["CAIRN_CLUSTER"]
    if os.geteuid() == 0:
        return "/var/lib/cairn-cluster"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "cairn", "cluster")
