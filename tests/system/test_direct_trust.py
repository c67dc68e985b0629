"""The direct data path as others might use it: what they bring, and what they say of it."""
import base64
import ctypes
import urllib.request
import zlib

import pytest

from direct import gateway, gateway_options, MIB, NOISE, public, put, put_to, store, TEXT, unverified  # noqa: F401
from fsclient import Peer, sha256
from harness import read, wait_for, write


class Bringer(Peer):
    """A client of the driver's protocol that brings chunks itself, and says of them what it likes."""

    def place(self, plain, stored=None, claim=None, **more):
        """What the gateway says to these bytes; claim: whose hash it is said to be."""
        raw = stored is None
        stored = plain if raw else stored
        chunk = {"sha256": claim or sha256(plain), "size": len(plain), "stored": len(stored), "codec": "raw" if raw else "zstd", **more}
        if not raw:
            chunk["storedSha256"] = sha256(stored)
        answer = self.call("POST", "/places", json={"drive": self.drive, "chunks": [chunk]})
        assert answer.status == 200, answer
        return answer.json["places"][0]

    def bring(self, place, data, **more):
        return put_to(self.gateway, place, data, **more)

    def placed(self, *packs):
        answer = self.call("POST", "/placed", json={"drive": self.drive, "packs": list(packs)})
        assert answer.status == 200, answer
        return answer.json["placed"]

    def missing(self, *hashes):
        return self.call("POST", "/missing", json={"drive": self.drive, "chunks": list(hashes)}).json["missing"]

    def file_of(self, name, h, size):
        made = self.create(name)
        return self.batch(made, {"op": "commit", "ino": made["ino"], "base": 0, "size": size, "chunkSize": 4 * MIB, "changes": [[0, h, size]]})[1]


def zstd(data):
    library = ctypes.CDLL("libzstd.so.1")  # the driver's own
    library.ZSTD_compress.restype = ctypes.c_size_t
    library.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    room = ctypes.create_string_buffer(len(data) + 65536)
    n = library.ZSTD_compress(room, len(room), data, len(data), 1)
    return room.raw[:n]


def test_the_store_checks_what_is_brought(gateway):
    """Raw, a chunk's name is the sum that the store checks: nobody else needs to."""
    data, other, peer = NOISE[:MIB], NOISE[MIB:2 * MIB], Bringer(gateway)
    place = peer.place(data)
    assert peer.placed(place["pack"]) == [False]  # not yet there
    for wrong in other, data[:-1], data + b"x", b"":
        assert peer.bring(place, wrong) in (400, 403)
    assert peer.placed(place["pack"]) == [False]
    assert peer.missing(sha256(data)) == [sha256(data)]
    assert peer.bring(place, data) == 200
    assert peer.placed(place["pack"], "direct/00/nothing") == [True, False]
    assert peer.missing(sha256(data)) == []
    assert peer.place(data) == {"there": True}
    crc = base64.b64encode(zlib.crc32(other).to_bytes(4, "big")).decode()
    theirs = peer.place(other)
    assert peer.bring(theirs, other) == 200
    for cunning in {}, {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": crc}, {"x-amz-copy-source": "/cairn/" + theirs["pack"]}:  # nor afterwards
        assert peer.bring(place, other, **cunning) in (400, 403)
    assert "error" not in peer.file_of("file", sha256(data), len(data))
    assert gateway.api("GET", "/files/content" + gateway.query(drive="home", path="/file")).body == data


def test_nobody_can_poison_anothers_content(gateway, mounts):
    """Compressed, the store cannot tell whether the bytes are those of the hash. Until a job has looked, nobody is told that the drive has them."""
    peer = Bringer(gateway)
    h, bad = sha256(TEXT[:4 * MIB]), zstd(NOISE[:MIB] + bytes(3 * MIB))
    place = peer.place(TEXT[:4 * MIB], stored=bad)
    assert peer.bring(place, bad) == 200
    assert peer.placed(place["pack"]) == [True]
    assert "error" not in peer.file_of("claimed", h, 4 * MIB)
    # neither before the job has looked …
    assert peer.missing(h) == [h]
    assert peer.place(TEXT[:4 * MIB], stored=zstd(TEXT[:4 * MIB])) is None
    # … nor after: others bring it themselves, through the gateway, which looks
    a = mounts.mount("a")
    write(a / "text", TEXT)
    b = mounts.mount("b")
    assert read(b / "text") == TEXT
    wait_for(lambda: not unverified(gateway), "the job")
    assert read(b / "claimed") == TEXT[:4 * MIB]  # it is what its hash says, by now


def test_nobody_speaks_for_another(gateway):
    """Two editors of one drive: what one was going to bring is not another's to claim."""
    gateway.add_user("bob")
    ann = Bringer(gateway)
    gateway.place.add_member(ann.drive, "bob", 2)
    bob = Bringer(gateway, token=gateway.token_of("bob"))
    assert ann.drive == bob.drive
    data = NOISE[:MIB]
    place = bob.place(data)
    assert bob.bring(place, data) == 200
    assert ann.placed(place["pack"]) == [False]
    assert bob.placed(place["pack"]) == [True]
    assert ann.missing(sha256(data)) == []


def test_what_is_found_to_be_wrong(gateway, mounts, store):
    peer = Bringer(gateway)
    h, bad = sha256(TEXT[:4 * MIB]), zstd(NOISE[:MIB] + bytes(3 * MIB))
    place = peer.place(TEXT[:4 * MIB], stored=bad)
    assert peer.bring(place, bad) == 200
    assert peer.placed(place["pack"]) == [True]
    assert "error" not in peer.file_of("claimed", h, 4 * MIB)
    wait_for(lambda: not unverified(gateway), "the job")
    a = mounts.mount("a")
    with pytest.raises(OSError):
        read(a / "claimed")
    assert peer.file_of("again", h, 4 * MIB)["error"] == "ENODATA"
    done = gateway.admin("scrub", "--objects", store.url, check=False)
    assert done.returncode == 1 and "brought them" in done.stdout, done.stdout
    write(a / "text", TEXT)
    assert read(a / "text") == TEXT and read(a / "claimed") == TEXT[:4 * MIB]


def test_a_gateway_that_is_killed_between_bringing_and_saying_so(gateway):
    data, peer = NOISE[:MIB], Bringer(gateway)
    place = peer.place(data)
    gateway.kill()
    assert peer.bring(place, data) == 200
    gateway.start()
    assert peer.placed(place["pack"]) == [True]
    gateway.kill()
    gateway.start()
    assert "error" not in peer.file_of("file", sha256(data), len(data))
    assert gateway.api("GET", "/files/content" + gateway.query(drive="home", path="/file")).body == data


def test_places_for_bringing_are_checked(gateway):
    peer, h = Bringer(gateway), sha256(b"x")
    good = {"sha256": h, "size": 100000, "stored": 100000, "codec": "raw"}
    for bad in {"sha256": "1"}, {"size": 0}, {"size": 1 << 27, "stored": 1 << 27}, {"stored": 99999}, {"codec": "lzma"}, {"codec": "zstd", "stored": 99999}, {"stored": -1}:
        answer = peer.call("POST", "/places", json={"drive": peer.drive, "chunks": [{**good, **bad}]})
        assert answer.status == 400, (bad, answer)
    assert peer.call("POST", "/places", json={"drive": peer.drive, "chunks": [{**good, "size": 1000, "stored": 1000}]}).json["places"] == [None]
    for bad in {"packs": ["../x"]}, {"packs": [3]}, {"packs": "x"}, {}:
        assert peer.call("POST", "/placed", json={"drive": peer.drive, **bad}).status == 400
    gateway.add_user("bob")
    bob = gateway.token_of("bob")
    place = peer.place(NOISE[:MIB])
    assert gateway.api("POST", "/fs/v1/places", json={"drive": peer.drive, "chunks": [good]}, token=bob).status == 404
    assert gateway.api("POST", "/fs/v1/placed", json={"drive": peer.drive, "packs": [place["pack"]]}, token=bob).status == 404


def test_places_are_told_to_members_only(gateway):
    made = put(gateway, "/noise", NOISE[:MIB])
    gateway.add_user("bob")
    peer = Peer(gateway)
    h = sha256(NOISE[:MIB])
    answer = peer.call("POST", "/where", json={"drive": peer.drive, "chunks": [h, sha256(b"none")]})
    assert answer.status == 200, answer
    [place] = answer.json["places"]
    assert place["sha256"] == h and answer.json["seconds"] > 0 and made["size"] == MIB
    request = urllib.request.Request(place["url"], headers={"Range": f"bytes={place['offset']}-{place['offset'] + place['stored'] - 1}"})
    with gateway.opener.open(request) as r:
        assert r.read() == NOISE[:MIB]
    refused = gateway.api("POST", "/fs/v1/where", json={"drive": peer.drive, "chunks": [h]}, token=gateway.token_of("bob"))
    assert refused.status == 404, refused
    for bad in {"drive": peer.drive}, {"drive": peer.drive, "chunks": ["x"]}, {"drive": peer.drive, "chunks": [h] * 257}, {"drive": peer.drive, "chunks": 3}:
        assert peer.call("POST", "/where", json=bad).status == 400
