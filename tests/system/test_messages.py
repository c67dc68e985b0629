"""Changes and notifications as messages on a real RabbitMQ, as others' programs see them, and between gateways."""
import json
import os
import signal
import subprocess
import tempfile
import threading
import uuid

import pika
import pytest
from clamd import EICAR, Clamd
from harness import Gateway, Second, end, program, wait_for
from rabbit import Consumer, Rabbit
from test_stomp import put
from wsclient import Stomp

from servers.kinds import open_server


@pytest.fixture(scope="module")
def rabbit():
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as path:
        r = Rabbit(os.path.join(path, "rabbitmq"))
        r.start()
        yield r
        r.kill()


@pytest.fixture
def gateway_options(rabbit):
    return ["--events", rabbit.url]


@pytest.fixture
def consume(rabbit):
    all = []

    def consumer(*keys):
        all.append(Consumer(rabbit, *keys))
        return all[-1]
    yield consumer
    for c in all:
        c.close()


def drive_id(gateway):
    return gateway.api("GET", "/drives").json["drives"][0]["id"]


def connected(gateway):
    return gateway.api("GET", "/actuator/health").json["components"]["events"]["status"] == "UP"


def heard(stomp, n):
    return [stomp.message()[1] for _ in range(n)]


def test_every_kind_of_change_is_a_message(gateway, consume):
    c = consume("file.*", "sync.*")
    drive = drive_id(gateway)
    put(gateway, "/a", b"one")
    put(gateway, "/a", b"two")
    assert gateway.api("POST", "/files/move", json={"drive": gateway.drive, "from": "/a", "to": "/b"}).status == 200
    version = gateway.api("GET", "/files/versions" + gateway.query(drive=gateway.drive, path="/b")).json["versions"][-1]["version"]
    assert gateway.api("POST", "/files/versions/restore", json={"drive": gateway.drive, "path": "/b", "version": version}).status == 200
    assert gateway.api("DELETE", "/files" + gateway.query(drive=gateway.drive, path="/b")).status == 204
    log = gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=0)).json["changes"]
    sync = c.expect(f"sync.{drive}", len(log))
    for said, change in zip(sync, log):
        event = said.pop("eventId")
        assert uuid.UUID(event) and said == {**change, "drive": drive}
    assert len({m["seq"] for m in sync}) == len(log)
    keys = {"created": "file.uploaded", "modified": "file.modified", "attributes": "file.modified", "moved": "file.moved", "restored": "file.restored", "deleted": "file.deleted"}
    wait_for(lambda: sum(k.startswith("file.") for k, _, _ in list(c.seen)) >= len(log), "the file messages")
    files = [(k, p, b) for k, p, b in c.seen if k.startswith("file.")]
    assert [k for k, _, _ in files] == [keys[change["kind"]] for change in log]
    assert {"file.uploaded", "file.modified", "file.moved", "file.deleted"} <= {k for k, _, _ in files}
    for _, p, b in files:
        assert p.delivery_mode == 2 and p.content_type == "application/json" and p.message_id == b["eventId"]


def test_queues_are_there_and_durable(gateway, rabbit):
    wait_for(lambda: connected(gateway), "the connection")
    with rabbit.connect() as c:
        channel = c.channel()
        channel.exchange_declare("cairn.events", "topic", durable=True)
        for queue in ("cairn.virus-scan", "cairn.notification", "cairn.dead"):
            channel.queue_declare(queue, passive=True, durable=True)


def test_the_port_suite_on_a_real_broker(rabbit):
    for queues in ("classic", "quorum"):
        rabbit.port_suite(queues)


def test_new_content_asks_for_a_scan(gateway, consume):
    c = consume("virus-scan.requested")
    made = put(gateway, "/a", b"one")
    assert gateway.api("POST", "/files/directory", json={"drive": gateway.drive, "path": "/dir"}).status == 201
    again = put(gateway, "/a", b"two")
    assert [m["version"] for m in c.expect("virus-scan.requested", 2)] == [made["version"], again["version"]]


def test_watchers_at_one_gateway_hear_of_changes_at_another(gateway, second):
    wait_for(lambda: connected(gateway) and connected(second), "the connections")
    all, one = Stomp(second).subscribe("/topic/file-changes"), Stomp(second).subscribe("/topic/file-changes", drive=drive_id(gateway))
    since = gateway.api("GET", "/drives").json["drives"][0]["seq"]
    for i in range(31):  # the last one elsewhere
        put((gateway, second)[i % 2], f"/{i}")
    log = gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=since)).json["changes"]
    for s in (all, one):
        told = heard(s, len(log))
        for t in told:
            t.pop("drive")
        assert told == log
        s.close()


def test_a_change_just_after_the_subscription_is_told_of_another_gateway_too(gateway, second):
    """The gateway is stopped as soon as it has confirmed, so that it has looked at nothing more when the change is made."""
    wait_for(lambda: connected(gateway) and connected(second), "the connections")
    for i in range(5):
        gateway.add_drive(f"new{i}", "ann")
        for narrowed in ({}, {"drive": f"new{i}"}):
            watcher = Stomp(second).subscribe("/topic/file-changes", **narrowed)
            second.process.send_signal(signal.SIGSTOP)
            making = threading.Thread(target=put, args=(gateway, "/first"), kwargs={"drive": f"new{i}"})
            making.start()
            making.join(5)  # it waits for the stopped one where that was just writing
            second.process.send_signal(signal.SIGCONT)
            making.join()
            assert watcher.message()[1]["path"] == "/first"
            watcher.close()


def test_a_long_poll_at_one_gateway_ends_with_a_change_at_another(gateway, second):
    wait_for(lambda: connected(gateway) and connected(second), "the connections")
    for i in range(3):
        since = gateway.api("GET", "/drives").json["drives"][0]["seq"]
        answers = []
        poll = threading.Thread(target=lambda: answers.append(second.api("GET", "/changes" + second.query(drive=second.drive, since=since, wait=50))))
        poll.start()
        put(gateway, f"/polled-{i}")
        poll.join(30)
        assert [c["path"] for c in answers[0].json["changes"]] == [f"/polled-{i}"]


def test_progress_and_presence_reach_the_other_gateway(gateway, second):
    wait_for(lambda: connected(gateway) and connected(second), "the connections")
    s = Stomp(second).subscribe("/user/queue/upload-progress", id="p").subscribe("/topic/presence", id="t")
    body = os.urandom(65536 * 3)

    def upload(k):
        made = gateway.api("POST", "/upload/initiate", json={"drive": gateway.drive, "path": f"/up-{k}", "size": len(body), "chunkSize": 65536}).json
        for n in range(3):
            assert gateway.api("POST", f"/upload/{made['sessionId']}/chunk/{n}", body=body[65536 * n:65536 * (n + 1)]).status == 200
        return made["sessionId"]
    session = upload(0)
    while True:
        headers, told = s.message()
        if headers["subscription"] == "p" and told["sessionId"] == session and told["received"] == told["total"]:
            assert told["progress"] == 100
            break
    other = Stomp(gateway)
    while True:
        headers, told = s.message()
        if headers["subscription"] == "t" and told["state"] == "online":
            break
    other.close()
    s.close()


@pytest.fixture
def clamd(folder):
    c = Clamd(os.path.join(folder, "clamd"), "StreamMaxLength=8M")
    c.start()
    yield c
    c.stop()


def test_an_infected_file_is_told_to_consumers_and_at_every_gateway(folder, rabbit, clamd, consume):
    g = Gateway(os.path.join(folder, "gateway"), ["--events", rabbit.url, "--scanner", clamd.url])
    try:
        two = Second(g.start()).start()
        try:
            c = consume("virus-scan.*", "notification.#")
            wait_for(lambda: connected(g) and connected(two), "the connections")
            s = Stomp(two).subscribe("/user/queue/sync")
            put(g, "/clean", b"harmless")
            put(g, "/evil", EICAR)
            assert [m["path"] for m in c.expect("virus-scan.requested", 2)[:2]] == ["/clean", "/evil"]
            bad = c.expect("virus-scan.infected", 1)[0]
            assert bad["path"] == "/evil" and bad["drive"] == drive_id(g) and bad["eventId"]
            assert c.expect("virus-scan.clean", 1)[0]["path"] == "/clean"
            assert c.expect("notification.ann", 1)[0]["kind"] == "infected"
            told = s.message()[1]
            assert (told["kind"], told["path"]) == ("infected", "/evil")
            s.close()
        finally:
            two.close()
    finally:
        g.close()


def notify(rabbit):
    """A good notification, and one that is none."""
    with rabbit.connect() as conn:
        conn.channel().basic_publish("cairn.events", "notification.ann", b'{"kind":"test","user":"ann"}')
        conn.channel().basic_publish("", "cairn.notification", b"no JSON at all")


def refuses(rabbit, queue):
    with rabbit.connect() as conn:
        channel = conn.channel()
        channel.confirm_delivery()
        try:
            channel.basic_publish("", queue, b"a look")
        except pika.exceptions.NackError:
            return True
        return False


@pytest.mark.embedded("an embedded gateway")
def test_an_embedded_gateway_is_its_own_worker(gateway, rabbit):
    wait_for(lambda: connected(gateway), "the connection")
    dead = rabbit.depth("cairn.dead")
    notify(rabbit)
    wait_for(lambda: rabbit.depth("cairn.notification") == 0 and rabbit.depth("cairn.dead") > dead, "the queue's end")


@pytest.mark.embedded("an embedded gateway")
def test_what_nobody_has_room_for_waits(gateway, rabbit):
    """A message that is given up, while the queue for such messages refuses it: it is not worked on again, it goes there when there is room."""
    wait_for(lambda: connected(gateway), "the connection")
    broker = open_server(rabbit.folder)
    broker.manage("PUT", "/policies/cairn/full", {"pattern": "^cairn[.]dead$", "apply-to": "queues", "definition": {"max-length": 0, "overflow": "reject-publish"}})
    try:
        wait_for(lambda: refuses(rabbit, "cairn.dead"), "the policy's effect")
        dead = rabbit.depth("cairn.dead")
        notify(rabbit)
        wait_for(lambda: "messages are refused: connecting anew" in log_of(gateway), "what the log says", 60)
        assert gateway.api("GET", "/actuator/health").status == 200
    finally:
        broker.manage("DELETE", "/policies/cairn/full")
    wait_for(lambda: rabbit.depth("cairn.dead") > dead, "the message's end", 60)
    assert log_of(gateway).count("was given up after") == 1


def test_a_queue_that_refuses_holds_up_no_other(gateway, rabbit, consume):
    c = consume("sync.*")
    wait_for(lambda: connected(gateway), "the connection")
    with rabbit.connect() as conn:
        channel = conn.channel()
        channel.queue_declare("full", exclusive=True, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
        channel.queue_bind("full", "cairn.events", "file.*")
        put(gateway, "/a", b"one")
        wait_for(lambda: "messages are refused: connecting anew" in log_of(gateway), "what the log says")
        put(gateway, "/b", b"two")
        wait_for(lambda: {"/a", "/b"} <= {m["path"] for k, _, m in list(c.seen)}, "what others are told")


def log_of(gateway):
    with open(gateway.log) as f:
        return f.read()


def test_a_worker_empties_the_queues_and_says_how_it_is(folder, rabbit, gateway, consume):
    c = consume("notification.#")
    gateway.stop()  # embedded, it takes messages from the queues, too
    log = open(os.path.join(folder, "worker.log"), "ab")
    worker = subprocess.Popen([program("cairn-gateway"), "worker", *gateway.only("--embedded", "--meta", "--objects", "--cache"), "--events", rabbit.url, "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL,
                              stdout=log, stderr=log)
    try:
        said = wait_for(lambda: [json.loads(line)["msg"] for line in open(log.name) if "health on" in line], "its port")[0]
        url = said.split()[-1]
        health = wait_for(lambda: json.loads(gateway.opener.open(url + "/actuator/health").read()), "its health")
        assert health["components"]["metadata"]["status"] == "UP"
        assert b"cairn_" in gateway.opener.open(url + "/metrics").read()
        dead = rabbit.depth("cairn.dead")
        notify(rabbit)
        c.expect("notification.ann", 1)
        wait_for(lambda: rabbit.depth("cairn.notification") == 0 and rabbit.depth("cairn.dead") > dead, "the queue's end")
    finally:
        assert end(worker) == 0
        log.close()
