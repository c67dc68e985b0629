"""A mount behaves as a local file system does: the same calls, the same results, the same errnos."""
import errno
import mmap
import os
import random
import stat
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import differential  # noqa: E402


@pytest.mark.parametrize("seed", [random.randrange(1 << 30), 1, 2])
def test_random_calls_as_on_a_local_directory(mounts, folder, seed):
    mount, local = mounts.mount(), os.path.join(folder, "local")
    os.makedirs(local)
    os.mkdir(mount / "d")
    os.umask(0o022)
    differential.compare(mount / "d", local, 4000, seed)
    mount.unmount()  # what is on the gateway is the same as well
    mount.start()
    assert differential.tree(mount / "d") == differential.tree(local)


def test_random_io_against_a_local_file(mounts, folder):
    """As fsx does: 100,000 random reads, writes, truncates, holes and mapped writes on one file."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    mount = mounts.mount()
    paths = (mount / "f", os.path.join(folder, "local"))
    limit = 1 << 20
    noise = rng.randbytes(1 << 17)
    fds = [os.open(p, os.O_RDWR | os.O_CREAT, 0o644) for p in paths]
    try:
        for i in range(100_000):
            what, off, n = rng.random(), rng.randrange(limit), int(rng.expovariate(1 / 6000)) % (1 << 16)
            if what < 0.45:
                got = [os.pread(fd, n, off) for fd in fds]
                assert got[0] == got[1], (seed, i, off, n)
            elif what < 0.85:
                begin = rng.randrange(1 << 16)
                for fd in fds:
                    os.pwrite(fd, noise[begin:begin + n], off)
            elif what < 0.90:
                for fd in fds:
                    os.ftruncate(fd, off)
            elif what < 0.93 and n:
                for fd in fds:
                    differential.fallocate(fd, differential.FALLOC_PUNCH_HOLE | differential.FALLOC_KEEP_SIZE, off, n)
            elif what < 0.95 and n:
                for fd in fds:
                    differential.fallocate(fd, differential.FALLOC_ZERO_RANGE, off, n)
            elif what < 0.97:
                size = os.fstat(fds[0]).st_size
                assert size == os.fstat(fds[1]).st_size, (seed, i)
                if size > 4096:
                    at = rng.randrange(size - 8)
                    for fd in fds:
                        with mmap.mmap(fd, size) as pages:
                            pages[at:at + 8] = i.to_bytes(8, "little")
            elif what < 0.98:
                os.fsync(fds[0])
            elif what < 0.985:
                os.close(fds[0])
                fds[0] = os.open(paths[0], os.O_RDWR)
    finally:
        for fd in fds:
            os.close(fd)
    mount.unmount()
    mount.start()
    assert open(paths[0], "rb").read() == open(paths[1], "rb").read(), seed


def test_holes_are_found(mounts):
    mount = mounts.mount()
    fd = os.open(mount / "sparse", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * 4096, 64 << 20)
    assert os.lseek(fd, 0, os.SEEK_DATA) >= 32 << 20
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    assert os.lseek(fd, 64 << 20, os.SEEK_HOLE) == (64 << 20) + 4096
    with pytest.raises(OSError) as e:
        os.lseek(fd, 65 << 20, os.SEEK_DATA)
    assert e.value.errno == errno.ENXIO
    os.close(fd)
    mount.unmount()
    mount.start()
    fd = os.open(mount / "sparse", os.O_RDONLY)
    assert os.fstat(fd).st_size == (64 << 20) + 4096
    assert os.lseek(fd, 0, os.SEEK_DATA) >= 32 << 20
    assert os.pread(fd, 10, 1 << 20) == bytes(10)
    os.close(fd)


def test_names_are_bytes(mounts):
    mount = mounts.mount()
    raw = os.fsencode(mount.path)
    names = [b"caf\xe9", b"\xff\xfe", "ü".encode(), b"a\nb", b"-", b"x" * 255]
    for n in names:
        open(raw + b"/" + n, "xb").close()
    mount.unmount()
    mount.start()
    assert set(os.listdir(raw)) == set(names)
    with pytest.raises(OSError) as e:
        open(raw + b"/" + b"x" * 256, "xb")
    assert e.value.errno == errno.ENAMETOOLONG


def test_special_files_and_times(mounts):
    mount = mounts.mount()
    os.mkfifo(mount / "fifo", 0o600)
    os.mknod(mount / "sock", stat.S_IFSOCK | 0o600)
    os.symlink("a/b", mount / "link")
    if os.geteuid() == 0:
        os.mknod(mount / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    t = 1_234_567_890_123_456_789
    os.utime(mount / "fifo", ns=(t, t + 1))
    os.utime(mount / "link", ns=(t + 2, t + 3), follow_symlinks=False)
    mount.unmount()
    mount.start()
    assert stat.S_ISFIFO(os.lstat(mount / "fifo").st_mode) and stat.S_ISSOCK(os.lstat(mount / "sock").st_mode)
    assert os.readlink(mount / "link") == "a/b"
    st = os.lstat(mount / "fifo")
    assert (st.st_atime_ns, st.st_mtime_ns) == (t, t + 1)
    st = os.lstat(mount / "link")
    assert (st.st_atime_ns, st.st_mtime_ns) == (t + 2, t + 3)
    if os.geteuid() == 0:
        assert os.lstat(mount / "null").st_rdev == os.makedev(1, 3)


def test_copy_file_range_and_statfs(mounts):
    mount = mounts.mount()
    data = os.urandom(3 << 20)
    with open(mount / "from", "wb") as f:
        f.write(data)
    with open(mount / "from", "rb") as f, open(mount / "to", "wb") as t:
        done = 0
        while done < len(data):
            done += os.copy_file_range(f.fileno(), t.fileno(), len(data) - done, done, done)
    assert open(mount / "to", "rb").read() == data
    st = os.statvfs(mount.path)
    assert st.f_namemax == 255 and st.f_bavail > 0


def test_a_late_page_of_a_mapping_is_not_lost(mounts):
    mount = mounts.mount()
    with open(mount / "m", "wb") as f:
        f.write(bytes(8192))
    fd = os.open(mount / "m", os.O_RDWR)
    pages = mmap.mmap(fd, 8192)
    os.close(fd)  # FLUSH comes here, the page is dirtied after it
    pages[5000:5004] = b"late"
    pages.close()
    mount.unmount()
    mount.start()
    assert open(mount / "m", "rb").read()[5000:5004] == b"late"


def test_a_read_only_mount_refuses_changes(mounts):
    open(mounts.mount("rw") / "f", "w").close()
    ro = mounts.mount("ro", o="ro")
    for call in (lambda: open(ro / "g", "w"), lambda: os.unlink(ro / "f"), lambda: os.chmod(ro / "f", 0o600), lambda: open(ro / "f", "r+")):
        with pytest.raises(OSError) as e:
            call()
        assert e.value.errno == errno.EROFS
    assert os.listdir(ro.path) == ["f"]


def test_names_are_on_the_gateways_disk_when_it_was_asked_for(mounts, gateway):
    """A name alone does not wait for the gateway's disk: fsync of its directory or of a file, and close of a file that was created, do."""
    def requests():
        lines = gateway.api("GET", "/metrics", token="").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("cairn_http_requests_total") and "batch" in line)

    def counted(fn):
        before = requests()
        fn()
        return requests() - before
    mount = mounts.mount()
    directory = os.open(mount / ".", os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open(mount / "open", os.O_RDWR | os.O_CREAT, 0o600)
    os.fsync(directory)
    assert counted(lambda: os.mkdir(mount / "d")) == 1
    assert counted(lambda: os.fsync(directory)) == 1
    assert counted(lambda: os.fsync(directory)) == 0  # all of it is there
    assert counted(lambda: os.fchmod(fd, 0o640)) == 1
    assert counted(lambda: os.fsync(fd)) == 1
    assert counted(lambda: os.close(os.open(mount / "empty", os.O_WRONLY | os.O_CREAT, 0o600))) == 2
    os.close(fd)
    os.close(directory)
