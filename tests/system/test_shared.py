"""What gateways keep together through a real Redis: limits, and who is present."""
import os
import tempfile
import time

import pytest
from harness import Second, wait_for
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


@pytest.fixture
def second(gateway):
    g = Second(gateway)
    try:
        yield g.start()
    finally:
        g.close()


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


def let_through(gateway, pause=0):
    """How many requests until one is refused."""
    n = 0
    while gateway.api("GET", "/drives").status == 200:
        n += 1
        time.sleep(pause)
    return n


@pytest.mark.parametrize("gateway", [["--rate-limit", "5"]], indirect=True)
def test_requests_count_at_every_gateway(gateway, second):
    let_through(gateway)
    assert let_through(second, 0.1) < 10, "a gateway alone lets 10 through at once, and one more for every two"


# ---- presence ----

def present(gateway, token=None):
    a = gateway.api("GET", "/presence", token=token).json
    assert not a["partial"]
    return {(p["user"], p["device"]) for p in a["presence"] if p["state"] == "online" and p["at"]}


def test_a_device_is_seen_from_every_gateway(gateway, second):
    gateway.add_user("bob")
    gateway.add_user("eve")
    there = Stomp(gateway, token=token_for(gateway, "ann", "laptop"))
    assert ("ann", "laptop") in wait_for(lambda: present(second), "the device")
    assert ("ann", "laptop") in present(gateway)
    assert present(second, token_for(second, "eve", "x")) == set(), "she shares no drive with ann"
    there.close()
    wait_for(lambda: ("ann", "laptop") not in present(second) | present(gateway), "its end")


def message_about(listener, device):
    while True:
        m = listener.message()[1]
        if m["device"] == device:
            return m["state"]


def test_devices_vanish_with_their_gateway(gateway, second):
    listener = Stomp(second).subscribe("/topic/presence")
    kept = [Stomp(gateway, token=token_for(gateway, "ann", "laptop"))]
    phone = token_for(gateway, "ann", "phone")
    kept.append(Stomp(gateway, token=phone))
    wait_for(lambda: {("ann", "laptop"), ("ann", "phone")} <= present(second), "the devices")
    kept.append(Stomp(second, token=phone))
    assert message_about(listener, "phone") == "online"
    gateway.kill()
    told = [listener.message()[1]]
    kept.append(Stomp(second, token=token_for(second, "ann", "desk")))
    while told[-1]["device"] != "desk":
        told.append(listener.message()[1])
    assert {(m["device"], m["state"]) for m in told} == {("laptop", "offline"), ("desk", "online")}, "the phone is here as well"
    assert ("ann", "laptop") not in present(second)
    assert ("ann", "phone") in present(second)
    for s in kept:
        s.close()


def test_a_gateway_that_was_held_up_comes_back(gateway, second):
    listener = Stomp(second).subscribe("/topic/presence")
    laptop = Stomp(gateway, token=token_for(gateway, "ann", "laptop"))
    wait_for(lambda: ("ann", "laptop") in present(second), "the device")
    os.kill(gateway.process.pid, 19)
    try:
        assert message_about(listener, "laptop") == "offline"
    finally:
        os.kill(gateway.process.pid, 18)
    assert message_about(listener, "laptop") == "online"
    wait_for(lambda: ("ann", "laptop") in present(second), "the device")
    laptop.close()
