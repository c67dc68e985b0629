"""What comes in may be anything: the right status and code, never a crash, a stuck worker, or a look at what is another's.

The JSON routes are those of docs/openapi.yaml, each with a body that is right but for one thing.
"""
import json
import os
import random
import re
import time

import pytest
import yaml

from fsclient import BASE, Peer
from harness import ROOT
from rawhttp import Raw, request

with open(os.path.join(ROOT, "docs", "openapi.yaml")) as f:
    API = yaml.safe_load(f)

SESSION = "00000000-0000-7000-8000-000000000000"
GOOD = {"string": "/x", "integer": 1, "boolean": True, "array": []}
WRONG = {"string": [5, ["x"], {"x": 1}, True], "integer": ["1", 1.5, [1], True, 2**63, -2**63], "boolean": ["true", 1, []], "array": ["x", {}, 1]}


def resolve(schema):
    while "$ref" in schema:
        node = API
        for key in schema["$ref"].removeprefix("#/").split("/"):
            node = node[key]
        schema = node
    return schema


def json_routes():
    """(path, schema) of each POST with a JSON body."""
    for path, methods in API["paths"].items():
        for method, what in methods.items():
            content = what.get("requestBody", {}).get("content", {}) if isinstance(what, dict) else {}
            if "application/json" in content:
                assert method == "post", path
                yield path.replace("{sessionId}", SESSION), resolve(content["application/json"]["schema"])


ROUTES = dict(json_routes())
FS_ROUTES = ("/mount", "/inodes", "/read", "/missing", "/where", "/places", "/placed")


def good_body(schema):
    body = {key: GOOD[resolve(p)["type"]] for key, p in schema["properties"].items()}
    return {**body, **({"drive": "home"} if "drive" in body else {})}


def refused(answer, *statuses):
    assert answer.status in statuses, answer
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer
    assert answer.json["status"] == answer.status and answer.code and answer.json["traceId"], answer
    return answer


def test_the_tables_are_not_empty():
    assert len(ROUTES) >= 9 and all(s["properties"] for s in ROUTES.values())


@pytest.mark.parametrize("path", ROUTES)
def test_missing_keys_and_wrong_types(gateway_for_all, path):
    schema, g = ROUTES[path], gateway_for_all
    whole = good_body(schema)
    for key in schema.get("required", ()):
        for body in ({k: v for k, v in whole.items() if k != key}, {**whole, key: None}):
            refused(g.api("POST", path, json=body), 400, 404)
    for key, what in schema["properties"].items():
        for value in WRONG[resolve(what)["type"]]:
            answer = g.api("POST", path, json={**whole, key: value})
            assert answer.status == 400 or (SESSION in path and answer.status == 404), (key, value, answer)


@pytest.mark.parametrize("path", [*ROUTES, *(BASE + p for p in FS_ROUTES)])
def test_bodies_that_are_no_object(gateway_for_all, path):
    g = gateway_for_all
    unknown = (404,) if SESSION in path else ()
    for body in (b"{", b"[]", b"5", b'"x"', b"null", b'{"a":1,"a":2}', b"{}{}", b"\0", b'{"a":"\\ud800"}', b"{'a':1}", b'{"a":01}', b'{"a":NaN}'):
        refused(g.api("POST", path, body=body), 400, *unknown)
    for body in (b'{"path":"caf\xe9"}', b'{"path":"\xc0\x80"}', b'{"path":"\xed\xa0\x80"}', b'\xff\xfe{\0}\0'):
        answer = refused(g.api("POST", path, body=body), 400, *unknown)
        assert answer.code in ("bad-utf8", "upload-not-found"), answer
    # deeper than any stack, in whatever length the route takes at all
    for deep in (b"[" * 1000, b'{"a":' * 700, b'{"path":' + b"[" * 200 + b"]" * 200 + b"}", b"[" * 60_000):
        refused(g.api("POST", path, body=deep), 400, 413, *unknown)


@pytest.mark.parametrize("path", [*ROUTES, *(BASE + p for p in (*FS_ROUTES, "/batch"))])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(gateway_for_all, path):
    for length in (1 << 33, 10**17):
        with Raw(gateway_for_all) as raw:
            raw.send(request(gateway_for_all, "POST", path if path.startswith("/api") else "/api/v1" + path, headers=[f"Content-Length: {length}"]))
            assert raw.head() == 413


BAD_PATHS = ["/a/../b", "/..", "/.", "/a/.", "a", "", "//", "/a//b", "/a/", "/a\0b", "/" + "n" * 256, "/" + "\u00e9" * 128, "/ok/" + "n" * 300 + "/ok"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_are_none_are_refused_everywhere(gateway_for_all, path):
    g = gateway_for_all
    for where, schema in ROUTES.items():
        keys = [k for k in ("path", "from", "to") if k in schema["properties"]]
        for key in keys:
            answer = refused(g.api("POST", where, json={**good_body(schema), **dict.fromkeys(keys, "/x"), key: path}), 400)
            assert answer.code == "bad-path", (where, answer)
    for method, where in (("GET", "/files"), ("DELETE", "/files"), ("GET", "/files/content"), ("PUT", "/files/content"), ("GET", "/files/download-url"), ("GET", "/files/versions")):
        answer = refused(g.api(method, where + g.query(drive="home", path=path), body=b"x" if method == "PUT" else None), 400)
        assert answer.code == "bad-path", (where, answer)


def test_the_longest_name_and_a_deep_path(gateway):
    for name in ("n" * 255, "\u00e9" * 127, "..."):
        assert gateway.api("PUT", "/files/content" + gateway.query(drive="home", path="/" + name), body=b"x").status == 201
    path = ""
    for _ in range(100):
        path += "/" + "d" * 30
        assert gateway.api("POST", "/files/directory", json={"drive": "home", "path": path}).status == 201
    assert gateway.api("GET", "/files" + gateway.query(drive="home", path=path)).json["kind"] == "directory"


@pytest.mark.parametrize("query", ["path=%ff", "path=/%c0%af", "path=/%ed%a0%80"])
def test_queries_that_are_not_utf8(gateway_for_all, query):
    for method, where in (("GET", "/files"), ("GET", "/files/content"), ("DELETE", "/files"), ("GET", "/files/versions")):
        assert refused(gateway_for_all.api(method, f"{where}?drive=home&{query}"), 400).code == "bad-utf8"


@pytest.mark.parametrize("target", ["/files?drive=home&path=/%", "/files?drive=home&path=/%zz", "/files?drive=home&path=/%4", "/upload/%00", "/files%2f..%2fdrives", "/../drives",
                                    "/files/../drives", "//files", "/no/such/thing", "/files?" + "&".join(f"a{i}=1" for i in range(1000))])
def test_targets_that_are_none(gateway_for_all, target):
    refused(gateway_for_all.api("GET", target), 400, 404)


def test_numbers_in_queries(gateway_for_all):
    g = gateway_for_all
    for number in ("x", "-1", "1.5", "0x10", "+1", " 1", "1e3", "18446744073709551616", "9" * 40):
        for where, args in (("/changes", {"since": number}), ("/changes", {"since": 0, "limit": number}), ("/changes", {"since": 0, "wait": number}), ("/files", {"path": "/", "limit": number}),
                            ("/files/versions", {"path": "/x", "limit": number}), ("/trash", {"limit": number}), ("/files/content", {"path": "/x", "version": number})):
            answer = g.api("GET", where + g.query(drive="home", **args))
            assert answer.status == 400, (where, args, answer)


# ---- unknown ids, and what is another's ----

def fs_requests(peer):
    """One of each request of the driver's protocol, for the peer's drive."""
    ino, sha = peer.root, "0" * 64
    for what, query in (("lookup", {"parent": ino, "name": "secret"}), ("inode", {"ino": ino}), ("directory", {"ino": ino}), ("symlink", {"ino": ino}), ("xattrs", {"ino": ino}), ("chunk", {"sha256": sha}),
                        ("versions", {"parent": ino, "name": "secret"}), ("dead", {"ino": ino}), ("moment", {"time": "2030-01-01T00:00:00Z"}), ("statfs", {}), ("changes", {"since": 0}), ("seq", {})):
        yield "GET", f"/{what}" + peer.gateway.query(drive=peer.drive, **query), {}
    for what, body in (("mount", {"device": "x", "journal": peer.journal}), ("inodes", {"count": 1}), ("read", {"files": [{"ino": ino, "first": 0, "count": 1}], "inline": 0}), ("missing", {"chunks": [sha]}), ("where", {"chunks": [sha]}),
                       ("places", {"chunks": [{"sha256": sha, "sum": sha, "size": 1, "stored": 1, "codec": "raw"}]}), ("placed", {"packs": ["direct/00/none"]})):
        yield "POST", f"/{what}", {"json": {"drive": peer.drive, **body}}
    headers, body = peer.frame([peer.create("x")])
    yield "POST", "/batch", {"headers": headers, "body": body}
    yield "PUT", "/chunk" + peer.gateway.query(drive=peer.drive, sha256=sha, size=1, codec="raw"), {"body": b"x"}


def test_somebody_elses_drive_is_not_there(gateway):
    """By its name and by its id, in every request of the driver's protocol (those of the API: test_files.py)."""
    peer = Peer(gateway)
    peer.write("secret", b"ann's own words")
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    asked = {re.split(r"[?]", path)[0] for _, path, _ in fs_requests(peer)}
    with open(os.path.join(ROOT, "gateway", "api", "fs.c")) as source:
        assert asked == set(re.findall(r'FS_BASE "(/\w+)"', source.read())), "a route of the driver's protocol is not asked here"
    for method, path, more in fs_requests(peer):
        answer = gateway.api(method, BASE + path, token=bob, **more)
        assert (answer.status, answer.code) == (404, "drive-not-found"), (path, answer)
        assert b"ann's own words" not in answer.body
        assert gateway.api(method, BASE + path, token="", **more).status == 401


def test_unknown_ids(gateway):
    peer = Peer(gateway)
    assert peer.get("inode", ino=1 << 40).status == 404
    assert peer.get("directory", ino=1 << 40).status == 404
    assert peer.get("chunk", sha256="ab" * 32).status == 404
    for name, value in (("ino", "x"), ("ino", -1), ("ino", 2**64), ("ino", "")):
        assert peer.get("inode", **{name: value}).status == 400
    for sha in ("", "x", "ab" * 31, "AB" * 33, "../" * 21 + "x"):
        assert peer.get("chunk", sha256=sha).status == 400, sha
    for drive in ("nowhere", SESSION, "", "x" * 5000, "a/b", "\0"):
        answer = gateway.api("GET", "/files" + gateway.query(drive=drive, path="/"))
        assert answer.status in (400, 404), (drive, answer)
    gateway.api("PUT", "/files/content" + gateway.query(drive="home", path="/f"), body=b"x")
    for version in (1, 2**50):
        assert gateway.api("GET", "/files/content" + gateway.query(drive="home", path="/f", version=version)).code == "version-not-found"
        assert gateway.api("POST", "/files/versions/restore", json={"drive": "home", "path": "/f", "version": version}).code == "version-not-found"
    for where in ("/d/x/y", "/d/" + "A" * 200 + "/f", "/d/" + "." * 43 + "/f"):
        assert refused(gateway.api("GET", where, token=""), 403, 404)


# ---- a body that is not what its head says ----

@pytest.mark.parametrize("close", ["half", "whole"])
def test_a_body_shorter_than_its_length(gateway, close):
    """Nothing of it is kept, and no worker waits for the rest: more of these than there are threads."""
    begun = gateway.api("POST", "/upload/initiate", json={"drive": "home", "path": "/up", "size": 1000}).json
    for i in range(20):
        for path in (f"/files/content?drive=home&path=/f{i}", f"/upload/{begun['sessionId']}/chunk/0"):
            with Raw(gateway) as raw:
                raw.send(request(gateway, "PUT" if "content" in path else "POST", "/api/v1" + path, b"x" * 500, ["Content-Length: 1000"]))
                if close == "half":
                    raw.socket.shutdown(1)
                    assert b" 200 " not in raw.all() and b" 201 " not in raw.all()
    assert gateway.api("GET", "/files" + gateway.query(drive="home", path="/")).json["entries"] == []
    assert gateway.api("GET", f"/upload/{begun['sessionId']}/missing-chunks").json["missing"] == [0]


HIDDEN = b"GET /api/v1/drives HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("headers, body", [
    (["Content-Length: 5", "Content-Length: 6"], b"hello"), (["Content-Length: 5, 5"], b"hello"), (["Content-Length: +5"], b"hello"), (["Content-Length: 0x5"], b"hello"),
    (["Content-Length: -5"], b"hello"), (["Content-Length: 5 5"], b"hello"), (["Content-Length: 99999999999999999999"], b"hello"), (["Content-Length:"], b""),
    (["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n"), (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], b"0\r\n\r\n"),
    (["Transfer-Encoding: identity"], b""), (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"), (["Transfer-Encoding: \x0bchunked"], b"0\r\n\r\n"), (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
    (["Transfer-Encoding : chunked"], b"0\r\n\r\n"), (["X: y\r\n Transfer-Encoding: chunked"], b"0\r\n\r\n"), (["X: y\nTransfer-Encoding: chunked"], b"0\r\n\r\n"),
    (["Transfer-Encoding: chunked"], b"5\nhello\n0\n\n"), (["Transfer-Encoding: chunked"], b"0x5\r\nhello\r\n0\r\n\r\n"), (["Transfer-Encoding: chunked"], b"+5\r\nhello\r\n0\r\n\r\n"),
    (["Transfer-Encoding: chunked"], b"-1\r\nhello\r\n0\r\n\r\n"), (["Transfer-Encoding: chunked"], b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"), (["Transfer-Encoding: chunked"], b"5\r\nhelloXX0\r\n\r\n"),
    (["Content-Length: 5", "Host: y"], b"hello"), (["Authorization: Bearer x"], b""),
])
def test_what_could_be_read_in_two_ways_is_refused(gateway_for_all, headers, body):
    """A second request hidden behind it is never answered: the connection ends."""
    with Raw(gateway_for_all) as raw:
        raw.send(request(gateway_for_all, "PUT", "/api/v1/files/content?drive=home&path=/smuggled", body, headers) + HIDDEN)
        answers = raw.all()
    status = int(answers.split()[1])
    assert 400 <= status <= 501 and answers.count(b"HTTP/1.1 ") == 1, answers
    assert gateway_for_all.api("GET", "/files" + gateway_for_all.query(drive="home", path="/smuggled")).status == 404


@pytest.mark.parametrize("head", [
    b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\0\0\0\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /" + b"a" * 20000, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40000,
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(500)) + b"\r\n",
])
def test_heads_that_are_none(gateway_for_all, head):
    with Raw(gateway_for_all) as raw:
        raw.send(head)
        raw.socket.shutdown(1)
        answers = raw.all()
    assert not answers or (400 <= int(answers.split()[1]) <= 505 and answers.count(b"HTTP/1.1 ") == 1), answers


def test_random_damage_to_requests(gateway_for_all):
    """Whatever arrives is answered or ends; the gateway goes on (and, at the end of this module, ends well)."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    print(f"SEED={seed}")
    rng, g = random.Random(seed), gateway_for_all
    body = json.dumps({"drive": "home", "path": "/x", "size": 5, "createParents": False}).encode()
    whole = request(g, "POST", "/api/v1/upload/initiate", body, ["X-Chunk-SHA256: " + "a" * 64, "Range: bytes=0-5", "Expect: 100-continue"])
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(damaged))
            kind = rng.randrange(4)
            if kind == 0:
                damaged[at] = rng.randrange(256)
            elif kind == 1:
                del damaged[at:at + rng.randrange(1, 30)]
            elif kind == 2:
                damaged[at:at] = rng.randbytes(rng.randrange(1, 10))
            else:
                damaged[at:at] = damaged[at:at + rng.randrange(1, 100)]
            damaged = damaged or bytearray(b"x")
        with Raw(g) as raw:
            raw.send(bytes(damaged))
            raw.socket.shutdown(1)
            raw.all()
    assert g.api("GET", "/drives").status == 200


# ---- slow clients ----

def memory_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) * 1024


def test_hundreds_of_slow_clients_while_others_are_served(gateway):
    """Heads and bodies that come to a halt, answers that nobody reads: more than there are threads, of each kind."""
    size, slow = 64 << 20, []
    assert gateway.api("PUT", "/files/content" + gateway.query(drive="home", path="/large"), body=b"x" * size).status == 201
    before = memory_of(gateway.process.pid)
    try:
        for i in range(120):
            heads = (b"GET /api/v1/drives HTTP/1.1\r\nHost: x\r\nX: ",
                     request(gateway, "PUT", f"/api/v1/files/content?drive=home&path=/slow{i}", b"x" * 100, ["Content-Length: 100000"]),
                     request(gateway, "POST", "/api/v1/files/directory", b'{"drive":', ["Content-Length: 1000"]),
                     request(gateway, "GET", "/api/v1/files/content?drive=home&path=/large"))
            for head in heads:
                slow.append(Raw(gateway))
                slow[-1].send(head)
        started = time.monotonic()
        for i in range(100):
            assert gateway.api("PUT", "/files/content" + gateway.query(drive="home", path=f"/quick{i}"), body=b"quick").status == 201
            assert gateway.api("GET", "/files" + gateway.query(drive="home", path=f"/quick{i}")).status == 200
        assert time.monotonic() - started < 30
        assert memory_of(gateway.process.pid) - before < 256 << 20
        assert slow[0].all().count(b"HTTP/1.1 ") <= 1  # a head that does not end is given up within seconds
    finally:
        for raw in slow:
            raw.socket.close()
    names = {e["name"] for e in gateway.api("GET", "/files" + gateway.query(drive="home", path="/")).json["entries"]}
    assert names == {"large", *(f"quick{i}" for i in range(100))}
