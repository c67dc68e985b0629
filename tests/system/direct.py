"""What the tests of the direct data path share: a real S3 store of the module's own, a gateway with its chunks there, and what is counted."""
import os
import random
import re
import subprocess
import urllib.error
import urllib.request

import pytest

from harness import program, reserve_port
from realserver import RealServer

MIB = 1 << 20
CLOSED_PORT = reserve_port("")  # where nobody listens
NOISE = random.Random(7).randbytes(24 * MIB)
TEXT = random.Random(8).randbytes(4 * MIB).hex().encode()  # 8 MiB that zstd makes half as long


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    s = RealServer("minio", str(tmp_path_factory.mktemp("store")))
    s.start()
    try:
        yield s
    finally:
        s.stop()


@pytest.fixture
def public():
    """What clients are told of the store's address; None: where the gateway finds it."""
    return None


@pytest.fixture
def gateway_options(store, public):
    return ["--objects", store.url + (f"&public-endpoint={public}" if public else "")]


@pytest.fixture
def gateway(gateway, store):
    gateway.checked = False  # checked here, with the store that it has
    yield gateway
    gateway.stop()
    done = gateway.admin("scrub", "--objects", store.url, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def passed(gateway):
    """Bytes that went through the gateway so far, both ways."""
    text = gateway.api("GET", "/metrics").body.decode()
    return sum(int(float(n)) for n in re.findall(r"^cairn_http_(?:received|sent)_bytes_total (\S+)$", text, re.M))


def put(gateway, path, data):
    answer = gateway.api("PUT", "/files/content" + gateway.query(drive="home", path=path), body=data)
    assert answer.status in (200, 201), answer
    return answer.json


def cairn(gateway, folder, *args):
    env = {**os.environ, "CAIRN_URL": gateway.url, "CAIRN_TOKEN": gateway.token, "HOME": folder, "XDG_STATE_HOME": folder}
    done = subprocess.run([program("cairn"), *args], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done
    return done.stdout


def content(gateway, path):
    return gateway.api("GET", "/files/content" + gateway.query(drive="home", path=path)).body


def put_to(gateway, place, data, **more):
    """The status of the store's answer; one that hangs up in the middle has refused."""
    headers = {**place["headers"], "content-length": str(len(data)), "Content-Type": "", **more}
    request = urllib.request.Request(place["url"], data=data, method="PUT", headers=headers)
    try:
        with gateway.opener.open(request) as r:
            return r.status
    except urllib.error.HTTPError as e:
        return e.code
    except urllib.error.URLError as e:
        assert isinstance(e.reason, (BrokenPipeError, ConnectionResetError)), e
        return 400


def unverified(gateway):
    return int(gateway.place.sql("SELECT COUNT(*) FROM chunk WHERE unverified_by IS NOT NULL AND NOT damaged")[0][0])
