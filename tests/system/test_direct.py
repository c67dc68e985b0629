"""The direct data path: chunks between clients and a real S3 store, without the gateway."""
import http.server
import json
import os
import random
import re
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from fsclient import Peer, sha256
from harness import program, wait_for
from realserver import RealServer

MIB = 1 << 20
NOISE = random.Random(7).randbytes(24 * MIB)
TEXT = random.Random(8).randbytes(4 * MIB).hex().encode()  # 8 MiB that zstd makes half as long


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    s = RealServer("minio", str(tmp_path_factory.mktemp("store")))
    s.start()
    try:
        yield s
    finally:
        s.stop()


@pytest.fixture
def public():
    """What clients are told of the store's address; None: where the gateway finds it."""
    return None


@pytest.fixture
def gateway_options(store, public):
    return ["--objects", store.url + (f"&public-endpoint={public}" if public else "")]


@pytest.fixture
def gateway(gateway, store):
    gateway.checked = False  # checked here, with the store that it has
    yield gateway
    gateway.stop()
    done = gateway.admin("scrub", "--objects", store.url, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def passed(gateway):
    """Bytes that went through the gateway so far, both ways."""
    text = gateway.api("GET", "/metrics").body.decode()
    return sum(int(float(n)) for n in re.findall(r"^cairn_http_(?:received|sent)_bytes_total (\S+)$", text, re.M))


def put(gateway, path, data):
    answer = gateway.api("PUT", "/files/content" + gateway.query(drive="home", path=path), body=data)
    assert answer.status in (200, 201), answer
    return answer.json


def cairn(gateway, folder, *args):
    env = {**os.environ, "CAIRN_URL": gateway.url, "CAIRN_TOKEN": gateway.token, "HOME": folder, "XDG_STATE_HOME": folder}
    done = subprocess.run([program("cairn"), *args], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done
    return done.stdout


def status(mount):
    return json.loads(os.getxattr(mount.path, "user.cairn.status"))


def read(path):
    with open(path, "rb") as f:
        return f.read()


# ---- reading ----


def test_a_mount_reads_from_the_store(gateway, mounts):
    put(gateway, "/noise", NOISE)
    put(gateway, "/text", TEXT)
    a = mounts.mount("a")
    before = passed(gateway)
    assert read(a / "noise") == NOISE
    assert read(a / "text") == TEXT
    assert passed(gateway) - before < MIB
    assert status(a)["direct"] == "on"
    assert status(a)["directFetchedBytes"] == len(NOISE) + len(TEXT)


def test_what_was_mapped_before_is_read_from_the_store(gateway, mounts):
    """A driver that starts with a map in its cache has not asked the gateway for any: it asks where the chunks are."""
    put(gateway, "/noise", NOISE)
    a = mounts.mount("a")
    with open(a / "noise", "rb") as f:
        os.pread(f.fileno(), 1, 0)
    wait_for(lambda: status(a)["directFetchedBytes"], "the first chunk")
    assert a.unmount() == 0
    a.start()
    before = passed(gateway)
    assert read(a / "noise") == NOISE
    assert passed(gateway) - before < MIB


def test_get_fetches_from_the_store(gateway, folder):
    put(gateway, "/noise", NOISE)
    before = passed(gateway)
    cairn(gateway, folder, "get", "home:/noise", os.path.join(folder, "got"))
    assert read(os.path.join(folder, "got")) == NOISE
    assert passed(gateway) - before < MIB
    cairn(gateway, folder, "get", "--direct", "off", "home:/noise", os.path.join(folder, "again"))
    assert read(os.path.join(folder, "again")) == NOISE
    assert passed(gateway) - before > len(NOISE)


def test_off_means_off(gateway, mounts):
    put(gateway, "/noise", NOISE)
    a, b = mounts.mount("a", direct="off"), mounts.mount("b", o="direct=off")
    for m in a, b:
        before = passed(gateway)
        assert read(m / "noise") == NOISE
        assert passed(gateway) - before > len(NOISE)
        assert status(m)["direct"] == "off"
        assert status(m)["directFetchedBytes"] == 0


@pytest.mark.parametrize("public", [f"http://127.0.0.1:{closed_port()}", "http://nowhere.invalid:9"])
def test_a_store_that_clients_cannot_reach(gateway, mounts, folder):
    put(gateway, "/noise", NOISE)
    a = mounts.mount("a")
    assert read(a / "noise") == NOISE
    assert status(a)["direct"] == "unreachable"
    assert status(a)["directFetchedBytes"] == 0
    cairn(gateway, folder, "get", "home:/noise", os.path.join(folder, "got"))
    assert read(os.path.join(folder, "got")) == NOISE


@pytest.mark.parametrize("public", ["none"])
def test_a_store_that_is_not_for_clients(gateway, mounts):
    put(gateway, "/noise", NOISE)
    a = mounts.mount("a")
    assert read(a / "noise") == NOISE
    assert status(a)["direct"] == "not offered"


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers at the store's address, and is not the store."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        n = last - first + 1
        self.server.asked += 1
        if self.server.way == "silent":
            time.sleep(60)
            return
        self.send_response({"refuses": 403, "busy": 503, "redirects": 302}.get(self.server.way, 206))
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(n))
        self.end_headers()
        self.wfile.write(bytes(n // 2 if self.server.way == "cuts" else n))
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def stranger(request):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    server.daemon_threads = True
    server.block_on_close = False
    server.way, server.asked = request.param, 0
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class TestSomebodyElseAtTheStoresAddress:
    @pytest.fixture
    def public(self, stranger):
        return f"http://127.0.0.1:{stranger.server_address[1]}"

    @pytest.mark.parametrize("stranger", ["lies", "cuts", "refuses", "busy", "redirects", "silent"], indirect=True)
    def test_the_gateway_is_asked_then(self, gateway, mounts, stranger):
        put(gateway, "/noise", NOISE)
        a = mounts.mount("a")
        assert read(a / "noise") == NOISE
        assert status(a)["direct"] == "unreachable"
        assert 1 <= stranger.asked <= 4  # those that were on their way at once, and then no more


def test_places_are_told_to_members_only(gateway):
    made = put(gateway, "/noise", NOISE[:MIB])
    gateway.add_user("bob")
    peer = Peer(gateway)
    h = sha256(NOISE[:MIB])
    answer = peer.call("POST", "/where", json={"drive": peer.drive, "chunks": [h, sha256(b"none")]})
    assert answer.status == 200, answer
    [place] = answer.json["places"]
    assert place["sha256"] == h and answer.json["seconds"] > 0 and made["size"] == MIB
    request = urllib.request.Request(place["url"], headers={"Range": f"bytes={place['offset']}-{place['offset'] + place['stored'] - 1}"})
    with gateway.opener.open(request) as r:
        assert r.read() == NOISE[:MIB]
    refused = gateway.api("POST", "/fs/v1/where", json={"drive": peer.drive, "chunks": [h]}, token=gateway.token_of("bob"))
    assert refused.status == 404, refused
    for bad in {"drive": peer.drive}, {"drive": peer.drive, "chunks": ["x"]}, {"drive": peer.drive, "chunks": [h] * 257}, {"drive": peer.drive, "chunks": 3}:
        assert peer.call("POST", "/where", json=bad).status == 400
