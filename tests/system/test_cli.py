"""The command line against a running gateway: sign in, put, get, look around, go on after an interruption."""
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import stat
import subprocess
import threading
import time

import pytest

from harness import fuse_is_missing, program, read, wait_for

MIB = 1 << 20


class Cli:
    """`cairn` with a home of its own."""

    def __init__(self, home, gateway=None, token=None):
        self.home = str(home)
        os.makedirs(self.home, exist_ok=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("CAIRN_", "XDG_"))}
        self.env.update(HOME=self.home, XDG_CONFIG_HOME=f"{self.home}/config", XDG_STATE_HOME=f"{self.home}/state")
        if gateway:
            self.env.update(CAIRN_URL=gateway.url, CAIRN_TOKEN=token or gateway.token)

    def __call__(self, *args, input=None, status=0, cwd=None):
        done = subprocess.run([program("cairn"), *args], input=input, capture_output=True, env=self.env, cwd=cwd or self.home, timeout=120,
                              start_new_session=True)
        assert done.returncode == status, (args, done)
        return done

    def text(self, *args, **more):
        return self(*args, **more).stdout.decode()

    def json(self, *args):
        return json.loads(self(*args, "--json").stdout)

    def error(self, *args, status=1, **more):
        done = self(*args, status=status, **more)
        assert done.stderr, "it failed without a word"
        return done.stderr.decode()

    def start(self, *args):
        return subprocess.Popen([program("cairn"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, cwd=self.home)


@pytest.fixture
def cli(folder, gateway):
    return Cli(os.path.join(folder, "home"), gateway)


def noise(path, size, seed=1):
    data = random.Random(seed).randbytes(size)
    with open(path, "wb") as f:
        f.write(data)
    return data


def test_help_and_usage(folder):
    cli = Cli(os.path.join(folder, "home"))
    overview = cli.text("--help")
    verbs = [line.split()[0] for line in overview.splitlines() if line.startswith("  ")]
    assert {"login", "mount", "put", "get", "versions", "doctor"} <= set(verbs)
    for verb in verbs:
        assert cli.text(verb, "--help").startswith(f"Usage: cairn {verb} ")
    assert 'Did you mean "mount"' in cli.error("mont", status=2)
    assert "Usage: cairn put" in cli.error("put", status=2)
    assert "no option --nonsense" in cli.error("ls", "--nonsense", status=2)
    assert "cairn login" in cli.error("drives")


def test_login_keeps_a_sign_in_that_only_its_owner_can_read(folder, gateway):
    cli = Cli(os.path.join(folder, "home"))
    assert "does not know" in cli.error("login", gateway.url, "--user", "ann", "--password-stdin", input=b"wrong\n")
    cli("login", gateway.url + "/", "--user", "ann", "--password-stdin", input=gateway.password.encode() + b"\n")
    kept = f"{cli.home}/config/cairn/credentials.json"
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(kept)).st_mode) == 0o700
    (drive,) = cli.json("drives")["drives"]
    assert drive["name"] == "home" and drive["role"] == "owner"
    cli("logout")
    assert "not signed in" in cli.error("drives", "--url", gateway.url)


def test_programs_share_one_sign_in_without_burning_it(folder, gateway):
    """Ten commands find the access token too old at once: the refresh token is used once, and all of them work."""
    cli = Cli(os.path.join(folder, "home"))
    cli("login", gateway.url, "--user", "ann", "--password-stdin", input=gateway.password.encode() + b"\n")
    kept = f"{cli.home}/config/cairn/credentials.json"
    for _ in range(3):
        content = json.load(open(kept))
        before = content["servers"][gateway.url]["refreshToken"]
        content["servers"][gateway.url]["accessToken"] = gateway.token[:-4] + "AAAA"
        with open(kept, "w") as f:
            json.dump(content, f)
        running = [cli.start("drives") for _ in range(10)]
        for p in running:
            out, err = p.communicate(timeout=60)
            assert p.returncode == 0, err
        assert json.load(open(kept))["servers"][gateway.url]["refreshToken"] != before


def test_put_and_get_of_many_sizes(cli, folder):
    sizes = [0, 1, 65535, 65536, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 12345]
    for size in sizes:
        data = noise(f"{folder}/file-{size}", size, size)
        said = cli.text("put", f"{folder}/file-{size}", "home:/")
        assert "already there" in said
        cli("get", f"home:/file-{size}", f"{folder}/back-{size}")
        assert read(f"{folder}/back-{size}") == data
        assert not os.path.exists(f"{folder}/back-{size}.part")
        assert cli("get", f"home:/file-{size}", "-").stdout == data
    listed = {e["name"]: e["size"] for e in cli.json("ls", "home:/")["entries"]}
    assert listed == {f"file-{s}": s for s in sizes}


def test_identical_content_is_not_sent_again(cli, folder):
    noise(f"{folder}/a", 9 * MIB)
    assert "sent 3 of 3 chunks (0 already there)" in cli.text("put", f"{folder}/a", "home:/a")
    assert "sent 0 of 3 chunks (3 already there)" in cli.text("put", f"{folder}/a", "home:/b")


def test_names_that_need_care(cli, folder):
    for name in ("with space", "plus+and%25&amp", "ünïcödé", "quote\"back\\slash", "a:b"):
        with open(f"{folder}/{name}", "w") as f:
            f.write(name)
        cli("put", f"{folder}/{name}", "home:/")
        assert cli("get", f"home:/{name}", "-").stdout.decode() == name
    assert len(cli.json("ls", "home:/")["entries"]) == 5


def test_trees_moves_and_removals(cli, folder):
    os.makedirs(f"{folder}/tree/sub/empty")
    for name in ("one", "sub/two"):
        with open(f"{folder}/tree/{name}", "w") as f:
            f.write(name)
    os.symlink("one", f"{folder}/tree/link")
    assert "use -r" in cli.error("put", f"{folder}/tree", "home:/")
    done = cli("put", "-r", f"{folder}/tree", "home:/")
    assert b"link is left out" in done.stderr
    assert cli.text("ls", "home:/tree").split() == ["one", "sub/"]
    assert cli("get", "home:/tree/sub/two", "-").stdout == b"sub/two"
    cli("mkdir", "-p", "home:/x/y/z")
    cli("mkdir", "-p", "home:/x/y/z")
    assert "cannot be made" in cli.error("mkdir", "home:/x")
    cli("mv", "home:/tree/one", "/x/y/")
    cli("mv", "home:/x/y/one", "home:/x/uno")
    assert cli("get", "home:/x/uno", "-").stdout == b"one"
    assert "-r" in cli.error("rm", "home:/x")
    cli("rm", "-r", "home:/x", "home:/tree")
    assert cli.json("ls", "home:/")["entries"] == []
    assert "there is no" in cli.error("get", "home:/x/uno")
    assert "no directory" in cli.error("put", f"{folder}/tree/one", "home:/nowhere/")


def test_versions_and_restore(cli, folder):
    for text in ("first", "second"):
        with open(f"{folder}/f", "w") as f:
            f.write(text)
        cli("put", f"{folder}/f", "home:/f")
    newest, oldest = cli.json("versions", "home:/f")["versions"]
    assert newest["current"] and not oldest["current"] and newest["version"] > oldest["version"]
    old = str(oldest["version"])
    assert cli("get", "--version", old, "home:/f", "-").stdout == b"first"
    cli("restore", "home:/f", "--version", old, "--to", f"{folder}/copy")
    assert read(f"{folder}/copy") == b"first"
    cli("restore", "home:/f", "--version", old, "--to", "home:/g")
    assert cli("get", "home:/g", "-").stdout == b"first"
    assert cli("get", "home:/f", "-").stdout == b"second"
    cli("restore", "home:/f", "--version", old)
    assert cli("get", "home:/f", "-").stdout == b"first"
    assert len(cli.json("versions", "home:/f")["versions"]) == 3
    assert "no version 999999" in cli.error("get", "--version", "999999", "home:/f", "-")


def test_trash_brings_back(cli, folder):
    noise(f"{folder}/f", 1000)
    cli("put", f"{folder}/f", "home:/f")
    cli("rm", "home:/f")
    assert [e["path"] for e in cli.json("trash", "home")["entries"]] == ["/f"]
    cli("trash", "restore", "home:/f")
    assert cli("get", "home:/f", "-").stdout == read(f"{folder}/f")
    assert cli.json("trash", "home:/")["entries"] == []


def test_an_interrupted_put_goes_on(cli, folder, gateway):
    """The gateway dies in the middle, the command waits and is stopped by Ctrl-C; the same command sends only what is missing."""
    data = noise(f"{folder}/big", 96 * MIB)
    running = cli.start("put", f"{folder}/big", "home:/big")
    state = f"{cli.home}/state/cairn/uploads"
    wait_for(lambda: os.path.isdir(state) and any(n.endswith(".json") for n in os.listdir(state)), "an upload session")
    running.send_signal(signal.SIGSTOP)
    (name,) = [n for n in os.listdir(state) if n.endswith(".json")]
    session = json.load(open(f"{state}/{name}"))["sessionId"]

    def some():  # a moment's work at a time, so that it is not done before we have looked
        running.send_signal(signal.SIGCONT)
        time.sleep(0.01)
        running.send_signal(signal.SIGSTOP)
        return len(gateway.api("GET", f"/upload/{session}/chunks").json["chunks"]) >= 4
    wait_for(some, "some chunks")
    gateway.kill()
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGCONT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1 and b"The same command goes on" in err, (out, err)
    gateway.start()
    there = 24 - len(gateway.api("GET", f"/upload/{session}/missing-chunks").json["missing"])
    assert 4 <= there < 24
    said = cli.text("put", f"{folder}/big", "home:/big")
    assert f"sent {24 - there} of 24 chunks ({there} already there)" in said
    assert not os.listdir(state)
    cli("get", "home:/big", f"{folder}/back")
    assert hashlib.sha256(read(f"{folder}/back")).digest() == hashlib.sha256(data).digest()


def test_a_gateway_that_restarts_is_waited_for(cli, folder, gateway):
    data = noise(f"{folder}/big", 60 * MIB)
    running = cli.start("put", f"{folder}/big", "home:/big")
    state = f"{cli.home}/state/cairn/uploads"
    wait_for(lambda: running.poll() is not None or os.path.isdir(state) and os.listdir(state), "an upload session")
    gateway.kill()
    gateway.start()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, (out, err)
    assert cli("get", "home:/big", "-").stdout == data


def test_get_goes_on_where_it_stopped(cli, folder):
    data = noise(f"{folder}/f", 20 * MIB)
    cli("put", f"{folder}/f", "home:/f")
    with open(f"{folder}/out.part", "wb") as f:
        f.write(data[:8 * MIB] + b"x" * MIB)  # two chunks are good, the third is not
    assert "fetched 3 of 5 chunks" in cli.text("get", "home:/f", f"{folder}/out")
    assert read(f"{folder}/out") == data


@contextlib.contextmanager
def watching(cli):
    """A `cairn watch` of `home`, and the lines that it has printed."""
    lines = []
    running = cli.start("watch", "home", "--json")
    reader = threading.Thread(target=lambda: lines.extend(iter(running.stdout.readline, b"")), daemon=True)
    reader.start()
    try:
        yield lines
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(30)
        reader.join(30)


def until_seen(cli, lines):
    """Makes changes until one is told."""
    numbers = itertools.count()

    def seen():
        cli("mkdir", f"home:/dir-{next(numbers)}")
        return any(json.loads(line)["path"].startswith("/dir-") for line in list(lines))
    wait_for(seen, "a change", 60)


def test_watch_tells_what_happens(cli):
    with watching(cli) as lines:
        until_seen(cli, lines)
    assert json.loads(lines[0])["kind"] == "created"


def test_watch_waits_for_a_gateway_and_tells_nothing_of_before(cli, gateway):
    cli("mkdir", "home:/before")
    gateway.kill()
    with watching(cli) as lines:
        time.sleep(1)  # it has asked in vain
        gateway.start()
        until_seen(cli, lines)
    assert json.loads(lines[0])["path"].startswith("/dir-")


def test_what_goes_wrong_is_said(cli, folder, gateway):
    assert "there is no home:/none" in cli.error("ls", "home:/none")
    assert "nobodys" in cli.error("ls", "nobodys:/")
    assert "cannot be found" in cli.error("put", f"{folder}/none", "home:/")
    assert "not in a mounted drive" in cli.error("versions", "/etc/passwd")
    stranger = Cli(os.path.join(folder, "stranger"), gateway, token="forged.token.here")
    assert "Sign in again" in stranger.error("drives")
    gateway.stop()
    assert "cannot be reached" in cli.error("drives")


def test_doctor(cli, gateway):
    wait_for(lambda: gateway.api("GET", "/actuator/health").json["status"] == "UP", "its connections")
    findings = {f["check"]: f["ok"] for f in json.loads(subprocess.run([program("cairn"), "doctor", "--json"], env=cli.env, capture_output=True).stdout)}
    assert findings["gateway"] and findings["access"] and findings["clock"]
    gateway.stop()
    assert "BAD  gateway" in cli("doctor", status=1).stdout.decode()


# ---- with a mount ----

def all_mounts(cli):
    """Whatever the exit status: there may be others on this machine, in whatever state."""
    done = subprocess.run([program("cairn"), "status", "--json"], env=cli.env, capture_output=True, timeout=120)
    return [s["mountpoint"] for s in json.loads(done.stdout)]


def test_paths_in_a_mount_name_places_in_its_drive(cli, folder, mounts):
    m = mounts.mount("a")
    os.mkdir(m / "dir")
    for text in ("one", "two"):
        with open(m / "dir/file", "w") as f:
            f.write(text)
    versions = cli.json("versions", m / "dir/file")["versions"]
    assert len(versions) == 2
    cli("restore", m / "dir/file", "--version", str(versions[1]["version"]))
    wait_for(lambda: read(m / "dir/file") == b"one", "the restored content in the mount")
    assert cli.text("ls", m / "dir").split() == ["file"]
    status = cli.json("status", m.path)
    assert status["drive"] == "home" and status["online"] and status["dirtyBytes"] == 0
    assert m.path in all_mounts(cli)
    assert "everything is sent" in cli.text("status", m.path)
    assert "cachedBytes" in cli.text("stats", m.path)
    cli("put", f"{cli.home}/../gateway/gateway.log", m / "dir/")
    wait_for(lambda: "gateway.log" in os.listdir(m / "dir"), "the file that was put")


def test_a_driver_that_hangs_keeps_nobody(cli, mounts):
    m = mounts.mount("a")
    m.freeze()
    assert f"{m.path}: its driver hangs" in cli("doctor", status=1).stdout.decode()
    assert "--force" in cli.error("unmount", m.path)
    m.thaw()
    wait_for(lambda: m.path in all_mounts(cli), "an answer")


def test_mount_in_the_background_and_unmount(cli, folder, gateway):
    if fuse_is_missing():
        pytest.skip(fuse_is_missing())
    place = f"{folder}/mnt"
    os.mkdir(place)
    try:
        cli("mount", "--drive", "home", "--cache-dir", f"{folder}/cache", "-o", "timeout=5", place)
        data = noise(f"{place}/f", 3 * MIB)
        assert "not it" in cli.error("unmount", f"{place}/f")
        cli("unmount", place)
        assert os.listdir(place) == []
        assert cli("get", "home:/f", "-").stdout == data
        assert "not a mounted drive" in cli.error("unmount", place)
        # the same cache at once, as mount(8) would call it
        cli("home", place, "-o", f"rw,url={gateway.url},cache-dir={folder}/cache,timeout=5")
        assert read(f"{place}/f") == data
        cli("unmount", place)
    finally:
        subprocess.run([program("cairn"), "unmount", "--force", place], env=cli.env, capture_output=True)
