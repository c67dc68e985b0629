"""What a program finished in one mount is what a program in another mount sees from then on: names, negative look-ups, attributes, listings, content, pages.

Each story makes the other mount *cache* the old state first, then changes it, then looks. No sleeps: the answer must be right as soon as the call has returned.
"""
import mmap
import os
import threading
import time

import pytest

import backends
from harness import wait_for


@pytest.fixture
def rounds():
    return 2_500 if backends.ON_SERVERS else 10_000


@pytest.fixture
def pair(mounts):
    a, b = mounts.mount("a"), mounts.mount("b")
    for m in (a, b):
        wait_for(lambda: leased(m), "a cache lease")
    return a, b


def leased(mount):
    return mount.status()["lease"]


def exists(path):
    try:
        os.lstat(path)
        return True
    except FileNotFoundError:
        return False


def test_create_and_unlink_past_a_cached_negative(pair, rounds):
    a, b = pair
    for i in range(rounds // 2):
        assert not exists(b / "n"), i  # b's kernel holds the "no"
        open(a / "n", "x").close()
        assert exists(b / "n"), i      # …and now the "yes"
        os.unlink(a / "n")
    assert not exists(b / "n")


def test_chmod(pair, rounds):
    a, b = pair
    open(a / "f", "w").close()
    for i in range(rounds):
        mode = 0o600 + i % 64
        os.chmod(a / "f", mode)
        assert os.lstat(b / "f").st_mode & 0o777 == mode, i


def test_setxattr(pair, rounds):
    a, b = pair
    open(a / "f", "w").close()
    for i in range(rounds):
        value = str(i).encode()
        os.setxattr(a / "f", "user.n", value)
        assert os.getxattr(b / "f", "user.n") == value, i


def test_rename(pair, rounds):
    a, b = pair
    open(a / "x0", "w").close()
    for i in range(rounds):
        old, new = f"x{i % 2}", f"x{(i + 1) % 2}"
        assert exists(b / old) and not exists(b / new), i
        os.rename(a / old, a / new)
    assert exists(b / f"x{rounds % 2}")


def test_write_and_close(pair, rounds):
    a, b = pair
    for i in range(rounds):
        with open(a / "f", "w") as f:
            f.write(f"content {i}" + "." * (i % 300))
        with open(b / "f") as f:
            assert f.read() == f"content {i}" + "." * (i % 300), i


def test_listing(pair, rounds):
    a, b = pair
    os.mkdir(a / "d")
    names = set()
    for i in range(rounds // 5):
        name = f"f{i % 50}"
        if name in names:
            os.unlink(a / f"d/{name}")
            names.remove(name)
        else:
            open(a / f"d/{name}", "x").close()
            names.add(name)
        assert set(os.listdir(b / "d")) == names, i


def test_both_ways_in_turn(pair):
    """Each side changes what the other has just made."""
    a, b = pair
    for i in range(500):
        here, there = (a, b) if i % 2 else (b, a)
        os.mkdir(here / "d")
        open(there / "d/f", "x").close()
        assert os.listdir(here / "d") == ["f"]
        os.unlink(here / "d/f")
        os.rmdir(there / "d")
        assert not exists(here / "d")


def test_pages_of_an_open_mapped_file(pair, rounds):
    a, b = pair
    size = 64 * 4096
    with open(a / "m", "wb") as f:
        f.write(bytes(size))
    with open(b / "m", "rb") as f, mmap.mmap(f.fileno(), size, prot=mmap.PROT_READ) as pages:
        for i in range(rounds // 10):
            at = (i * 37 % 64) * 4096
            with open(a / "m", "r+b") as w:
                w.seek(at)
                w.write(i.to_bytes(4, "little"))
            assert int.from_bytes(pages[at:at + 4], "little") == i, i


def test_the_first_content_of_a_file_that_is_open_elsewhere(pair):
    a, b = pair
    open(a / "f", "w").close()
    with open(b / "f", "rb") as f:
        assert f.read() == b""
        with open(a / "f", "wb") as w:
            w.write(b"first")
        assert f.read() == b"first"


def test_a_frozen_driver_is_waited_for_once(pair):
    a, b = pair
    open(a / "f", "w").close()
    assert os.lstat(b / "f").st_mode & 0o777 == 0o644
    b.freeze()
    os.chmod(a / "f", 0o600)  # waits until its lease is out
    begin = time.monotonic()
    for i in range(40):
        os.chmod(a / "f", 0o700 + i)
    rest = time.monotonic() - begin
    b.thaw()
    wait_for(lambda: os.lstat(b / "f").st_mode & 0o777 == 0o700 + 39, "the thawed mount to be right")
    assert rest < 36, rest  # waited once, and no more: 1.8 s each would be 72


def test_two_mounts_in_one_directory_never_wait_for_each_other(pair):
    a, b = pair
    os.mkdir(a / "shared")
    assert os.listdir(b / "shared") == []
    failures = []

    def work(mount, who):
        try:
            for i in range(1500):
                name = mount / f"shared/{who}{i % 20}"
                open(name, "x").close()
                os.unlink(name)
        except Exception as e:
            failures.append((who, i, e))

    threads = [threading.Thread(target=work, args=(m, w)) for m, w in ((a, "a"), (b, "b"))]
    begin = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took = time.monotonic() - begin
    assert not failures
    assert os.listdir(a / "shared") == os.listdir(b / "shared") == []
    assert took < 600, took  # 6,000 operations: a single wait for a lease each would be hours


def test_a_name_made_in_both_at_once_is_made_once(pair):
    a, b = pair
    for i in range(200):
        made = []

        def make(m):
            try:
                os.close(os.open(m / f"once{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                made.append(m)
            except FileExistsError:
                pass
        threads = [threading.Thread(target=make, args=(m,)) for m in (a, b)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(made) == 1, i


def test_a_file_opened_to_be_made_in_both_at_once_is_there(pair):
    """O_CREAT without O_EXCL finds what the other has made a moment before, though this mount may not have heard of it."""
    failed = []

    def opens(m, name):
        try:
            os.close(os.open(m / name, os.O_WRONLY | os.O_CREAT, 0o644))
        except OSError as e:
            failed.append((name, e))

    for i in range(600):
        threads = [threading.Thread(target=opens, args=(m, f"f{i % 3}")) for m in pair]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failed, i
        os.unlink(pair[i % 2] / f"f{i % 3}")


def test_append_from_two_mounts_loses_nothing(pair):
    a, b = pair
    open(a / "log", "w").close()

    def append(m, who):
        for i in range(100):
            with open(m / "log", "a") as f:
                f.write(f"{who} {i}\n")

    threads = [threading.Thread(target=append, args=(m, w)) for m, w in ((a, "a"), (b, "b"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for m in (a, b):
        lines = open(m / "log").read().splitlines()
        assert sorted(lines) == sorted(f"{w} {i}" for w in "ab" for i in range(100))
        for w in "ab":
            assert [x for x in lines if x.startswith(w)] == [f"{w} {i}" for i in range(100)]


def test_unlinked_elsewhere_but_open_here(pair):
    a, b = pair
    with open(a / "f", "w") as f:
        f.write("still here")
    with open(b / "f") as f:
        os.unlink(a / "f")
        assert not exists(b / "f")
        assert f.read() == "still here"


def test_fcntl_locks_count_across_mounts(pair):
    import fcntl
    a, b = pair
    open(a / "f", "w").close()
    with open(a / "f", "r+") as fa, open(b / "f", "r+") as fb:
        fcntl.lockf(fa, fcntl.LOCK_EX)
        with pytest.raises(OSError):
            fcntl.lockf(fb, fcntl.LOCK_EX | fcntl.LOCK_NB)
        got = threading.Event()

        def wait():
            fcntl.lockf(fb, fcntl.LOCK_EX)
            got.set()
        t = threading.Thread(target=wait)
        t.start()
        assert not got.wait(0.3)
        fcntl.lockf(fa, fcntl.LOCK_UN)
        assert got.wait(10)
        t.join()
    with open(a / "f") as fa, open(b / "f") as fb:
        fcntl.flock(fa, fcntl.LOCK_EX)
        with pytest.raises(OSError):
            fcntl.flock(fb, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(b / "f") as fb:
        fcntl.flock(fb, fcntl.LOCK_EX)  # closing releases it; the kernel tells so a moment later


def test_a_counter_under_a_lock(pair):
    """Lock, read, add one, write, unlock: from two mounts at once."""
    import fcntl
    a, b = pair
    with open(a / "counter", "w") as f:
        f.write("0")

    def count(m):
        for _ in range(100):
            with open(m / "counter", "r+") as f:
                fcntl.lockf(f, fcntl.LOCK_EX)
                n = int(f.read())
                f.seek(0)
                f.write(str(n + 1))
                f.flush()
                fcntl.lockf(f, fcntl.LOCK_UN)
    threads = [threading.Thread(target=count, args=(m,)) for m in (a, b)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert open(a / "counter").read() == open(b / "counter").read() == "200"


def test_a_listing_read_while_files_in_it_change_is_whole(pair):
    """What is known to be newer than a page of a listing cannot be taken from that page: it must not be missing for that."""
    a, b = pair
    rounds, files = 8, 300
    for d in range(rounds):
        os.mkdir(a / f"d{d}")
        for i in range(files):
            os.close(os.open(a / f"d{d}/{i}", os.O_CREAT | os.O_WRONLY))
    at, stop = [0], threading.Event()

    def touch():
        n = 0
        while not stop.is_set():
            n += 1
            os.chmod(a / f"d{at[0]}/{n * 7 % files}", 0o600 + n % 64)
    t = threading.Thread(target=touch)
    t.start()
    try:
        for d in range(rounds):
            at[0] = d
            os.stat(b / f"d{d}/0")
            os.stat(b / f"d{d}/1")  # the second cold look-up lists ahead
            missing = [i for i in range(files) if not os.path.lexists(b / f"d{d}/{i}")]
            assert not missing
            assert len(os.listdir(b / f"d{d}")) == files
    finally:
        stop.set()
        t.join()
