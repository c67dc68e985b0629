"""The direct data path when something is wrong: somebody else at the store's address, and who dies or is away in the middle."""
import http.server
import os
import re
import threading
import time

import pytest

from direct import cairn, content, gateway, gateway_options, MIB, NOISE, public, put, store, TEXT  # noqa: F401
from harness import Program, read, wait_for, write


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
        assert a.status()["direct"] == "unreachable"
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


def test_a_driver_that_is_killed_while_it_brings(gateway, mounts):
    a = mounts.mount("a")
    with open(a / "noise", "wb") as f:
        f.write(NOISE)
        f.flush()
        wait_for(lambda: a.status()["directSentBytes"] or a.status()["uploadedBytes"], "the first chunk")
        a.kill()
        try:
            f.close()
        except OSError:
            pass
    a.start()
    wait_for(lambda: a.status()["dirtyBytes"] == 0, "what was in the journal")
    b = mounts.mount("b")
    got = read(b / "noise")
    assert got == NOISE[:len(got)] and len(got) > MIB


class Meanwhile(Program):
    """Works in mounts while servers are started; what it raises is raised at the end."""
    error = None

    def programs(self):
        try:
            self.work()
        except BaseException as e:
            self.error = e

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *raised):
        self.join()
        if self.error and raised == (None, None, None):
            raise self.error


def test_a_gateway_that_is_killed_while_a_mount_brings(gateway, mounts):
    a = mounts.mount("a")
    data = NOISE + TEXT

    kills = 0

    def bring():
        for n in range(3):
            write(a / f"file {n}", bytes([n]) + data)  # each chunk is another

    with Meanwhile(bring) as bringing:
        while bringing.is_alive():
            before = a.status()["directSentBytes"]
            wait_for(lambda: not bringing.is_alive() or a.status()["directSentBytes"] > before + 8 * MIB, "more to be brought", 60)
            if bringing.is_alive():
                gateway.kill()
                gateway.start()
                kills += 1
    assert kills
    b = mounts.mount("b")
    for n in range(3):
        assert read(b / f"file {n}") == bytes([n]) + data


def test_the_store_is_away_for_a_moment(gateway, mounts, store):
    """Neither straight nor through the gateway can anything be brought or fetched then: it is waited for."""
    a, b = mounts.mount("a"), mounts.mount("b")
    write(a / "before", NOISE)
    store.kill()

    def work():
        write(a / "meanwhile", NOISE[1:])
        assert read(b / "before") == NOISE

    with Meanwhile(work):
        time.sleep(3)
        store.start()
    assert read(b / "meanwhile") == NOISE[1:]
