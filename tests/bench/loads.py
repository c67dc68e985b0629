"""scripts/bench load: what a gateway bears, measured with cairn-load (tests/bench/load). On an embedded gateway of its own, or on a running cluster."""
import hashlib
import copy
import json
import os
import random
import subprocess
import time
import urllib.parse
import urllib.request

import subjects


class Cluster:
    """What `scripts/cluster up --dir DIR` started: everything about it stands in DIR/env."""

    def __init__(self, folder, bin_dir):
        self.bin, self.folder = bin_dir, folder
        with open(os.path.join(folder, "env")) as f:
            env = dict(line.strip().split("=", 1) for line in f if "=" in line)
        env = {k: v.strip("'\"") for k, v in env.items()}
        self.env = env
        self.url, self.token, self.drive = env["CAIRN_URL"], env["CAIRN_TOKEN"], env["CAIRN_DRIVE"]
        self.pids = [int(v) for k, v in env.items() if k.startswith("CAIRN_GATEWAY_PID")]
        self.direct = ",".join(v for k, v in sorted(env.items()) if k.startswith("CAIRN_GATEWAY_URL")) or self.url

    def add_drive(self, name):
        settings = {**os.environ, **{k: v for k, v in self.env.items() if k in ("CAIRN_META", "CAIRN_OBJECTS", "CAIRN_CACHE", "CAIRN_EVENTS")}}
        made = subprocess.run([os.path.join(self.bin, "cairn-gateway"), "admin", "drive", "create", name, "--owner", self.env["CAIRN_USER"]], env=settings,
                              capture_output=True, text=True)
        if made.returncode and "already" not in made.stderr:
            raise RuntimeError(made.stderr)
        return name

    def raw_put(self, base, mib):
        """The same chunks, put into the same store by curl, without a gateway."""
        return raw_put_s3(base, self.env["CAIRN_OBJECTS"], mib)

    def one(self, n):
        """Gateway n of it, without nginx."""
        one = copy.copy(self)
        with open(os.path.join(self.folder, f"gateway-{n}", "url")) as f:
            one.url = f.read().strip()
        return one

    def close(self):
        pass


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(p) for p in f.read().split()]


class Load:
    """One target of loads: its address, and what its processes use."""

    def __init__(self, base, gateway):
        self.base, self.gateway = base, gateway
        self.drive = getattr(gateway, "drive", "bench")
        self.pids = getattr(gateway, "pids", None) or [gateway.process.pid]
        self.program = os.path.join(gateway.bin, "cairn-load")

    def processes(self):
        return [q for p in self.pids for q in (children_of(p) or [p])]

    def memory_mib(self):
        return sum(subjects.rss_mib(p) for p in self.processes())

    def cpu_s(self):
        ticks = 0
        for p in self.processes():
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def run(self, load, **options):
        """A load's result, with the processor time and the growth of memory that it cost the gateways."""
        command = [self.program, load, "--token", self.gateway.token, "--json"]
        for k, v in {"url": self.gateway.url, **options}.items():
            command += ["--" + k.replace("_", "-"), str(v)]
        cpu, memory, peak = self.cpu_s(), self.memory_mib(), 0.0
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while True:
            try:
                out = process.communicate(timeout=0.1)[0]
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, self.memory_mib())
        if not out:
            raise RuntimeError(f"cairn-load {load} ended with {process.returncode}")
        result = json.loads(out)
        result["gatewayCpuSeconds"] = self.cpu_s() - cpu
        result["memoryMiB"], result["peakMiB"] = memory, max(peak, memory)
        return result

    def targets(self, name, lines):
        path = os.path.join(self.base, name)
        with open(path, "w") as f:
            f.write("\n".join(lines) + "\n")
        return path

    def request(self, method, endpoint, body=None, **args):
        query = "?" + urllib.parse.urlencode(args) if args else ""
        request = urllib.request.Request(f"{self.gateway.url}/api/v1{endpoint}{query}", data=body, method=method,
                                         headers={"Authorization": f"Bearer {self.gateway.token}"})
        with urllib.request.urlopen(request, timeout=60) as r:
            return r.read()

    def put(self, path, body):
        self.request("PUT", "/files/content", body, drive=self.drive, path=path)


def make_files(load, count, size):
    """Files to ask for; returns their paths and hashes."""
    rng, made = random.Random(4), []
    for i in range(count):
        body = rng.randbytes(size)
        load.put(f"/load-file-{i}", body)
        made.append((f"/load-file-{i}", hashlib.sha256(body).hexdigest()))
    return made


def raw_put(base, mib, parallel=4):
    """What the store takes without a gateway, as the embedded one stores it: chunks of 4 MiB as files, each made durable."""
    block = random.Random(5).randbytes(4 << 20)

    def worker(k):
        for i in range(k, mib // 4, parallel):
            fd = os.open(os.path.join(base, f"raw-{i}"), os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, i.to_bytes(8, "little") + block[8:])
            os.fdatasync(fd)
            os.close(fd)
    import threading
    threads = [threading.Thread(target=worker, args=(k,)) for k in range(parallel)]
    begin = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - begin
    for i in range(mib // 4):
        os.unlink(os.path.join(base, f"raw-{i}"))
    return seconds


def raw_put_s3(base, objects, mib, parallel=4):
    at = urllib.parse.urlsplit(objects)
    query = dict(urllib.parse.parse_qsl(at.query))
    block, put, delete = random.Random(5).randbytes(4 << 20), [], []
    for i in range(mib // 4):
        path, url = os.path.join(base, f"raw-{i}"), f"{query['endpoint']}/{at.hostname}/bench-raw-{i}"
        with open(path, "wb") as f:
            f.write(i.to_bytes(8, "little") + block[8:])
        put.append(f'upload-file = "{path}"\nurl = "{url}"\noutput = "/dev/null"')
        delete.append(f'url = "{url}"\noutput = "/dev/null"')

    def curl(config, *more):
        command = ["curl", "-sSf", "--no-progress-meter", "-Z", "--parallel-max", str(parallel), "--aws-sigv4", f"aws:amz:{query.get('region', 'us-east-1')}:s3",
                   "--user", f"{at.username}:{at.password}", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", *more, "-K", "-"]
        subprocess.run(command, input="\n".join(config), text=True, check=True)
    try:
        begin = time.perf_counter()
        curl(put)
        return time.perf_counter() - begin
    finally:
        curl(delete, "-X", "DELETE")
        for i in range(mib // 4):
            os.unlink(os.path.join(base, f"raw-{i}"))


def small(counts):
    """Counts for a smoke run: everything once, nothing that takes long."""
    return {k: max(1, v // 100) for k, v in counts.items()}


COUNTS = {"connections": 64, "uploads": 1000, "downloads": 5000, "subscribers": 10000, "mib": 1024, "seconds": 500, "files": 200, "events": 1000,
          "sockets": 100_000, "drives": 100, "users": 10_000_000, "sample": 100, "requests": 20_000}
USUAL = ["queries", "links", "uploads", "downloads", "large", "subscribers"]
KNOWN = USUAL + ["sockets", "catalogue"]


class Bench:
    """The loads, by name; each gives {what: result}."""

    def __init__(self, base, gateway, counts, tell):
        self.base, self.gateway, self.tell = base, gateway, tell
        self.n = {**COUNTS, **(counts or {})}
        self.load = Load(base, gateway)
        self.drive = urllib.parse.quote(self.load.drive)
        self.seconds = max(1, self.n["seconds"] // 100)
        self.made = None

    def files(self):
        if self.made is None:
            self.made = [(urllib.parse.quote(path), sha256) for path, sha256 in make_files(self.load, self.n["files"], 16 << 10)]
        return self.made

    def queries(self):
        lines = [f"/api/v1/files?drive={self.drive}&path={p}" for p, _ in self.files()]
        lines += [f"/api/v1/fs/v1/lookup?drive={self.drive}&parent=1&name={p[1:]}" for p, _ in self.files()]
        targets = self.load.targets("queries", lines)
        found = {"metadata queries": self.load.run("get", targets=targets, connections=self.n["connections"], seconds=self.seconds)}
        if self.gateway.direct != self.gateway.url:
            found["… past nginx"] = self.load.run("get", url=self.gateway.direct, targets=targets, connections=self.n["connections"], seconds=self.seconds)
        return found

    def links(self):
        targets = self.load.targets("links", [f"/api/v1/files/download-url?drive={self.drive}&path={p}" for p, _ in self.files()])
        return {"download URLs": self.load.run("get", targets=targets, connections=max(1, self.n["connections"] // 8), seconds=self.seconds)}

    def uploads(self):
        return {"uploads at once": self.load.run("upload", drive=self.load.drive, count=self.n["uploads"], prefix="/load-up", limit=120)}

    def downloads(self):
        targets = self.load.targets("contents", [f"/api/v1/files/content?drive={self.drive}&path={p} {h}" for p, h in self.files()])
        return {"downloads at once": self.load.run("get", targets=targets, connections=self.n["downloads"], count=2 * self.n["downloads"], limit=120)}

    def large(self):
        raw = self.gateway.raw_put(self.base, self.n["mib"])
        result = self.load.run("upload", drive=self.load.drive, count=1, size=self.n["mib"] << 20, chunk=4 << 20, parallel=4, prefix="/load-large", limit=120)
        return {"one large upload": {**result, "rawSeconds": raw}}

    def subscribers(self):
        return {"subscribers": self.load.run("subscribe", drive=self.load.drive, connections=self.n["subscribers"], events=max(1, self.n["events"] // 50), limit=120)}

    def sockets(self):
        """Past nginx, since its connections count twice. Spread over drives, of which each has its subscribers; events are of the first."""
        wanted = {self.gateway.add_drive(f"socket-{i}") for i in range(self.n["drives"])}
        drives = [d["id"] for d in json.loads(self.load.request("GET", "/drives"))["drives"] if d["name"] in wanted]
        result = self.load.run("subscribe", url=self.gateway.direct, drive=",".join(drives), connections=self.n["sockets"], sources=64,
                               events=max(1, self.n["events"] // 50), limit=600)
        return {f"sockets, {self.n['drives']} drives": result}

    def catalogue(self):
        import catalogue
        return catalogue.bench(self.load, self.gateway, *(self.n[k] for k in ("users", "sample", "requests")), self.tell)


def bench_load(base, gateway, counts=None, names=None, tell=lambda text: None):
    """{load: result}"""
    b = Bench(base, gateway, counts, tell)
    found = {}
    for name in names or USUAL:
        found.update(getattr(b, name)())
    return found


def failures(found):
    return {name: r["firstFailure"] or "not ended" for name, r in found.items() if r["notEnded"] or any(row["failed"] for row in r["rows"].values())}


def print_loads(found):
    print(f"\nLoads\n  {'':34}{'count':>9}{'failed':>8}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}{'total/s':>11}{'gateway CPU':>13}{'peak MiB':>10}")
    for name, r in found.items():
        for k, (row_name, row) in enumerate(r["rows"].items()):
            rate = f"{row['count'] / r['seconds']:11.0f}" if k == 0 else f"{'':11}"
            cost = f"{r['gatewayCpuSeconds']:12.2f}s{r['peakMiB']:10.0f}" if k == 0 else ""
            print(f"  {name + ': ' + row_name:34}{row['count']:9}{row['failed']:8}{row['p50Ms']:10.2f}{row['p99Ms']:10.2f}{row['maxMs']:10.2f}{rate}{cost}")
    large = found.get("one large upload")
    if large:
        print(f"  one large upload: {large['seconds']:.2f} s; the store alone, 4 at a time: {large['rawSeconds']:.2f} s")
    for what, ws in ((k, r) for k, r in found.items() if "subscribe" in r["rows"] and r["connections"]):
        print(f"  {what}: {ws['connections']} there at once, {(ws['peakMiB'] - ws['memoryMiB']) * 1024 / ws['connections']:.1f} KiB each in the gateway")
    for what, r in ((k, r) for k, r in found.items() if "postgresUsEach" in r):
        print(f"  {what}: of the processor, each request cost the gateways {r['gatewayUsEach']:.0f} µs and PostgreSQL {r['postgresUsEach']:.0f} µs")
    for name, why in failures(found).items():
        print(f"  FAILED: {name}: {why}")
