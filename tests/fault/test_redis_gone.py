"""A real Redis that is stopped, frozen and killed under load: nothing fails, everything comes back by itself."""
import os
import signal
import sys
import threading

import pytest
from harness import wait_for
from realserver import RealServer

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "system"))
from wsclient import Stomp  # noqa: E402


@pytest.fixture
def redis(folder, request):
    r = RealServer(getattr(request, "param", "redis"), os.path.join(folder, "redis")).start()
    yield r
    r.kill()


@pytest.fixture
def gateway_options(redis):
    return ["--cache", redis.url]


class Load:
    """Requests of every kind that the cache has a part in, at both gateways, one after the other; none may fail."""

    def __init__(self, *gateways):
        self.gateways, self.ending, self.done, self.failed = gateways, False, 0, []
        self.threads = [threading.Thread(target=self.run, args=(g, k)) for k, g in enumerate(gateways * 2)]
        for t in self.threads:
            t.start()

    def run(self, g, k):
        n = 0
        while not self.ending:
            n += 1
            path = f"/load-{k}-{n % 20}"
            text = f"{k} {n}".encode()
            steps = [lambda: g.api("PUT", "/files/content" + g.query(drive=g.drive, path=path), body=text), lambda: g.api("GET", "/files/content" + g.query(drive=g.drive, path=path)),
                     lambda: g.api("GET", "/presence")]
            answers = [step() for step in steps]
            if any(a.status not in (200, 201) for a in answers) or answers[1].body != text:
                self.failed.append(answers)
            self.done += 1

    def goes_on(self):
        """Some more rounds are done, from now on."""
        n = self.done
        wait_for(lambda: self.done >= n + 40, "the load", 60)

    def end(self):
        self.ending = True
        for t in self.threads:
            t.join(60)
        assert not self.failed


def health(gateway):
    """Of the whole, and of the cache; it is up in any case."""
    a = gateway.api("GET", "/actuator/health", token="")
    assert a.status == 200
    assert gateway.api("GET", "/actuator/health/readiness", token="").status == 200
    return a.json["status"], a.json["components"]["cache"]["status"]


def metric(gateway):
    lines = gateway.api("GET", "/metrics", token="").body.decode().splitlines()
    return [line.split()[1] for line in lines if line.startswith("cairn_cache_up ")]


def signal_all(redis, number):
    with open(os.path.join(redis.folder, "pid")) as f:
        for pid in f.read().split():
            os.kill(int(pid), number)


def log_in(gateway, user, password="a guess"):
    return gateway.api("POST", "/auth/login", json={"username": user, "password": password, "device": "d"}, token="").status


def guesses_until_refused(gateway, user):
    n = 0
    while log_in(gateway, user) != 429:
        n += 1
    return n


def devices(gateway):
    a = gateway.api("GET", "/presence").json
    return a["partial"], [p["device"] for p in a["presence"]]


@pytest.mark.parametrize("redis", ["redis", "redis-cluster"], indirect=True)
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_nothing_fails_and_all_comes_back(gateway, second, redis, how):
    gateways = (gateway, second)
    token = gateway.api("POST", "/auth/login", json={"username": "ann", "password": gateway.password, "device": "laptop"}, token="").json["accessToken"]
    laptop = Stomp(gateway, token=token)
    wait_for(lambda: devices(second) == (False, ["laptop"]), "the device")
    load = Load(*gateways)
    try:
        load.goes_on()
        if how == "stopped":
            redis.kill()
        else:
            signal_all(redis, signal.SIGSTOP)
        for g in gateways:
            wait_for(lambda g=g: health(g) == ("DEGRADED", "DOWN"), "the notice that it is away")
        wait_for(lambda: metric(gateway) == ["0"], "the metric")
        load.goes_on()
        # each by itself: its own limits, its own devices
        assert guesses_until_refused(gateway, "nobody-1") >= 10
        assert guesses_until_refused(second, "nobody-1") >= 10
        assert devices(gateway) == (True, ["laptop"])
        assert devices(second) == (True, [])
        if how == "stopped":
            redis.start()
        else:
            signal_all(redis, signal.SIGCONT)
        for g in gateways:
            wait_for(lambda g=g: health(g) == ("UP", "UP"), "the notice that it is there again", 60)
        load.goes_on()
        wait_for(lambda: devices(second) == (False, ["laptop"]), "the device, as Redis had lost it")
        assert guesses_until_refused(gateway, "nobody-2") >= 10
        assert guesses_until_refused(second, "nobody-2") < 10
    finally:
        load.end()
    laptop.close()


def test_a_gateway_starts_without_it(gateway, second, redis):
    second.stop()
    redis.kill()
    second.start()
    assert health(second) == ("DEGRADED", "DOWN")
    assert second.api("GET", "/drives").status == 200
    redis.start()
    wait_for(lambda: health(second) == ("UP", "UP"), "the notice that it is there", 60)


@pytest.mark.parametrize("redis", ["redis-cluster"], indirect=True)
def test_one_node_of_three_is_away(gateway, second, redis):
    """Two thirds of all keys are there still: nothing fails."""
    with open(os.path.join(redis.folder, "pid")) as f:
        node = int(f.read().split()[2])
    load = Load(gateway, second)
    try:
        load.goes_on()
        os.kill(node, signal.SIGSTOP)
        for g in (gateway, second):
            wait_for(lambda g=g: health(g) == ("DEGRADED", "DOWN"), "the notice that it is away")
        load.goes_on()
        os.kill(node, signal.SIGCONT)
        for g in (gateway, second):
            wait_for(lambda g=g: health(g) == ("UP", "UP"), "the notice that it is there again", 60)
        load.goes_on()
    finally:
        os.kill(node, signal.SIGCONT)
        load.end()
