"""The benches of scripts/bench: each workload on each subject in one run; medians, and ratios to the first subject named in its row."""
import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import loads
import subjects

ROOT = subjects.ROOT


def timed(fn):
    begin = time.perf_counter()
    fn()
    return time.perf_counter() - begin


def make_tree(path, files):
    """A source tree of many small files: 20 a directory, 200 bytes to 40 KiB, the same at every run."""
    rng = random.Random(1)
    noise = rng.randbytes(64 << 10)
    names = []
    for i in range(files):
        folder = os.path.join(path, f"d{i // 400:03d}", f"s{i // 20 % 20:02d}")
        os.makedirs(folder, exist_ok=True)
        name = os.path.join(folder, f"file{i:05d}.c")
        size = int(min(40000, 200 + rng.expovariate(1 / 8000)))
        begin = rng.randrange(0, 20000)
        with open(name, "wb") as f:
            f.write((noise[begin:begin + size // 2].hex().encode())[:size])
        names.append(os.path.relpath(name, path))
    return names


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def lstat_all(base, names):
    for n in names:
        os.lstat(os.path.join(base, n))


def miss_all(base, names):
    for n in names:
        try:
            os.lstat(os.path.join(base, n + ".missing"))
        except FileNotFoundError:
            pass


def cat_all(base, names):
    for n in names:
        with open(os.path.join(base, n), "rb") as f:
            f.read()


def bench_tree(subject, source, names):
    tree = os.path.join(subject.dir, "tree")
    result = {"copy in": timed(lambda: run("cp", subject.copy, source, tree))}
    time.sleep(1)
    result["lstat"] = timed(lambda: lstat_all(tree, names))
    miss_all(tree, names)
    result["failed look-up"] = timed(lambda: miss_all(tree, names))
    subject.cold()
    result["find, cold"] = timed(lambda: run("find", tree, "-printf", "%s"))
    result["find, warm"] = timed(lambda: run("find", tree, "-printf", "%s"))
    subject.cold()
    result["cat, cold"] = timed(lambda: cat_all(tree, names))
    result["cat, warm"] = timed(lambda: cat_all(tree, names))
    result["rm -r"] = timed(lambda: run("rm", "-r", tree))
    return result


def write_stream(path, mib):
    block = random.Random(2).randbytes(1 << 20)
    with open(path, "wb", buffering=0) as f:
        for i in range(mib):
            f.write(i.to_bytes(8, "little") + block[8:])
        os.fsync(f.fileno())


def read_stream(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(1 << 20):
            pass


def read_random(path, count=4000):
    rng = random.Random(3)
    size = os.path.getsize(path)
    fd = os.open(path, os.O_RDONLY)
    for _ in range(count):
        os.pread(fd, 4096, rng.randrange(0, size // 4096) * 4096)
    os.close(fd)


def bench_stream(subject, mib):
    path = os.path.join(subject.dir, "stream")
    result = {f"write {mib} MiB + fsync": timed(lambda: write_stream(path, mib))}
    subject.cold()
    result["read, cold"] = timed(lambda: read_stream(path))
    result["read, warm"] = timed(lambda: read_stream(path))
    result["4 KiB random reads, warm"] = timed(lambda: read_random(path))
    subject.cold()
    result["4 KiB random reads, cold"] = timed(lambda: read_random(path, 200))
    os.unlink(path)
    return result


def bench_query(gateway):
    """Metadata queries with 64 connections, by wrk."""
    if not shutil.which("wrk"):
        return {"error": "wrk is not installed"}
    url = f"{gateway.url}/api/v1/files?drive=bench&path=/"
    out = subprocess.run(["wrk", "-t1", "-c64", "-d5s", "--latency", "-H", f"Authorization: Bearer {gateway.token}", url],
                         check=True, capture_output=True, text=True).stdout
    result = {}
    for line in out.splitlines():
        words = line.split()
        if words[:1] == ["Requests/sec:"]:
            result["requests/s"] = float(words[1])
        elif words[:1] in (["50%"], ["99%"]):
            result["p" + words[0][:2]] = words[1]
        elif words[:1] == ["Non-2xx"]:
            result["failed"] = line.strip()
    return result


def freeze_and_thaw(a, b):
    """How long the first change waits for a mount that is frozen, and how soon that one is right when it runs again."""
    path, other = os.path.join(a.dir, "pushed"), os.path.join(b.dir, "pushed")
    os.lstat(other)
    b.process.send_signal(signal.SIGSTOP)
    frozen = timed(lambda: os.chmod(path, 0o700))
    os.chmod(path, 0o711)
    time.sleep(3)
    b.process.send_signal(signal.SIGCONT)
    thawed = timed(lambda: subjects.wait_for(lambda: os.lstat(other).st_mode & 0o777 == 0o711, "the thawed mount to be right"))
    return 1000 * frozen, 1000 * thawed


def bench_push(base, gateway, other_gateway, rounds=500):
    """What an operation waits longer because another mount, perhaps at another gateway, must acknowledge it, and that the other one is right at once."""
    a = subjects.Cairn(base, gateway, "push-a")
    try:
        def chmods():
            times = []
            path = os.path.join(a.dir, "pushed")
            open(path, "w").close()
            for i in range(rounds):
                times.append(timed(lambda: os.chmod(path, 0o600 + i % 64)))
                check(i)
            return times
        check = lambda i: None  # noqa: E731
        alone = chmods()
        b = subjects.Cairn(base, other_gateway, "push-b")
        try:
            other = os.path.join(b.dir, "pushed")
            os.lstat(other)
            stale = []

            def check(i):
                if os.lstat(other).st_mode & 0o777 != 0o600 + i % 64:
                    stale.append(i)
            time.sleep(2)
            both = chmods()
            frozen, thawed = freeze_and_thaw(a, b)
        finally:
            b.close()
    finally:
        a.close()
    ms = lambda values, q: 1000 * statistics.quantiles(values, n=100)[q - 1]  # noqa: E731
    return {"alone p50 ms": ms(alone, 50), "alone p99 ms": ms(alone, 99), "with another mount p50 ms": ms(both, 50),
            "with another mount p99 ms": ms(both, 99), "added wait p50 ms": ms(both, 50) - ms(alone, 50), "added wait p99 ms": ms(both, 99) - ms(alone, 99),
            "stale answers": len(stale), "the other frozen: first call ms": frozen, "thawed: right after ms": thawed}


def table(title, results):
    """results: {subject: {row: seconds}}"""
    print(f"\n{title}")
    names = list(results)
    print(f"  {'':28}" + "".join(f"{n:>22}" for n in names))
    for row in results[names[0]]:
        base = results[names[0]][row]
        cells = "".join(f"{results[n][row]:12.3f} s ({results[n][row] / base:5.1f})" if row in results[n] else f"{'–':>22}" for n in names)
        print(f"  {row:28}{cells}")


def median_of(runs):
    return {row: statistics.median(r[row] for r in runs) for row in runs[0]}


def failed(found):
    return loads.failures(found.get("load", {})) or found.get("push", {}).get("stale answers")


def main(argv):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is started ends too, and what was changed is put back
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures this build beside the plain disk, a bare passthrough, and rclone.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tree stream query push memory (default: all of these), load")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--bin", default=os.path.join(ROOT, "build", "release", "bin"))
    parser.add_argument("--dir", help="a folder on the disk to measure (default: a temporary one)")
    parser.add_argument("--on", metavar="DIR", help="load and push: the cluster that `scripts/cluster up --dir DIR` started, instead of an embedded gateway")
    parser.add_argument("--loads", metavar="NAME,…", type=lambda text: text.split(","), default=loads.USUAL,
                        help=f"load: which of {' '.join(loads.KNOWN)} (the last two only when named, and on a cluster)")
    for count, n in loads.COUNTS.items():
        parser.add_argument(f"--load-{count}", type=int, default=n, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    known = ["tree", "stream", "query", "push", "memory"]
    for n in args.names:
        if n not in known + ["load"]:
            parser.error(f"no bench named {n}: {' '.join(known)} load")
    for n in args.loads:
        if n not in loads.KNOWN:
            parser.error(f"no load named {n}: {' '.join(loads.KNOWN)}")
    wanted = args.names or known
    for program, target in (("cairn", "cairn"), ("bench-passthrough", "bench-passthrough"), ("cairn-load", "cairn-load")):
        if not os.path.exists(os.path.join(args.bin, program)):
            subprocess.run(["cmake", "--build", os.path.dirname(args.bin), "--target", target], check=True, stdout=sys.stderr)
    base = tempfile.mkdtemp(prefix="cairn-bench-", dir=args.dir)
    found, gateway = {}, None
    try:
        gateway = loads.Cluster(args.on, args.bin) if args.on else subjects.Gateway(base, args.bin)
        if "load" in wanted:
            found["load"] = loads.bench_load(base, gateway, {k: getattr(args, f"load_{k}") for k in loads.COUNTS}, args.loads,
                                             lambda text: print(text, file=sys.stderr, flush=True))
            if not args.json:
                loads.print_loads(found["load"])
        memory = {} if args.on else {"gateway at rest": subjects.rss_mib(gateway.process.pid)}
        makers = {"disk": lambda: subjects.Disk(base), "passthrough": lambda: subjects.Passthrough(base, args.bin),
                  "cairn": lambda: subjects.Cairn(base, gateway)}
        if shutil.which("rclone"):
            makers["rclone"] = lambda: subjects.Rclone(base)
        source = os.path.join(base, "source")
        names = make_tree(source, args.files) if "tree" in wanted or "memory" in wanted else []
        for bench in ("tree", "stream"):
            if bench not in wanted:
                continue
            runs = {}
            for _ in range(args.repeat):
                for name, maker in makers.items():
                    subject = maker()
                    try:
                        runs.setdefault(name, []).append(bench_tree(subject, source, names) if bench == "tree" else bench_stream(subject, args.mib))
                    finally:
                        subject.close()
            found[bench] = {name: median_of(r) for name, r in runs.items()}
            if not args.json:
                table({"tree": f"A tree of {args.files} small files", "stream": "One large file"}[bench], found[bench])
        if "memory" in wanted:
            mount = subjects.Cairn(base, gateway)
            memory["driver at rest"] = subjects.rss_mib(mount.process.pid)
            run("cp", "-a", source, os.path.join(mount.dir, "tree"))
            memory["driver after the tree"] = subjects.rss_mib(mount.process.pid)
            memory["gateway after the tree"] = subjects.rss_mib(gateway.process.pid)
            mount.close()
            found["memory MiB"] = memory
        if "query" in wanted:
            found["query"] = bench_query(gateway)
        if "push" in wanted:
            found["push"] = bench_push(base, gateway.one(1), gateway.one(2)) if args.on else bench_push(base, gateway, gateway)
        for title in ("memory MiB", "query", "push"):
            if title in found and not args.json:
                print(f"\n{title}")
                for k, v in found[title].items():
                    print(f"  {k:28}{v:12.2f}" if isinstance(v, float) else f"  {k:28}{v:>12}")
        if args.json:
            json.dump(found, sys.stdout, indent=1)
            print()
    finally:
        if gateway:
            gateway.close()
        shutil.rmtree(base, ignore_errors=True)
    return 1 if failed(found) else 0
