"""scripts/cluster for tests: all of Cairn, with nginx in front, and each part of it to stop, kill and freeze."""
import contextlib
import os
import signal
import subprocess
import sys
import tempfile

from harness import BIN, ROOT, Client

sys.path.append(os.path.join(ROOT, "scripts", "lib"))
from servers.base import descendants, signal_process  # noqa: E402
from servers.cluster import Cluster  # noqa: E402

SCRIPT = os.path.join(ROOT, "scripts", "cluster")


def script(*words, code=0, bin=BIN):
    """Runs scripts/cluster. Returns what it said."""
    done = subprocess.run([SCRIPT, *words], env={**os.environ, "CAIRN_BIN": bin}, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def processes_of(folder):
    """Command lines of all that runs in it or in a folder below. (Every part does.)"""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if (os.readlink(f"/proc/{pid}/cwd") + "/").startswith(os.path.realpath(folder) + "/"):
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    found.append(f"{pid} {f.read().replace(bytes(1), b' ').decode(errors='replace')}")
        except OSError:
            pass  # it has ended
    return [each for each in found if each.partition(" ")[2]]  # a corpse has no command line


class RealCluster(Client):
    """As a client sees it: one URL, the operator's token, the drive `home`."""
    user = "admin"

    def __init__(self, folder):
        self.folder = folder

    def up(self, *options):
        script("up", *options, self.folder)
        self.token, self.password = self.env["CAIRN_TOKEN"], self.env["CAIRN_PASSWORD"]
        return self

    def down(self):
        script("down", self.folder)
        assert not processes_of(self.folder), processes_of(self.folder)

    @property
    def inner(self):
        return Cluster(self.folder)

    @property
    def env(self):
        return self.inner.env

    @property
    def url(self):
        return self.env["CAIRN_URL"]

    @property
    def port(self):
        return self.part("nginx").port()

    def part(self, name):
        """scripts/lib/servers' own object."""
        return self.inner.part(name)

    def act(self, verb, name):
        self.inner.act(verb, name)

    def signal(self, name, number):
        """All its processes: PostgreSQL has one for each connection."""
        for p in self.part(name).processes:
            for each in [p, *descendants(p["pid"])]:
                signal_process(each, number)

    def freeze(self, name):
        self.signal(name, signal.SIGSTOP)

    def thaw(self, name):
        self.signal(name, signal.SIGCONT)

    def at(self, name):
        """A client of one gateway of it, without nginx."""
        c = Client()
        c.url, c.port, c.token = self.part(name).url(), self.part(name).port(), self.token
        return c

    def log_of(self, name):
        with open(self.part(name).log, errors="replace") as f:
            return f.read()


@contextlib.contextmanager
def running(gateways):
    """A cluster in a folder of its own, down at the end."""
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as folder:
        c = RealCluster(os.path.join(folder, "cluster"))
        try:
            yield c.up("--gateways", str(gateways))
        finally:
            c.down()
