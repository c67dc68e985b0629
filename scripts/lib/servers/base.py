"""What every kind of server has in common: its folder, its ports, its processes.

A server's folder holds `kind`, `url`, `pid` (one a line), `log`, `data/`, and `state.json`, which says all that is needed to start it again or to end it."""
import fcntl
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

USER = "nobody"  # what servers run as where we are root
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


class Failed(Exception):
    """Said to the user as it is."""


def die_with_log(what, log):
    try:
        with open(log, errors="replace") as f:
            end = "".join(f.readlines()[-30:])
    except OSError:
        end = ""
    raise Failed(f"{what}; the end of {log}:\n{end}")


def find_program(name, *folders):
    """In the given folders, then $PATH, then where Debian keeps servers."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if not found:
        raise Failed(f"{name} is not installed: run scripts/lib/install tests")
    return found


def go_program(name):
    """One that scripts/lib/go-tools builds."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(cache, "cairn", "bin", name)
    if not os.access(path, os.X_OK):
        raise Failed(f"{path} is missing: run scripts/lib/go-tools")
    return path


# ---- processes ----

def start_time(pid):
    """Ticks after boot at which a process began: with its pid, that names it for good. None: no such process, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def lives(process):
    """process: {"pid", "start"} of state.json; start None: it had ended before it could be looked at."""
    return process["start"] is not None and start_time(process["pid"]) == process["start"]


def descendants(pid):
    """[(pid, start)…] of all its children, theirs, and so on. Their parents may end at any time: only what still hangs together is found."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append({"pid": int(name), "start": int(fields[19])})
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append(child)
            todo.append(child["pid"])
    return found


def session_of(pid):
    """[{"pid", "start"}…] of those that are still in the session which the process `pid` began, also after its own end. (No pid is given out again while a session has it.)"""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] not in "ZX":
            found.append({"pid": int(name), "start": int(fields[19])})
    return found


def left_of(process):
    """What a process has started, whether it lives or not."""
    if lives(process):
        return descendants(process["pid"])
    return session_of(process["pid"]) if start_time(process["pid"]) is None else []


def processes_in(folder):
    """Those that have it as their working directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == folder:
                found.append(int(pid))
        except OSError:
            pass
    return found


def wait_until(condition, seconds, otherwise):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(otherwise)
        time.sleep(0.05)


def signal_process(process, number):
    if lives(process):
        try:
            os.kill(process["pid"], number)
        except ProcessLookupError:
            pass


def wait_ended(processes, seconds):
    """True: all have."""
    end = time.monotonic() + seconds
    while any(lives(p) for p in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
        for p in processes:  # ours to reap, where this program started them itself
            try:
                os.waitpid(p["pid"], os.WNOHANG)
            except ChildProcessError:
                pass
    return True


def as_user(name):
    """The words before a command that make root another user; none where we are not root, or no other is wanted (None)."""
    if os.geteuid() != 0 or not name:
        return []
    user = pwd.getpwnam(name)
    return [find_program("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def user_may(test, path):
    return subprocess.run([*as_user(USER), "test", test, path], capture_output=True).returncode == 0


def unprivileged(name, program):
    """as_user(), for this program. What go-tools built may lie in a folder of root's: then the program is given the right to pass through folders, and nothing else."""
    words = as_user(name)
    if not words or user_may("-x", program):
        return words
    with open("/proc/self/status") as f:
        may = next(int(line.split()[1], 16) for line in f if line.startswith("CapBnd"))
    for number, name in ((CAP_DAC_READ_SEARCH, "dac_read_search"), (CAP_DAC_OVERRIDE, "dac_override")):
        if may >> number & 1:
            return [*words, f"--inh-caps=+{name}", f"--ambient-caps=+{name}"]
    raise Failed(f"the user {USER} cannot run {program}: set XDG_CACHE_HOME to a folder that all may pass through, and run scripts/lib/go-tools")


def open_way(folder):
    """Lets the servers' user pass through the folders above, where they are root's own (those of mkdtemp, say); what is in them stays unlisted. Never a home folder."""
    if os.geteuid() != 0:
        return
    home, above = os.path.expanduser("~"), folder
    while (above := os.path.dirname(above)) != "/":
        mode = os.stat(above).st_mode
        if os.stat(above).st_uid == 0 and not mode & 0o001 and not (home + "/").startswith(above + "/"):
            os.chmod(above, mode & 0o7777 | 0o001)
    if not user_may("-x", folder):
        raise Failed(f"the user {USER} cannot reach {folder}: choose a folder that all may pass through")


# ---- ports ----

def ephemeral_ports():
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
            low, high = map(int, f.read().split())
            return low, high
    except OSError:
        return 32768, 60999


def port_is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    with socket.socket() as s:  # also where somebody listens on all addresses with SO_REUSEADDR
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) != 0


def reserve_port(folder):
    """A port that stays this folder's while its state.json names it, also when the server is stopped. It lies outside of the range from which the kernel takes ports for
    outgoing connections, any of which could take it away."""
    low, high = ephemeral_ports()
    free = range(10000, low - 1) if low > 12000 else range(high + 1, 65000)
    book = os.path.join(tempfile.gettempdir(), f"cairn-ports.{os.geteuid()}")
    os.makedirs(book, mode=0o700, exist_ok=True)
    if os.stat(book).st_uid != os.geteuid():
        raise Failed(f"{book} is another user's")
    with open(os.path.join(book, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(1000):
            port = random.choice(free)
            entry = os.path.join(book, str(port))
            if port_is_reserved(entry, port) or not port_is_free(port):
                continue
            with open(entry, "w") as f:
                f.write(f"{os.getpid()} {start_time(os.getpid())} {folder}")
            return port
    raise Failed("no free port was found")


def port_is_reserved(entry, port):
    """By a folder whose state names it, or by one that is only now being made."""
    try:
        with open(entry) as f:
            pid, start, folder = f.read().split(" ", 2)
        if str(start_time(int(pid))) == start:
            return True
        with open(os.path.join(folder, "state.json")) as f:
            return port in json.load(f)["ports"].values()
    except (OSError, ValueError, KeyError):
        return False


def answers(port, send=b"", expect=b""):
    """Something listens there, and says what is expected."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.settimeout(5)
            if send:
                s.sendall(send)
            got = b""
            while expect and expect not in got:
                piece = s.recv(4096)
                if not piece:
                    return False
                got += piece
            return True
    except OSError:
        return False


# ---- a server ----

class Server:
    """One server (or a few processes that are one, as a Redis Cluster). A kind overrides what is below the line."""
    kind = ""
    patience = 60  # seconds until it must answer
    grace = 30  # seconds to end after SIGTERM
    quit_signal = signal.SIGTERM
    cancelled = None  # a threading.Event of whoever starts several at once: nobody waits for this one any more

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.data, self.log = self.path("data"), self.path("log")
        self.ports, self.secrets, self.options, self.processes = {}, {}, {}, []
        if os.path.exists(self.path("state.json")):
            with open(self.path("state.json")) as f:
                for key, value in json.load(f).items():
                    setattr(self, key, value)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text, mode=0o644):
        """Whole or not at all."""
        with open(self.path(name + ".new"), "w", opener=lambda p, flags: os.open(p, flags, mode)) as f:
            f.write(text)
        os.rename(self.path(name + ".new"), self.path(name))

    def save(self):
        os.makedirs(self.folder, exist_ok=True)
        self.write("state.json", json.dumps({"kind": self.kind, "ports": self.ports, "secrets": self.secrets, "options": self.options, "processes": self.processes},
                                            indent=1), 0o600)
        self.write("pid", "".join(f"{p['pid']}\n" for p in self.processes))

    def user(self):
        """Who it runs as where we are root; None: as we do."""
        return USER

    def is_running(self):
        return bool(self.processes) and all(lives(p) for p in self.processes)

    def port(self, name="main"):
        if name not in self.ports:
            self.ports[name] = reserve_port(self.folder)
            self.save()
        return self.ports[name]

    def secret(self, name):
        if name not in self.secrets:
            self.secrets[name] = os.urandom(12).hex()
            self.save()
        return self.secrets[name]

    def own(self, *paths):
        """Gives them to the user that the server runs as."""
        if os.geteuid() == 0 and self.user():
            user = pwd.getpwnam(self.user())
            for p in paths:
                os.chown(p, user.pw_uid, user.pw_gid)

    def own_folder(self, *names):
        path = self.path(*names)
        os.makedirs(path, mode=0o700, exist_ok=True)
        self.own(path)
        return path

    def environment(self, extra):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "RABBITMQ_", "MINIO_", "ERL_", "AWS_", "CAIRN_"))}
        return {**kept, "HOME": self.data, "LC_ALL": "C.UTF-8", **extra}

    def run(self, command, input=None, **extra):
        """A command of its own user's that ends; what it says goes to the log. Returns its output."""
        done = subprocess.run([*unprivileged(self.user(), command[0]), *command], input=input, cwd=self.data, env=self.environment(extra), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        with open(self.log, "a") as log:
            log.write(done.stdout)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: exit {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    def spawn(self, command, **extra):
        """A process that stays, in a session of its own."""
        with open(self.log, "ab") as log:
            p = subprocess.Popen([*unprivileged(self.user(), command[0]), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data, start_new_session=True,
                                 env=self.environment(extra))
        self.processes.append({"pid": p.pid, "start": start_time(p.pid), "name": os.path.basename(command[0])})
        self.save()

    def start(self, options):
        """Options are kept for the next start, which may change them one by one."""
        os.makedirs(self.folder, exist_ok=True)
        if self.is_running():
            return
        self.end(signal.SIGTERM)  # what is left of it
        self.options.update(options)
        self.own_folder("data")
        if self.user():
            open_way(self.data)
        for name, port in self.ports.items():
            if not port_is_free(port):
                raise Failed(f"port {port} ({name}), where {self.folder} was, is used by another program now")
        if not os.path.exists(self.path("made")):
            self.make()
            self.write("made", "")
        try:
            self.launch()
            self.wait_ready()
            self.started()
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        self.write("kind", self.kind + "\n")
        self.write("url", self.url() + "\n", 0o600)

    def wait_ready(self):
        end = time.monotonic() + self.patience
        while not self.ready():
            if self.cancelled and self.cancelled.is_set():
                raise Failed(f"the start of {self.folder} was interrupted")
            if not self.is_running() or time.monotonic() > end:
                die_with_log(f"{self.kind} did not start", self.log)
            time.sleep(0.05)

    def stop(self):
        self.end(self.quit_signal)

    def kill(self):
        self.end(signal.SIGKILL)

    def end(self, number):
        """The last one started goes first: the first ones are what the others need."""
        for p in reversed(self.processes):
            below = left_of(p)
            signal_process(p, signal.SIGCONT)
            if number != signal.SIGKILL:
                signal_process(p, number)
                wait_ended([p], self.grace)
            for each in [p, *below]:
                signal_process(each, signal.SIGKILL)
            if not wait_ended([p, *below], 10):
                raise Failed(f"{self.kind} (pid {p['pid']}) does not end")
        self.processes = []
        if os.path.exists(self.path("state.json")):
            self.save()

    # -------- what a kind says --------

    def make(self):
        """Before the very first start."""

    def launch(self):
        """Starts its processes, by spawn()."""
        raise NotImplementedError

    def ready(self):
        return answers(self.port())

    def started(self):
        """When it is ready, each time: what has to be there once it runs. Idempotent."""

    def url(self):
        raise NotImplementedError


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)
