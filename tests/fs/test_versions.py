""".versions: nothing that was once closed is lost."""
import errno
import os
import subprocess
import time

import pytest

from harness import program


def versions(mount, path):
    return sorted(os.listdir(mount / f".versions/{path}"))


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def content(mount, path, name):
    return open(mount / f".versions/{path}/{name}").read()


def test_each_closed_file_is_a_version(mounts):
    mount = mounts.mount()
    for text in ("one", "two", "three"):
        write(mount / "f", text)
    names = versions(mount, "f")
    assert [content(mount, "f", n) for n in names] == ["one", "two", "three"]
    assert all(len(n.split("_")[0]) >= 6 and n.split("_")[1].endswith("Z") for n in names)
    assert os.getxattr(mount / "f", "user.cairn.version").decode() == str(int(names[-1].split("_")[0]))
    with pytest.raises(OSError) as e:
        open(mount / f".versions/f/{names[0]}", "w")
    assert e.value.errno in (errno.EROFS, errno.EACCES)


def test_it_is_not_listed_and_its_name_is_taken(mounts):
    mount = mounts.mount()
    assert ".versions" not in os.listdir(mount.path)
    for call in (lambda: os.mkdir(mount / ".versions"), lambda: open(mount / ".versions", "w")):
        with pytest.raises(OSError):
            call()


def test_saving_by_rename_goes_on_with_the_history(mounts):
    mount = mounts.mount()
    write(mount / "doc", "v1")
    for text in ("v2", "v3"):
        write(mount / "doc.tmp", text)
        os.rename(mount / "doc.tmp", mount / "doc")
    assert [content(mount, "doc", n) for n in versions(mount, "doc")] == ["v1", "v2", "v3"]


def test_a_deleted_file_keeps_its_versions_and_comes_back(mounts):
    mount = mounts.mount()
    os.mkdir(mount / "d")
    write(mount / "d/f", "precious")
    os.unlink(mount / "d/f")
    os.rmdir(mount / "d")
    (name,) = versions(mount, "d/f")
    assert content(mount, "d/f", name) == "precious"
    assert "d" in os.listdir(mount / ".versions")
    subprocess.run(["cp", mount / f".versions/d/f/{name}", mount / "back"], check=True)
    assert open(mount / "back").read() == "precious"


def test_a_renamed_file_takes_its_history_along(mounts):
    mount = mounts.mount()
    write(mount / "a", "one")
    os.rename(mount / "a", mount / "b")
    write(mount / "b", "two")
    assert [content(mount, "b", n) for n in versions(mount, "b")] == ["one", "two"]


def test_the_drive_as_it_was(mounts):
    mount = mounts.mount()
    os.mkdir(mount / "d")
    write(mount / "d/f", "before")
    os.chmod(mount / "d/f", 0o640)
    os.symlink("f", mount / "d/link")
    now = time.time()
    time.sleep(2.1 - (now % 1))
    at = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(now))
    write(mount / "d/f", "after!")
    os.rename(mount / "d", mount / "e")
    os.chmod(mount / "e/f", 0o600)
    then = mount / f".versions/@{at}"
    assert os.listdir(then) == ["d"]
    assert open(f"{then}/d/f").read() == "before"
    assert os.readlink(f"{then}/d/link") == "f"
    assert os.lstat(f"{then}/d/f").st_mode & 0o777 == 0o440  # as it was, but read-only
    with pytest.raises(OSError):
        os.listdir(mount / ".versions/@1990-01-01T00-00-00Z")


def test_a_truncated_tail_never_comes_back(mounts):
    mount = mounts.mount()
    fd = os.open(mount / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"secret" * 100_000)
    os.fsync(fd)
    os.ftruncate(fd, 10)
    os.fsync(fd)
    os.ftruncate(fd, 600_000)
    os.close(fd)
    mount.unmount()
    mount.start()
    data = open(mount / "f", "rb").read()
    assert data == b"secretsecr" + bytes(599_990)


def test_a_database_leaves_no_thousand_versions(mounts):
    import sqlite3
    mount = mounts.mount()
    db = sqlite3.connect(mount / "db")
    db.execute("CREATE TABLE t (n INTEGER)")
    for i in range(300):
        db.execute("INSERT INTO t VALUES (?)", (i,))
        db.commit()
    db.close()
    assert len(versions(mount, "db")) <= 3


def test_cairn_versions_and_restore(mounts):
    mount = mounts.mount()
    write(mount / "f", "old")
    write(mount / "f", "new")
    first = int(versions(mount, "f")[0].split("_")[0])
    out = subprocess.run([program("cairn"), "versions", mount / "f", "--json"], capture_output=True, text=True, env={**os.environ, "CAIRN_TOKEN": mount.gateway.token})
    assert out.returncode == 0, out.stderr
    assert str(first) in out.stdout
    out = subprocess.run([program("cairn"), "restore", mount / "f", "--version", str(first)], capture_output=True, text=True,
                         env={**os.environ, "CAIRN_TOKEN": mount.gateway.token})
    assert out.returncode == 0, out.stderr
    assert open(mount / "f").read() == "old"
    assert [content(mount, "f", n) for n in versions(mount, "f")] == ["old", "new", "old"]


def store_bytes(gateway):
    total = 0
    for folder, _, files in os.walk(os.path.join(gateway.data, "objects")):
        total += sum(os.path.getsize(os.path.join(folder, f)) for f in files)
    return total


@pytest.mark.embedded("counts the bytes of a folder")
def test_one_byte_in_a_large_file_stores_at_most_two_chunks(mounts):
    """256 MiB stand for the 1 GiB of the bench: the size of the file plays no part in it."""
    mount = mounts.mount()
    block = os.urandom(1 << 20)
    with open(mount / "big", "wb") as f:
        for i in range(256):
            f.write(i.to_bytes(8, "little") + block[8:])
    before = store_bytes(mount.gateway)
    assert before >= 256 << 20
    with open(mount / "big", "r+b") as f:
        f.seek(100 << 20)
        f.write(b"!")
    assert store_bytes(mount.gateway) - before <= 2 * (4 << 20)
    mount.unmount()
    mount.start()
    with open(mount / "big", "rb") as f:
        f.seek(100 << 20)
        assert f.read(1) == b"!"
