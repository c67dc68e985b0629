"""A catalogue of many users, each with a drive, on a cluster's PostgreSQL: filled by cloning rows that the program itself made, so that it follows the schema; and what a
request costs when so many others are there."""
import concurrent.futures
import contextlib
import os
import random
import subprocess

BATCH = 500_000
USER = "('018f0000-0000-7000-8000-' || lpad(to_hex({i}), 12, '0'))::uuid"
DRIVE = "('018f0000-0000-7000-9000-' || lpad(to_hex({i}), 12, '0'))::uuid"
# Of each table that a user or a drive has rows in: what of a clone differs from the row that it is made of. Everything else is copied.
CATALOGUE = {"users": {"id": USER, "name": "'many-' || {i}"}, "placement": {"drive": DRIVE, "owner": USER}, "member": {"user_id": USER, "drive": DRIVE}}
SHARD = {"drive": {"id": DRIVE, "owner": USER}, "inode": {"drive": DRIVE}}
FAST = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "8GB"}  # a load that is lost with its machine is made anew
KEYS = {"users": "id = '{user}'", "placement": "drive = '{drive}'", "member": "drive = '{drive}'", "drive": "id = '{drive}'", "inode": "drive = '{drive}'"}


class Catalogue:
    def __init__(self, cluster):
        self.cluster, self.env = cluster, cluster.env
        self.main = self.env["CAIRN_POSTGRES_URL_1"]
        self.shards = {name: url for name, url in (line.split("|") for line in self.sql(self.main, "select name, url from shard").splitlines())} or {"main": self.main}
        self.servers = {self.main, *self.shards.values()}
        self.models = {}

    def sql(self, url, text):
        return subprocess.run(["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", url], input=text, check=True, capture_output=True, text=True).stdout.strip()

    def program(self, *args, input=None):
        env = {**os.environ, **{k: v for k, v in self.env.items() if k in ("CAIRN_META", "CAIRN_OBJECTS", "CAIRN_CACHE", "CAIRN_EVENTS")}}
        return subprocess.run([os.path.join(self.cluster.bin, "cairn-gateway"), *args], input=input, check=True, capture_output=True, text=True, env=env).stdout.strip()

    def make_models(self):
        """One user with a drive in each shard."""
        for i in range(64):
            if len(self.models) == len(self.shards):
                return
            name = f"model-{os.getpid()}-{i}"
            self.program("admin", "user", "add", name, "--password-stdin", input="model-password\n")
            self.program("admin", "drive", "create", "home", "--owner", name)
            user, drive, shard = self.sql(self.main, f"select u.id, p.drive, p.shard from users u join placement p on p.owner = u.id where u.name = '{name}'").split("|")
            self.models.setdefault(shard, {"user": user, "drive": drive})

    def columns(self, url, table):
        return self.sql(url, f"select column_name from information_schema.columns where table_name = '{table}' and table_schema = 'public' order by ordinal_position").split()

    def clone(self, url, table, differs, model, first, end, step):
        what = [differs[c].format(i="i") if c in differs else f"t.{c}" for c in self.columns(url, table)]
        return f"insert into {table} select {', '.join(what)} from {table} t, generate_series({first}, {end - 1}, {step}) i where t.{KEYS[table].format(**model)};"

    def has(self, users):
        return self.sql(self.main, f"select count(*) from users where name = 'many-{users - 1}'") == "1"

    def fill(self, first, end, tell=lambda text: None):
        """Users number first … end - 1, spread over the shards."""
        self.make_models()
        shards = sorted(self.models)
        with self.fast(), concurrent.futures.ThreadPoolExecutor(len(self.servers)) as threads:
            for begin in range(first, end, BATCH):
                stop = min(end, begin + BATCH)
                work = {}
                for k, shard in enumerate(shards):
                    model, at = self.models[shard], begin + (k - begin) % len(shards)
                    for url, tables in ((self.main, CATALOGUE), (self.shards.get(shard, self.main), SHARD)):
                        work.setdefault(url, []).extend(self.clone(url, t, d, model, at, stop, len(shards)) for t, d in tables.items())
                list(threads.map(lambda url: self.sql(url, "begin;" + "".join(work[url]) + "commit;"), work))
                tell(f"{stop} users and drives")
            list(threads.map(lambda url: self.sql(url, "vacuum analyze"), self.servers))

    @contextlib.contextmanager
    def fast(self):
        """Servers that do not wait for their disks, until this ends, however it does."""
        with contextlib.ExitStack() as after:
            for url in self.servers:
                after.callback(self.make_safe, url)
                self.configure(url, **FAST)
            yield

    def make_safe(self, url):
        """What was written without fsync reaches the disk as well."""
        self.configure(url, **dict.fromkeys(FAST))
        self.sql(url, "checkpoint")
        os.sync()

    def configure(self, url, **settings):
        for name, value in settings.items():
            self.sql(url, f"alter system set {name} = '{value}'" if value else f"alter system reset {name}")
        self.sql(url, "select pg_reload_conf()")

    def size_gib(self):
        return sum(int(self.sql(url, "select pg_database_size(current_database())")) for url in self.servers) / 2**30


def processor_seconds(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                words = f.read().rsplit(")", 1)[1].split()
            total += sum(int(w) for w in words[11:15])  # with its children that have ended
        except OSError:
            pass
    return total / os.sysconf("SC_CLK_TCK")


def family(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [pid, *(int(p) for p in f.read().split())]


def measure(load, catalogue, users, sample, requests):
    """Requests of `sample` users out of `users`, and what each cost the gateways and PostgreSQL."""
    rng = random.Random(7)
    lines = []
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        who = rng.sample(range(users), min(sample, users))
        tokens = list(threads.map(lambda i: catalogue.program("admin", "user", "token", f"many-{i}", "--days", "1"), who))
    for token in tokens:
        lines += [f"/api/v1/drives - {token}", f"/api/v1/files?drive=home&path=/ - {token}"]
    rng.shuffle(lines)
    targets = load.targets("catalogue", lines)
    postgres = [int(v) for k, v in catalogue.env.items() if k.startswith("CAIRN_POSTGRES_PID")]
    load.run("get", targets=targets, connections=32, count=len(lines))  # connections to the databases are there
    before = processor_seconds(p for parent in postgres for p in family(parent))
    result = load.run("get", targets=targets, connections=32, count=requests)
    after = processor_seconds(p for parent in postgres for p in family(parent))
    result["users"] = users
    result["gatewayUsEach"] = 1e6 * result["gatewayCpuSeconds"] / requests
    result["postgresUsEach"] = 1e6 * (after - before) / requests
    return result


def bench(load, cluster, users, sample, requests, tell):
    catalogue = Catalogue(cluster)
    for url in catalogue.servers:  # as a bench that was killed may have left them
        catalogue.make_safe(url)
    few, found = min(1000, users), {}
    if not catalogue.has(few):
        catalogue.fill(0, few)
        found[f"catalogue of {few}"] = measure(load, catalogue, few, sample, requests)
    if users > few:
        if not catalogue.has(users):
            catalogue.fill(few, users, tell)
        found[f"catalogue of {users}"] = {**measure(load, catalogue, users, sample, requests), "sizeGiB": catalogue.size_gib()}
    return found

