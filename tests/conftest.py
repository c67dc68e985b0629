"""Fixtures for every test that needs running programs (tests/harness.py)."""
import os
import shutil
import signal
import tempfile
import uuid

import pytest

import backends
from harness import Gateway, Mounts, Second, fuse_is_missing, program, wait_for

RUN = "PYTEST_CAIRN_RUN"

# Started in the background, tests inherit that Ctrl-C is ignored, and so would the programs that are to be ended by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def started_here():
    """Command lines of processes that this run started: they inherit its mark."""
    mark, found = f"{RUN}={os.environ[RUN]}".encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/cmdline", "rb") as cmdline:
                if mark in environ.read().split(b"\0") and int(pid) != os.getpid():
                    found.append(f"{pid} {cmdline.read().replace(bytes(1), b' ').decode(errors='replace')}")
        except OSError:
            pass  # it has ended, or is another user's
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running():
    os.environ[RUN] = str(uuid.uuid4())
    yield
    try:
        wait_for(lambda: not started_here(), "the end of what the tests started", 10)
    except AssertionError:
        pytest.fail("left running: " + "; ".join(started_here()))


@pytest.fixture(scope="session", autouse=True)
def real_servers(nothing_is_left_running):
    """One of each kind for all tests of this run, where it is one on real servers."""
    if not backends.ON_SERVERS:
        yield
        return
    backends.servers = backends.Servers(program("cairn-gateway"))
    try:
        backends.servers.start()
        yield
    finally:
        backends.servers.end()
        shutil.rmtree(backends.servers.folder, ignore_errors=True)


def pytest_configure(config):
    config.addinivalue_line("markers", "embedded(why): what it looks at is there only with SQLite and a folder; left out on real servers")


# Modules that have no part in a run on real servers: they start what they need themselves, or no gateway at all.
ONCE = {
    "test_behind_nginx": "starts a cluster", "test_between_gateways": "starts several gateways on PostgreSQL", "test_break": "breaks the disk under SQLite", "test_broker": "starts RabbitMQ", "test_cluster": "starts clusters",
    "test_deploy": "reads files", "test_docs": "reads files", "test_failover": "starts PostgreSQL and a replica", "test_gateways": "starts several gateways on PostgreSQL",
    "test_load": "a bench of the embedded gateway", "test_outages": "starts a cluster",
    "test_push_gateways": "starts several gateways on PostgreSQL", "test_redis_gone": "starts Redis", "test_resume": "counts chunks at the gateway; system/test_direct_uploads: at the store", "test_servers": "starts servers", "test_shard_away": "starts PostgreSQL", "test_shards": "starts shards", "test_topologies": "starts servers", "test_up": "starts an embedded gateway",
    "test_workers": "starts PostgreSQL",
}


def why_not_on_servers(item):
    mark = item.get_closest_marker("embedded")
    return mark.args[0] if mark else ONCE.get(item.module.__name__.rpartition(".")[2])


def pytest_collection_modifyitems(items):
    for item in items if backends.ON_SERVERS else []:
        why = why_not_on_servers(item)
        if why:
            item.add_marker(pytest.mark.skip(reason=f"not on real servers once more: {why}"))


@pytest.fixture
def folder():
    """A folder of the test's own. Not pytest's tmp_path, which keeps the last runs' folders: these hold whole drives."""
    path = tempfile.mkdtemp(prefix="cairn-test-")
    yield path
    shutil.rmtree(path, ignore_errors=True)
    assert not os.path.lexists(path), f"{path} cannot be removed: something is still mounted in it"


@pytest.fixture
def gateway_options():
    """What gateways of a module are started with; a module that needs more overrides it."""
    return []


@pytest.fixture
def gateway(folder, request, gateway_options):
    """A running gateway. `@pytest.mark.parametrize("gateway", [["--rate-limit", "5"]], indirect=True)` adds options."""
    g = Gateway(os.path.join(folder, "gateway"), [*gateway_options, *getattr(request, "param", ())])
    try:
        yield g.start()
    finally:
        g.close()


@pytest.fixture
def second(gateway):
    """Another gateway on the same stores."""
    g = Second(gateway)
    try:
        yield g.start()
    finally:
        g.close()


@pytest.fixture(scope="module")
def gateway_for_all():
    """One for a whole table of requests that change nothing."""
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as path:
        g = Gateway(os.path.join(path, "gateway"))
        try:
            yield g.start()
        finally:
            g.close()


@pytest.fixture
def mounts(folder, gateway):
    """mounts.mount("a"), mounts.mount("b", writeback=True)…: all unmounted at the end."""
    missing = fuse_is_missing()
    if missing:
        pytest.skip(missing)
    m = Mounts(folder, gateway)
    try:
        yield m
    finally:
        m.close()
