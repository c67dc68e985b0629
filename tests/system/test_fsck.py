"""`admin fsck` and `admin scrub`: they find nothing in a drive that is right, and each kind of damage in one that is not."""
import os
import sqlite3

import pytest


def fill(gateway):
    """A tree with directories, an empty file, small ones in rows, one of several chunks in the store, and a past."""
    put = lambda path, body: gateway.api("PUT", "/files/content" + gateway.query(drive="home", path=path), body=body)
    for path in ("/d", "/d/e", "/gone"):
        assert gateway.api("POST", "/files/directory", {"drive": "home", "path": path}).status == 201
    assert put("/d/small", b"small").status == 201
    assert put("/d/small", b"smaller still").status == 200
    assert put("/d/e/empty", b"").status == 201
    assert put("/big", os.urandom(9 << 20)).status == 201
    assert put("/gone/f", b"x" * 100).status == 201
    assert gateway.api("DELETE", "/files" + gateway.query(drive="home", path="/gone", recursive="true")).status == 204


def test_nothing_is_found_in_what_is_right(gateway):
    assert gateway.fsck().startswith("home: 1 inodes, 0 names")
    fill(gateway)
    assert "right" in gateway.fsck()  # beside the running gateway
    assert "read: right" in gateway.fsck("scrub")
    gateway.kill()
    assert "right" in gateway.fsck("scrub")


@pytest.mark.parametrize("damage, says", [
    ("DELETE FROM inode WHERE ino = (SELECT ino FROM dentry WHERE name = CAST('small' AS BLOB))", "which is not there"),
    ("DELETE FROM dentry WHERE name = CAST('small' AS BLOB)", "counts 2 entries and has 1"),
    ("DELETE FROM dentry WHERE name = CAST('small' AS BLOB)", "counts 1 links and has 0"),
    ("UPDATE inode SET nlink = 7 WHERE ino = 1", "counts 7 links"),
    ("UPDATE inode SET children = 9 WHERE ino = 1", "counts 9 entries"),
    ("UPDATE inode SET size = size + 1 WHERE size = 13", "14 bytes in chunks"),
    ("UPDATE drive SET used = used + 1", "the drive counts"),
    ("UPDATE drive SET files = files + 1", "the drive counts"),
    ("UPDATE drive SET next_ino = 2", "never handed out"),
    ("DELETE FROM version WHERE size = 13", "is not there"),
    ("DELETE FROM segment WHERE ino = (SELECT ino FROM inode WHERE size = 13)", "tree hash"),
    ("DELETE FROM chunk WHERE size = 13", "which is not there"),
    ("DELETE FROM chunk_bytes WHERE LENGTH(bytes) = 13", "has 0 bytes of 13"),
    ("UPDATE drive SET seq = 1", "beyond the drive's seq"),
    ("UPDATE dentry SET parent = (SELECT ino FROM dentry WHERE name = CAST('e' AS BLOB)) WHERE name = CAST('d' AS BLOB)", "cannot be reached"),
])
@pytest.mark.embedded("damages rows of SQLite; PostgreSQL refuses some of it itself")
def test_damage_to_the_rows_is_named(gateway, damage, says):
    fill(gateway)
    gateway.stop()
    gateway.checked = False
    db = sqlite3.connect(os.path.join(gateway.data, "meta.db"))
    assert db.execute(damage).rowcount > 0
    db.commit()
    db.close()
    done = gateway.admin("fsck", check=False)
    assert done.returncode == 1 and says in done.stdout, done.stdout


def objects(gateway):
    return [os.path.join(d, f) for d, _, files in os.walk(os.path.join(gateway.data, "objects")) for f in files]


@pytest.mark.embedded("damages files of a folder")
def test_damage_to_the_store_is_named(gateway):
    fill(gateway)
    gateway.stop()
    gateway.checked = False
    path = max(objects(gateway), key=os.path.getsize)
    os.chmod(path, 0o600)
    with open(path, "r+b") as f:
        f.write(b"\0" * 64)
    assert gateway.admin("fsck", check=False).returncode == 0  # it does not look into objects
    done = gateway.admin("scrub", check=False)
    assert done.returncode == 1 and "not those of its hash" in done.stdout
    os.truncate(path, 100)
    done = gateway.admin("fsck", check=False)
    assert done.returncode == 1 and "ends at 100" in done.stdout
    os.unlink(path)
    done = gateway.admin("fsck", check=False)
    assert done.returncode == 1 and "not in the store" in done.stdout
