"""Every story of test_push.py once more, told between two mounts of two gateways."""
import os

import pytest

from harness import Mounts, fuse_is_missing, wait_for
from several import Several
from test_push import *  # noqa: F401,F403  the stories
from test_push import leased


@pytest.fixture
def rounds():
    """More than 10,000 changes in all."""
    return 2_500


@pytest.fixture
def pair(folder):
    missing = fuse_is_missing()
    if missing:
        pytest.skip(missing)
    gateways = Several(os.path.join(folder, "gateways"))
    mounts = Mounts(folder, gateways)
    try:
        two = [mounts.mount(name, gateway=gateways.one[name]) for name in "ab"]
        for m in two:
            wait_for(lambda: leased(m), "a cache lease")
        yield two
    finally:
        try:
            mounts.close()
        finally:
            gateways.close()
