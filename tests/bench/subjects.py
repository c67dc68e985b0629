"""What the benches run on: each subject gives a directory, and can be made cold again."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.append(os.path.join(ROOT, "scripts", "lib"))
from servers.base import reserve_port  # noqa: E402


def wait_for(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not ready after {seconds} s")
        time.sleep(0.002)


def drop_page_cache():
    """Makes reads cold; needs root. Without it, cold figures of the plain disk are warm ones, and the table says so."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


def stop(process, seconds=20):
    if process and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def set_aside(path):
    """What a subject leaves is removed when all are done: ext4 makes new files slowly for minutes after many were removed, and the next subject would pay for it."""
    if os.path.isdir(path):
        os.rename(path, tempfile.mkdtemp(prefix="done-", dir=os.path.dirname(path)))


class Disk:
    name = "disk"
    copy = "-a"

    def __init__(self, base):
        self.dir = os.path.join(base, "disk")
        os.makedirs(self.dir)

    def cold(self):
        drop_page_cache()

    def close(self):
        set_aside(self.dir)


class Mounted:
    """A subject that a foreground process mounts."""
    copy = "-a"

    def __init__(self, base):
        self.base = os.path.join(base, self.name)
        self.dir = os.path.join(self.base, "mount")
        os.makedirs(self.dir)
        self.process = None
        self.mount()

    def mount(self):
        self.log = open(os.path.join(self.base, "log"), "ab")
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.environment())
        wait_for(lambda: os.path.ismount(self.dir) or self.process.poll() is not None, self.name)
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} did not mount: {open(self.log.name).read()[-500:]}")

    def environment(self):
        return None

    def unmount(self):
        subprocess.run(["fusermount3", "-u", self.dir], check=False)
        wait_for(lambda: not os.path.ismount(self.dir), f"unmount of {self.name}")
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            stop(self.process)
        self.log.close()

    def cold(self):
        self.unmount()
        self.forget()
        drop_page_cache()
        self.mount()

    def forget(self):
        pass

    def close(self):
        self.unmount()
        set_aside(self.base)


class Passthrough(Mounted):
    name = "passthrough"

    def __init__(self, base, bin_dir):
        self.program = os.path.join(bin_dir, "bench-passthrough")
        os.makedirs(os.path.join(base, self.name, "source"))
        super().__init__(base)

    def command(self):
        return [self.program, os.path.join(self.base, "source"), self.dir]


class Rclone(Mounted):
    name = "rclone"
    copy = "-r"  # it has no owners and modes to keep

    def __init__(self, base):
        os.makedirs(os.path.join(base, self.name, "source"))
        super().__init__(base)

    def command(self):
        return ["rclone", "mount", os.path.join(self.base, "source"), self.dir, "--vfs-cache-mode", "full", "--cache-dir", os.path.join(self.base, "cache"),
                "--vfs-write-back", "0s", "--config", os.path.join(self.base, "rclone.conf")]

    def written_back(self):
        """It is not durable at close, and an unmount loses what still waits: the tree behind it must be the one in front."""
        sizes = []
        for top in (self.dir, os.path.join(self.base, "source")):
            sizes.append(sorted((n, os.lstat(os.path.join(d, n)).st_size) for d, _, names in os.walk(top) for n in names))
        return sizes[0] == sizes[1]

    def unmount(self):
        if os.path.ismount(self.dir):
            wait_for(self.written_back, "what rclone still has to write", 300)
        super().unmount()

    def forget(self):
        shutil.rmtree(os.path.join(self.base, "cache"), ignore_errors=True)


class Gateway:
    def __init__(self, base, bin_dir):
        self.bin = bin_dir
        self.data = os.path.join(base, "gateway")
        os.makedirs(self.data)
        program = os.path.join(bin_dir, "cairn-gateway")
        for args in (["admin", "user", "add", "bench", "--embedded", self.data, "--password-stdin"],
                     ["admin", "drive", "create", "bench", "--owner", "bench", "--embedded", self.data]):
            subprocess.run([program] + args, input=b"bench-password\n", check=True, stdout=subprocess.DEVNULL)
        self.token = subprocess.run([program, "admin", "user", "token", "bench", "--days", "1", "--embedded", self.data],
                                    check=True, capture_output=True, text=True).stdout.strip()
        self.port = reserve_port(self.data)
        self.url = self.direct = f"http://127.0.0.1:{self.port}"
        self.log = open(os.path.join(base, "gateway.log"), "ab")
        self.process = subprocess.Popen([program, "serve", "--embedded", self.data, "--listen", f"127.0.0.1:{self.port}", "--rate-limit", "0"],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for(self.ready, "gateway")

    def add_drive(self, name):
        subprocess.run([os.path.join(self.bin, "cairn-gateway"), "admin", "drive", "create", name, "--owner", "bench", "--embedded", self.data],
                       check=True, stdout=subprocess.DEVNULL)
        return name

    def raw_put(self, base, mib):
        import loads
        return loads.raw_put(base, mib)

    def ready(self):
        try:
            return urllib.request.urlopen(self.url + "/actuator/health/readiness", timeout=1).status == 200
        except OSError:
            return False

    def close(self):
        stop(self.process)
        self.log.close()
        shutil.rmtree(self.data, ignore_errors=True)


class Cairn(Mounted):
    def __init__(self, base, gateway, name="cairn"):
        self.name = name
        self.gateway = gateway
        super().__init__(base)

    def command(self):
        return [os.path.join(self.gateway.bin, "cairn"), "mount", "--foreground", "--drive", getattr(self.gateway, "drive", "bench"), "--url", self.gateway.url,
                "--cache-dir", os.path.join(self.base, "cache"), self.dir]

    def environment(self):
        return {**os.environ, "CAIRN_TOKEN": self.gateway.token}

    def forget(self):
        shutil.rmtree(os.path.join(self.base, "cache"), ignore_errors=True)
