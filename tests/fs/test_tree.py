"""A real tree of more than 10,000 files (a smaller one once more on real servers) goes in and comes out the same, byte by byte, in every attribute."""
import os
import shutil
import stat
import subprocess

import backends

SOURCES = ("/usr/share/doc",) if backends.ON_SERVERS else ("/usr/include", "/usr/share/doc")
FILES = 4_000 if backends.ON_SERVERS else 10_000


def describe(path, st):
    row = [stat.S_IFMT(st.st_mode), st.st_mode & 0o7777, st.st_uid, st.st_gid]
    if stat.S_ISREG(st.st_mode):
        row += [st.st_size, st.st_mtime_ns, st.st_nlink > 1]
        with open(path, "rb") as f:
            row.append(f.read())
    elif stat.S_ISLNK(st.st_mode):
        row += [os.readlink(path), st.st_mtime_ns]
    elif stat.S_ISDIR(st.st_mode):
        row += [st.st_mtime_ns]
    row.append(sorted((n, os.getxattr(path, n, follow_symlinks=False)) for n in os.listxattr(path, follow_symlinks=False)))
    return row


def compare(left, right):
    count = 0
    stack = [""]
    while stack:
        rel = stack.pop()
        names = sorted(os.listdir(os.path.join(left, rel)))
        assert names == sorted(os.listdir(os.path.join(right, rel))), rel
        for n in names:
            r = os.path.join(rel, n)
            a, b = os.path.join(left, r), os.path.join(right, r)
            st = os.lstat(a)
            assert describe(a, st) == describe(b, os.lstat(b)), r
            count += 1
            if stat.S_ISDIR(st.st_mode):
                stack.append(r)
    return count


def test_a_real_tree_comes_back_the_same(mounts, folder):
    source = os.path.join(folder, "source")
    os.mkdir(source)
    for s in SOURCES:
        subprocess.run(["cp", "-a", s, source + "/" + os.path.basename(s)], check=True)
    with open(source + "/tagged", "w") as f:
        f.write("x")
    os.setxattr(source + "/tagged", "user.tag", b"\x00\xffbytes")
    os.link(source + "/tagged", source + "/tagged-too")
    # this machine may have few documents: made-up files fill up to more than FILES
    total = sum(len(f) for _, _, f in os.walk(source))
    os.mkdir(source + "/more")
    for i in range(max(0, FILES + 200 - total)):
        os.makedirs(f"{source}/more/{i // 100}", exist_ok=True)
        with open(f"{source}/more/{i // 100}/f{i}", "w") as f:
            f.write(f"file {i}\n" * (i % 200))
    a = mounts.mount("a")
    subprocess.run(["cp", "-a", source, a / "tree"], check=True)
    a.unmount()
    shutil.rmtree(a.cache)
    b = mounts.mount("elsewhere")
    assert compare(source, b / "tree") > FILES
    assert os.lstat(b / "tree/tagged").st_ino == os.lstat(b / "tree/tagged-too").st_ino
    subprocess.run(["rm", "-r", b / "tree"], check=True)
    assert os.listdir(b.path) == []
