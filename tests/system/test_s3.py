"""A gateway whose chunks lie in a real S3 store, of its own."""
import os
import subprocess

import pytest

from harness import program, wait_for
from realserver import RealServer

BIG = os.urandom(9 << 20)


@pytest.fixture(params=["minio", "versitygw"])
def store(request, folder):
    s = RealServer(request.param, os.path.join(folder, "store"))
    s.start()
    try:
        yield s
    finally:
        s.stop()


@pytest.fixture
def gateway_options(store):
    return ["--objects", store.url]


@pytest.fixture
def gateway(gateway):
    gateway.checked = False  # checked here, with the store that it has
    return gateway


def put(gateway, path, data):
    return gateway.api("PUT", "/files/content" + gateway.query(drive="home", path=path), body=data)


def get(gateway, path):
    return gateway.api("GET", "/files/content" + gateway.query(drive="home", path=path))


def health(gateway):
    answer = gateway.api("GET", "/actuator/health").json
    return answer["status"], answer["components"]["objects"]["status"]


def test_content_lies_in_the_bucket(gateway, store):
    assert put(gateway, "/big", BIG).status == 201
    assert get(gateway, "/big").body == BIG
    assert health(gateway) == ("UP", "UP")
    assert not os.path.exists(os.path.join(gateway.data, "objects"))
    done = gateway.admin("scrub", "--objects", store.url)
    assert "right" in done.stdout, done.stdout


def test_the_store_is_away_for_a_while(gateway, store):
    """Names and small files go on; content that needs the store is refused, soon, with 503; nothing has to be started again."""
    assert put(gateway, "/before", BIG).status == 201
    store.stop()
    assert wait_for(lambda: health(gateway) == ("DEGRADED", "DOWN"), "health")
    assert put(gateway, "/small", b"in its row").status == 201
    assert get(gateway, "/small").body == b"in its row"
    assert gateway.api("POST", "/files/directory", json={"drive": "home", "path": "/folder"}).status == 201
    refused = put(gateway, "/big", BIG[1:])
    assert refused.status == 503, refused
    assert gateway.api("GET", "/files" + gateway.query(drive="home", path="/big")).status == 404
    # a gateway that starts without the store works as well
    assert gateway.stop() == 0
    gateway.start()
    assert get(gateway, "/small").body == b"in its row"
    store.start()
    assert wait_for(lambda: health(gateway) == ("UP", "UP"), "health")
    assert wait_for(lambda: put(gateway, "/big", BIG[1:]).status == 201, "a store that is back")
    assert get(gateway, "/big").body == BIG[1:]
    assert get(gateway, "/before").body == BIG


def test_secrets_are_not_shown(gateway, store):
    with open(os.path.join(store.folder, "secret-key")) as f:
        secret = f.read().strip()
    shown = subprocess.run([program("cairn-gateway"), "config", "check", "--embedded", gateway.data, "--objects", store.url], capture_output=True, text=True)
    assert shown.returncode == 0 and ":***@cairn?endpoint=" in shown.stdout, shown
    wrong = subprocess.run([program("cairn-gateway"), "serve", "--embedded", gateway.data, "--objects", store.url + "&wings=2"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "public-endpoint" in wrong.stderr, wrong
    with open(gateway.log) as f:
        assert secret not in shown.stdout + wrong.stderr + f.read()


def test_keys_that_the_store_does_not_know_end_the_start(gateway, store, folder):
    endpoint = store.url.split("@", 1)[1]
    other = os.path.join(folder, "other")
    os.mkdir(other)
    done = subprocess.run([program("cairn-gateway"), "serve", "--embedded", other, "--listen", "127.0.0.1:0", "--objects", "s3://nobody:nothing12345@" + endpoint],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "the object store: Permission denied" in done.stderr, done
