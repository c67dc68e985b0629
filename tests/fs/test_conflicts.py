"""Two mounts write the same file from the same version: both contents exist afterwards, and both users are told."""
import os
import platform

from harness import read, wait_for, write


EPOCHS = tuple(int(n) for n in platform.release().split(".")[:2]) >= (6, 16)  # of names; before that, the kernel is told a moment later


def conflicts(mount, folder=""):
    return [n for n in os.listdir(mount / folder) if "(conflict, " in n]


def write_both(fa, fb, text_a, text_b):
    """Both have written before either has closed: from the same version."""
    for f, text in ((fa, text_a), (fb, text_b)):
        f.write(text)
        f.flush()
    fa.close()
    fb.close()


def test_both_contents_stay(mounts):
    a, b = mounts.mount("a"), mounts.mount("b")
    with open(a / "report.txt", "w") as f:
        f.write("base")
    fa, fb = open(a / "report.txt", "r+"), open(b / "report.txt", "r+")
    write_both(fa, fb, "from a, and longer", "from b")
    (name,) = conflicts(a)
    assert conflicts(b) == [name]
    assert name.startswith("report (conflict, ") and name.endswith(").txt")
    for m in (a, b):
        assert open(m / "report.txt").read() == "from a, and longer"
        assert open(m / name).read() == "from b"


def test_the_open_file_is_the_sibling_from_then_on(mounts):
    a, b = mounts.mount("a"), mounts.mount("b")
    with open(a / "f", "w") as f:
        f.write("base")
    fb = os.open(b / "f", os.O_RDWR)
    os.write(fb, b"b1b1")
    with open(a / "f", "r+") as f:
        f.write("a1a1")
    os.fsync(fb)
    os.write(fb, b"b2")
    os.fchmod(fb, 0o600)  # what is done to the open file is done to the sibling
    sibling = os.fstat(fb).st_ino
    os.close(fb)
    assert os.stat(a / "f").st_mode & 0o777 == os.stat(b / "f").st_mode & 0o777 != 0o600
    assert [os.stat(a / n).st_mode & 0o777 for n in os.listdir(a.path) if os.stat(a / n).st_ino == sibling != os.stat(a / "f").st_ino] == [0o600]
    (name,) = conflicts(a)
    assert open(a / name).read() == "b1b1b2" and open(a / "f").read() == "a1a1"
    assert open(b / "f").read() == "a1a1"


def test_renaming_over_what_somebody_else_saved(mounts):
    """An editor that read the old version must not silently replace a newer one."""
    a, b = mounts.mount("a"), mounts.mount("b")
    with open(a / "f", "w") as f:
        f.write("base")
    assert open(b / "f").read() == "base"
    with open(a / "f", "w") as f:
        f.write("saved by a")
    # b's editor saves what it derived from "base"; its program has not read the new version
    with open(b / "f.new", "w") as f:
        f.write("saved by b")
    os.rename(b / "f.new", b / "f")
    (name,) = conflicts(a)
    assert open(a / "f").read() == "saved by a"
    if not EPOCHS:
        wait_for(lambda: open(b / "f").read() == "saved by a", "the name to be asked for again")
    assert open(b / "f").read() == "saved by a"
    assert open(a / name).read() == open(b / name).read() == "saved by b"


def test_the_name_is_asked_for_at_once(mounts):
    """The kernel moves the name when it hears that the rename is done, and the program goes on at the same moment."""
    a, b = mounts.mount("a"), mounts.mount("b")
    for i in range(50):
        write(a / f"f-{i}", b"base")
        assert read(b / f"f-{i}") == b"base"
        write(a / f"f-{i}", b"saved by a")
        write(b / "new", b"saved by b")
        os.rename(b / "new", b / f"f-{i}")
        if not EPOCHS:
            wait_for(lambda: read(b / f"f-{i}") == b"saved by a", "the other's file")
        assert read(b / f"f-{i}") == b"saved by a"
    assert len(conflicts(b)) == 50


def test_both_users_are_told(mounts, gateway):
    a, b = mounts.mount("a"), mounts.mount("b")
    for m in (a, b):  # both are connected: nobody is told later
        wait_for(lambda: m.status()["lease"], "a lease")
    with open(a / "f", "w") as f:
        f.write("base")
    fa, fb = open(a / "f", "r+"), open(b / "f", "r+")
    write_both(fa, fb, "aaaa", "bbbb")
    for m in (a, b):
        wait_for(lambda: any(n.get("kind") == "conflict" for n in m.status()["notices"]), "a notice of the conflict")
