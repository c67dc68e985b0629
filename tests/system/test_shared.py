"""What gateways keep together through a real Redis: limits, and who is present."""
import os
import signal
import tempfile
import time

import pytest
from harness import Gateway, Second, wait_for
from realserver import RealServer
from test_stomp import token_for
from wsclient import Stomp


@pytest.fixture(scope="module")
def redis():
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as path:
        r = RealServer("redis", os.path.join(path, "redis")).start()
        yield r
        r.kill()


@pytest.fixture
def gateway_options(redis):
    return ["--cache", redis.url]


# ---- limits ----

def log_in(gateway, password):
    return gateway.api("POST", "/auth/login", json={"username": "ann", "password": password, "device": "d"}, token="").status


def test_guesses_count_at_every_gateway(gateway, second):
    while log_in(gateway, "a guess") != 429:
        pass
    guesses = 0
    while log_in(second, "a guess") != 429:
        guesses += 1
    assert guesses < 10, "as many as a gateway alone would take"


def let_through(gateway, pause=0, most=200):
    """How many requests until one is refused."""
    n = 0
    while n < most and gateway.api("GET", "/drives").status == 200:
        n += 1
        time.sleep(pause)
    return n


@pytest.mark.parametrize("gateway", [["--rate-limit", "5"]], indirect=True)
def test_requests_count_at_every_gateway(gateway, second):
    let_through(gateway)
    assert let_through(second, 0.1) < 10, "a gateway alone lets 10 through at once, and one more for every two"


# ---- presence ----

def present(gateway, token=None):
    def whole():  # a Redis that has not answered within 100 ms is not waited for
        a = gateway.api("GET", "/presence", token=token).json
        return None if a["partial"] else [a["presence"]]
    (said,) = wait_for(whole, "an answer that is not partial")
    return {(p["user"], p["device"]) for p in said if p["state"] == "online" and p["at"]}


def test_a_device_is_seen_from_every_gateway(gateway, second):
    gateway.add_user("bob")
    gateway.add_user("eve")
    there = Stomp(gateway, token=token_for(gateway, "ann", "laptop"))
    assert ("ann", "laptop") in wait_for(lambda: present(second), "the device")
    assert ("ann", "laptop") in present(gateway)
    assert present(second, token_for(second, "eve", "x")) == set(), "she shares no drive with ann"
    there.close()
    wait_for(lambda: ("ann", "laptop") not in present(second) | present(gateway), "its end")


def until(listener, device, state):
    """What is told until this is."""
    told = []
    while (device, state) not in told:
        m = listener.message()[1]
        told.append((m["device"], m["state"]))
    return told


def test_devices_vanish_with_their_gateway(gateway, second):
    listener = Stomp(second).subscribe("/topic/presence")
    kept = [Stomp(gateway, token=token_for(gateway, "ann", "laptop"))]
    phone = token_for(gateway, "ann", "phone")
    kept.append(Stomp(gateway, token=phone))
    wait_for(lambda: {("ann", "laptop"), ("ann", "phone")} <= present(second), "the devices")
    kept.append(Stomp(second, token=phone))
    until(listener, "phone", "online")
    gateway.kill()
    told = until(listener, "laptop", "offline")
    kept.append(Stomp(second, token=token_for(second, "ann", "desk")))
    told += until(listener, "desk", "online")
    assert ("phone", "offline") not in told, "it is here as well"
    assert ("ann", "laptop") not in present(second)
    assert ("ann", "phone") in present(second)
    for s in kept:
        s.close()


def test_a_gateway_that_was_held_up_comes_back(gateway, second):
    listener = Stomp(second).subscribe("/topic/presence")
    laptop = Stomp(gateway, token=token_for(gateway, "ann", "laptop"))
    wait_for(lambda: ("ann", "laptop") in present(second), "the device")
    os.kill(gateway.process.pid, signal.SIGSTOP)
    try:
        until(listener, "laptop", "offline")
    finally:
        os.kill(gateway.process.pid, signal.SIGCONT)
    until(listener, "laptop", "online")
    wait_for(lambda: ("ann", "laptop") in present(second), "the device")
    laptop.close()


# ---- content ----

@pytest.fixture
def store(folder):
    s = RealServer("minio", os.path.join(folder, "store")).start()
    yield s
    s.kill()


@pytest.fixture
def on_store(folder, store, redis):
    g = Gateway(os.path.join(folder, "on-store"), ["--objects", store.url, "--cache", redis.url])
    g.checked = False  # its store is away at the end
    yield g.start()
    g.close()


def content(gateway, path, *body):
    a = gateway.api("PUT" if body else "GET", "/files/content" + gateway.query(drive=gateway.drive, path=path), body=body[0] if body else None)
    return a.status if body else (a.status, a.body)


@pytest.fixture
def second_on_store(on_store):
    g = Second(on_store)
    g.checked = False
    yield g.start()
    g.close()


def test_small_content_read_at_one_gateway_is_near_for_all(on_store, second_on_store, store):
    second = second_on_store
    files = {f"/small-{i}": os.urandom(100_000) for i in range(10)} | {"/large": os.urandom(1_000_000)}
    for path, body in files.items():
        assert content(on_store, path, body) == 201
        assert content(on_store, path) == (200, body)
    store.kill()
    found = {path: content(second, path) for path in files}
    near = [path for path in files if found[path][0] == 200]
    assert near and "/large" not in near, "the busiest machine keeps some of them"
    assert all(found[path] == (200, files[path]) if path in near else found[path][0] == 503 for path in files)
    assert content(on_store, near[0], b"new") == 200  # so small that no store is needed
    assert content(second, near[0]) == (200, b"new"), "what is near is never older than what was committed"


# ---- answers ----

def test_no_answer_is_older_than_what_was_committed(gateway, second):
    """Changes at one gateway, questions at both, each asked twice so that answers are kept: what is answered is what was done last, with its seq."""
    path, seen = "/d/f", 0
    assert gateway.api("POST", "/files/directory", json={"drive": gateway.drive, "path": "/d"}).status == 201

    def ask(g, path):
        return g.api("GET", "/files" + g.query(drive=g.drive, path=path))

    for i in range(60):
        at, other = (gateway, second) if i % 2 else (second, gateway)
        body = b"x" * (i + 1)
        made = at.api("PUT", "/files/content" + at.query(drive=at.drive, path=path), body=body)
        assert made.status in (200, 201)
        for g in (other, at, other, at):
            told = ask(g, path).json
            assert told["size"] == i + 1 and told["version"] == made.json["version"] and told["seq"] >= seen
            assert [e["size"] for e in ask(g, "/d").json["entries"]] == [i + 1]
            url = g.api("GET", "/files/download-url" + g.query(drive=g.drive, path=path)).json["url"]
            assert g.opener.open(url, timeout=30).read() == body
        seen = told["seq"]
        if i % 10 == 9:
            moved = at.api("POST", "/files/move", json={"drive": at.drive, "from": path, "to": path + "-"})
            assert moved.status == 200
            assert [ask(g, p).status for g in (other, at) for p in (path, path + "-")] == [404, 200, 404, 200]
            assert other.api("DELETE", "/files" + other.query(drive=other.drive, path=path + "-")).status == 204
            assert [ask(g, path + "-").status for g in (at, other)] == [404, 404]


def test_answers_are_for_those_who_may_ask(gateway, second):
    gateway.add_user("eve")
    eve = token_for(gateway, "eve", "x")
    assert content(gateway, "/secret", b"x") == 201
    drive = gateway.api("GET", "/drives").json["drives"][0]["id"]
    for what in ("/files", "/files/download-url"):
        for g in (gateway, second, gateway):
            asked = what + g.query(drive=drive, path="/secret")
            assert g.api("GET", asked).status == 200
            assert g.api("GET", asked, token=eve).status == 404
