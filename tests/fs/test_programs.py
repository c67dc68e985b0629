"""Unmodified programs in a mount."""
import os
import shutil
import sqlite3
import subprocess
import threading

import pytest


def run(*command, cwd=None, **kw):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, **kw)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main", "-c", "safe.directory=*")


def make_repository(path, commits=15):
    os.makedirs(path)
    run(*GIT, "init", "-q", cwd=path)
    for i in range(commits):
        for j in range(10):
            os.makedirs(f"{path}/d{j}", exist_ok=True)
            with open(f"{path}/d{j}/f{i}.c", "w") as f:
                f.write(f"int f{i}_{j}(void)\n{{\n    return {i * j};\n}}\n" * 20)
        run(*GIT, "add", "-A", cwd=path)
        run(*GIT, "commit", "-qm", f"commit {i}", cwd=path)


def test_git(mounts, folder):
    mount = mounts.mount()
    make_repository(f"{folder}/origin")
    run(*GIT, "clone", "-q", f"{folder}/origin", mount / "clone")
    with open(mount / "clone/new.txt", "w") as f:
        f.write("hello\n")
    run(*GIT, "add", "-A", cwd=mount / "clone")
    run(*GIT, "commit", "-qm", "in the mount", cwd=mount / "clone")
    run(*GIT, "gc", "-q", "--aggressive", "--prune=now", cwd=mount / "clone")
    run(*GIT, "fsck", "--strict", cwd=mount / "clone")
    mount.unmount()
    mount.start()
    run(*GIT, "fsck", "--strict", cwd=mount / "clone")
    assert run(*GIT, "status", "--porcelain", cwd=mount / "clone") == ""
    assert len(run(*GIT, "log", "--oneline", cwd=mount / "clone").splitlines()) == 16


def test_make(mounts):
    mount = mounts.mount()
    os.mkdir(mount / "p")
    for i in range(40):
        with open(mount / f"p/m{i}.c", "w") as f:
            f.write(f"int m{i}(int x) {{ return x + {i}; }}\n")
    calls = "".join(f"int m{i}(int);\n" for i in range(40))
    with open(mount / "p/main.c", "w") as f:
        f.write(f"#include <stdio.h>\n{calls}int main(void) {{ int s = 0; {' '.join(f's = m{i}(s);' for i in range(40))} printf(\"%d\\n\", s); return 0; }}\n")
    with open(mount / "p/Makefile", "w") as f:
        f.write("prog: $(patsubst %.c,%.o,$(wildcard *.c))\n\tcc -o $@ $^\n")
    run("make", "-j4", cwd=mount / "p")
    assert run(mount / "p/prog").strip() == str(sum(range(40)))
    assert "up to date" in run("make", cwd=mount / "p")


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite_under_concurrent_writers(mounts, journal):
    mount = mounts.mount()
    db = sqlite3.connect(mount / "db")
    assert db.execute(f"PRAGMA journal_mode={journal}").fetchone()[0] == journal
    db.execute("CREATE TABLE t (who INTEGER, n INTEGER)")
    db.commit()
    errors = []

    def write(who):
        try:
            c = sqlite3.connect(mount / "db", timeout=60)
            for i in range(100):
                with c:
                    c.execute("INSERT INTO t VALUES (?, ?)", (who, i))
            c.close()
        except Exception as e:
            errors.append(e)
    threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert db.execute("SELECT count(*) FROM t").fetchone()[0] == 400
    db.close()
    mount.unmount()
    mount.start()
    db = sqlite3.connect(mount / "db")
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert db.execute("SELECT count(*) FROM t").fetchone()[0] == 400
    db.close()


def test_sqlite_from_two_mounts(mounts):
    """With a rollback journal, whose locks are fcntl's."""
    a, b = mounts.mount("a"), mounts.mount("b")
    db = sqlite3.connect(a / "db")
    db.execute("CREATE TABLE t (who TEXT, n INTEGER)")
    db.commit()
    db.close()
    errors = []

    def write(m, who):
        try:
            c = sqlite3.connect(m / "db", timeout=60)
            for i in range(30):
                with c:
                    c.execute("INSERT INTO t VALUES (?, ?)", (who, i))
            c.close()
        except Exception as e:
            errors.append((who, e))
    threads = [threading.Thread(target=write, args=(m, w)) for m, w in ((a, "a"), (b, "b"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    for m in (a, b):
        db = sqlite3.connect(m / "db")
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.execute("SELECT count(*) FROM t").fetchone()[0] == 60
        db.close()
        assert [n for n in os.listdir(m.path) if "conflict" in n] == []


def save_as_vim(path, text):
    """backupcopy=no: the old one is moved to a backup, a new one is written in its place, the backup goes."""
    os.rename(path, path + "~")
    with open(path, "x") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.chmod(path, 0o644)
    os.unlink(path + "~")


def save_as_emacs(path, text):
    with open(path + ".#tmp", "x") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + ".#tmp", path)


def save_as_libreoffice(path, text):
    folder, name = os.path.split(path)
    with open(f"{folder}/.~lock.{name}#", "w") as f:
        f.write("me")
    with open(f"{folder}/lu1234.tmp", "x") as f:
        f.write(text)
        os.fsync(f.fileno())
    os.rename(f"{folder}/lu1234.tmp", path)
    os.unlink(f"{folder}/.~lock.{name}#")


@pytest.mark.parametrize("save", [save_as_vim, save_as_emacs, save_as_libreoffice])
def test_editors_save_by_rename(mounts, save):
    a, b = mounts.mount("a"), mounts.mount("b")
    with open(a / "doc", "w") as f:
        f.write("text 0")
    for i in range(1, 6):
        assert open(b / "doc").read() == f"text {i - 1}"
        save(a / "doc", f"text {i}")
    assert open(b / "doc").read() == "text 5"
    names = sorted(os.listdir(a / ".versions/doc"))
    assert [open(a / f".versions/doc/{n}").read() for n in names] == [f"text {i}" for i in range(6)]
    assert sorted(os.listdir(b.path)) == ["doc"]


def test_rsync_tar_and_dd(mounts, folder):
    mount = mounts.mount()
    make_repository(f"{folder}/src", 5)
    run("rsync", "-a", "--delete", f"{folder}/src/", mount / "copy/")
    assert run("rsync", "-anic", "--delete", f"{folder}/src/", mount / "copy/") == ""
    os.unlink(f"{folder}/src/d3/f1.c")
    run("rsync", "-a", "--delete", f"{folder}/src/", mount / "copy/")
    run("diff", "-r", f"{folder}/src", mount / "copy")
    run("tar", "-cf", mount / "a.tar", "-C", f"{folder}/src", ".")
    os.mkdir(mount / "untar")
    run("tar", "-xf", mount / "a.tar", "-C", mount / "untar")
    run("diff", "-r", f"{folder}/src", mount / "untar")
    run("dd", "if=/dev/urandom", f"of={folder}/noise", "bs=1M", "count=20", "status=none")
    run("dd", f"if={folder}/noise", f"of={mount / 'noise'}", "bs=64k", "conv=fsync", "status=none")
    run("dd", f"if={folder}/noise", f"of={mount / 'noise'}", "bs=4k", "skip=100", "seek=100", "count=50", "conv=notrunc", "status=none")
    run("cmp", f"{folder}/noise", mount / "noise")


@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_fio_verifies_what_it_wrote(mounts, engine):
    assert shutil.which("fio"), "fio is not installed: scripts/lib/install"
    mount = mounts.mount()
    run("fio", "--name=v", f"--directory={mount.path}", "--rw=randrw", "--bs=4k", "--size=16m", f"--ioengine={engine}", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
        "--do_verify=1", "--nrfiles=2", "--output-format=terse")
