"""Uploads that resume: chunks in any order, in parallel, twice, damaged; a gateway that dies in the middle."""
import base64
import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

KIB = 1024
CHUNK = 64 * KIB


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def chunks_of(data, size=CHUNK):
    return [data[i:i + size] for i in range(0, len(data), size)]


def initiate(gateway, path, size, **more):
    return gateway.api("POST", "/upload/initiate", json={"drive": "home", "path": path, "size": size, "chunkSize": CHUNK, **more})


def begin(gateway, path, data, **more):
    answer = initiate(gateway, path, len(data), **more)
    assert answer.status == 201, answer
    return answer.json


def send(gateway, session, n, data, **headers):
    return gateway.api("POST", f"/upload/{session}/chunk/{n}", body=data, headers={k.replace("_", "-"): v for k, v in headers.items()})


def complete(gateway, session, **body):
    return gateway.api("POST", f"/upload/{session}/complete", json=body)


def missing(gateway, session):
    return gateway.api("GET", f"/upload/{session}/missing-chunks").json["missing"]


def content(gateway, path):
    answer = gateway.api("GET", "/files/content" + gateway.query(drive="home", path=path))
    assert answer.status == 200, answer
    return answer.body


def tree_hash(data, size=CHUNK):
    return sha256(b"".join(hashlib.sha256(c).digest() for c in chunks_of(data, size)))


def test_chunks_come_in_any_order_and_in_parallel(gateway):
    data = os.urandom(20 * CHUNK + 777)
    pieces = chunks_of(data)
    session = begin(gateway, "/film.bin", data)
    assert session["totalChunks"] == 21 and session["chunkSize"] == CHUNK and session["missing"] == list(range(21))
    order = list(range(21))
    random.shuffle(order)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: send(gateway, session["sessionId"], n, pieces[n], X_Chunk_SHA256=sha256(pieces[n])), order))
    for n, answer in zip(order, answers):
        assert answer.status == 200, answer
        got = answer.json
        assert got["n"] == n and got["size"] == len(pieces[n]) and got["sha256"] == sha256(pieces[n]) and got["total"] == 21
    assert sorted(a.json["received"] for a in answers) == list(range(1, 22))
    assert max(a.json["progress"] for a in answers) == 100
    assert gateway.api("GET", "/files" + gateway.query(drive="home", path="/film.bin")).status == 404  # not before it is complete

    done = complete(gateway, session["sessionId"], sha256=sha256(data))
    assert done.status == 200, done
    assert done.json["path"] == "/film.bin" and done.json["size"] == len(data) and done.json["sha256"] == sha256(data)
    assert done.json["treeHash"] == tree_hash(data) and done.json["version"] == done.json["seq"]
    assert content(gateway, "/film.bin") == data
    info = gateway.api("GET", "/files" + gateway.query(drive="home", path="/film.bin")).json
    assert {k: info[k] for k in ("version", "size", "sha256", "treeHash", "kind")} == {**{k: done.json[k] for k in ("version", "size", "sha256", "treeHash")}, "kind": "file"}

    again = complete(gateway, session["sessionId"])
    assert (again.status, again.json) == (200, done.json)
    state = gateway.api("GET", f"/upload/{session['sessionId']}").json
    assert state["state"] == "completed" and state["progress"] == 100 and state["received"] == 21
    late = send(gateway, session["sessionId"], 0, pieces[0])
    assert (late.status, late.code) == (409, "upload-completed")
    cancel = gateway.api("DELETE", f"/upload/{session['sessionId']}")
    assert (cancel.status, cancel.code) == (409, "upload-completed")


def test_a_damaged_chunk_is_refused_and_nothing_is_kept(gateway):
    data = os.urandom(2 * CHUNK)
    one, two = chunks_of(data)
    session = begin(gateway, "/a", data)["sessionId"]
    bad = bytearray(one)
    bad[100] ^= 1
    for headers in ({"X_Chunk_SHA256": sha256(one)}, {"X_Chunk_XXH3": "0000000000000000"}):
        answer = send(gateway, session, 0, bytes(bad), **headers)
        assert (answer.status, answer.code) == (422, "chunk-checksum")
    short = send(gateway, session, 0, one[:-1])
    assert (short.status, short.code) == (422, "chunk-size")
    long = send(gateway, session, 1, two + b"x")
    assert (long.status, long.code) == (422, "chunk-size")
    assert missing(gateway, session) == [0, 1]
    assert gateway.api("GET", f"/upload/{session}/chunks").json == {"chunks": []}

    early = complete(gateway, session)
    assert (early.status, early.code, early.json["missing"]) == (409, "chunks-missing", [0, 1])
    assert send(gateway, session, 1, two, X_Chunk_SHA256=sha256(two).upper()).status == 200
    early = complete(gateway, session)
    assert (early.status, early.json["missing"]) == (409, [0])
    assert send(gateway, session, 0, one).status == 200
    assert complete(gateway, session).status == 200
    assert content(gateway, "/a") == data


def test_xxh3_is_checked(gateway):
    data = b"a" * CHUNK
    session = begin(gateway, "/a", data)["sessionId"]
    wrong = send(gateway, session, 0, data, X_Chunk_XXH3="0123456789abcdef")
    assert (wrong.status, wrong.code) == (422, "chunk-checksum")
    tiny = begin(gateway, "/b", b"a")["sessionId"]
    assert send(gateway, tiny, 0, b"a", X_Chunk_XXH3="e6c632b61e964e1f").status == 200  # XXH3-64 of "a", seed 0


def test_a_chunk_sent_twice_counts_once(gateway):
    data = os.urandom(3 * CHUNK)
    one, two, three = chunks_of(data)
    session = begin(gateway, "/a", data)["sessionId"]
    assert send(gateway, session, 0, two).json["received"] == 1  # the wrong one…
    assert send(gateway, session, 0, one).json["received"] == 1  # …is replaced
    again = send(gateway, session, 0, one)
    assert (again.status, again.json["received"], again.json["progress"]) == (200, 1, 33)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: send(gateway, session, 1, two), range(4)))
    state = gateway.api("GET", f"/upload/{session}").json
    assert (state["received"], state["state"], state["size"]) == (2, "active", len(data))
    (a, b) = gateway.api("GET", f"/upload/{session}/chunks").json["chunks"]
    assert (a["n"], a["sha256"], b["n"], b["size"]) == (0, sha256(one), 1, CHUNK) and a["receivedAt"].endswith("Z")
    assert send(gateway, session, 2, three).status == 200
    assert complete(gateway, session).json["sha256"] is None  # several chunks, and nobody asked for it
    assert content(gateway, "/a") == data


def test_it_goes_on_after_the_gateway_died(gateway):
    data = os.urandom(12 * CHUNK + 5)
    pieces = chunks_of(data)
    session = begin(gateway, "/a", data)["sessionId"]
    sent = set()
    for n in (7, 2, 12, 0, 5):
        assert send(gateway, session, n, pieces[n]).status == 200
        sent.add(n)
    gateway.kill()
    gateway.start()
    left = missing(gateway, session)
    assert left == [n for n in range(13) if n not in sent]  # what was acknowledged is there
    for n in left:
        assert send(gateway, session, n, pieces[n]).status == 200
    done = complete(gateway, session, sha256=sha256(data))
    assert done.status == 200
    gateway.kill()
    gateway.start()
    assert complete(gateway, session).json == done.json
    assert content(gateway, "/a") == data
    versions = gateway.api("GET", "/files/versions" + gateway.query(drive="home", path="/a")).json["versions"]
    assert [v["version"] for v in versions] == [done.json["version"]]


def test_many_completions_at_once_make_one_version(gateway):
    data = os.urandom(5 * CHUNK)
    session = begin(gateway, "/a", data)["sessionId"]
    for n, piece in enumerate(chunks_of(data)):
        assert send(gateway, session, n, piece).status == 200
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: complete(gateway, session, sha256=sha256(data)), range(12)))
    assert {a.status for a in answers} == {200}
    assert len({a.body for a in answers}) == 1
    assert len(gateway.api("GET", "/files/versions" + gateway.query(drive="home", path="/a")).json["versions"]) == 1


def test_a_promise_about_the_whole_is_kept_or_there_is_no_file(gateway):
    data = os.urandom(2 * CHUNK)
    other = sha256(b"something else")
    for promise, at_the_end in ((other, None), (None, other), (sha256(data), other)):
        session = begin(gateway, "/a", data, **({"sha256": promise} if promise else {}))["sessionId"]
        for n, piece in enumerate(chunks_of(data)):
            assert send(gateway, session, n, piece).status == 200
        answer = complete(gateway, session, **({"sha256": at_the_end} if at_the_end else {}))
        assert (answer.status, answer.code) == (422, "sha256-mismatch")
        assert gateway.api("GET", "/files" + gateway.query(drive="home", path="/a")).status == 404
    session = begin(gateway, "/a", data, sha256=sha256(data))["sessionId"]
    for n, piece in enumerate(chunks_of(data)):
        send(gateway, session, n, piece)
    assert complete(gateway, session).json["sha256"] == sha256(data)


def test_only_what_is_missing_needs_to_be_sent(gateway):
    data = os.urandom(6 * CHUNK)
    pieces = chunks_of(data)
    session = begin(gateway, "/a", data)["sessionId"]
    for n, piece in enumerate(pieces):
        send(gateway, session, n, piece)
    complete(gateway, session)
    pieces[3] = os.urandom(CHUNK)
    changed = b"".join(pieces)
    hints = [{"n": n, "sha256": sha256(p), "size": len(p)} for n, p in enumerate(pieces)]
    begun = begin(gateway, "/b", changed, chunks=hints)
    assert begun["missing"] == [3] == missing(gateway, begun["sessionId"])
    assert send(gateway, begun["sessionId"], 3, pieces[3]).json["progress"] == 100
    assert complete(gateway, begun["sessionId"], sha256=sha256(changed)).status == 200
    assert content(gateway, "/b") == changed and content(gateway, "/a") == data
    # nothing but the hash is known: nothing is sent at all
    begun = begin(gateway, "/c", data, chunks=[{"n": n, "sha256": sha256(p), "size": CHUNK} for n, p in enumerate(chunks_of(data))])
    assert begun["missing"] == []
    assert complete(gateway, begun["sessionId"]).status == 200
    assert content(gateway, "/c") == data


def test_a_known_chunk_of_another_size_is_not_taken_for_it(gateway):
    short = os.urandom(1000)
    session = begin(gateway, "/short", short)["sessionId"]
    send(gateway, session, 0, short)
    complete(gateway, session)
    begun = initiate(gateway, "/long", 2000, chunks=[{"n": 0, "sha256": sha256(short), "size": 2000}])
    assert begun.json["missing"] == [0]


def test_an_empty_file_has_no_chunks(gateway):
    begun = begin(gateway, "/empty", b"")
    assert begun["totalChunks"] == 0 and begun["missing"] == []
    outside = send(gateway, begun["sessionId"], 0, b"x")
    assert (outside.status, outside.code) == (404, "chunk-out-of-range")
    done = complete(gateway, begun["sessionId"])
    assert done.status == 200 and done.json["size"] == 0 and done.json["sha256"] == sha256(b"")
    assert content(gateway, "/empty") == b""


def test_bytes_of_every_kind(gateway):
    """What compresses well, what does not, last chunks of one byte, chunks of all sizes."""
    for i, (data, size) in enumerate([(bytes(3 * CHUNK), CHUNK), (b"x" * (CHUNK + 1), CHUNK), (os.urandom(300 * KIB), 256 * KIB), (b"a", CHUNK),
                                      (os.urandom(5 * KIB * KIB), 4 * KIB * KIB), (base64.b64encode(os.urandom(200 * KIB)), 128 * KIB)]):
        session = begin(gateway, f"/f{i}", data, chunkSize=size)["sessionId"]
        for n, piece in enumerate(chunks_of(data, size)):
            assert send(gateway, session, n, piece).status == 200
        done = complete(gateway, session, sha256=sha256(data))
        assert done.status == 200, done
        assert done.json["treeHash"] == tree_hash(data, size)
        assert content(gateway, f"/f{i}") == data
        assert gateway.api("GET", "/files" + gateway.query(drive="home", path=f"/f{i}")).json["chunkSize"] == size


def test_a_stale_base_makes_a_sibling(gateway):
    def put(text, **more):
        session = begin(gateway, "/notes.txt", text, **more)["sessionId"]
        send(gateway, session, 0, text)
        return complete(gateway, session).json
    first = put(b"first")
    second = put(b"second", baseVersion=first["version"])
    assert "conflict" not in second
    late = put(b"also from the first", baseVersion=first["version"])
    assert late["path"] == "/notes.txt" and late["conflict"].startswith("/notes (conflict, ") and late["conflict"].endswith(").txt")
    assert content(gateway, "/notes.txt") == b"second"
    assert content(gateway, late["conflict"]) == b"also from the first"
    assert "conflict" not in put(b"third")  # without a base it replaces
    assert content(gateway, "/notes.txt") == b"third"


def test_parents_are_made_where_that_is_asked_for(gateway):
    lost = initiate(gateway, "/a/b/c.txt", 1)
    assert (lost.status, lost.code) == (404, "parent-not-found")
    session = begin(gateway, "/a/b/c.txt", b"x", createParents=True)["sessionId"]
    send(gateway, session, 0, b"x")
    assert complete(gateway, session).status == 200
    assert content(gateway, "/a/b/c.txt") == b"x"
    through = initiate(gateway, "/a/b/c.txt/d", 1, createParents=True)
    assert (through.status, through.code) == (409, "not-a-directory")
    assert initiate(gateway, "/a/b", 1).code == "is-a-directory"
    with ThreadPoolExecutor(6) as pool:  # all want the same new directories
        answers = list(pool.map(lambda i: initiate(gateway, f"/x/y/z/{i}", 1, createParents=True), range(6)))
    assert {a.status for a in answers} == {201}


def test_a_cancelled_upload_takes_nothing_more(gateway):
    session = begin(gateway, "/a", b"abc")["sessionId"]
    send(gateway, session, 0, b"abc")
    assert gateway.api("DELETE", f"/upload/{session}").status == 204
    assert gateway.api("DELETE", f"/upload/{session}").status == 204
    assert gateway.api("GET", f"/upload/{session}").json["state"] == "cancelled"
    for answer in (send(gateway, session, 0, b"abc"), complete(gateway, session)):
        assert (answer.status, answer.code) == (409, "upload-cancelled")
    assert gateway.api("GET", "/files" + gateway.query(drive="home", path="/a")).status == 404


def test_sessions_are_their_owners_alone(gateway):
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    session = begin(gateway, "/a", b"abc")["sessionId"]
    for method, path, body in (("GET", "", None), ("GET", "/chunks", None), ("GET", "/missing-chunks", None), ("POST", "/chunk/0", b"abc"),
                               ("POST", "/complete", b"{}"), ("DELETE", "", None)):
        answer = gateway.api(method, f"/upload/{session}{path}", body=body, token=bob)
        assert (answer.status, answer.code) == (404, "upload-not-found"), path
    for nonsense in ("nonsense", "00000000-0000-7000-8000-000000000000"):
        assert gateway.api("GET", f"/upload/{nonsense}").status == 404
        assert complete(gateway, nonsense).status == 404
    assert gateway.api("GET", f"/upload/{session}").json["state"] == "active"


@pytest.mark.parametrize("change, status, code", [
    ({"size": -1}, 400, "bad-request"), ({"size": "5"}, 400, "bad-request"), ({"size": None}, 400, "bad-request"), ({"size": 1.5}, 400, "bad-request"),
    ({"size": 2**46 + 1}, 400, "bad-request"), ({"size": 2**63}, 400, None),
    ({"chunkSize": 0}, 400, "bad-request"), ({"chunkSize": 65535}, 400, "bad-request"), ({"chunkSize": 98304}, 400, "bad-request"),
    ({"chunkSize": 2**27}, 400, "bad-request"), ({"chunkSize": "65536"}, 400, "bad-request"), ({"size": 2**40, "chunkSize": 65536}, 400, "bad-request"),
    ({"sha256": "abc"}, 400, "bad-request"), ({"sha256": 5}, 400, "bad-request"), ({"mode": 0o10000}, 400, "bad-request"), ({"baseVersion": "x"}, 400, "bad-request"),
    ({"chunks": {}}, 400, "bad-request"), ({"chunks": [{"n": 1, "sha256": "0" * 64, "size": 5}]}, 400, "bad-request"),
    ({"chunks": [{"n": 0, "sha256": "0" * 64, "size": 4}]}, 400, "bad-request"), ({"chunks": [{"n": 0, "sha256": "0" * 63, "size": 5}]}, 400, "bad-request"),
    ({"chunks": [5]}, 400, "bad-request"), ({"createParents": "yes"}, 400, "bad-request"),
    ({"path": "a"}, 400, "bad-path"), ({"path": "/a/../b"}, 400, "bad-path"), ({"path": "/" + "x" * 256}, 400, "bad-path"), ({"path": 7}, 400, None),
    ({"path": None}, 400, "bad-path"), ({"path": "/"}, 409, "is-a-directory"),
    ({"drive": "nobody's"}, 404, "drive-not-found"), ({"drive": None}, 400, "drive-missing"), ({"drive": 7}, 400, "bad-request"),
])
def test_requests_that_are_none(gateway_for_all, change, status, code):
    body = {"drive": "home", "path": "/a", "size": 5, "chunkSize": CHUNK, **change}
    answer = gateway_for_all.api("POST", "/upload/initiate", json={k: v for k, v in body.items() if v is not None})
    assert answer.status == status, answer
    assert code is None or answer.code == code
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_chunk_requests_that_are_none(gateway):
    session = begin(gateway, "/a", b"x" * 5)["sessionId"]
    for n, status, code in (("1", 404, "chunk-out-of-range"), ("-1", 400, "bad-chunk-number"), ("x", 400, "bad-chunk-number"), ("99999999999999999999", 400, "bad-chunk-number"),
                            ("0x0", 400, "bad-chunk-number")):
        answer = send(gateway, session, n, b"x" * 5)
        assert (answer.status, answer.code) == (status, code), n
    for headers in ({"X_Chunk_SHA256": "zz"}, {"X_Chunk_XXH3": "12"}):
        answer = send(gateway, session, 0, b"x" * 5, **headers)
        assert (answer.status, answer.code) == (400, "bad-checksum")
    assert send(gateway, session, 0, b"").code == "chunk-size"
    for body in (b"{", b"[]", b'{"sha256": "abc"}', b'{"sha256": 5}'):
        send(gateway, session, 0, b"x" * 5)
        assert gateway.api("POST", f"/upload/{session}/complete", body=body).status == 400
    assert gateway.api("POST", f"/upload/{session}/complete").status == 200  # no body is no promise
