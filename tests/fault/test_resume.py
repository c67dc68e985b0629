"""A large `cairn put`, and kill -9 in the middle of it: the same command again sends what is missing, and nothing else. Counted by the program and by the gateway."""
import hashlib
import os
import random
import re
import subprocess
import time

import pytest

from harness import program, wait_for

MIB = 1 << 20
SIZE, CHUNK = 256 * MIB, 4 * MIB
CHUNKS = SIZE // CHUNK


class Put:
    """`cairn put` of one large file, as often as it takes."""

    def __init__(self, folder, gateway):
        self.gateway, self.path, self.home = gateway, os.path.join(folder, "big"), os.path.join(folder, "home")
        os.mkdir(self.home)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("CAIRN_", "XDG_"))}
        self.env.update(HOME=self.home, CAIRN_URL=gateway.url, CAIRN_TOKEN=gateway.token)
        noise = random.Random(7)
        whole = hashlib.sha256()
        with open(self.path, "wb") as f:
            for _ in range(SIZE // (16 * MIB)):
                piece = noise.randbytes(16 * MIB)
                whole.update(piece)
                f.write(piece)
        self.sha256 = whole.hexdigest()

    def start(self):
        return subprocess.Popen([program("cairn"), "put", self.path, "home:/big"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, cwd=self.home, text=True)

    def finish(self, running):
        """Returns (chunks sent, chunks that were there already), as the program says."""
        out, err = running.communicate(timeout=120)
        assert running.returncode == 0, (out, err)
        sent, of, there = map(int, re.search(r"sent (\d+) of (\d+) chunks \((\d+) already there\)", out).groups())
        assert of == CHUNKS and sent + there == of
        return sent, there

    def is_stored(self):
        """Read back through the gateway, and every chunk once more by `admin scrub`."""
        out = os.path.join(self.home, "back")
        subprocess.run([program("cairn"), "get", "home:/big", out], check=True, env=self.env, cwd=self.home, timeout=120, capture_output=True)
        with open(out, "rb") as f:
            assert hashlib.file_digest(f, "sha256").hexdigest() == self.sha256
        assert f"{CHUNKS} chunks read: right" in self.gateway.fsck("scrub")


@pytest.fixture
def put(folder, gateway):
    return Put(folder, gateway)


def chunks_taken(gateway):
    """How many chunks this process of the gateway has acknowledged: its own metrics."""
    text = gateway.api("GET", "/metrics", token="").body.decode()
    return sum(float(n) for labels, n in re.findall(r"^cairn_http_requests_total\{(.*)\} (\S+)$", text, re.M) if "/chunk/" in labels and 'status="200"' in labels)


def test_the_client_is_killed(put, gateway):
    running = put.start()
    wait_for(lambda: chunks_taken(gateway) >= CHUNKS // 4, "a quarter of the chunks", 60)
    running.kill()
    running.communicate()
    time.sleep(1)  # a few more may be on their way in
    before = chunks_taken(gateway)
    sent, there = put.finish(put.start())
    assert there >= before and sent < CHUNKS
    assert chunks_taken(gateway) <= CHUNKS  # none was taken twice
    put.is_stored()


def test_the_gateway_is_killed(put, gateway):
    """The command waits for it and goes on by itself."""
    running = put.start()
    wait_for(lambda: chunks_taken(gateway) >= CHUNKS // 4, "a quarter of the chunks", 60)
    before = chunks_taken(gateway)
    gateway.kill()
    gateway.start()
    put.finish(running)
    assert chunks_taken(gateway) <= CHUNKS - before
    put.is_stored()


def test_both_are_killed_again_and_again(put, gateway):
    """Each time a little further; no chunk that was acknowledged is ever sent twice."""
    acknowledged = 0
    for _ in range(3):
        running = put.start()
        goal = chunks_taken(gateway) + 10
        wait_for(lambda: chunks_taken(gateway) >= goal, "ten more chunks", 60)
        acknowledged += chunks_taken(gateway)
        gateway.kill()
        running.kill()
        running.communicate()
        gateway.start()
    sent, there = put.finish(put.start())
    assert there >= acknowledged and chunks_taken(gateway) == sent
    put.is_stored()
