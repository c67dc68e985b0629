"""The direct data path: chunks between clients and a real S3 store, without the gateway."""
import base64
import ctypes
import glob
import http.server
import json
import os
import random
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zlib

import pytest

from fsclient import Peer, sha256
from harness import Mounts, fuse_is_missing, program, wait_for
from realserver import RealServer
from several import Several

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


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


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
    assert "straight with the object store: fetched 32.0 MiB, brought 0 B" in cairn(gateway, a.cache, "status", a.path)
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
def test_a_store_that_clients_cannot_reach(gateway, mounts, folder, public):
    put(gateway, "/noise", NOISE)
    a = mounts.mount("a")
    assert read(a / "noise") == NOISE
    assert status(a)["direct"] == "unreachable"
    assert status(a)["directFetchedBytes"] == 0
    assert "the object store cannot be reached from here" in cairn(gateway, a.cache, "status", a.path)
    cairn(gateway, folder, "get", "home:/noise", os.path.join(folder, "got"))
    assert read(os.path.join(folder, "got")) == NOISE


@pytest.mark.parametrize("public", ["none"])
def test_a_store_that_is_not_for_clients(gateway, mounts, public):
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

    def do_PUT(self):
        """Takes it, says so, and keeps nothing."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        if self.server.way == "silent":
            time.sleep(60)
            return
        self.send_response({"refuses": 403, "busy": 503, "redirects": 302}.get(self.server.way, 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

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


WAYS = ["lies", "cuts", "refuses", "busy", "redirects", "silent"]


class TestSomebodyElseAtTheStoresAddress:
    @pytest.fixture
    def public(self, stranger):
        return f"http://127.0.0.1:{stranger.server_address[1]}"

    @pytest.mark.parametrize("stranger", WAYS, indirect=True)
    def test_the_gateway_is_asked_then(self, gateway, mounts, stranger):
        put(gateway, "/noise", NOISE)
        a = mounts.mount("a")
        assert read(a / "noise") == NOISE
        assert status(a)["direct"] == "unreachable"
        assert 1 <= stranger.asked <= 4  # those that were on their way at once, and then no more

    @pytest.mark.parametrize("stranger", WAYS, indirect=True)
    def test_what_is_written_goes_through_the_gateway_then(self, gateway, mounts, stranger):
        a = mounts.mount("a")
        write(a / "noise", NOISE)
        assert gateway.api("GET", "/files/content" + gateway.query(drive="home", path="/noise")).body == NOISE
        assert stranger.asked

    @pytest.mark.parametrize("stranger", ["lies", "refuses"], indirect=True)
    def test_put_goes_through_the_gateway_then(self, gateway, folder, stranger):
        source = os.path.join(folder, "source")
        write(source, NOISE)
        cairn(gateway, folder, "put", source, "home:/file")
        assert content(gateway, "/file") == NOISE
        assert stranger.asked


# ---- writing ----


def test_a_mount_writes_to_the_store(gateway, mounts):
    a, b = mounts.mount("a"), mounts.mount("b")
    before = passed(gateway)
    write(a / "noise", NOISE)
    write(a / "text", TEXT)
    assert passed(gateway) - before < MIB
    assert status(a)["directSentBytes"] == len(NOISE) + len(TEXT)
    assert read(b / "noise") == NOISE and read(b / "text") == TEXT
    assert passed(gateway) - before < MIB


def test_what_the_drive_has_is_not_brought_again(gateway, mounts, store):
    a = mounts.mount("a")
    write(a / "noise", NOISE)
    write(a / "text", TEXT)
    wait_for(lambda: not unverified(gateway), "the job that checks what was brought")
    sent = status(a)["directSentBytes"], status(a)["uploadedBytes"]
    write(a / "noise again", NOISE)
    write(a / "text again", TEXT)
    assert (status(a)["directSentBytes"], status(a)["uploadedBytes"]) == sent
    assert read(a / "text again") == TEXT


def test_small_content_travels_with_its_operation(gateway, mounts):
    a = mounts.mount("a")
    write(a / "small", NOISE[:60000])
    assert status(a)["directSentBytes"] == 0
    assert read(a / "small") == NOISE[:60000]


@pytest.mark.parametrize("public", [f"http://127.0.0.1:{closed_port()}", "none"])
def test_writing_where_clients_cannot_reach_the_store(gateway, mounts, public):
    a = mounts.mount("a")
    write(a / "noise", NOISE)
    write(a / "text", TEXT)
    assert status(a)["directSentBytes"] == 0
    b = mounts.mount("b", direct="off")
    assert read(b / "noise") == NOISE and read(b / "text") == TEXT


def test_a_driver_that_is_killed_while_it_brings(gateway, mounts):
    a = mounts.mount("a")
    with open(a / "noise", "wb") as f:
        f.write(NOISE)
        f.flush()
        wait_for(lambda: status(a)["directSentBytes"] or status(a)["uploadedBytes"], "the first chunk")
        a.kill()
        try:
            f.close()
        except OSError:
            pass
    a.start()
    wait_for(lambda: status(a)["dirtyBytes"] == 0, "what was in the journal")
    b = mounts.mount("b")
    got = read(b / "noise")
    assert got == NOISE[:len(got)] and len(got) > MIB


class Meanwhile:
    """Does something while something else goes on; what it raises is raised at the end."""

    def __init__(self, do):
        self.do, self.error = do, None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.do()
        except BaseException as e:
            self.error = e

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.thread.join()
        if self.error:
            raise self.error


def test_a_gateway_that_is_killed_while_a_mount_brings(gateway, mounts):
    a = mounts.mount("a")
    data = NOISE + TEXT

    written, kills = threading.Event(), []

    def kill():
        while not written.is_set():
            before = status(a)["directSentBytes"]
            if wait_for(lambda: written.is_set() or status(a)["directSentBytes"] > before + 8 * MIB, "more to be brought", 60) and not written.is_set():
                gateway.kill()
                gateway.start()
                kills.append(before)

    with Meanwhile(kill):
        try:
            for n in range(3):
                write(a / f"file {n}", bytes([n]) + data)  # each chunk is another
        finally:
            written.set()
    assert kills
    b = mounts.mount("b")
    for n in range(3):
        assert read(b / f"file {n}") == bytes([n]) + data


def test_the_store_is_away_for_a_moment(gateway, mounts, store):
    """Neither straight nor through the gateway can anything be brought or fetched then: it is waited for."""
    a, b = mounts.mount("a"), mounts.mount("b")
    write(a / "before", NOISE)
    store.kill()

    def back():
        time.sleep(3)
        store.start()

    with Meanwhile(back):
        write(a / "meanwhile", NOISE[1:])
        assert read(b / "before") == NOISE
    assert read(b / "meanwhile") == NOISE[1:]


class TestAnotherStore:
    @pytest.fixture
    def store(self, folder):
        s = RealServer("versitygw", os.path.join(folder, "store"))
        s.start()
        yield s
        s.stop()

    def test_it_is_the_same_there(self, gateway, mounts):
        a, b = mounts.mount("a"), mounts.mount("b")
        before = passed(gateway)
        write(a / "noise", NOISE)
        write(a / "text", TEXT)
        assert read(b / "noise") == NOISE and read(b / "text") == TEXT
        assert passed(gateway) - before < MIB


def test_several_gateways_move_no_content(folder, store):
    """What one mount writes and another, at another gateway, reads passes neither of them."""
    missing = fuse_is_missing()
    if missing:
        pytest.skip(missing)
    several = Several(os.path.join(folder, "gateways"), objects=store.url)
    try:
        gateways = list(several.one.values())
        mounts = Mounts(folder, gateways[0])
        try:
            a, b = mounts.mount("a"), mounts.mount("b", gateway=gateways[1])
            before = sum(map(passed, gateways))
            write(a / "noise", NOISE)
            write(b / "text", TEXT)
            assert read(b / "noise") == NOISE and read(a / "text") == TEXT
            assert sum(map(passed, gateways)) - before < MIB
            assert status(a)["directSentBytes"] == len(NOISE) and status(b)["directSentBytes"] == len(TEXT)
        finally:
            mounts.close()
    finally:
        several.close()


# ---- as others might use it ----


class Bringer(Peer):
    """A client of the driver's protocol that brings chunks itself, and says of them what it likes."""

    def place(self, plain, stored=None, claim=None, **more):
        """What the gateway says to these bytes; claim: whose hash it is said to be."""
        raw = stored is None
        stored = plain if raw else stored
        chunk = {"sha256": claim or sha256(plain), "size": len(plain), "stored": len(stored), "codec": "raw" if raw else "zstd", **more}
        if not raw:
            chunk["storedSha256"] = sha256(stored)
        answer = self.call("POST", "/places", json={"drive": self.drive, "chunks": [chunk]})
        assert answer.status == 200, answer
        return answer.json["places"][0]

    def bring(self, place, data, **more):
        return put_to(self.gateway, place, data, **more)

    def placed(self, *packs):
        answer = self.call("POST", "/placed", json={"drive": self.drive, "packs": list(packs)})
        assert answer.status == 200, answer
        return answer.json["placed"]

    def missing(self, *hashes):
        return self.call("POST", "/missing", json={"drive": self.drive, "chunks": list(hashes)}).json["missing"]

    def file_of(self, name, h, size):
        made = self.create(name)
        return self.batch(made, {"op": "commit", "ino": made["ino"], "base": 0, "size": size, "chunkSize": 4 * MIB, "changes": [[0, h, size]]})[1]


def zstd(data):
    library = ctypes.CDLL("libzstd.so.1")  # the driver's own
    library.ZSTD_compress.restype = ctypes.c_size_t
    library.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    room = ctypes.create_string_buffer(len(data) + 65536)
    n = library.ZSTD_compress(room, len(room), data, len(data), 1)
    return room.raw[:n]


def unverified(gateway):
    return int(gateway.place.sql("SELECT COUNT(*) FROM chunk WHERE unverified_by IS NOT NULL AND NOT damaged")[0][0])


def test_the_store_checks_what_is_brought(gateway):
    """Raw, a chunk's name is the sum that the store checks: nobody else needs to."""
    data, other, peer = NOISE[:MIB], NOISE[MIB:2 * MIB], Bringer(gateway)
    place = peer.place(data)
    assert peer.placed(place["pack"]) == [False]  # not yet there
    for wrong in other, data[:-1], data + b"x", b"":
        assert peer.bring(place, wrong) in (400, 403)
    assert peer.placed(place["pack"]) == [False]
    assert peer.missing(sha256(data)) == [sha256(data)]
    assert peer.bring(place, data) == 200
    assert peer.placed(place["pack"], "direct/00/nothing") == [True, False]
    assert peer.missing(sha256(data)) == []
    assert peer.place(data) == {"there": True}
    crc = base64.b64encode(zlib.crc32(other).to_bytes(4, "big")).decode()
    theirs = peer.place(other)
    assert peer.bring(theirs, other) == 200
    for cunning in {}, {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": crc}, {"x-amz-copy-source": "/cairn/" + theirs["pack"]}:  # nor afterwards
        assert peer.bring(place, other, **cunning) in (400, 403)
    assert "error" not in peer.file_of("file", sha256(data), len(data))
    assert gateway.api("GET", "/files/content" + gateway.query(drive="home", path="/file")).body == data


def test_nobody_can_poison_anothers_content(gateway, mounts):
    """Compressed, the store cannot tell whether the bytes are those of the hash. Until a job has looked, nobody is told that the drive has them."""
    peer = Bringer(gateway)
    h, bad = sha256(TEXT[:4 * MIB]), zstd(NOISE[:MIB] + bytes(3 * MIB))
    place = peer.place(TEXT[:4 * MIB], stored=bad)
    assert peer.bring(place, bad) == 200
    assert peer.placed(place["pack"]) == [True]
    assert "error" not in peer.file_of("claimed", h, 4 * MIB)
    # neither before the job has looked …
    assert peer.missing(h) == [h]
    assert peer.place(TEXT[:4 * MIB], stored=zstd(TEXT[:4 * MIB])) is None
    # … nor after: others bring it themselves, through the gateway, which looks
    a = mounts.mount("a")
    write(a / "text", TEXT)
    b = mounts.mount("b")
    assert read(b / "text") == TEXT
    wait_for(lambda: not unverified(gateway), "the job")
    assert read(b / "claimed") == TEXT[:4 * MIB]  # it is what its hash says, by now


def test_nobody_speaks_for_another(gateway):
    """Two editors of one drive: what one was going to bring is not another's to claim."""
    gateway.add_user("bob")
    ann = Bringer(gateway)
    gateway.place.add_member(ann.drive, "bob", 2)
    bob = Bringer(gateway, token=gateway.token_of("bob"))
    assert ann.drive == bob.drive
    data = NOISE[:MIB]
    place = bob.place(data)
    assert bob.bring(place, data) == 200
    assert ann.placed(place["pack"]) == [False]
    assert bob.placed(place["pack"]) == [True]
    assert ann.missing(sha256(data)) == []


def test_what_is_found_to_be_wrong(gateway, mounts, store):
    peer = Bringer(gateway)
    h, bad = sha256(TEXT[:4 * MIB]), zstd(NOISE[:MIB] + bytes(3 * MIB))
    place = peer.place(TEXT[:4 * MIB], stored=bad)
    assert peer.bring(place, bad) == 200
    assert peer.placed(place["pack"]) == [True]
    assert "error" not in peer.file_of("claimed", h, 4 * MIB)
    wait_for(lambda: not unverified(gateway), "the job")
    a = mounts.mount("a")
    with pytest.raises(OSError):
        read(a / "claimed")
    assert peer.file_of("again", h, 4 * MIB)["error"] == "ENODATA"
    done = gateway.admin("scrub", "--objects", store.url, check=False)
    assert done.returncode == 1 and "brought them" in done.stdout, done.stdout
    write(a / "text", TEXT)
    assert read(a / "text") == TEXT and read(a / "claimed") == TEXT[:4 * MIB]


def test_a_gateway_that_is_killed_between_bringing_and_saying_so(gateway):
    data, peer = NOISE[:MIB], Bringer(gateway)
    place = peer.place(data)
    gateway.kill()
    assert peer.bring(place, data) == 200
    gateway.start()
    assert peer.placed(place["pack"]) == [True]
    gateway.kill()
    gateway.start()
    assert "error" not in peer.file_of("file", sha256(data), len(data))
    assert gateway.api("GET", "/files/content" + gateway.query(drive="home", path="/file")).body == data


def test_places_for_bringing_are_checked(gateway):
    peer, h = Bringer(gateway), sha256(b"x")
    good = {"sha256": h, "size": 100000, "stored": 100000, "codec": "raw"}
    for bad in {"sha256": "1"}, {"size": 0}, {"size": 1 << 27, "stored": 1 << 27}, {"stored": 99999}, {"codec": "lzma"}, {"codec": "zstd", "stored": 99999}, {"stored": -1}:
        answer = peer.call("POST", "/places", json={"drive": peer.drive, "chunks": [{**good, **bad}]})
        assert answer.status == 400, (bad, answer)
    assert peer.call("POST", "/places", json={"drive": peer.drive, "chunks": [{**good, "size": 1000, "stored": 1000}]}).json["places"] == [None]
    for bad in {"packs": ["../x"]}, {"packs": [3]}, {"packs": "x"}, {}:
        assert peer.call("POST", "/placed", json={"drive": peer.drive, **bad}).status == 400
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    place = peer.place(NOISE[:MIB])
    assert gateway.api("POST", "/fs/v1/places", json={"drive": peer.drive, "chunks": [good]}, token=bob).status == 404
    assert gateway.api("POST", "/fs/v1/placed", json={"drive": peer.drive, "packs": [place["pack"]]}, token=bob).status == 404


# ---- uploads over HTTP ----


def put_to(gateway, place, data, **more):
    """The status of the store's answer; one that hangs up in the middle has refused."""
    headers = {**place["headers"], "content-length": str(len(data)), "Content-Type": "", **more}
    request = urllib.request.Request(place["url"], data=data, method="PUT", headers=headers)
    try:
        with gateway.opener.open(request) as r:
            return r.status
    except urllib.error.HTTPError as e:
        return e.code
    except urllib.error.URLError as e:
        assert isinstance(e.reason, (BrokenPipeError, ConnectionResetError)), e
        return 400


def pieces(data, size=MIB):
    return [data[at:at + size] for at in range(0, len(data), size)]


def initiate(gateway, path, data, given=None):
    parts = pieces(data)
    chunks = [{"n": n, "sha256": sha256(p)} for n, p in enumerate(parts) if given is None or n in given]
    answer = gateway.api("POST", "/upload/initiate", json={"drive": "home", "path": path, "size": len(data), "chunkSize": MIB, "chunks": chunks})
    assert answer.status == 201, answer
    return answer.json, parts


def content(gateway, path):
    return gateway.api("GET", "/files/content" + gateway.query(drive="home", path=path)).body


def test_an_upload_by_urls(gateway):
    data = NOISE[:4 * MIB + 5000]
    begun, parts = initiate(gateway, "/file", data, given=[0, 1, 2, 4])
    session, urls = "/upload/" + begun["sessionId"], begun["uploadUrls"]
    assert begun["missing"] == [0, 1, 2, 3, 4]
    assert sorted(urls) == ["0", "1", "2", "4"]  # not 3, whose hash was not told
    before = passed(gateway)
    assert put_to(gateway, urls["0"], parts[1]) in (400, 403)
    assert put_to(gateway, urls["0"], parts[0]) == 200
    assert put_to(gateway, urls["2"], parts[2]) == 200
    assert passed(gateway) - before < MIB
    assert gateway.api("GET", session + "/missing-chunks").json == {"missing": [1, 3, 4]}
    assert gateway.api("GET", session).json["received"] == 2
    assert [(c["n"], c["sha256"]) for c in gateway.api("GET", session + "/chunks").json["chunks"]] == [(0, sha256(parts[0])), (2, sha256(parts[2]))]
    assert put_to(gateway, urls["4"], parts[4]) == 200
    assert gateway.api("POST", session + "/chunk/3", body=parts[3]).status == 200
    refused = gateway.api("POST", session + "/complete")
    assert refused.status == 409 and refused.json["missing"] == [1]
    assert put_to(gateway, urls["1"], parts[1]) == 200
    done = gateway.api("POST", session + "/complete", json={"sha256": sha256(data)})
    assert done.status == 200, done
    assert content(gateway, "/file") == data
    # the same content once more: the drive has it
    begun, _ = initiate(gateway, "/again", data)
    assert begun["missing"] == [] and begun.get("uploadUrls", {}) == {}


def test_urls_may_be_asked_for_later(gateway):
    data = NOISE[:3 * MIB]
    begun, parts = initiate(gateway, "/file", data, given=[])
    session = "/upload/" + begun["sessionId"]
    assert "uploadUrls" not in begun or not begun["uploadUrls"]
    urls = gateway.api("POST", session + "/urls", json={"chunks": [{"n": n, "sha256": sha256(p)} for n, p in enumerate(parts)]}).json["uploadUrls"]
    # asked again for other bytes: another place, and what was promised for the first stays what it was
    other = gateway.api("POST", session + "/urls", json={"chunks": [{"n": 0, "sha256": sha256(parts[1])}]}).json["uploadUrls"]
    assert other["0"]["url"] != urls["0"]["url"]
    assert put_to(gateway, urls["0"], parts[0]) == 200
    gateway.kill()
    gateway.start()
    assert put_to(gateway, urls["1"], parts[1]) == 200
    assert gateway.api("POST", session + "/chunk/2", body=parts[2]).status == 200
    assert gateway.api("POST", session + "/complete").status == 200
    assert content(gateway, "/file") == data
    assert gateway.api("POST", session + "/urls", json={"chunks": []}).status == 409
    assert gateway.api("POST", "/upload/00000000-0000-7000-8000-000000000000/urls", json={"chunks": []}).status == 404


def test_urls_are_asked_for_as_they_should(gateway):
    begun, parts = initiate(gateway, "/file", NOISE[:2 * MIB])
    for bad in {"chunks": 3}, {"chunks": [{"n": 2, "sha256": sha256(b"")}]}, {"chunks": [{"n": 0, "sha256": "x"}]}, {"chunks": [{"n": 0, "sha256": sha256(b""), "size": 3}]}:
        assert gateway.api("POST", f"/upload/{begun['sessionId']}/urls", json=bad).status == 400, bad
    gateway.add_user("bob")
    assert gateway.api("POST", f"/upload/{begun['sessionId']}/urls", json={"chunks": []}, token=gateway.token_of("bob")).status == 404


@pytest.mark.parametrize("public", ["none"])
def test_no_urls_where_the_store_is_not_for_clients(gateway, public):
    begun, _ = initiate(gateway, "/file", NOISE[:2 * MIB])
    assert "uploadUrls" not in begun


def test_put_brings_to_the_store(gateway, folder):
    source = os.path.join(folder, "source")
    write(source, NOISE + TEXT[:100000])
    before = passed(gateway)
    said = cairn(gateway, folder, "put", source, "home:/file")
    assert passed(gateway) - before < MIB
    assert "sent 7 of 7 chunks" in said
    assert content(gateway, "/file") == NOISE + TEXT[:100000]
    before = passed(gateway)
    cairn(gateway, folder, "put", "--direct", "off", source, "home:/again")
    write(source, NOISE[5:])
    cairn(gateway, folder, "put", "--direct", "off", source, "home:/other")
    assert passed(gateway) - before > len(NOISE) - 5
    assert content(gateway, "/other") == NOISE[5:]


@pytest.mark.parametrize("public", [f"http://127.0.0.1:{closed_port()}"])
def test_put_where_clients_cannot_reach_the_store(gateway, folder, public):
    source = os.path.join(folder, "source")
    write(source, NOISE)
    cairn(gateway, folder, "put", source, "home:/file")
    assert content(gateway, "/file") == NOISE


def test_a_put_that_is_killed_goes_on(gateway, folder):
    source = os.path.join(folder, "source")
    write(source, NOISE * 4 + b"x")
    env = {**os.environ, "CAIRN_URL": gateway.url, "CAIRN_TOKEN": gateway.token, "HOME": folder, "XDG_STATE_HOME": folder}
    with subprocess.Popen([program("cairn"), "put", source, "home:/file"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        wait_for(lambda: glob.glob(os.path.join(folder, "cairn", "uploads", "*.json")) or p.poll() is not None, "the session")
        time.sleep(0.1)
        p.kill()
    cairn(gateway, folder, "put", source, "home:/file")
    assert content(gateway, "/file") == NOISE * 4 + b"x"


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
