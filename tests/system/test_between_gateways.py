"""The driver's protocol between mounts of two gateways. (Whole mounts: tests/fs/test_push_gateways.py; gateways that die: tests/fault/test_gateways.py.)"""
import itertools
import os
import tempfile
import time
import types

import pytest

from fsclient import Peer
from harness import wait_for
from several import Several
from test_fs_protocol import (  # noqa: F401  the same stories, between two gateways
    lock, repeat_waits, test_a_beat_is_answered_after_what_is_owed, test_a_lost_stream_is_waited_for_until_its_lease_is_out, test_a_repeat_waits_like_the_first, test_a_write_is_told_before_it_is_answered,
    test_bye_is_waited_for_by_nobody, test_one_that_does_not_answer_is_waited_for_once, test_unlocking_is_told, test_without_a_lease_nobody_is_waited_for)
from test_stomp import put
from wsclient import Stomp, Stream

numbers = itertools.count()


@pytest.fixture(scope="module")
def several():
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as folder:
        s = Several(os.path.join(folder, "gateways"))
        try:
            yield s
        finally:
            s.close()


@pytest.fixture
def drive(several):
    name = f"drive{next(numbers)}"
    several.admin("drive", "create", name, "--owner", several.user)
    return name


@pytest.fixture
def two(several, drive):
    """A writer at one gateway, and another mount, at the other one, whose stream acknowledges only what it is told to."""
    writer, other = Peer(several.one["a"], drive), Peer(several.one["b"], drive)
    stream = Stream(several.one["b"], other.info, since=other.info["seq"], acknowledge=False)
    yield writer, other, stream
    stream.close()


def test_a_mount_is_not_told_of_what_it_does_at_another_gateway(several, two):
    writer, _, stream = two
    own = Stream(several.one["b"], writer.info, since=writer.info["seq"])
    own.lease()
    stream.acknowledge = True
    writer.one(writer.create("a"))
    stream.next("inval")
    own.nothing("inval")
    own.close()


def test_a_batch_sent_again_to_the_other_gateway_waits_like_the_first(several, two):
    writer, other, _ = two
    there = types.SimpleNamespace(**{**vars(writer), "gateway": several.one["b"]})
    repeat_waits(writer, lambda frame: Peer.call(there, "POST", "/batch", headers=frame[0], body=frame[1]), other)


@pytest.mark.parametrize("mounted", [True, False])
def test_a_watcher_hears_of_what_happens_at_the_other_gateway(several, drive, mounted):
    """Without RabbitMQ. Where somebody has mounted the drive there, it is told at once; else it is looked for."""
    other = Peer(several.one["b"], drive)
    stream = Stream(several.one["b"], other.info) if mounted else None
    watcher = Stomp(several.one["b"]).subscribe("/topic/file-changes", drive=other.drive)
    for i in range(3):
        put(several.one["a"], f"/a{i}", drive=drive)
    told = [watcher.message()[1] for _ in range(3)]
    assert [(t["path"], t["drive"]) for t in told] == [(f"/a{i}", other.drive) for i in range(3)]
    watcher.close()
    if stream:
        stream.close()


@pytest.mark.parametrize("narrowed", [True, False])
def test_a_change_just_after_the_subscription_is_told_of_another_gateway_too(several, drive, narrowed):
    """The gateway is stopped as soon as it has confirmed, so that it has looked at nothing more when the change is made."""
    here, watching = several.one["a"], several.one["b"]
    for i in range(10):
        name = f"{drive}-{i}"
        several.admin("drive", "create", name, "--owner", several.user)
        watcher = Stomp(watching).subscribe("/topic/file-changes", **({"drive": name} if narrowed else {}))
        watching.freeze()
        put(here, "/first", drive=name)
        watching.thaw()
        assert watcher.message()[1]["path"] == "/first"
        watcher.close()


def test_locks_taken_after_the_end_of_the_session_end_too(several, two):
    """Another gateway has ended it, and this one does not know yet."""
    holder, other, _ = two
    ino = holder.write("a", b"x")
    holder.one(lock(ino, "w"))
    away = types.SimpleNamespace(**{**vars(holder), "gateway": several.one["b"]})
    assert Peer.call(away, "DELETE", "/mount" + several.query(drive=holder.drive, session=holder.session)).status == 204
    wait_for(lambda: "error" not in other.batch(lock(ino, "w"))[0], "the end of the session")  # a moment after the answer
    other.one(lock(ino, "u"))
    holder.one(lock(ino, "w"))
    assert other.batch(lock(ino, "w"))[0].get("error") == "EAGAIN"
    wait_for(lambda: "error" not in other.batch(lock(ino, "w"))[0], "the lock of a session that had ended", 150)  # it takes 40 s


def test_a_session_keeps_its_locks_at_another_gateway(several, two):
    holder, other, _ = two
    ino = holder.write("a", b"x")
    here = Stream(several.one["a"], holder.info, since=holder.get("seq").json["seq"])
    holder.one(lock(ino, "w"))
    here.close()
    there = Stream(several.one["b"], holder.info, since=holder.get("seq").json["seq"], hello=False)
    there.say(t="hello", drive=holder.drive, session=holder.session, since=0)
    assert "fresh" not in there.next("welcome")
    time.sleep(32)  # the first gateway has given its stream up by now
    assert other.batch(lock(ino, "w"))[0]["error"] == "EAGAIN"
    there.say(t="bye")
    wait_for(lambda: "error" not in other.batch(lock(ino, "w"))[0], "the lock")


def test_a_gateway_that_was_frozen_for_long_sends_its_streams_away(several, two):
    """Others may have ended their sessions: they are to ask."""
    _, _, stream = two
    several.one["b"].freeze()
    time.sleep(27)
    several.one["b"].thaw()
    assert stream.next("closed")["code"] == 1012
