"""What system tests stand on: a real gateway (embedded or on real servers, see backends.py), and real mounts of it.

The programs are those of $CAIRN_BIN, else of build/release/bin. Everything lives in a test's own folder and ends with the test, after failures too.
"""
import ctypes
import json as jsonlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from backends import ROOT, place_for
from servers.base import reserve_port

BIN = os.environ.get("CAIRN_BIN") or os.path.join(ROOT, "build", "release", "bin")


def program(name):
    path = os.path.join(BIN, name)
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"{path} is not there: build first (scripts/lib/build release), or set CAIRN_BIN")
    return path


def wait_for(condition, what, seconds=20):
    """Returns the first true value of condition(); asks often, gives up late."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def tail(path, lines=40):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return ""


def end(process, seconds=20):
    """SIGTERM, then SIGKILL; returns the exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return jsonlib.loads(self.body)

    @property
    def code(self):
        """The stable word of a problem document."""
        return self.json["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:500]!r}>"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args, **kwargs):
        return None


class Client:
    """HTTP to a gateway, or to what stands in front of several: `url`, a user's `token`, the `drive` that he owns."""
    user, password, drive = "ann", "ann's password", "home"
    url = token = None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)

    def ready(self):
        try:
            return self.opener.open(self.url + "/actuator/health/readiness", timeout=5).status == 200
        except OSError:
            return False

    def api(self, method, path, json=None, headers=None, body=None, token=None, timeout=60):
        """One request. `path` is below /api/v1 unless it names one of the gateway's other roots. token: None is ann's, "" none at all."""
        if not path.startswith(("/api/", "/actuator", "/metrics", "/openapi", "/swagger", "/d/", "/ws")):
            path = "/api/v1" + path
        token = self.token if token is None else token
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if json is not None:
            body = jsonlib.dumps(json).encode()
            sent["Content-Type"] = "application/json"
        elif body is not None:
            sent["Content-Type"] = "application/octet-stream"
        sent.update(headers or {})
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=sent)
        try:
            with self.opener.open(request, timeout=timeout) as r:
                return Answer(r.status, r.headers, r.read())
        except urllib.error.HTTPError as e:
            with e:
                return Answer(e.code, e.headers, e.read())

    @staticmethod
    def query(**args):
        """`?a=b&c=d`, percent-encoded; bytes are allowed."""
        return "?" + urllib.parse.urlencode({k: v for k, v in args.items() if v is not None}, quote_via=urllib.parse.quote)


class Gateway(Client):
    """`cairn-gateway serve` with a user `ann` who owns the drive `home`."""

    def __init__(self, folder, options=()):
        self.folder = str(folder)
        self.data = os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "gateway.log")
        os.makedirs(self.data, exist_ok=True)
        self.options = list(options)
        self.place = place_for(self.data)
        self.process = self.worker = None
        self.ended = True  # by the test itself
        self.checked = True  # at the end; a test that breaks the store says no
        self.port = reserve_port(self.folder)
        self.add_user(self.user, self.password)
        self.add_drive(self.drive, self.user)
        self.token = self.token_of(self.user)

    @property
    def where(self):
        """The options that say where its stores are, for every verb."""
        return self.place.options

    def only(self, *names):
        """Of its options, those."""
        words = [*self.where, *self.options]
        return [word for at, name in enumerate(words[:-1]) if name in names for word in (name, words[at + 1])]

    # ---- administration; works whether the gateway runs or not ----

    def admin(self, *args, input=None, check=True):
        done = subprocess.run([program("cairn-gateway"), "admin", *args, *self.only("--embedded", "--meta", "--objects")], input=input, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise AssertionError(f"admin {' '.join(args)}: exit {done.returncode}: {done.stderr}")
        return done

    def add_user(self, name, password=None, admin=False):
        self.admin("user", "add", name, "--password-stdin", *(["--admin"] if admin else []), input=(password or f"{name}'s password") + "\n")

    def add_drive(self, name, owner):
        self.admin("drive", "create", name, "--owner", owner)

    def token_of(self, name, days=1):
        """A bearer token for scripts."""
        return self.admin("user", "token", name, "--days", str(days)).stdout.strip()

    def fsck(self, verb="fsck"):
        """What is stored, checked against itself; `scrub` reads every chunk, too."""
        done = self.admin(verb, check=False)
        assert done.returncode == 0, f"admin {verb}:\n{done.stdout}{done.stderr}"
        return done.stdout

    # ---- the process ----

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Again on the same port and data."""
        assert self.process is None or self.process.poll() is not None, "already running"
        with open(self.log, "ab") as log:
            before = log.tell()
            self.process = subprocess.Popen([program("cairn-gateway"), "serve", *self.where, "--listen", f"127.0.0.1:{self.port}", "--rate-limit", "0", *self.options],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.ended = False
        wait_for(lambda: self._alive() and self._said(before, rf"listening on http://127.0.0.1:{self.port}\b"), "the gateway at its port")
        wait_for(lambda: self._alive() and self.ready(), "the gateway")
        self._start_worker()
        return self

    def _said(self, after, pattern):
        with open(self.log, errors="replace") as log:
            log.seek(after)
            found = re.search(pattern, log.read())
        return found is not None

    def _start_worker(self):
        """Where the gateway is none itself."""
        if self.place.has_worker and (self.worker is None or self.worker.poll() is not None):
            with open(self.log + ".worker", "ab") as log:
                self.worker = subprocess.Popen([program("cairn-gateway"), "worker", *self.only("--meta", "--objects", "--cache", "--events", "--scanner")], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{tail(self.log)}")
        return True

    def stop(self, seconds=20):
        """SIGTERM: drains. Returns the exit status."""
        self.ended = True
        return end(self.process, seconds) if self.process else None

    def kill(self):
        """SIGKILL: a crash."""
        self.ended = True
        self.process.kill()
        self.process.wait()

    def close(self):
        """A gateway that crashed on the way, does not end well, or leaves what contradicts itself fails the test."""
        status = 0 if self.ended else end(self.process)
        print(f"---- {self.log}\n{tail(self.log)}")
        of_worker = end(self.worker) if self.worker else 0  # by the signal itself, where it came before the worker had begun
        try:
            assert status == 0, f"the gateway ended with {status}"
            assert of_worker in (0, -signal.SIGTERM), f"its worker ended with {of_worker}:\n{tail(self.log + '.worker')}"
            if self.checked:
                self.fsck()
        finally:
            self.place.drop()


class Second(Gateway):
    """Another gateway process on the same stores. (SQLite allows that for what is tried here; a real installation has PostgreSQL, and --embedded sees to it that there is one.)"""

    def __init__(self, first):
        self.folder = first.folder + "-second"
        self.data = os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "gateway.log")
        os.makedirs(self.data)
        self.options, self.process, self.worker, self.ended, self.checked, self.port = first.options, None, None, True, False, reserve_port(self.folder)
        self.place, self.token = first.place.second(self.data), first.token


def fuse_is_missing():
    """Why nothing can be mounted here, None if it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be used on this machine"
    return None if shutil.which("fusermount3") else "fusermount3 is not installed"


class Program(threading.Thread):
    """A thread that does what programs do in mounts, while the test starts processes: it has a table of open files of its own, as a program has. A process that is started
    would else inherit what is open here, and close it before it becomes what it is to be; and a close in a mount waits for a gateway, which may be just that process."""
    CLONE_FILES = 0x400

    def __init__(self, work=None, *args):
        super().__init__(daemon=True)
        self.work, self.args = work, args

    def run(self):
        if ctypes.CDLL(None, use_errno=True).unshare(self.CLONE_FILES):
            raise OSError(ctypes.get_errno(), "unshare")
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the copies that are this thread's
        self.programs()

    def programs(self):
        self.work(*self.args)


def is_mounted(path):
    """Without touching the mount, which may not answer."""
    real = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4].replace("\\040", " ") == real for line in f)


class Mount:
    """`cairn mount --foreground` of a drive."""

    def __init__(self, gateway, path, cache, log, options):
        self.gateway, self.path, self.cache, self.log, self.options = gateway, path, cache, log, options
        self.process = None

    def start(self):
        """Mounts; again on the same path and cache folder after unmount() or kill()."""
        options = dict(self.options)
        token = options.pop("token", self.gateway.token)
        command = [program("cairn"), "mount", "--foreground", "--url", options.pop("url", self.gateway.url),
                   "--drive", options.pop("drive", self.gateway.drive), "--cache-dir", self.cache]
        for key, value in options.items():
            flag = "-o" if key == "o" else "--" + key.replace("_", "-")
            if value is True:
                command.append(flag)
            elif value not in (None, False):
                command += [flag, str(value)]
        os.makedirs(self.path, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command + [self.path], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, "CAIRN_TOKEN": token})
        wait_for(lambda: self._alive() and is_mounted(self.path), f"the mount at {self.path}", 30)
        return self

    def _alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"cairn mount ended with {self.process.returncode}:\n{tail(self.log)}")
        return True

    def unmount(self, seconds=60):
        """In good order: what was written has left when it returns. Returns the exit status of the driver."""
        subprocess.run(["fusermount3", "-u", self.path], check=True, capture_output=True, timeout=seconds)
        self.process.wait(seconds)
        return self.process.returncode

    def kill(self):
        """The driver dies at once, as if the machine had."""
        self.process.kill()
        # A driver killed while it was telling the kernel something may be held there by a call that waits for the driver: -f ends such calls.
        subprocess.run(["umount", "-f", self.path], check=False, capture_output=True, timeout=20)
        self.process.wait(20)
        if is_mounted(self.path):
            subprocess.run(["fusermount3", "-uz", self.path], check=False, capture_output=True, timeout=20)

    def status(self):
        """What it says of itself: docs of `cairn status --json`."""
        return jsonlib.loads(os.getxattr(self.path, "user.cairn.status"))

    def freeze(self):
        """Returns when no thread of it runs any more."""
        self.process.send_signal(signal.SIGSTOP)
        tasks = f"/proc/{self.process.pid}/task"

        def state(thread):
            try:
                with open(f"{tasks}/{thread}/stat") as f:
                    return f.read().rsplit(")", 1)[1].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                return "T"  # it has ended
        wait_for(lambda: all(state(t) == "T" for t in os.listdir(tasks)), "the driver to stop")

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.thaw()
        if is_mounted(self.path):
            subprocess.run(["fusermount3", "-uz", self.path], check=False, capture_output=True)
        end(self.process)
        said = tail(self.log, 400)
        print(f"---- {self.log}\n{said}")
        if is_mounted(self.path):  # it was mounted just when it was looked at, or is no more than a name
            subprocess.run(["umount", "-l", self.path], check=False, capture_output=True)
        assert not is_mounted(self.path), f"{self.path} stays mounted"
        assert "Sanitizer" not in said and self.process.returncode not in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGILL, -signal.SIGBUS), f"the driver ended with {self.process.returncode}"

    def __truediv__(self, name):
        return os.path.join(self.path, name)


class Mounts:
    def __init__(self, folder, gateway):
        self.folder, self.gateway, self.all = str(folder), gateway, []

    def mount(self, name="a", gateway=None, **options):
        """A mount of its own at .path. Options are those of `cairn mount`: drive=, token=, writeback=True, cache_size="1G", o="ro,timeout=3"…"""
        m = Mount(gateway or self.gateway, os.path.join(self.folder, "mount-" + name), os.path.join(self.folder, "cache-" + name),
                  os.path.join(self.folder, f"mount-{name}.log"), options)
        self.all.append(m)
        return m.start()

    def close(self):
        problems = []
        for m in reversed(self.all):
            try:
                m.close()
            except Exception as e:  # the others are to end as well
                problems.append(e)
        if problems:
            raise problems[0]
