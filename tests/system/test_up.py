"""scripts/up and scripts/down: from a clone to a mounted drive, back, and again after whatever happened in between."""
import os
import shlex
import signal
import socket
import subprocess

import pytest

from harness import ROOT, fuse_is_missing, is_mounted, wait_for


class Home:
    """A user's home, and what scripts do there."""

    def __init__(self, folder):
        self.path, self.state, self.drive = folder, os.path.join(folder, "its state"), os.path.join(folder, "Cairn")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("CAIRN_", "XDG_"))}
        self.environment.update(HOME=folder, CAIRN_HOME=self.state)

    def script(self, name, *args, status=0):
        done = subprocess.run([os.path.join(ROOT, "scripts", name), *args], env=self.environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        assert done.returncode == status, done
        return done.stdout + done.stderr

    @property
    def env(self):
        with open(os.path.join(self.state, "env")) as f:
            return dict(shlex.split(line)[0].split("=", 1) for line in f)

    def kill(self, *keys):
        for pid in [int(self.env[key]) for key in keys]:
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not os.path.exists(f"/proc/{pid}/exe"), "its end")


@pytest.fixture
def home(folder):
    if fuse_is_missing():
        pytest.skip(fuse_is_missing())
    h = Home(folder)
    yield h
    h.script("down")
    assert not is_mounted(h.drive)


def read(path):
    with open(path) as f:
        return f.read()


def test_up_again_and_down(home):
    assert "Nothing to end" in home.script("down")
    said = home.script("up")
    env = home.env
    assert home.drive in said and env["CAIRN_URL"] in said and "scripts/down" in said
    assert os.stat(os.path.join(home.state, "env")).st_mode & 0o777 == 0o600
    with open(os.path.join(home.drive, "note"), "w") as f:
        f.write("kept")
    # the line that it tells for the commands of Cairn in this shell
    (line,) = [t for t in said.splitlines() if "export CAIRN_URL" in t]
    done = subprocess.run(["bash", "-c", f'{line}\nset -e; cairn status; cairn versions "$CAIRN_DIR/note"; curl -fsS -H "Authorization: Bearer $CAIRN_TOKEN" "$CAIRN_URL/api/v1/drives"'],
                          env=home.environment, capture_output=True, text=True)
    assert done.returncode == 0 and "everything is sent" in done.stdout and '"home"' in done.stdout, done

    said = home.script("up")
    assert "running already" in said and "mounted already" in said
    assert [home.env[k] for k in ("CAIRN_URL", "CAIRN_GATEWAY_PID", "CAIRN_MOUNT_PID")] == [env[k] for k in ("CAIRN_URL", "CAIRN_GATEWAY_PID", "CAIRN_MOUNT_PID")]
    for killed in (["CAIRN_GATEWAY_PID"], ["CAIRN_MOUNT_PID"], ["CAIRN_GATEWAY_PID", "CAIRN_MOUNT_PID"]):
        home.kill(*killed)
        home.script("up")
        assert read(os.path.join(home.drive, "note")) == "kept" and home.env["CAIRN_URL"] == env["CAIRN_URL"], killed
    for killed in ([], ["CAIRN_GATEWAY_PID"], ["CAIRN_MOUNT_PID"]):
        home.kill(*killed)
        assert "Cairn is down" in home.script("down")
        assert not is_mounted(home.drive) and "CAIRN_MOUNT_PID" not in home.env
        assert "was not running" in home.script("down")
        home.script("up")
        assert read(os.path.join(home.drive, "note")) == "kept"


def test_what_is_in_the_way_is_said(home):
    home.script("up")
    docs = os.path.join(home.path, "docs")
    os.mkdir(docs)
    open(os.path.join(docs, "thesis"), "w").close()
    assert "is not empty" in home.script("up", docs, status=1)
    assert is_mounted(home.drive)
    with open(os.path.join(home.drive, "open"), "w"):
        assert "in use" in home.script("down", status=1)
    home.script("down")
    with socket.create_server(("127.0.0.1", int(home.env["CAIRN_URL"].rsplit(":", 1)[1]))):
        assert "used by another program" in home.script("up", status=1)
    home.script("up", os.path.join(home.path, "another place"))
    assert os.listdir(os.path.join(home.path, "another place")) == ["open"]


def test_a_port_that_is_taken_is_not_used(home):
    try:
        taken = socket.create_server(("127.0.0.1", 8080))
    except OSError:
        taken = socket.socket()  # by somebody else
    with taken:
        home.script("up")
        assert home.env["CAIRN_URL"] != "http://127.0.0.1:8080"
