"""GET /changes: everything that happened, in order, and the waiting for what comes."""
import threading
import time

from fsclient import Peer
from test_files import delete, mkdir, move, put
from test_versions_http import bring_back, restore


def seq(gateway):
    return gateway.api("GET", "/drives").json["drives"][0]["seq"]


def ask(gateway, since, **query):
    return gateway.api("GET", "/changes" + gateway.query(drive="home", since=since, **query))


def changes(gateway, since, **query):
    answer = ask(gateway, since, **query)
    assert answer.status == 200, answer
    return answer.json


def test_each_kind_of_change(gateway):
    start = seq(gateway)
    mkdir(gateway, "/d")
    one = put(gateway, "/d/f", b"one").json["version"]
    put(gateway, "/d/f", b"two")
    move(gateway, "/d/f", "/g")
    restore(gateway, "/g", one)
    delete(gateway, "/g")
    bring_back(gateway, "/g")
    page = changes(gateway, start)
    told = [(c["kind"], c["path"], c.get("from")) for c in page["changes"]]
    assert told == [("created", "/d", None), ("created", "/d/f", None), ("modified", "/d/f", None), ("moved", "/g", "/d/f"), ("restored", "/g", None),
                    ("deleted", "/g", None), ("restored", "/g", None)]
    numbers = [c["seq"] for c in page["changes"]]
    assert numbers == sorted(set(numbers)) and page["more"] is False and page["next"] >= numbers[-1]
    assert page["changes"][1]["version"] == one and page["changes"][1]["user"] == "ann" and page["changes"][1]["at"].endswith("Z")
    assert changes(gateway, page["next"]) == {"changes": [], "next": page["next"], "more": False}


def test_from_the_beginning(gateway):
    put(gateway, "/first", b"x")
    put(gateway, "/second", b"x")
    assert [c["path"] for c in changes(gateway, 0)["changes"]] == ["/first", "/second"]


def test_pages(gateway):
    start = seq(gateway)
    for i in range(7):
        put(gateway, f"/f{i}", b"x")
    seen, since = [], start
    while True:
        page = changes(gateway, since, limit=3)
        seen += [c["path"] for c in page["changes"]]
        since = page["next"]
        if not page["more"]:
            break
        assert len(page["changes"]) == 3
    assert seen == [f"/f{i}" for i in range(7)]


def test_paths_are_those_of_then(gateway):
    start = seq(gateway)
    mkdir(gateway, "/a")
    put(gateway, "/a/f", b"x")
    mkdir(gateway, "/a/sub")
    move(gateway, "/a", "/b")
    put(gateway, "/b/f", b"y")
    put(gateway, "/b/sub/g", b"z")
    delete(gateway, "/b", recursive="true")
    told = [(c["kind"], c["path"]) for c in changes(gateway, start)["changes"]]
    assert told[:6] == [("created", "/a"), ("created", "/a/f"), ("created", "/a/sub"), ("moved", "/b"), ("modified", "/b/f"), ("created", "/b/sub/g")]
    assert set(told[6:]) == {("deleted", p) for p in ("/b/f", "/b/sub/g", "/b/sub", "/b")}


def test_waiting_ends_with_the_next_change(gateway):
    start = seq(gateway)
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(changes(gateway, start, wait=30)))
    began = time.monotonic()
    waiter.start()
    time.sleep(0.3)
    assert not answers
    put(gateway, "/f", b"x")
    waiter.join(20)
    assert time.monotonic() - began < 15
    assert [c["path"] for c in answers[0]["changes"]] == ["/f"]


def test_all_who_wait_are_answered_each_as_it_asked(gateway):
    start = changes(gateway, 0)["next"]
    answers = {}

    def wait(limit):
        answers[limit] = changes(gateway, start, wait=30, limit=limit % 3 + 1)
    waiters = [threading.Thread(target=wait, args=(k,)) for k in range(12)]
    for w in waiters:
        w.start()
    peer = Peer(gateway)
    time.sleep(0.5)
    made = peer.batch(*[peer.create(f"f{i}") for i in range(3)])
    for w in waiters:
        w.join(40)
    for k, page in answers.items():
        n = k % 3 + 1
        assert [c["path"] for c in page["changes"]] == [f"/f{i}" for i in range(n)]
        assert page["next"] == made[n - 1]["seq"] and page["more"] == (n < 3)
    assert len(answers) == 12


def test_waiting_ends_with_nothing(gateway):
    start = seq(gateway)
    page = changes(gateway, start, wait=1)
    assert page["changes"] == [] and page["next"] == start


def test_what_is_there_is_not_waited_for(gateway):
    start = seq(gateway)
    put(gateway, "/f", b"x")
    began = time.monotonic()
    assert len(changes(gateway, start, wait=30)["changes"]) == 1
    assert time.monotonic() - began < 15


def test_no_change_is_missed_by_one_that_waits_again_and_again(gateway):
    start = seq(gateway)
    seen = []

    def follow():
        since = start
        while len(seen) < 50:
            page = changes(gateway, since, wait=20)
            seen.extend(c["path"] for c in page["changes"])
            since = page["next"]
    follower = threading.Thread(target=follow)
    follower.start()
    for i in range(50):
        put(gateway, f"/f{i}", b"x")
    follower.join(30)
    assert seen == [f"/f{i}" for i in range(50)]


def test_cursors_that_lead_nowhere(gateway):
    ahead = ask(gateway, seq(gateway) + 1000)
    assert (ahead.status, ahead.code) == (410, "changes-gone")
    for query in ({"since": "x"}, {"since": -1}, {"since": 0, "wait": "x"}, {"since": 0, "limit": 0}):
        assert gateway.api("GET", "/changes" + gateway.query(drive="home", **query)).status == 400
