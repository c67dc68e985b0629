"""Fixtures for every test that needs running programs (tests/harness.py)."""
import os
import shutil
import tempfile

import pytest

from harness import Gateway, Mounts


@pytest.fixture
def folder():
    """A folder of the test's own. Not pytest's tmp_path, which keeps the last runs' folders: these hold whole drives."""
    path = tempfile.mkdtemp(prefix="cairn-test-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def gateway(folder, request):
    """A running embedded gateway. `@pytest.mark.parametrize("gateway", [["--rate-limit", "5"]], indirect=True)` adds options."""
    g = Gateway(os.path.join(folder, "gateway"), getattr(request, "param", ()))
    try:
        yield g.start()
    finally:
        g.close()


@pytest.fixture
def mounts(folder, gateway):
    """mounts.mount("a"), mounts.mount("b", writeback=True)…: all unmounted at the end."""
    if not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None:
        pytest.skip("no FUSE on this machine")
    m = Mounts(folder, gateway)
    try:
        yield m
    finally:
        m.close()
