"""The driver's protocol, told by peers that speak it without a mount: batches happen once, and those who hold a lease are waited for."""
import itertools
import threading
import time

from fsclient import Peer, sha256
from harness import wait_for
from wsclient import Closed, Refused, Stream

import pytest


@pytest.fixture
def peer(gateway):
    return Peer(gateway)


# ---- batches ----

def test_a_batch_happens_once(peer):
    first = peer.frame([peer.create("a")])
    answer = peer.send(first)
    assert answer.status == 200
    again = peer.send(first)
    assert again.status == 200 and again.json == answer.json
    assert [e["name"] for e in peer.get("directory", ino=peer.root).json["entries"]] == ["a"]


def test_a_batch_that_crosses_itself_happens_once(peer):
    """Repeats that arrive while the first is still on its way."""
    frame = peer.frame([peer.create(f"n{i}") for i in range(50)])
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(peer.send(frame))) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [a.status for a in answers] == [200] * 8
    assert all(a.json == answers[0].json for a in answers)
    assert all("error" not in r for r in answers[0].json["results"])


def test_a_number_has_one_content(peer):
    peer.one(peer.create("a"))
    other = peer.send(peer.frame([peer.create("b")], number=1))
    assert (other.status, other.code) == (409, "batch-differs")
    assert peer.lookup("b") is None


def test_batches_come_in_order(peer):
    peer.one(peer.create("a"))
    early = peer.send(peer.frame([peer.create("b")], number=3))
    assert (early.status, early.code, early.json["last"]) == (409, "batch-out-of-order", 1)
    peer.one(peer.create("c"))
    late = peer.send(peer.frame([peer.create("d")], number=1))
    assert late.status == 409
    assert peer.lookup("b") is None and peer.lookup("d") is None


def test_batches_are_known_after_a_restart(gateway, peer):
    frame = peer.frame([peer.create("a")])
    answer = peer.send(frame)
    gateway.kill()
    gateway.start()
    again = peer.send(frame)
    assert again.status == 200 and again.json == answer.json


def test_a_batch_stops_at_its_first_failure(peer):
    results = peer.batch(peer.create("a"), peer.create("a"), peer.create("b"))
    assert [r.get("error") for r in results] == [None, "EEXIST", "ECANCELED"]
    assert peer.lookup("a") is not None
    assert peer.lookup("b") is None


def test_contents_are_checked_before_anything_happens(peer):
    op = peer.create("a")
    headers, body = peer.frame([op, peer.commit(op["ino"], b"abc")], [b"abc"])
    wrong = peer.send((headers, body[:-1] + b"x"))
    assert (wrong.status, wrong.code) == (422, "chunk-checksum")
    assert peer.send((headers, body[:-1])).status == 400
    assert peer.send((headers, body + b"x")).status == 400
    assert peer.send(({"X-Cairn-Head": "99999999"}, body)).status == 400
    assert peer.send(({}, body)).status == 400
    assert peer.lookup("a") is None


def test_what_is_missing_is_named(peer):
    op = peer.create("a")
    result = peer.batch(op, peer.commit(op["ino"], b"abc"))[1]
    assert result["error"] == "ENODATA" and result["missing"] == [sha256(b"abc")]
    chunk = "/chunk" + peer.gateway.query(drive=peer.drive, sha256=sha256(b"abc"), size=3, codec="raw")
    assert peer.call("PUT", chunk, body=b"abx").status == 422
    assert peer.call("PUT", chunk, body=b"abc").status == 200
    assert peer.call("POST", "/missing", json={"drive": peer.drive, "chunks": [sha256(b"abc"), sha256(b"x")]}).json["missing"] == [sha256(b"x")]
    peer.one(peer.commit(op["ino"], b"abc"))


def test_limits_are_kept(peer):
    many = peer.send(peer.frame([{"op": "lock-release-all"}] * 1001))
    assert many.status == 413
    bad = peer.send(peer.frame([{"op": "fly"}]))
    assert (bad.status, bad.code, bad.json["index"]) == (400, "bad-op", 0)


def test_strangers_and_sessions_of_others(gateway, peer):
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    assert gateway.api("GET", "/fs/v1/seq" + gateway.query(drive=peer.drive), token=bob).status == 404
    gateway.add_drive("bobs", "bob")
    other = Peer(gateway, drive="bobs", token=bob)
    other.session = peer.session
    refused = other.send(other.frame([other.create("a")]))
    assert (refused.status, refused.code) == (403, "not-yours")
    with pytest.raises(Closed) as e:
        s = Stream(gateway, peer.info, token=bob, hello=False)
        s.say(t="hello", drive=peer.drive, session=peer.session, since=0)
        raise Closed(s.next("closed")["code"])
    assert e.value.code == 4404


# ---- reads ----

def test_names_and_bytes(peer):
    made = peer.create(None, mode=0o120777, target="x/y")
    del made["name"]
    made["name64"] = "Y2Fm6Q=="
    peer.one(made)
    assert peer.lookup(b"caf\xe9")["ino"] == made["ino"]
    page = peer.get("directory", ino=peer.root).json
    assert page["entries"][0]["name64"] == "Y2Fm6Q==" and page["next"] is None and page["parent"] == peer.root
    assert peer.get("symlink", ino=made["ino"]).json["target"] == "x/y"
    assert peer.get("inode", ino=12345678).json["errno"] == "ENOENT"
    peer.one({"op": "setxattr", "ino": made["ino"], "xattr": "user.a", "value64": "AAE="})
    assert peer.get("xattrs", ino=made["ino"]).json["xattrs"] == [{"name": "user.a", "value64": "AAE="}]


def test_pages_of_a_directory(peer):
    names = sorted(f"file-{i:03}" for i in range(250))
    peer.batch(*[peer.create(n) for n in names])
    got, after = [], None
    while True:
        page = peer.get("directory", ino=peer.root, limit=100, after=after).json
        got += [e["name"] for e in page["entries"]]
        after = page["next"]
        if after is None:
            break
    assert got == names


def test_content_comes_along(peer):
    small, large = b"hello", bytes(range(256)) * 1024  # 256 KiB: four chunks
    a, b = peer.write("a", small), peer.write("b", large)
    head, contents = peer.read({"ino": a, "first": 0, "count": 1}, {"ino": b, "first": 1, "count": 2}, {"ino": 99999, "first": 0, "count": 1})
    assert head["files"][0]["chunks"] == [[sha256(small), 5]]
    assert contents[sha256(small)] == small
    assert head["files"][1]["size"] == len(large) and len(head["files"][1]["chunks"]) == 2
    assert head["files"][2]["errno"] == "ENOENT"
    assert peer.read({"ino": a, "first": 0, "count": 1}, inline=0)[1] == {}
    got = peer.get("chunk", sha256=sha256(small))
    assert (got.body, got.headers["X-Cairn-Codec"], got.headers["X-Cairn-Size"]) == (small, "raw", "5")
    assert peer.get("chunk", sha256=sha256(b"never")).status == 404


def test_the_past(peer):
    ino = peer.write("a", b"one")
    before = peer.get("seq").json["seq"]
    second = peer.one({**peer.commit(ino, b"two!", base=peer.lookup("a")["version"])}, contents=[b"two!"])
    versions = peer.get("versions", parent=peer.root, name="a").json["versions"]
    assert [(v["size"], v["current"]) for v in versions] == [(4, True), (3, False)]
    assert versions[0]["version"] == second["version"]
    head, contents = peer.read({"ino": ino, "version": versions[1]["version"], "first": 0, "count": 1})
    assert contents[head["files"][0]["chunks"][0][0]] == b"one"
    peer.one({"op": "unlink", "parent": peer.root, "name": "a"})
    assert peer.lookup("a") is None
    assert [e["name"] for e in peer.get("dead", ino=peer.root).json["entries"]] == ["a"]
    assert peer.get("lookup", parent=peer.root, name="a", at=before).json["attr"]["ino"] == ino


def test_changes_since(peer):
    start = peer.get("seq").json["seq"]
    peer.one(peer.create("a"))
    peer.one({"op": "unlink", "parent": peer.root, "name": "a"})
    page = peer.get("changes", since=start, limit=1).json
    assert page["more"] and page["changes"][0]["names"] == [{"parent": peer.root, "name": "a"}]
    assert page["changes"][0]["by"] == peer.session
    rest = peer.get("changes", since=page["next"]).json
    assert not rest["more"] and len(rest["changes"]) == 1 and rest["next"] == peer.get("seq").json["seq"]
    assert peer.get("changes", since=rest["next"] + 1).status == 410


# ---- coherence ----

LEASE = 1.8  # seconds, docs/protocol.md
numbers = itertools.count()


def running(fn):
    """Runs fn in a thread; .over() joins and tells when it ended, .done whether it has."""
    class Run(threading.Thread):
        def run(self):
            self.done = False
            self.value = fn()
            self.ended, self.done = time.monotonic(), True

        def over(self):
            self.join(30)
            assert self.done
            return self.ended
    r = Run()
    r.start()
    return r


def once(story):
    """It is true of the story some time: a busy machine is late now and then, what waits where it should not is late each time."""
    assert any(story() for _ in range(20))


def another(peer):
    """One more mount where that one is, as it."""
    p = Peer(peer.gateway, peer.drive)
    return p, Stream(p.gateway, p.info, since=p.info["seq"], acknowledge=False)


def write(writer):
    return writer.one(writer.create(f"n{next(numbers)}"))


@pytest.fixture
def two(gateway, peer):
    """A writer, and another mount whose stream acknowledges only what it is told to."""
    other = Peer(gateway)
    stream = Stream(gateway, other.info, since=other.info["seq"], acknowledge=False)
    yield peer, other, stream
    stream.close()


def test_a_write_is_told_before_it_is_answered(two):
    writer, other, _ = two

    def story():
        _, stream = another(other)
        stream.lease()
        name = f"told{next(numbers)}"
        run = running(lambda: writer.one(writer.create(name)))
        told = stream.next("inval")
        assert told["changes"][0]["names"] == [{"parent": writer.root, "name": name}]
        time.sleep(0.2)
        waits = not run.done
        stream.ack(told["seq"])
        run.over()
        assert run.value["seq"] == told["seq"]
        stream.close()
        return waits
    once(story)


def test_one_that_does_not_answer_is_waited_for_once(two):
    writer, other, _ = two

    def story():
        _, stream = another(other)
        begin = time.monotonic()
        stream.lease()
        run = running(lambda: write(writer))
        stream.next("inval")
        assert run.over() - begin >= LEASE  # as long as it may believe what it knows, not for ever
        begin = time.monotonic()
        write(writer)
        seconds = time.monotonic() - begin  # it has no lease any more
        stream.ack(stream.next("inval")["seq"])
        stream.close()
        return seconds < LEASE / 2
    once(story)


def test_a_beat_is_answered_after_what_is_owed(two):
    writer, _, stream = two
    stream.lease()
    run = running(lambda: write(writer))
    told = stream.next("inval")
    beat = stream.beat()
    with pytest.raises(Exception):
        stream.next("lease", timeout=0.2)
    stream.ack(told["seq"])
    assert stream.next("lease")["id"] == beat
    run.over()


def test_without_a_lease_nobody_is_waited_for(two):
    writer, _, stream = two

    def story():
        begin = time.monotonic()
        write(writer)
        return time.monotonic() - begin < LEASE / 2
    once(story)
    assert stream.next("inval")["seq"] > stream.welcome


def test_a_mount_is_not_told_of_its_own(gateway, two):
    writer, _, stream = two
    own = Stream(gateway, writer.info, since=writer.info["seq"])
    own.lease()
    stream.acknowledge = True
    writer.one(writer.create("a"))
    stream.next("inval")
    own.nothing("inval")
    own.close()


def test_a_repeat_waits_like_the_first(two):
    writer, other, _ = two
    repeat_waits(writer, writer.send, other)


def repeat_waits(writer, send_again, other):
    def story():
        _, stream = another(other)
        stream.lease()
        frame = writer.frame([writer.create(f"n{next(numbers)}")])
        first = running(lambda: writer.send(frame))
        told = stream.next("inval")
        again = running(lambda: send_again(frame))
        time.sleep(0.2)
        wait = not first.done and not again.done
        stream.ack(told["seq"])
        first.over(), again.over()
        writer.next_batch += 1
        assert first.value.status == 200 and first.value.json == again.value.json
        stream.nothing("inval")
        stream.close()
        return wait
    once(story)


def test_nothing_is_missed_while_a_stream_joins(gateway, peer):
    """What the log says up to welcome and what is pushed after it are all changes, however they fall."""
    other = Peer(gateway)
    stop = threading.Event()

    def write():
        i = 0
        while not stop.is_set():
            peer.one(peer.create(f"n{i}"))
            i += 1
    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(20):
            since = other.get("seq").json["seq"]
            stream = Stream(gateway, other.info, since=since)
            pushed = stream.next("inval")["changes"]
            known = [t["seq"] for t in other.get("changes", since=since, limit=10000).json["changes"] if t["seq"] <= stream.welcome]
            seqs = known + [t["seq"] for t in pushed if t["seq"] > stream.welcome]
            assert seqs == list(range(since + 1, since + 1 + len(seqs))), (since, stream.welcome, seqs)
            stream.close()
    finally:
        stop.set()
        writing.join()


def test_a_lost_stream_is_waited_for_until_its_lease_is_out(two):
    writer, _, stream = two
    begin = time.monotonic()
    stream.lease()
    stream.close()
    assert running(lambda: write(writer)).over() - begin >= LEASE


def test_bye_is_waited_for_by_nobody(two):
    writer, other, _ = two

    def story():
        leaving, stream = another(other)
        begin = time.monotonic()
        stream.lease()
        assert leaving.call("DELETE", "/mount" + leaving.gateway.query(drive=leaving.drive, session=leaving.session)).status == 204
        assert stream.next("closed")["code"] == 1000
        write(writer)
        return time.monotonic() - begin < LEASE
    once(story)


def test_http_clients_are_told_of_as_well(gateway, two):
    _, _, stream = two
    stream.acknowledge = True
    assert gateway.api("PUT", "/files/content" + gateway.query(drive=gateway.drive, path="/x"), body=b"abc").status == 201
    assert stream.next("inval")["changes"][0]["names"][0]["name"] == "x"


def test_a_stream_needs_a_token_and_a_hello(gateway, peer):
    with pytest.raises(Refused):
        from wsclient import WebSocket
        WebSocket(gateway.port, "/api/v1/fs/v1/stream", ["cairn.fs.v1"])
    s = Stream(gateway, peer.info, token="no.such.token", hello=False)
    s.say(t="hello", drive=peer.drive, session=peer.session, since=0)
    assert s.next("closed")["code"] == 4401
    s = Stream(gateway, peer.info, hello=False)
    s.say(t="ack", seq=1)
    assert s.next("closed")["code"] == 1008
    s = Stream(gateway, peer.info, hello=False)
    s.ws.send("not json")
    assert s.next("closed")["code"] == 1008


def test_a_newer_stream_takes_over(gateway, peer):
    first = Stream(gateway, peer.info)
    second = Stream(gateway, peer.info)
    assert first.next("closed")["code"] == 4409
    Peer(gateway).one(peer.create("a"))
    second.next("inval")
    second.close()


def test_a_seq_from_the_future_is_told_to_start_afresh(gateway, peer):
    s = Stream(gateway, peer.info, since=1 << 50)
    s.next("reset")
    s.close()


# ---- locks ----

def lock(ino, kind, owner=2, **more):
    return {"op": "lock", "ino": ino, "type": kind, "start": 0, "end": (1 << 62) - 1, "owner": owner, "pid": 1, **more}


def test_locks_go_with_their_session(gateway, two):
    holder, other, stream = two
    ino = holder.write("a", b"x")
    own = Stream(gateway, holder.info)
    holder.one(lock(ino, "w"))
    assert other.batch(lock(ino, "w"))[0]["error"] == "EAGAIN"
    own.say(t="bye")
    assert stream.next("unlocked")["ino"] in (0, ino)
    wait_for(lambda: "error" not in other.batch(lock(ino, "w"))[0], "the lock")


def test_unlocking_is_told(two):
    holder, other, stream = two
    ino = holder.write("a", b"x")
    holder.one(lock(ino, "w"))
    holder.one(lock(ino, "u"))
    assert stream.next("unlocked")["ino"] == ino
    other.one(lock(ino, "w"))


def test_a_session_goes_on_after_a_restart(gateway, peer):
    ino = peer.write("a", b"x")
    peer.one(lock(ino, "w"))
    gateway.kill()
    gateway.start()
    s = Stream(gateway, peer.info, since=peer.get("seq").json["seq"])
    other = Peer(gateway)
    assert other.batch(lock(ino, "w"))[0]["error"] == "EAGAIN"
    peer.one(peer.create("b"))
    s.close()
