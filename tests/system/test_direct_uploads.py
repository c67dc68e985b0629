"""The direct data path of uploads over HTTP, and of cairn put."""
import glob
import os
import subprocess
import time

import pytest

from direct import cairn, CLOSED_PORT, content, gateway, gateway_options, MIB, NOISE, passed, public, put_to, store, TEXT  # noqa: F401
from fsclient import sha256
from harness import program, wait_for, write


def pieces(data, size=MIB):
    return [data[at:at + size] for at in range(0, len(data), size)]


def initiate(gateway, path, data, given=None):
    parts = pieces(data)
    chunks = [{"n": n, "sha256": sha256(p)} for n, p in enumerate(parts) if given is None or n in given]
    answer = gateway.api("POST", "/upload/initiate", json={"drive": "home", "path": path, "size": len(data), "chunkSize": MIB, "chunks": chunks})
    assert answer.status == 201, answer
    return answer.json, parts


def test_an_upload_by_urls(gateway):
    data = NOISE[:4 * MIB + 5000]
    begun, parts = initiate(gateway, "/file", data, given=[0, 1, 2, 4])
    session, urls = "/upload/" + begun["sessionId"], begun["uploadUrls"]
    assert begun["missing"] == [0, 1, 2, 3, 4]
    assert sorted(urls) == ["0", "1", "2", "4"]  # not 3, whose hash was not told
    before = passed(gateway)
    assert put_to(gateway, urls["0"], parts[1]) in (400, 403)
    assert put_to(gateway, urls["0"], parts[0]) == 200
    assert put_to(gateway, urls["2"], parts[2]) == 200
    assert passed(gateway) - before < MIB
    assert gateway.api("GET", session + "/missing-chunks").json == {"missing": [1, 3, 4]}
    assert gateway.api("GET", session).json["received"] == 2
    assert [(c["n"], c["sha256"]) for c in gateway.api("GET", session + "/chunks").json["chunks"]] == [(0, sha256(parts[0])), (2, sha256(parts[2]))]
    assert put_to(gateway, urls["4"], parts[4]) == 200
    assert gateway.api("POST", session + "/chunk/3", body=parts[3]).status == 200
    refused = gateway.api("POST", session + "/complete")
    assert refused.status == 409 and refused.json["missing"] == [1]
    assert put_to(gateway, urls["1"], parts[1]) == 200
    done = gateway.api("POST", session + "/complete", json={"sha256": sha256(data)})
    assert done.status == 200, done
    assert content(gateway, "/file") == data
    # the same content once more: the drive has it
    begun, _ = initiate(gateway, "/again", data)
    assert begun["missing"] == [] and begun.get("uploadUrls", {}) == {}


def test_urls_may_be_asked_for_later(gateway):
    data = NOISE[:3 * MIB]
    begun, parts = initiate(gateway, "/file", data, given=[])
    session = "/upload/" + begun["sessionId"]
    assert "uploadUrls" not in begun or not begun["uploadUrls"]
    urls = gateway.api("POST", session + "/urls", json={"chunks": [{"n": n, "sha256": sha256(p)} for n, p in enumerate(parts)]}).json["uploadUrls"]
    # asked again for other bytes: another place, and what was promised for the first stays what it was
    other = gateway.api("POST", session + "/urls", json={"chunks": [{"n": 0, "sha256": sha256(parts[1])}]}).json["uploadUrls"]
    assert other["0"]["url"] != urls["0"]["url"]
    assert put_to(gateway, urls["0"], parts[0]) == 200
    gateway.kill()
    gateway.start()
    assert put_to(gateway, urls["1"], parts[1]) == 200
    assert gateway.api("POST", session + "/chunk/2", body=parts[2]).status == 200
    assert gateway.api("POST", session + "/complete").status == 200
    assert content(gateway, "/file") == data
    assert gateway.api("POST", session + "/urls", json={"chunks": []}).status == 409
    assert gateway.api("POST", "/upload/00000000-0000-7000-8000-000000000000/urls", json={"chunks": []}).status == 404


def test_urls_are_asked_for_as_they_should(gateway):
    begun, parts = initiate(gateway, "/file", NOISE[:2 * MIB])
    for bad in {"chunks": 3}, {"chunks": [{"n": 2, "sha256": sha256(b"")}]}, {"chunks": [{"n": 0, "sha256": "x"}]}, {"chunks": [{"n": 0, "sha256": sha256(b""), "size": 3}]}:
        assert gateway.api("POST", f"/upload/{begun['sessionId']}/urls", json=bad).status == 400, bad
    gateway.add_user("bob")
    assert gateway.api("POST", f"/upload/{begun['sessionId']}/urls", json={"chunks": []}, token=gateway.token_of("bob")).status == 404


@pytest.mark.parametrize("public", ["none"])
def test_no_urls_where_the_store_is_not_for_clients(gateway, public):
    begun, _ = initiate(gateway, "/file", NOISE[:2 * MIB])
    assert "uploadUrls" not in begun


def test_put_brings_to_the_store(gateway, folder):
    source = os.path.join(folder, "source")
    write(source, NOISE + TEXT[:100000])
    before = passed(gateway)
    said = cairn(gateway, folder, "put", source, "home:/file")
    assert passed(gateway) - before < MIB
    assert "sent 7 of 7 chunks" in said
    assert content(gateway, "/file") == NOISE + TEXT[:100000]
    before = passed(gateway)
    cairn(gateway, folder, "put", "--direct", "off", source, "home:/again")
    write(source, NOISE[5:])
    cairn(gateway, folder, "put", "--direct", "off", source, "home:/other")
    assert passed(gateway) - before > len(NOISE) - 5
    assert content(gateway, "/other") == NOISE[5:]


@pytest.mark.parametrize("public", [f"http://127.0.0.1:{CLOSED_PORT}"])
def test_put_where_clients_cannot_reach_the_store(gateway, folder, public):
    source = os.path.join(folder, "source")
    write(source, NOISE)
    cairn(gateway, folder, "put", source, "home:/file")
    assert content(gateway, "/file") == NOISE


def test_a_put_that_is_killed_goes_on(gateway, folder):
    source = os.path.join(folder, "source")
    write(source, NOISE * 4 + b"x")
    env = {**os.environ, "CAIRN_URL": gateway.url, "CAIRN_TOKEN": gateway.token, "HOME": folder, "XDG_STATE_HOME": folder}
    with subprocess.Popen([program("cairn"), "put", source, "home:/file"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        wait_for(lambda: glob.glob(os.path.join(folder, "cairn", "uploads", "*.json")) or p.poll() is not None, "the session")
        time.sleep(0.1)
        p.kill()
    cairn(gateway, folder, "put", source, "home:/file")
    assert content(gateway, "/file") == NOISE * 4 + b"x"
