"""Files over HTTP: put, read with ranges, list, move, delete, and URLs that open by themselves."""
import hashlib
import os
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def put(gateway, path, data, headers=None, token=None, **query):
    return gateway.api("PUT", "/files/content" + gateway.query(drive="home", path=path, **query), body=data, headers=headers, token=token)


def get(gateway, path, method="GET", headers=None, token=None, **query):
    return gateway.api(method, "/files/content" + gateway.query(drive="home", path=path, **query), headers=headers, token=token)


def info(gateway, path, **query):
    return gateway.api("GET", "/files" + gateway.query(drive="home", path=path, **query))


def mkdir(gateway, path, **more):
    return gateway.api("POST", "/files/directory", json={"drive": "home", "path": path, **more})


def move(gateway, source, target, **more):
    return gateway.api("POST", "/files/move", json={"drive": "home", "from": source, "to": target, **more})


def delete(gateway, path, **query):
    return gateway.api("DELETE", "/files" + gateway.query(drive="home", path=path, **query))


def names(gateway, path):
    return [e["name"] for e in info(gateway, path).json["entries"]]


def test_put_and_get(gateway):
    for size in (0, 1, 1000, 100_000, 5 * 2**20 + 3):
        data = os.urandom(size)
        first = put(gateway, f"/f{size}", data)
        assert first.status == 201, first
        assert first.json["size"] == size and first.json["sha256"] == sha256(data) and first.json["path"] == f"/f{size}"
        answer = get(gateway, f"/f{size}")
        assert answer.status == 200 and answer.body == data
        assert answer.headers["ETag"] == f'"{first.json["version"]}"' and answer.headers["Content-Length"] == str(size)
    again = put(gateway, "/f1", b"new")
    assert again.status == 200 and again.json["version"] > first.json["version"]
    assert get(gateway, "/f1").body == b"new"
    assert put(gateway, "/f1", b"x", sha256=sha256(b"y")).code == "sha256-mismatch"
    assert get(gateway, "/f1").body == b"new"


def test_attributes_and_listing(gateway):
    put(gateway, "/b.txt", b"12345", mode=0o600)
    mkdir(gateway, "/a")
    file = info(gateway, "/b.txt").json
    assert file["kind"] == "file" and file["size"] == 5 and file["mode"] == 0o600 and file["sha256"] == sha256(b"12345") and file["nlink"] == 1
    assert file["treeHash"] == sha256(hashlib.sha256(b"12345").digest()) and file["modifiedAt"].endswith("Z") and file["path"] == "/b.txt"
    root = info(gateway, "/").json
    assert root["kind"] == "directory" and root["path"] == "/" and root["next"] is None
    assert [(e["name"], e["kind"], e["size"]) for e in root["entries"]] == [("a", "directory", root["entries"][0]["size"]), ("b.txt", "file", 5)]
    assert root["entries"][1]["version"] == file["version"] and root["entries"][1]["ino"] == file["ino"]
    assert info(gateway, "/none").code == "not-found" and info(gateway, "/none/x").code == "not-found" and info(gateway, "/b.txt/x").code == "not-found"


def test_pages_of_a_directory(gateway):
    for i in range(25):
        put(gateway, f"/f{i:02}", b"x")
    seen, after = [], None
    while True:
        page = info(gateway, "/", limit=10, after=after).json
        seen += [e["name"] for e in page["entries"]]
        after = page["next"]
        if after is None:
            break
        assert len(page["entries"]) == 10 and after == page["entries"][-1]["name"]
    assert seen == [f"f{i:02}" for i in range(25)]
    exact = info(gateway, "/", limit=25).json
    assert len(exact["entries"]) == 25 and exact["next"] is None
    for limit in ("0", "x", "-1"):
        assert info(gateway, "/", limit=limit).status == 400


def test_ranges(gateway):
    data = os.urandom(6 * 2**20 + 17)  # two chunks
    put(gateway, "/f", data)
    n = len(data)
    for header, begin, end in (("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), (f"bytes={4 * 2**20 - 5}-{4 * 2**20 + 4}", 4 * 2**20 - 5, 4 * 2**20 + 5),
                               ("bytes=100-", 100, n), ("bytes=-7", n - 7, n), (f"bytes=0-{n * 2}", 0, n)):
        answer = get(gateway, "/f", headers={"Range": header})
        assert answer.status == 206 and answer.body == data[begin:end], header
        assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{n}"
    for header in ("bytes=0-1,5-6", "bytes=5-4", "lines=1-2", "nonsense"):
        answer = get(gateway, "/f", headers={"Range": header})
        assert answer.status == 200 and len(answer.body) == n, header
    for header in (f"bytes={n}-", "bytes=-0"):
        answer = get(gateway, "/f", headers={"Range": header})
        assert answer.status == 416 and answer.headers["Content-Range"] == f"bytes */{n}" and answer.code == "range-not-satisfiable"
    etag = get(gateway, "/f", "HEAD").headers["ETag"]
    assert get(gateway, "/f", headers={"Range": "bytes=0-4", "If-Range": etag}).status == 206
    assert get(gateway, "/f", headers={"Range": "bytes=0-4", "If-Range": '"1"'}).status == 200


def test_caching_headers(gateway):
    version = put(gateway, "/report.html", b"<script>alert(1)</script>").json["version"]
    answer = get(gateway, "/report.html")
    assert answer.headers["ETag"] == f'"{version}"' and answer.headers["Accept-Ranges"] == "bytes" and "GMT" in answer.headers["Last-Modified"]
    # a browser must not run what somebody stored
    assert answer.headers["Content-Type"] == "application/octet-stream" and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    for same in (f'"{version}"', f'"1", W/"{version}"', "*"):
        not_modified = get(gateway, "/report.html", headers={"If-None-Match": same})
        assert not_modified.status == 304 and not_modified.body == b"" and not_modified.headers["ETag"] == f'"{version}"'
    assert get(gateway, "/report.html", headers={"If-None-Match": f'"{version - 1}"'}).status == 200
    head = get(gateway, "/report.html", "HEAD")
    assert head.status == 200 and head.body == b"" and head.headers["Content-Length"] == "25"
    put(gateway, "/größe \"q\".txt", b"x")
    disposition = get(gateway, "/größe \"q\".txt").headers["Content-Disposition"]
    assert "filename*=UTF-8''gr%C3%B6%C3%9Fe%20%22q%22.txt" in disposition and disposition.isascii()
    assert get(gateway, "/größe \"q\".txt").headers["Content-Type"].startswith("text/plain")


def test_old_versions_can_be_read(gateway):
    one = put(gateway, "/f", b"one").json["version"]
    two = put(gateway, "/f", b"second").json["version"]
    assert get(gateway, "/f", version=one).body == b"one" and get(gateway, "/f", version=two).body == b"second" and get(gateway, "/f").body == b"second"
    assert get(gateway, "/f", version=one).headers["ETag"] == f'"{one}"' and "immutable" in get(gateway, "/f", version=one).headers["Cache-Control"]
    put(gateway, "/g", b"another's")
    assert get(gateway, "/g", version=one).code == "version-not-found" and get(gateway, "/f", version=12345).code == "version-not-found"
    assert get(gateway, "/f", version="x").status == 400
    delete(gateway, "/f")
    assert get(gateway, "/f").code == "not-found" and get(gateway, "/f", version=one).body == b"one"


def test_conditional_puts(gateway):
    first = put(gateway, "/f", b"one", {"If-None-Match": "*"})
    assert first.status == 201
    exists = put(gateway, "/f", b"x", {"If-None-Match": "*"})
    assert (exists.status, exists.code) == (412, "precondition-failed")
    etag = f'"{first.json["version"]}"'
    second = put(gateway, "/f", b"two", {"If-Match": etag})
    assert second.status == 200
    assert put(gateway, "/f", b"x", {"If-Match": etag}).status == 412 and put(gateway, "/new", b"x", {"If-Match": "*"}).status == 412
    assert get(gateway, "/f").body == b"two"
    etag = f'"{second.json["version"]}"'
    with ThreadPoolExecutor(8) as pool:  # of many that know the same version, one wins
        answers = list(pool.map(lambda i: put(gateway, "/f", b"%d" % i, {"If-Match": etag}), range(8)))
    assert sorted(a.status for a in answers) == [200] + [412] * 7
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: put(gateway, "/only once", b"%d" % i, {"If-None-Match": "*"}), range(8)))
    assert sorted(a.status for a in answers) == [201] + [412] * 7


def test_a_stale_base_version_makes_a_sibling(gateway):
    base = put(gateway, "/f.txt", b"base").json["version"]
    put(gateway, "/f.txt", b"theirs", baseVersion=base)
    mine = put(gateway, "/f.txt", b"mine", baseVersion=base)
    assert mine.status == 201 and "(conflict, " in mine.json["conflict"] and mine.json["conflict"].endswith(").txt")
    assert get(gateway, "/f.txt").body == b"theirs" and get(gateway, mine.json["conflict"]).body == b"mine"


def test_many_puts_at_once(gateway):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: put(gateway, f"/f{i}", b"%d" % i * 1000), range(64)))
    assert {a.status for a in answers} == {201}
    assert len({a.json["version"] for a in answers}) == 64
    for i in range(64):
        assert get(gateway, f"/f{i}").body == b"%d" % i * 1000


def test_directories(gateway):
    made = mkdir(gateway, "/d")
    assert made.status == 201 and made.json["kind"] == "directory" and made.json["path"] == "/d"
    for path in ("/d", "/"):
        again = mkdir(gateway, path)
        assert (again.status, again.code) == (409, "already-exists")
    lost = mkdir(gateway, "/x/y")
    assert (lost.status, lost.code) == (404, "parent-not-found")
    assert mkdir(gateway, "/x/y", createParents=True).status == 201
    put(gateway, "/f", b"x")
    assert mkdir(gateway, "/f/y").code == "not-a-directory" and mkdir(gateway, "/f").code == "already-exists"
    for answer in (put(gateway, "/d", b"x"), put(gateway, "/", b"x"), get(gateway, "/d")):
        assert (answer.status, answer.code) == (409, "is-a-directory")


def test_moves(gateway):
    put(gateway, "/a", b"a")
    put(gateway, "/b", b"b")
    mkdir(gateway, "/d")
    moved = move(gateway, "/a", "/d/a")
    assert moved.status == 200 and moved.json["path"] == "/d/a" and moved.json["size"] == 1
    assert names(gateway, "/") == ["b", "d"] and get(gateway, "/d/a").body == b"a"
    taken = move(gateway, "/b", "/d/a")
    assert (taken.status, taken.code) == (409, "already-exists")
    assert move(gateway, "/b", "/d/a", replace=True).status == 200 and get(gateway, "/d/a").body == b"b"
    for source, target, status, code in (("/none", "/x", 404, "not-found"), ("/none/y", "/x", 404, "not-found"), ("/d/a", "/none/x", 404, "parent-not-found"),
                                         ("/d", "/d/e", 400, "into-itself"), ("/", "/x", 400, "is-root"), ("/d", "/", 400, "is-root"), ("/d/a", "x", 400, "bad-path"),
                                         ("/d/a", "/d/a/x", 409, "not-a-directory")):
        answer = move(gateway, source, target)
        assert (answer.status, answer.code) == (status, code), (source, target)
    mkdir(gateway, "/e")
    put(gateway, "/e/f", b"x")
    full = move(gateway, "/d", "/e", replace=True)
    assert (full.status, full.code) == (409, "directory-not-empty")
    assert move(gateway, "/d/a", "/e", replace=True).code == "is-a-directory"


def test_deleting(gateway):
    put(gateway, "/f", b"x")
    assert delete(gateway, "/f").status == 204 and delete(gateway, "/f").code == "not-found"
    assert delete(gateway, "/").code == "is-root" and delete(gateway, "/", recursive="true").code == "is-root"
    for i in range(3):
        for j in range(4):
            put(gateway, f"/d/{i}/f{j}", b"x", createParents="true")
    mkdir(gateway, "/d/0/empty/deep", createParents=True)
    full = delete(gateway, "/d")
    assert (full.status, full.code) == (409, "directory-not-empty")
    assert delete(gateway, "/d", recursive="maybe").status == 400
    assert delete(gateway, "/d/1/f1", recursive="true").status == 204
    assert delete(gateway, "/d", recursive="true").status == 204
    assert names(gateway, "/") == []


def test_deleting_more_than_one_transaction_takes(gateway):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: put(gateway, f"/d/{i % 7}/f{i:04}", b"", createParents="true"), range(1300)))
    assert delete(gateway, "/d", recursive="true").status == 204
    assert names(gateway, "/") == []


def open_url(gateway, url, **headers):
    path = urllib.parse.urlsplit(url)
    assert path.netloc == f"127.0.0.1:{gateway.port}"
    return gateway.api("GET", path.path, token="", headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_download_urls(gateway):
    one = put(gateway, "/Übung 1.txt", b"0123456789").json["version"]
    answer = gateway.api("GET", "/files/download-url" + gateway.query(drive="home", path="/Übung 1.txt"))
    assert answer.status == 200 and answer.json["expiresAt"].endswith("Z")
    url = answer.json["url"]
    first = open_url(gateway, url)
    assert first.status == 200 and first.body == b"0123456789" and first.headers["ETag"] == f'"{one}"' and "immutable" in first.headers["Cache-Control"]
    assert "%C3%9Cbung%201.txt" in first.headers["Content-Disposition"]
    part = open_url(gateway, url, Range="bytes=2-4")
    assert part.status == 206 and part.body == b"234"
    assert open_url(gateway, url, If_None_Match=f'"{one}"').status == 304
    put(gateway, "/Übung 1.txt", b"new")
    assert open_url(gateway, url).body == b"0123456789"  # for that version only
    delete(gateway, "/Übung 1.txt")
    assert open_url(gateway, url).body == b"0123456789"
    token, name = url.rsplit("/", 2)[1:]
    swapped = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    for bad in (url.replace(token, swapped), url.replace(token, token[:-4]), url[:-1] + "x", url.replace(name, "other.txt")):
        refused = open_url(gateway, bad)
        assert (refused.status, refused.code) == (403, "url-invalid")
    for seconds in ("0", "x", "99999999"):
        assert gateway.api("GET", "/files/download-url" + gateway.query(drive="home", path="/", seconds=seconds)).status == 400


def test_a_url_ends(gateway):
    put(gateway, "/f", b"x")
    url = gateway.api("GET", "/files/download-url" + gateway.query(drive="home", path="/f", seconds=1)).json["url"]
    end = time.monotonic() + 10
    while open_url(gateway, url).status == 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert open_url(gateway, url).code == "url-expired"


def test_nobody_reads_anothers_files(gateway):
    put(gateway, "/secret", b"x")
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    for method, path in (("GET", "/files"), ("GET", "/files/content"), ("PUT", "/files/content"), ("DELETE", "/files"), ("GET", "/files/download-url"),
                         ("GET", "/files/versions"), ("GET", "/changes"), ("GET", "/trash")):
        answer = gateway.api(method, path + gateway.query(drive="home", path="/secret"), body=b"x" if method == "PUT" else None, token=bob)
        assert (answer.status, answer.code) == (404, "drive-not-found"), path
        assert gateway.api(method, path + gateway.query(drive="home", path="/secret"), body=b"x" if method == "PUT" else None, token="").status == 401
    for path, body in (("/files/move", {"from": "/secret", "to": "/x"}), ("/files/directory", {"path": "/x"}), ("/files/versions/restore", {"path": "/secret", "version": 1}),
                       ("/trash/restore", {"path": "/secret"}), ("/upload/initiate", {"path": "/x", "size": 1})):
        answer = gateway.api("POST", path, json={"drive": "home", **body}, token=bob)
        assert (answer.status, answer.code) == (404, "drive-not-found"), path


def test_a_viewer_reads_and_writes_nothing(gateway):
    version = put(gateway, "/f", b"x").json["version"]
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    (drive,) = gateway.api("GET", "/drives").json["drives"]
    gateway.stop()
    gateway.place.add_member(drive["id"], "bob", 1)
    gateway.start()
    assert get(gateway, "/f", token=bob).body == b"x"
    for path in ("/files", "/files/download-url", "/files/versions", "/changes", "/trash"):
        assert gateway.api("GET", path + gateway.query(drive="home", path="/f"), token=bob).status == 200, path
    refused = [put(gateway, "/f", b"y", token=bob), gateway.api("DELETE", "/files" + gateway.query(drive="home", path="/f"), token=bob)]
    for path, body in (("/files/move", {"from": "/f", "to": "/g"}), ("/files/directory", {"path": "/d"}), ("/files/versions/restore", {"path": "/f", "version": version}),
                       ("/trash/restore", {"path": "/f"}), ("/upload/initiate", {"path": "/x", "size": 1})):
        refused.append(gateway.api("POST", path, json={"drive": "home", **body}, token=bob))
    assert {(a.status, a.code) for a in refused} == {(403, "read-only")}
    assert get(gateway, "/f").body == b"x"


@pytest.mark.parametrize("method, path, body, status", [
    ("POST", "/files/move", b"", 400), ("POST", "/files/move", b"[]", 400), ("POST", "/files/move", b'{"drive":"home"}', 400),
    ("POST", "/files/move", b'{"drive":"home","from":"/a","to":5}', 400), ("POST", "/files/move", b'{"drive":"home","from":"/a","to":"/b","replace":1}', 400),
    ("POST", "/files/directory", b'{"drive":["home"],"path":"/a"}', 400), ("POST", "/files/directory", b'{"path":"/a"}', 400),
    ("POST", "/files/directory", b'{"drive":"home","path":"/a\\u0000b"}', 400),
    ("GET", "/files?drive=home", None, 400), ("GET", "/files/content?drive=home", None, 400), ("PUT", "/files/content?drive=home&path=a", b"x", 400),
    ("PUT", "/files/content?drive=home&path=/a&mode=99999", b"x", 400), ("PUT", "/files/content?drive=home&path=/a&baseVersion=-1", b"x", 400),
    ("PUT", "/files/content?drive=home&path=/none/a", b"x", 404), ("GET", "/files/versions?drive=home&path=", None, 400), ("POST", "/files/move", b"x" * 100_000, 413),
])
def test_requests_that_are_none(gateway, method, path, body, status):
    answer = gateway.api(method, path, body=body)
    assert answer.status == status, answer
    assert answer.headers["Content-Type"].startswith("application/problem+json") and answer.json["traceId"]
