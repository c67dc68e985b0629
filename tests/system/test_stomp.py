"""What a person's programs hear on /ws: STOMP 1.0 to 1.2."""
import json

from fsclient import Peer
from wsclient import Closed, Stomp, Stream

import pytest


@pytest.fixture
def listen(gateway):
    """listen(token=…): a connected client, closed at the end."""
    all = []

    def connect(**kw):
        all.append(Stomp(gateway, **kw))
        return all[-1]
    yield connect
    for s in all:
        s.close()


def put(gateway, path, body=b"x", drive=None, token=None):
    a = gateway.api("PUT", "/files/content" + gateway.query(drive=drive or gateway.drive, path=path), body=body, token=token)
    assert a.status in (200, 201), a
    return a.json


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_changes_are_told_in_every_version(gateway, listen, version):
    s = listen(version=version)
    assert s.ws.protocol == f"v{version.replace('.', '')}.stomp"
    assert s.connected[1]["version"] == version and s.connected[1]["user-name"] == "ann"
    s.subscribe("/topic/file-changes")
    made = put(gateway, "/h\u00e4.txt", b"abc")
    headers, body = s.message()
    assert headers["subscription"] == "s" and headers["destination"] == "/topic/file-changes"
    assert headers["content-type"] == "application/json"
    assert (body["kind"], body["path"], body["version"], body["user"]) == ("created", "/h\u00e4.txt", made["version"], "ann")
    assert body["drive"] == next(d["id"] for d in gateway.api("GET", "/drives").json["drives"])


def test_messages_are_what_the_log_says_in_its_order(gateway, listen):
    s = listen().subscribe("/topic/file-changes")
    peer = Peer(gateway)
    since = peer.get("seq").json["seq"]
    for i in range(5):
        peer.batch(*[peer.create(f"{i}-{k}") for k in range(100)])
    told = [s.message()[1] for _ in range(500)]
    log = gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=since, limit=1000)).json["changes"]
    for t in told:
        t.pop("drive")
    assert told == log


def test_a_change_just_after_the_subscription_is_told(gateway, listen):
    """The gateway finds out how far the drive is while it changes."""
    for i in range(30):
        gateway.add_drive(f"new{i}", "ann")
        s = listen().subscribe("/topic/file-changes", drive=f"new{i}")
        put(gateway, "/first", drive=f"new{i}")
        assert s.message()[1]["path"] == "/first"


def test_moves_and_deletions(gateway, listen):
    put(gateway, "/a")
    s = listen().subscribe("/topic/file-changes")
    assert gateway.api("POST", "/files/move", json={"drive": gateway.drive, "from": "/a", "to": "/b"}).status == 200
    moved = s.message()[1]
    assert (moved["kind"], moved["from"], moved["path"]) == ("moved", "/a", "/b")
    assert gateway.api("DELETE", "/files" + gateway.query(drive=gateway.drive, path="/b")).status == 204
    assert [s.message()[1][k] for k in ("kind",)] == ["deleted"]


def test_only_drives_that_one_may_see(gateway, listen):
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    gateway.add_drive("bobs", "bob")
    ann, theirs = listen().subscribe("/topic/file-changes"), listen(token=bob).subscribe("/topic/file-changes")
    put(gateway, "/anns")
    put(gateway, "/bobs", drive="bobs", token=bob)
    assert theirs.message()[1]["path"] == "/bobs"
    assert ann.message()[1]["path"] == "/anns"


def test_narrowed_to_a_drive(gateway, listen):
    gateway.add_drive("second", "ann")
    s = listen().subscribe("/topic/file-changes", drive="second")
    put(gateway, "/elsewhere")
    put(gateway, "/here", drive="second")
    assert s.message()[1]["path"] == "/here"
    assert listen_error(gateway, "SUBSCRIBE", {"id": "1", "destination": "/topic/file-changes", "drive": "nobody's"})["message"] == "drive-not-found"


def test_unsubscribe(gateway, listen):
    s = listen().subscribe("/topic/file-changes", id="1").subscribe("/topic/file-changes", id="2")
    s.send("UNSUBSCRIBE", {"id": "1", "receipt": "u"})
    assert s.frame()[:2] == ("RECEIPT", {"receipt-id": "u"})
    put(gateway, "/a")
    assert s.message()[0]["subscription"] == "2"


def listen_error(gateway, command, headers, **kw):
    s = Stomp(gateway, **kw)
    s.send(command, headers)
    return s.error()


def test_errors_end_the_connection(gateway):
    assert "message" in listen_error(gateway, "SUBSCRIBE", {"id": "1", "destination": "/topic/nothing", "receipt": "9"})
    assert listen_error(gateway, "SUBSCRIBE", {"id": "1", "destination": "/topic/nothing", "receipt": "9"})["receipt-id"] == "9"
    assert "id" in listen_error(gateway, "SUBSCRIBE", {"destination": "/queue/sync"})["message"]
    assert "destination" in listen_error(gateway, "SUBSCRIBE", {"id": "1"})["message"]
    assert "unknown" in listen_error(gateway, "FLY", {})["message"]
    assert listen_error(gateway, "SEND", {"destination": "/topic/presence"})
    assert listen_error(gateway, "UNSUBSCRIBE", {"id": "1"})
    assert listen_error(gateway, "CONNECT", {"accept-version": "1.2"})
    for garbage in (b"SUBSCRIBE\nno colon\n\n\0", b"\xff\xff\n\n\0", b"A\nb:c\\x\n\n\0"):
        s = Stomp(gateway)
        s.ws.send(garbage, opcode=2)
        s.error()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no.such.token"}, {"Authorization": "Basic YTpi"}])
def test_a_token_is_needed(gateway, headers):
    s = Stomp(gateway, connect=False)
    s.send("CONNECT", {"accept-version": "1.2", **headers}, escape=False)
    s.error()


def test_connect_comes_first_and_with_a_version(gateway):
    s = Stomp(gateway, connect=False)
    s.send("SUBSCRIBE", {"id": "1", "destination": "/queue/sync"})
    s.error()
    s = Stomp(gateway, connect=False)
    s.send("CONNECT", {"accept-version": "9.9", "Authorization": f"Bearer {gateway.token}"}, escape=False)
    assert "1.2" in s.error()["version"]


def test_frames_come_in_pieces_and_together(gateway, listen):
    s = listen()
    for b in s.encode("SUBSCRIBE", {"id": "a", "destination": "/queue/sync", "receipt": "1"}):
        s.ws.send(bytes([b]), opcode=2)
    assert s.frame()[1] == {"receipt-id": "1"}
    # the first needs a look-up: the receipts come in order all the same
    s.ws.send(s.encode("SUBSCRIBE", {"id": "b", "destination": "/topic/file-changes", "drive": "home", "receipt": "2"}) + b"\n\n" +
              s.encode("SUBSCRIBE", {"id": "c", "destination": "/topic/presence", "receipt": "3"}), opcode=2)
    assert [s.frame()[1]["receipt-id"] for _ in range(2)] == ["2", "3"]


def test_disconnect_is_confirmed_and_closed(gateway, listen):
    s = listen()
    s.send("DISCONNECT", {"receipt": "77"})
    assert s.frame()[:2] == ("RECEIPT", {"receipt-id": "77"})
    with pytest.raises(Closed) as e:
        s.ws.receive()
    assert e.value.code == 1000


def test_heart_beats_are_agreed_on(gateway, listen):
    assert listen(headers={"heart-beat": "0,0"}).connected[1]["heart-beat"] == "10000,10000"
    s = Stomp(gateway, connect=False)
    s.send("CONNECT", {"accept-version": "1.2", "heart-beat": "often", "Authorization": f"Bearer {gateway.token}"}, escape=False)
    s.error()


def token_for(gateway, user, device):
    a = gateway.api("POST", "/auth/login", json={"username": user, "password": f"{user}'s password", "device": device}, token="")
    assert a.status == 200, a
    return a.json["accessToken"]


def heard(listener, device, only_of=None):
    """The next message about the device; those before it are about others, the listener's own among them."""
    while True:
        m = listener.message()[1]
        assert only_of in (None, m["user"])
        if m["device"] == device:
            return m


def test_presence_is_told_to_those_who_share_a_drive(gateway, listen):
    gateway.add_user("bob")
    bob = listen(token=token_for(gateway, "bob", "desk")).subscribe("/topic/presence")
    ann = listen().subscribe("/topic/presence")
    laptop = token_for(gateway, "ann", "laptop")
    peer = Peer(gateway, token=laptop)
    first, second = Stream(gateway, peer.info, token=laptop), listen(token=laptop)
    assert heard(ann, "laptop")["state"] == "online"
    second.close()
    first.close()
    offline = heard(ann, "laptop")
    assert (offline["user"], offline["state"]) == ("ann", "offline") and "at" in offline
    listen(token=token_for(gateway, "bob", "phone"))
    heard(bob, "phone", only_of="bob")


def conflict(gateway):
    """Two writers from the same version; returns the sibling's name."""
    a, b = Peer(gateway), Peer(gateway)
    ino = a.write("f.txt", b"one")
    base = a.lookup("f.txt")["version"]
    a.one(a.commit(ino, b"from a", base=base), contents=[b"from a"])
    return b.one(b.commit(ino, b"from b", base=base), contents=[b"from b"])["conflict"]["name"]


@pytest.mark.parametrize("destination", ["/user/queue/sync", "/queue/sync"])
def test_conflicts_are_told(gateway, listen, destination):
    s = listen().subscribe(destination)
    stream = Stream(gateway, Peer(gateway).info)
    name = conflict(gateway)
    headers, body = s.message()
    assert headers["destination"] == destination
    assert (body["kind"], body["path"]) == ("conflict", "/" + name)
    assert stream.next("notice")["kind"] == "conflict"
    stream.close()


def test_progress_of_an_upload(gateway, listen):
    s = listen().subscribe("/user/queue/upload-progress")
    chunks = [bytes([i]) * 65536 for i in range(20)]
    a = gateway.api("POST", "/upload/initiate", json={"drive": gateway.drive, "path": "/big", "size": 20 * 65536, "chunkSize": 65536})
    assert a.status == 201, a
    session = a.json["sessionId"]
    for i, chunk in enumerate(chunks):
        assert gateway.api("POST", f"/upload/{session}/chunk/{i}", body=chunk).status == 200
    assert gateway.api("POST", f"/upload/{session}/complete", json={}).status == 200
    seen = []
    while not seen or seen[-1]["progress"] < 100:
        seen.append(s.message()[1])
    assert all(m["sessionId"] == session and m["path"] == "/big" and m["total"] == 20 for m in seen)
    assert seen[-1]["received"] == 20
    assert [m["received"] for m in seen] == sorted(m["received"] for m in seen)


def test_a_long_poll_ends_with_the_next_change(gateway):
    import threading
    since = Peer(gateway).get("seq").json["seq"]
    answers = []
    t = threading.Thread(target=lambda: answers.append(
        gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=since, wait=60))))
    t.start()
    put(gateway, "/a")
    t.join(40)
    assert [c["path"] for c in answers[0].json["changes"]] == ["/a"]
    empty = gateway.api("GET", "/changes" + gateway.query(drive=gateway.drive, since=answers[0].json["next"], wait=1))
    assert empty.status == 200 and empty.json["changes"] == []
