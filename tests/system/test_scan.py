"""What is infected is found by a real clamd after it was written, and read by nobody from then on."""
import errno
import json
import os
import subprocess

import pytest
from clamd import EICAR, Clamd
from harness import Mounts, program, read, wait_for, write
from test_files import delete, get, info, put
from test_versions_http import restore, versions
from wsclient import Stomp

MIB = 1 << 20


@pytest.fixture
def clamd(folder):
    c = Clamd(os.path.join(folder, "clamd"), "StreamMaxLength=8M")
    c.start()
    yield c
    c.stop()


@pytest.fixture
def gateway_options(clamd):
    return ["--scanner", clamd.url]


@pytest.fixture
def listen(gateway):
    all = []

    def connect(**kw):
        all.append(Stomp(gateway, **kw).subscribe("/user/queue/sync"))
        return all[-1]
    yield connect
    for s in all:
        s.close()


def infected(gateway, path):
    return wait_for(lambda: info(gateway, path).json.get("quarantined"), f"the quarantine of {path}")


def scanned(gateway, verdict="clean"):
    name = f'cairn_virus_scans_total{{verdict="{verdict}"}} '
    lines = gateway.api("GET", "/metrics").body.decode().splitlines()
    return sum(int(float(line[len(name):])) for line in lines if line.startswith(name))


def errno_of(call):
    try:
        call()
    except OSError as e:
        return errno.errorcode[e.errno]
    return None


def test_an_infected_upload(gateway, listen):
    put(gateway, "/f", b"harmless")
    clean = info(gateway, "/f").json["version"]
    url = None
    told = listen()
    version = put(gateway, "/f", EICAR).json["version"]
    made = gateway.api("GET", "/files/download-url" + gateway.query(drive="home", path="/f", version=version))
    if made.status == 200:  # it may be found before that
        url = made.json["url"].split("127.0.0.1", 1)[1].split("/", 1)[1]
    infected(gateway, "/f")

    for answer in (get(gateway, "/f"), get(gateway, "/f", version=version), restore(gateway, "/f", version),
                   gateway.api("GET", "/files/download-url" + gateway.query(drive="home", path="/f"))):
        assert (answer.status, answer.code) == (403, "infected"), answer
    if url:
        assert gateway.api("GET", "/" + url, token="").code == "infected"
    assert gateway.api("HEAD", "/files/content" + gateway.query(drive="home", path="/f")).status == 403

    # who wrote it and owns the drive is told, once
    _, message = told.message()
    assert (message["kind"], message["path"], message["version"]) == ("infected", "/f", version)
    assert message["drive"] == gateway.api("GET", "/drives").json["drives"][0]["id"] and "Eicar" in message["signature"] and message["at"].endswith("Z")

    # older versions stay readable, and come back; new content is usable at once
    listed = versions(gateway, "/f")
    assert [(v["version"], v.get("quarantined", False)) for v in listed] == [(version, True), (clean, False)]
    assert get(gateway, "/f", version=clean).body == b"harmless"
    assert restore(gateway, "/f", clean).status == 200
    assert get(gateway, "/f").body == b"harmless" and "quarantined" not in info(gateway, "/f").json
    put(gateway, "/f", b"new")
    assert get(gateway, "/f").body == b"new"
    assert get(gateway, "/f", version=version).code == "infected"


def test_copies_and_what_is_in_the_trash(gateway):
    put(gateway, "/f", EICAR)
    infected(gateway, "/f")
    put(gateway, "/copy", EICAR)  # chunks that are known: nothing is uploaded, and it is found all the same
    infected(gateway, "/copy")
    delete(gateway, "/copy")
    back = gateway.api("POST", "/trash/restore", json={"drive": "home", "path": "/copy"})
    assert (back.status, back.code) == (403, "infected")
    for name, data in (("good", b"fine"), ("bad", EICAR)):
        put(gateway, f"/d/{name}", data, createParents="true")
    infected(gateway, "/d/bad")
    delete(gateway, "/d", recursive="true")
    assert gateway.api("POST", "/trash/restore", json={"drive": "home", "path": "/d"}).status == 200  # the rest of a folder does come back
    assert get(gateway, "/d/good").body == b"fine" and info(gateway, "/d/bad").status == 404
    put(gateway, "/inside", b"a" * 3 * MIB + EICAR + b"b" * MIB)
    infected(gateway, "/inside")


def test_owner_and_writer_are_told(gateway, listen):
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    drive = gateway.api("GET", "/drives").json["drives"][0]["id"]
    gateway.stop()
    gateway.place.add_member(drive, "bob", 2)
    gateway.start()
    owner, writer = listen(), listen(token=bob)
    assert gateway.api("PUT", "/files/content" + gateway.query(drive=drive, path="/bobs"), body=EICAR, token=bob).status == 201

    for s in (owner, writer):
        _, message = s.message()
        assert (message["kind"], message["path"], message["drive"]) == ("infected", "/bobs", drive)


def test_in_mounts(gateway, folder):
    mounts = Mounts(folder, gateway)
    try:
        in_mounts(gateway, mounts.mount("a"), mounts.mount("b"))
    finally:
        mounts.close()


def notices(mount):
    status = json.loads(subprocess.run([program("cairn"), "status", "--json", mount.path], check=True, capture_output=True, timeout=30).stdout)
    return [(n["kind"], n["path"]) for n in status["notices"]]


def in_mounts(gateway, a, b):
    write(a / "f", b"harmless")
    assert read(b / "f") == b"harmless"
    clean = os.listdir(a / ".versions/f")[0]
    for m in (a, b):
        assert read(m / f".versions/f/{clean}") == b"harmless"
    with open(b / "f", "rb") as opened:  # and cached there
        write(a / "f", EICAR + b"\n" * 10000)
        opened.read()
        for m in (a, b):  # each learns of it in its own time: nobody here has been told that it is done
            wait_for(lambda: os.getxattr(m / "f", "user.cairn.state") == b"infected", "the quarantine")
            assert errno_of(lambda: read(m / "f")) == "EACCES"
            assert errno_of(lambda: os.getxattr(m / "f", "user.cairn.sha256")) == "EACCES"
        wait_for(lambda: errno_of(lambda: os.pread(opened.fileno(), 10, 0)) == "EACCES", "that pages of an open file go")

    names = sorted(os.listdir(a / ".versions/f"))
    assert names[0] == clean and len(names) == 2
    for m in (a, b):
        assert read(m / f".versions/f/{clean}") == b"harmless"
        assert errno_of(lambda: read(m / f".versions/f/{names[1]}")) == "EACCES"
        wait_for(lambda: ("infected", "/f") in notices(m), "the notice in `cairn status`")

    write(b / "f", b"clean again")
    for m in (a, b):
        assert read(m / "f") == b"clean again"
        assert os.getxattr(m / "f", "user.cairn.state") == b"clean"
    write(a / "g", EICAR)
    for m in (a, b):
        wait_for(lambda: errno_of(lambda: read(m / "g")) == "EACCES", "the quarantine")
    os.truncate(a / "g", 0)
    assert read(b / "g") == b""
    write(a / "g", EICAR)
    wait_for(lambda: errno_of(lambda: read(b / "g")) == "EACCES", "the quarantine")
    with open(b / "g", "w+b") as g:  # emptied as it is opened: nothing of it is read
        g.write(b"other")
        g.seek(0)
        assert g.read() == b"other"
    assert read(a / "g") == b"other"
    os.unlink(a / "f")


@pytest.mark.embedded("looks at the gateway's own count of scans, which a worker makes")
def test_the_scanner_is_away_and_comes_back(gateway, clamd):
    put(gateway, "/before", EICAR)
    infected(gateway, "/before")
    wait_for(lambda: gateway.api("GET", "/actuator/health").json["status"] == "UP", "all parts")
    assert gateway.api("GET", "/actuator/health").json["components"]["scanner"]["status"] == "UP"
    clamd.stop()
    health = gateway.api("GET", "/actuator/health")
    assert (health.status, health.json["status"], health.json["components"]["scanner"]["status"]) == (200, "DEGRADED", "DOWN")
    for i in range(3):
        put(gateway, f"/{i}", EICAR)
        assert get(gateway, f"/{i}").body == EICAR  # what is not scanned yet is readable
    assert gateway.stop() == 0  # nor is it forgotten when the gateway is started again meanwhile
    gateway.start()
    put(gateway, "/3", EICAR)
    clamd.start()
    for i in range(4):
        infected(gateway, f"/{i}")
    seq = gateway.api("GET", "/drives").json["drives"][0]["seq"]
    assert gateway.stop() == 0
    gateway.start()
    put(gateway, "/last", EICAR)
    infected(gateway, "/last")
    assert gateway.api("GET", "/drives").json["drives"][0]["seq"] == seq + 2  # the file and its quarantine: nothing was decided again
    wait_for(lambda: scanned(gateway, "infected"), "the count")  # a moment after the quarantine
    assert scanned(gateway, "infected") == 1


@pytest.mark.embedded("looks at the gateway's own count of scans, which a worker makes")
def test_large_files(gateway):
    before = scanned(gateway, "too-large")
    big = os.urandom(MIB) * 6
    put(gateway, "/big", big + EICAR)
    infected(gateway, "/big")
    put(gateway, "/clean", big)
    put(gateway, "/huge", os.urandom(MIB) * 12 + EICAR)  # more than the scanner takes: said, and left as it is
    wait_for(lambda: scanned(gateway, "too-large") == before + 1, "the scan of the large file")
    assert get(gateway, "/clean").body == big and get(gateway, "/huge").status == 200
    put(gateway, "/after", EICAR)
    infected(gateway, "/after")
