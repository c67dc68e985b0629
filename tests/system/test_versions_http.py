"""A path's history, and the trash, over HTTP."""
from test_files import delete, get, info, mkdir, move, names, put


def versions(gateway, path, **query):
    answer = gateway.api("GET", "/files/versions" + gateway.query(drive="home", path=path, **query))
    assert answer.status == 200, answer
    return answer.json["versions"]


def texts(gateway, path):
    return [get(gateway, path, version=v["version"]).body.decode() for v in versions(gateway, path)]


def restore(gateway, path, version):
    return gateway.api("POST", "/files/versions/restore", json={"drive": "home", "path": path, "version": version})


def trash(gateway, **query):
    answer = gateway.api("GET", "/trash" + gateway.query(drive="home", **query))
    assert answer.status == 200, answer
    return answer.json["entries"]


def bring_back(gateway, path):
    return gateway.api("POST", "/trash/restore", json={"drive": "home", "path": path})


def test_every_save_is_a_version(gateway):
    numbers = [put(gateway, "/f", text).json["version"] for text in (b"one", b"two", b"three")]
    listed = versions(gateway, "/f")
    assert [v["version"] for v in listed] == numbers[::-1]
    assert [v["current"] for v in listed] == [True, False, False] and [v["size"] for v in listed] == [5, 3, 3]
    assert {v["user"] for v in listed} == {"ann"} and all(v["modifiedAt"].endswith("Z") and v["treeHash"] and v["sha256"] for v in listed)
    assert texts(gateway, "/f") == ["three", "two", "one"]
    assert [v["version"] for v in versions(gateway, "/f", limit=2)] == numbers[:0:-1]
    assert [v["version"] for v in versions(gateway, "/f", before=numbers[1])] == numbers[:1]
    never = gateway.api("GET", "/files/versions" + gateway.query(drive="home", path="/g"))
    assert (never.status, never.code) == (404, "not-found")


def test_saving_by_rename_and_making_it_again_go_on_with_it(gateway):
    put(gateway, "/f", b"one")
    put(gateway, "/tmp", b"two")
    move(gateway, "/tmp", "/f", replace=True)
    assert texts(gateway, "/f") == ["two", "one"]
    delete(gateway, "/f")
    put(gateway, "/f", b"three")
    assert texts(gateway, "/f") == ["three", "two", "one"]


def test_a_moved_file_takes_its_history_along(gateway):
    put(gateway, "/a", b"one")
    put(gateway, "/a", b"two")
    move(gateway, "/a", "/b")
    put(gateway, "/b", b"three")
    assert texts(gateway, "/b") == ["three", "two", "one"]
    assert texts(gateway, "/a") == ["two", "one"]
    mkdir(gateway, "/d")
    move(gateway, "/b", "/d/b")
    move(gateway, "/d", "/e")
    assert texts(gateway, "/e/b") == ["three", "two", "one"] == texts(gateway, "/d/b")


def test_restoring_a_version(gateway):
    one = put(gateway, "/f", b"one").json["version"]
    two = put(gateway, "/f", b"second").json["version"]
    answer = restore(gateway, "/f", one)
    assert answer.status == 200 and answer.json["version"] > two and answer.json["size"] == 3 and answer.json["path"] == "/f"
    assert get(gateway, "/f").body == b"one"
    assert info(gateway, "/f").json["sha256"] == answer.json["sha256"] and info(gateway, "/f").json["version"] == answer.json["version"]
    assert texts(gateway, "/f") == ["one", "second", "one"]
    for number in (12345, two + 1000):
        assert restore(gateway, "/f", number).code == "version-not-found"
    assert restore(gateway, "/f", "x").status == 400


def test_restoring_a_version_of_an_earlier_file_of_that_name(gateway):
    one = put(gateway, "/f", b"one").json["version"]
    put(gateway, "/tmp", b"two")
    move(gateway, "/tmp", "/f", replace=True)
    ino = info(gateway, "/f").json["ino"]
    assert restore(gateway, "/f", one).status == 200
    assert get(gateway, "/f").body == b"one" and info(gateway, "/f").json["ino"] == ino
    assert texts(gateway, "/f") == ["one", "two", "one"]
    delete(gateway, "/f")
    assert restore(gateway, "/f", one).status == 200  # also of one that is deleted
    assert get(gateway, "/f").body == b"one"


def test_what_is_deleted_is_in_the_trash_and_comes_back(gateway):
    mkdir(gateway, "/d")
    put(gateway, "/d/f", b"content", mode=0o640)
    version = put(gateway, "/d/f", b"newer").json["version"]
    before = info(gateway, "/d/f").json
    delete(gateway, "/d/f")
    (entry,) = trash(gateway)
    assert entry["path"] == "/d/f" and entry["kind"] == "file" and entry["size"] == 5 and entry["version"] == version and entry["user"] == "ann"
    assert entry["deletedAt"].endswith("Z")
    back = bring_back(gateway, "/d/f")
    assert back.status == 200 and back.json["path"] == "/d/f" and back.json["size"] == 5 and back.json["mode"] == 0o640 and back.json["ino"] == before["ino"]
    assert get(gateway, "/d/f").body == b"newer" and trash(gateway) == []
    assert texts(gateway, "/d/f")[-2:] == ["newer", "content"]
    exists = bring_back(gateway, "/d/f")
    assert (exists.status, exists.code) == (409, "already-exists")
    never = bring_back(gateway, "/never")
    assert (never.status, never.code) == (404, "not-in-trash")


def test_a_name_that_lives_again_is_not_in_the_trash(gateway):
    put(gateway, "/f", b"one")
    delete(gateway, "/f")
    put(gateway, "/f", b"two")
    assert trash(gateway) == []
    delete(gateway, "/f")
    assert [e["path"] for e in trash(gateway)] == ["/f"]  # once
    put(gateway, "/g", b"x")
    move(gateway, "/g", "/h")
    assert bring_back(gateway, "/g").code == "not-in-trash"  # it was moved, not deleted
    bring_back(gateway, "/f")
    assert get(gateway, "/f").body == b"two"


def test_a_directory_comes_back_with_what_went_with_it(gateway):
    for path in ("/d/a", "/d/sub/b", "/d/sub/deep/c"):
        put(gateway, path, path.encode(), createParents="true")
    put(gateway, "/d/empty", b"")
    delete(gateway, "/d", recursive="true")
    listed = {e["path"]: e["kind"] for e in trash(gateway)}
    assert listed["/d"] == "directory" and listed["/d/sub/deep/c"] == "file" and len(listed) == 7
    assert bring_back(gateway, "/d").status == 200
    assert names(gateway, "/d") == ["a", "empty", "sub"] and names(gateway, "/d/sub") == ["b", "deep"]
    for path in ("/d/a", "/d/sub/b", "/d/sub/deep/c"):
        assert get(gateway, path).body == path.encode()
        assert texts(gateway, path)[-1] == path
    assert get(gateway, "/d/empty").body == b""
    assert trash(gateway) == []


def test_one_file_of_a_deleted_directory(gateway):
    put(gateway, "/d/a", b"a", createParents="true")
    put(gateway, "/d/b", b"b")
    delete(gateway, "/d", recursive="true")
    assert bring_back(gateway, "/d/a").status == 200
    assert names(gateway, "/d") == ["a"] and get(gateway, "/d/a").body == b"a"
    assert [e["path"] for e in trash(gateway)] == ["/d/b"]


def test_pages_of_the_trash(gateway):
    for i in range(7):
        put(gateway, f"/f{i}", b"x")
        delete(gateway, f"/f{i}")
    seen, before = [], None
    while True:
        page = gateway.api("GET", "/trash" + gateway.query(drive="home", limit=3, before=before)).json
        seen += [e["path"] for e in page["entries"]]
        before = page["next"]
        if before is None:
            break
    assert seen == [f"/f{i}" for i in range(6, -1, -1)]
