"""RabbitMQ is away for a while, or whoever was publishing or consuming dies: consumers and watchers miss nothing."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import pytest
from harness import Gateway, Second, end, program, wait_for
from rabbit import Consumer, Rabbit

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "system"))
from wsclient import Stomp  # noqa: E402


@pytest.fixture
def rabbit():
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as path:
        r = Rabbit(os.path.join(path, "rabbitmq"))
        r.start()
        yield r
        r.kill()


@pytest.fixture
def gateway_options(rabbit):
    return ["--events", rabbit.url]


def put(gateway, path, body=b"x"):
    a = gateway.api("PUT", "/files/content" + gateway.query(drive=gateway.drive, path=path), body=body)
    assert a.status in (200, 201), a
    return a.json


def health(gateway):
    a = gateway.api("GET", "/actuator/health")
    return a.status, a.json["status"], a.json["components"]["events"]["status"]


def log_of(gateway):
    return gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=0, limit=10000)).json["changes"]


def outbox(gateway):
    return int(gateway.place.sql("SELECT count(*) FROM outbox")[0][0])


def assert_all_told(consumer, gateway, seconds=60):
    drive = gateway.api("GET", "/drives").json["drives"][0]["id"]
    wanted = {c["seq"] for c in log_of(gateway)}

    def missing():
        return wanted - {b["seq"] for b in consumer.bodies(f"sync.{drive}")}
    wait_for(lambda: not missing(), "every change as a message", seconds)
    files = {b["eventId"] for k, _, b in list(consumer.seen) if k.startswith("file.")}
    assert files == {b["eventId"] for b in consumer.bodies(f"sync.{drive}")}
    wait_for(lambda: outbox(gateway) == 0, "the outbox being empty")


def test_what_changes_while_the_broker_is_away_is_told_when_it_is_back(gateway, rabbit):
    consumer = Consumer(rabbit, "file.*", "sync.*")
    wait_for(lambda: health(gateway) == (200, "UP", "UP"), "the connection")
    watcher = Stomp(gateway).subscribe("/topic/file-changes")
    put(gateway, "/before")
    assert_all_told(consumer, gateway)
    rabbit.stop()
    wait_for(lambda: health(gateway) == (200, "DEGRADED", "DOWN"), "what health says")
    for i in range(50):
        put(gateway, f"/away-{i}")  # no commit waits for the broker
    assert gateway.api("GET", "/actuator/health/readiness").status == 200
    assert outbox(gateway) > 0
    rabbit.start()
    put(gateway, "/after")
    assert_all_told(consumer, gateway)
    wait_for(lambda: health(gateway) == (200, "UP", "UP"), "the connection")
    assert [watcher.message()[1]["seq"] for _ in log_of(gateway)] == [c["seq"] for c in log_of(gateway)]
    watcher.close()
    consumer.close()


def test_watchers_at_another_gateway_miss_nothing_either(gateway, rabbit):
    second = Second(gateway)
    second.start()
    try:
        wait_for(lambda: health(gateway)[2] == health(second)[2] == "UP", "the connections")
        watcher = Stomp(second).subscribe("/topic/file-changes")
        put(second, "/first")
        told = [watcher.message()[1]["path"]]
        rabbit.stop()
        wait_for(lambda: health(gateway)[2] == health(second)[2] == "DOWN", "what health says")
        for i in range(10):
            put(gateway, f"/away-{i}")
        told += [watcher.message(30)[1]["path"] for _ in range(10)]  # by looking now and then
        for i in range(10):
            put(gateway, f"/returning-{i}")
        rabbit.start()
        put(gateway, "/after")
        told += [watcher.message(30)[1]["path"] for _ in range(11)]
        assert told == [c["path"] for c in log_of(gateway)]
        watcher.close()
    finally:
        second.close()


def test_a_gateway_that_is_killed_has_told_or_tells_everything(gateway, rabbit):
    consumer = Consumer(rabbit, "file.*", "sync.*")
    wait_for(lambda: health(gateway)[2] == "UP", "the connection")
    for round in range(3):
        stop = threading.Event()

        def write():
            for i in range(100000):
                if stop.is_set():
                    return
                try:
                    put(gateway, f"/{round}-{i}")
                except (OSError, AssertionError):
                    return  # it is dead
        writers = [threading.Thread(target=write) for _ in range(3)]
        for w in writers:
            w.start()
        n = len(consumer.seen)
        wait_for(lambda: len(consumer.seen) > n + 50, "messages")
        gateway.process.send_signal(signal.SIGKILL)
        gateway.process.wait()
        stop.set()
        for w in writers:
            w.join()
        gateway.start()
    assert_all_told(consumer, gateway)
    consumer.close()


def test_what_was_not_told_is_told_by_a_worker(folder, rabbit):
    """The gateway that committed dies with the broker away, and never comes back."""
    consumer = Consumer(rabbit, "file.*", "sync.*")
    g = Gateway(os.path.join(folder, "gateway"))
    g.options = ["--events", rabbit.url]
    worker = None
    try:
        g.start()
        rabbit.stop()
        for i in range(10):
            put(g, f"/{i}")
        wanted = {c["seq"] for c in log_of(g)}
        g.process.send_signal(signal.SIGKILL)
        g.process.wait()
        g.ended = True
        assert outbox(g) > 0
        log = os.path.join(folder, "worker.log")
        with open(log, "ab") as f:
            worker = subprocess.Popen([program("cairn-gateway"), "worker", *g.only("--embedded", "--meta", "--objects", "--cache"), "--events", rabbit.url], stdin=subprocess.DEVNULL, stdout=f, stderr=f)
        rabbit.start()
        wait_for(lambda: {b["seq"] for k, _, b in list(consumer.seen) if k.startswith("sync.")} >= wanted, "every change as a message", 60)
        wait_for(lambda: outbox(g) == 0, "the outbox being empty")
    finally:
        if worker:
            assert end(worker) == 0
        consumer.close()
        g.close()


def test_a_message_whose_worker_was_killed_goes_to_another(folder, rabbit):
    """clamd that answers nothing: the worker has the message in hand when it is killed; the next one finds an answer."""
    silent = socket.create_server(("127.0.0.1", 0))
    asked = []
    threading.Thread(target=lambda: asked.extend(hold(silent)), daemon=True).start()
    scanner = f"clamd://127.0.0.1:{silent.getsockname()[1]}"
    g = Gateway(os.path.join(folder, "gateway"))
    put_options = ["--events", rabbit.url]
    workers = []

    def worker():
        f = open(os.path.join(folder, "worker.log"), "ab")
        workers.append(subprocess.Popen([program("cairn-gateway"), "worker", *g.only("--embedded", "--meta", "--objects", "--cache"), "--events", rabbit.url, "--scanner", scanner], stdin=subprocess.DEVNULL,
                                        stdout=f, stderr=f))
        f.close()
        return workers[-1]
    try:
        g.options = put_options
        g.start()
        made = put(g, "/a", b"content")
        drive = g.api("GET", "/drives").json["drives"][0]["id"]
        body = next(c for c in log_of(g) if c.get("version") == made["version"])
        assert end(g.process) == 0  # embedded, it takes messages from the queue, too
        g.ended = True
        first = worker()
        with rabbit.connect() as c:
            c.channel().basic_publish("cairn.events", "virus-scan.requested", json.dumps({**body, "drive": drive}))
        wait_for(lambda: connections(silent) >= 1, "the scan")
        first.send_signal(signal.SIGKILL)
        first.wait()
        n = connections(silent)
        worker()
        wait_for(lambda: connections(silent) > n, "the scan by the next worker", 60)
    finally:
        for w in workers:
            if w.poll() is None:
                w.kill()
                w.wait()
        silent.close()
        g.close()


held = {}


def hold(server):
    """Takes connections and says nothing."""
    kept = held.setdefault(server.fileno(), [])
    while True:
        try:
            kept.append(server.accept()[0])
        except OSError:
            return kept


def connections(server):
    return len(held.get(server.fileno(), []))
